//! Layers, each written once and shared by every backbone.
//!
//! They are plain arithmetic: shapes are checked at the door ([`DualEncoder`](crate::DualEncoder)), settings by the
//! backbone that builds them. Dimensions are called batch, tokens, width, heads throughout.

mod activation;
mod adapter;
mod attention;
mod attention_pool;
mod batch_norm;
mod block;
mod bytes;
mod conv;
mod conv_norm;
mod dropout;
mod embedding;
mod layout;
mod linear;
mod mlp;
mod norm;
mod patch;
mod patch_dropout;
mod patch_tokens;
mod pooler;
mod pooling_head;
mod post_norm;
mod pre_norm;
mod projection;
mod ragged;
#[cfg(test)]
mod testing;
mod weight;

pub use activation::Activation;
pub(crate) use adapter::Adapter;
pub use adapter::Lora;
pub use attention::{Attention, AttentionInit, Pooled, Visible};
pub use attention_pool::AttentionPool;
pub use batch_norm::BatchNorm;
pub use block::BlockConfig;
pub(crate) use bytes::LayerBytes;
pub use conv::{Conv, ConvShape, Padding};
pub use conv_norm::ConvNorm;
pub use dropout::Dropout;
pub use embedding::Embedding;
pub(crate) use layout::MatrixType;
pub use linear::Linear;
pub use mlp::{Mlp, MlpInit};
pub use norm::LayerNorm;
pub use patch::Patches;
pub use patch_dropout::drop_patches;
pub use patch_tokens::PatchTokens;
pub use pooler::Pooler;
pub use pooling_head::PoolingHead;
pub use post_norm::{PostNormBlock, PostNormStack};
pub use pre_norm::{PreNormBlock, PreNormStack};
pub use projection::{Projection, ProjectionConfig};
pub use ragged::Ragged;
