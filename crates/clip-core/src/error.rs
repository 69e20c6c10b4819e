//! The one error type of every contract: what, where, and what to do.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Result of every contract in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in the sense that decides the HTTP status. (A command fails with 1, and with 2 where its flags make no
/// sense.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The input is wrong: a malformed file, a bad row, a setting out of range. HTTP 400.
    Invalid,
    /// The thing named does not exist. HTTP 404.
    NotFound,
    /// The thing named cannot be reached now; trying again may help. HTTP 503.
    Unavailable,
    /// Memory, disk or a stated limit is used up. HTTP 507.
    Exhausted,
    /// A defect of ours. HTTP 500.
    Internal,
}

/// Where it went wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// File, as the user named it.
    pub file: Option<PathBuf>,
    /// Row of the file, counted from 1, header line included.
    pub row: Option<u64>,
    /// Column, by name.
    pub column: Option<String>,
}

/// What went wrong, where, and what to do about it. Cloneable, since one failed batch answers many callers.
///
/// ```
/// use clip_core::Error;
/// let error = Error::invalid("the image cell is not base64").file("pairs.tsv").row(7).column("image")
///     .remedy("check the export, or pass --bad-rows skip");
/// assert_eq!(error.to_string(),
///     "pairs.tsv, row 7, column `image`: the image cell is not base64; check the export, or pass --bad-rows skip");
/// ```
#[derive(Debug, Clone)]
pub struct Error {
    inner: Box<Inner>,
}

#[derive(Debug, Clone)]
struct Inner {
    kind: Kind,
    what: String,
    place: Place,
    remedy: Option<String>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of a kind, with one sentence that says what is wrong.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        let inner = Inner {
            kind,
            what: what.into(),
            place: Place::default(),
            remedy: None,
            source: None,
        };
        Self { inner: Box::new(inner) }
    }

    /// The input is wrong.
    pub fn invalid(what: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, what)
    }

    /// The thing named does not exist.
    pub fn not_found(what: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, what)
    }

    /// The thing named cannot be reached now.
    pub fn unavailable(what: impl Into<String>) -> Self {
        Self::new(Kind::Unavailable, what)
    }

    /// Memory, disk or a stated limit is used up.
    pub fn exhausted(what: impl Into<String>) -> Self {
        Self::new(Kind::Exhausted, what)
    }

    /// A defect of ours.
    pub fn internal(what: impl Into<String>) -> Self {
        Self::new(Kind::Internal, what)
    }

    /// An I/O error on a file: `cannot <doing>: <reason>`, of the kind that fits the reason.
    ///
    /// ```
    /// let error = clip_core::Error::io("read", "gone.tsv", std::io::ErrorKind::NotFound.into());
    /// assert_eq!(error.kind(), clip_core::Kind::NotFound);
    /// ```
    pub fn io(doing: &str, file: impl AsRef<Path>, source: std::io::Error) -> Self {
        use std::io::ErrorKind as Io;
        let (kind, remedy) = match source.kind() {
            Io::NotFound => (Kind::NotFound, Some("check the path")),
            Io::PermissionDenied | Io::ReadOnlyFilesystem => {
                (Kind::Unavailable, Some("check the permissions, or name another place"))
            }
            Io::StorageFull | Io::QuotaExceeded | Io::FileTooLarge => {
                (Kind::Exhausted, Some("free some space, or name another place"))
            }
            Io::OutOfMemory => (Kind::Exhausted, None),
            Io::IsADirectory | Io::NotADirectory | Io::InvalidData | Io::UnexpectedEof => (Kind::Invalid, None),
            _ => (Kind::Unavailable, None),
        };
        let mut error = Self::new(kind, format!("cannot {doing}: {source}"))
            .file(file)
            .source(source);
        error.inner.remedy = remedy.map(Into::into);
        error
    }

    /// What a caught panic says, as an error: the first line of its message, [`Kind::Internal`].
    /// Libtorch's out-of-memory messages become [`Kind::Exhausted`] with a remedy.
    pub fn from_panic(panic: Box<dyn Any + Send>) -> Self {
        let text = match panic.downcast::<String>() {
            Ok(text) => *text,
            Err(other) => other
                .downcast::<&str>()
                .map_or_else(|_| "unknown panic".into(), |text| (*text).to_owned()),
        };
        let lower = text.to_lowercase();
        let first = text.lines().next().unwrap_or("unknown panic").trim().to_owned();
        if lower.contains("out of memory") || lower.contains("can't allocate memory") || lower.contains("bad_alloc") {
            return Self::exhausted(first).remedy("use a smaller --batch-size or --micro-batch");
        }
        Self::internal(first)
    }

    /// Names the file, unless a more precise place named one before.
    #[must_use]
    pub fn file(mut self, file: impl AsRef<Path>) -> Self {
        self.inner.place.file.get_or_insert_with(|| file.as_ref().to_owned());
        self
    }

    /// Names the row (from 1), unless it is known.
    #[must_use]
    pub fn row(mut self, row: u64) -> Self {
        self.inner.place.row.get_or_insert(row);
        self
    }

    /// Names the column, unless it is known.
    #[must_use]
    pub fn column(mut self, column: impl Into<String>) -> Self {
        self.inner.place.column.get_or_insert_with(|| column.into());
        self
    }

    /// Says what to do about it.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.inner.remedy = Some(remedy.into());
        self
    }

    /// Keeps the underlying error.
    #[must_use]
    pub fn source(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.inner.source = Some(Arc::new(source));
        self
    }

    /// The kind, which decides the HTTP status.
    pub fn kind(&self) -> Kind {
        self.inner.kind
    }

    /// The sentence that says what is wrong, without place and remedy.
    pub fn what(&self) -> &str {
        &self.inner.what
    }

    /// Where it went wrong.
    pub fn place(&self) -> &Place {
        &self.inner.place
    }

    /// What to do, if anything is known.
    pub fn remedy_text(&self) -> Option<&str> {
        self.inner.remedy.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner {
            what, place, remedy, ..
        } = &*self.inner;
        let mut parts = Vec::new();
        parts.extend(place.file.as_ref().map(|file| file.display().to_string()));
        parts.extend(place.row.map(|row| format!("row {row}")));
        parts.extend(place.column.as_ref().map(|column| format!("column `{column}`")));
        let mut text = parts.join(", ");
        text += if parts.is_empty() { "" } else { ": " };
        text += what;
        if let Some(remedy) = remedy {
            text += "; ";
            text += remedy;
        }
        f.write_str(&visible(&text))
    }
}

