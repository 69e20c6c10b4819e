//! Where a reader of CSV stands between quotes (RFC 4180): what ends a row and what does not.

/// Where in a CSV cell the reader stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quote {
    /// At the start of a cell, where alone a quote opens.
    Start,
    /// In a cell without quotes, or behind the closing one.
    Plain,
    /// Between the quotes.
    Inside,
    /// Behind a quote that closes the cell unless another follows.
    Closing,
}

impl Quote {
    /// Where it stands behind one more byte.
    pub(super) fn behind(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::Inside, b'"') => Self::Closing,
            (Self::Inside, _) | (Self::Start | Self::Closing, b'"') => Self::Inside,
            (_, b',' | b'\n') => Self::Start,
            _ => Self::Plain,
        }
    }

    /// How many of the next bytes leave it where it stands, found faster than one by one.
    pub(super) fn stays(self, bytes: &[u8]) -> usize {
        let next = match self {
            Self::Inside => memchr::memchr(b'"', bytes),
            Self::Plain => memchr::memchr2(b',', b'\n', bytes),
            Self::Start | Self::Closing => return 0,
        };
        next.unwrap_or(bytes.len())
    }
}

/// Whether a row, given from its start, ends between quotes.
pub(super) fn ends_inside(row: &[u8]) -> bool {
    row.iter().fold(Quote::Start, |quote, &byte| quote.behind(byte)) == Quote::Inside
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_open_at_a_cell_only() {
        for (row, inside) in [
            ("a", false),
            ("\"a", true),
            ("\"a\"", false),
            ("\"a\"\"", true),
            ("\"a\"\"\"", false),
            ("a\"", false),
            ("\"a\"b\"", false),
            ("a,\"", true),
        ] {
            assert_eq!(ends_inside(row.as_bytes()), inside, "{row}");
        }
    }
}
