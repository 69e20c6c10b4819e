//! Named arrays in safetensors files: read a few rows at a time, written as they come.

mod elements;
mod header;
mod read;
mod write;

pub use elements::Number;
pub(crate) use elements::{Float, refuse_non_finite};
pub(crate) use header::{Entry, file_start};
pub use read::TensorFile;
pub use write::TensorWriter;
pub(crate) use write::write_numbers;
