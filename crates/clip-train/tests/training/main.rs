//! Training of small real towers, through files.
#![allow(clippy::unwrap_used, reason = "tests may unwrap")]

mod gradients;
mod resume;
mod runs;
mod tables;
mod tiny;
