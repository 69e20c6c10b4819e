//! The whole `clipzoo` command with one family more in it.
//!
//! From the repository's root, after `cargo xtask setup`:
//!
//! ```text
//! export CARGO_TARGET_DIR=$PWD/target        # where libtorch lies
//! cargo run --manifest-path examples/custom_family/Cargo.toml -- models
//! ```

use std::process::ExitCode;

use clipzoo::clip_core::Result;
use custom_family::Loupe;

fn main() -> Result<ExitCode> {
    Ok(clipzoo::cli(clipzoo::zoo()?).family(Loupe)?.run())
}
