//! The only crate that reaches below tch: libtorch operators it does not bind, mapped tensors.
