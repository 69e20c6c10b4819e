//! Layers, each written once and shared by every backbone.

mod projection;

pub use projection::{Projection, ProjectionConfig};
