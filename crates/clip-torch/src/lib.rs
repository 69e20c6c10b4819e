//! The only crate that reaches below tch: libtorch operators it does not bind, mapped tensors.
//!
//! `cpp/shim.cpp` calls libtorch and catches what it throws; the functions here check what the operators take for
//! granted, and are safe to call where they are not marked otherwise.

mod adamw;
mod error;
mod ffi;
mod gradient;
mod map;
mod packed;
mod processor;
mod quantised;

pub use adamw::{AdamW, fused_adamw};
pub use error::{Result, TorchError};
pub use ffi::version;
pub use gradient::clear_gradients;
pub use map::over;
pub use packed::{PackedMatrix, Post};
pub use quantised::{Affine, Bytes, QuantisedMatrix, range};
