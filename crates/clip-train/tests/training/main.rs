//! Training of small real towers, through files.

mod gradients;
mod resume;
mod runs;
mod tables;
mod tiny;
