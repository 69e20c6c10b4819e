//! What the shim's C++ threw, as an error.

/// An error of libtorch, or of what was handed to it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TorchError {
    /// libtorch threw: the first line of what it said.
    #[error("libtorch: {0}")]
    Thrown(String),
    /// Refused before libtorch was called, since it would not have checked.
    #[error("{0}")]
    Refused(String),
}

/// Result of the shim's functions.
pub type Result<T> = std::result::Result<T, TorchError>;
