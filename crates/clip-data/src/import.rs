//! Public data sets in the layouts they are published in, rewritten as tables of ours.

#[cfg(feature = "hdf5")]
mod fashion_gen;
mod muge;
mod outputs;

#[cfg(feature = "hdf5")]
pub use fashion_gen::import_fashion_gen;
pub use muge::import_muge;

/// What an import wrote.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct Imported {
    /// Rows of texts.
    pub texts: u64,
    /// Pictures.
    pub images: u64,
    /// Rows of the table of pairs; 0 where none was written.
    pub pairs: u64,
    /// Products, or pictures, that texts name and that are not there.
    pub missing: u64,
    /// The files written, in order.
    pub outputs: Vec<std::path::PathBuf>,
}
