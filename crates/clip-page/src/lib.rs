//! One self-contained HTML page: style, escaping, inline pictures.
