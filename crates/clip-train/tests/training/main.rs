//! Training of small real towers, through files.
#![allow(clippy::unwrap_used, reason = "tests may unwrap")]

mod adapters;
mod average;
mod configs;
mod deep;
mod depth;
mod gradients;
mod passes;
mod resume;
mod runs;
mod tables;
mod tiny;
