//! How a command ends when it does not end well.

use std::process::ExitCode;

use clip_core::Error;

/// Why a command failed, in the sense of its exit status.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The flags make no sense together: exit status 2.
    Usage(Error),
    /// Everything else: exit status 1.
    Failed(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// What every command gives.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// Flags that make no sense together, and what would.
pub(crate) fn usage<T>(what: impl Into<String>, remedy: impl Into<String>) -> Outcome<T> {
    Err(Failure::Usage(Error::invalid(what).remedy(remedy)))
}

impl Failure {
    /// Prints the one message and gives the exit status.
    pub(crate) fn report(&self) -> ExitCode {
        let (error, status) = match self {
            Self::Usage(error) => (error, 2),
            Self::Failed(error) => (error, 1),
        };
        // Nothing can be done where stderr itself is gone.
        let _ = writeln_stderr(&format!("error: {error}"));
        ExitCode::from(status)
    }
}

/// One line to stderr, where all messages go.
pub(crate) fn writeln_stderr(line: &str) -> std::io::Result<()> {
    use std::io::Write;
    writeln!(std::io::stderr().lock(), "{line}")
}
