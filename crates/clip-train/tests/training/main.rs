//! Training of small real towers, through files.
#![allow(clippy::unwrap_used, reason = "tests may unwrap")]

mod adapters;
mod average;
mod configs;
mod deep;
mod depth;
mod gradients;
mod kept;
mod passes;
mod resume;
mod runs;
mod setting;
mod tables;
mod targets;
mod tiny;
