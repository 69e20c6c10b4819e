//! Training of small real towers, through files.
#![allow(clippy::unwrap_used, reason = "tests may unwrap")]

mod adapters;
mod deep;
mod gradients;
mod resume;
mod runs;
mod tables;
mod tiny;
