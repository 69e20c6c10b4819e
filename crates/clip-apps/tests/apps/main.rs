//! The apps, driven by JSON as a server would, over an engine that counts letters.
#![allow(clippy::unwrap_used)] // Helpers of tests may unwrap as tests do.

mod classify;
mod compare;
mod letters;
mod retrieval;
