//! The whole `clipzoo` command with one objective more in it.
//!
//! From the repository's root, after `cargo xtask setup`:
//!
//! ```text
//! export CARGO_TARGET_DIR=$PWD/target        # where libtorch lies
//! cargo run --manifest-path examples/custom_objective/Cargo.toml -- models
//! ```
//!
//! `[objectives.hard_negative]` in a run.toml then turns it on for `train`.

use std::process::ExitCode;

use clipzoo::clip_core::Result;
use custom_objective::HardNegative;

fn main() -> Result<ExitCode> {
    let mut zoo = clipzoo::zoo()?;
    zoo.objective::<HardNegative>()?;
    Ok(clipzoo::cli(zoo).run())
}
