//! What a reader of run.toml is told when it does not fit.

use clip_core::Error;

/// The backticked words of a message, in order.
fn quoted(message: &str) -> Vec<&str> {
    message.split('`').skip(1).step_by(2).collect()
}

/// serde's and TOML's message as ours: the row, and for an unknown key the nearest known one.
pub(super) fn explain(error: &toml::de::Error, text: &str) -> Error {
    let message = error.message();
    let wrong = match message.strip_prefix("unknown field") {
        Some(_) => unknown(&quoted(message), ""),
        None => Error::invalid(message.lines().next().unwrap_or(message)).remedy("correct it"),
    };
    let row = error.span().map(|span| {
        let before = text.get(..span.start).unwrap_or(text);
        1 + before.matches('\n').count() as u64
    });
    row.map_or_else(|| wrong.clone(), |row| wrong.clone().row(row))
        .source(error.clone())
}

/// serde's message about a key of an objective that it has not, as ours; `None` for other messages.
pub(crate) fn unknown_in(objective: &str, message: &str) -> Option<Error> {
    let (_, words) = message.split_once("unknown field")?;
    Some(unknown(&quoted(words), &format!(" in [objectives.{objective}]")))
}

fn unknown(words: &[&str], place: &str) -> Error {
    let Some((key, known)) = words.split_first() else {
        return Error::invalid("a key is unknown");
    };
    let error = Error::invalid(format!("unknown key `{key}`{place}"));
    let distance = |other: &&&str| strsim::damerau_levenshtein(key, other);
    match known.iter().min_by_key(distance) {
        Some(nearest) if strsim::damerau_levenshtein(key, nearest) * 2 <= key.len().max(4) => {
            error.remedy(format!("did you mean `{nearest}`?"))
        }
        Some(_) => error.remedy(format!("known: {}", known.join(", "))),
        None => error,
    }
}