/// A text with what a terminal would obey written out (`\u{1b}`): a message may quote a file that somebody else made. Lines
/// and tabs stay.
///
/// ```
/// assert_eq!(clip_core::visible("a\u{1b}[2Jb\n"), "a\\u{1b}[2Jb\n");
/// ```
pub fn visible(text: &str) -> Cow<'_, str> {
    let obeyed = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if !text.contains(obeyed) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if obeyed(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.inner.source.as_ref().map(|source| &**source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_precise_place_stays() {
        let inner = Error::invalid("bad").file("a.tsv").row(3);
        let outer = inner.file("b.tsv").row(9).column("text");
        assert_eq!(outer.to_string(), "a.tsv, row 3, column `text`: bad");
    }

    #[test]
    fn what_a_terminal_would_obey_is_written_out() {
        let error = Error::invalid("no tensor `a\u{1b}]0;x\u{7}`").file("b\u{9b}.pt");
        assert_eq!(error.to_string(), "b\\u{9b}.pt: no tensor `a\\u{1b}]0;x\\u{7}`");
    }

    #[test]
    fn a_panic_becomes_its_first_line() {
        let panic = std::panic::catch_unwind(|| panic!("first\nsecond {}", 2)).unwrap_err();
        let error = Error::from_panic(panic);
        assert_eq!((error.kind(), error.what()), (Kind::Internal, "first"));
    }

    #[test]
    fn out_of_memory_is_exhausted() {
        let panic: Box<dyn Any + Send> = Box::new("DefaultCPUAllocator: can't allocate memory: you tried".to_owned());
        assert_eq!(Error::from_panic(panic).kind(), Kind::Exhausted);
    }
}
