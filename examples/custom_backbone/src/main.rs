//! The whole `clipzoo` command with one backbone more in it.
//!
//! From the repository's root, after `cargo xtask setup`:
//!
//! ```text
//! export CARGO_TARGET_DIR=$PWD/target        # where libtorch lies
//! cargo run --manifest-path examples/custom_backbone/Cargo.toml -- models
//! ```

use std::process::ExitCode;

use clipzoo::clip_core::Result;
use custom_backbone::ConvNext;

fn main() -> Result<ExitCode> {
    let mut zoo = clipzoo::zoo()?;
    zoo.image::<ConvNext>()?;
    Ok(clipzoo::cli(zoo).run())
}
