//! Pairs from tables and folders; pictures as the model sees them; features in and out.

mod augment;
mod decode;
mod image_cell;
mod image_paths;
mod loader;
mod ordered;
mod pending;
mod rejects;
mod table;
mod text_file;
mod transform;

pub use augment::Augment;
pub use decode::{Decoder, Limits};
pub use image_cell::{PICTURE_EXTENSIONS, decode_base64, is_picture_name, parse_image_cell};
pub use image_paths::image_paths;
pub use loader::{BadRows, Batch, LastBatch, Loader, LoaderOptions, Prepare, Prepared, at_row};
pub use ordered::{Ordered, ordered};
pub use pending::PendingFile;
pub use rejects::Rejects;
pub use table::{Columns, Format, MAX_ROW_BYTES, Roles, Row, Schema, Table, TableOptions};
pub use text_file::TextFile;
pub use transform::{Alpha, ClipTransform, ConfigForm, Crop, Filter, Order, Passes, Rescale, Resize, TransformConfig};
