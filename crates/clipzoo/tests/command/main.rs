//! The `clipzoo` command as a user meets it: the real program, its exit status, its messages and its files.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests may unwrap and print")]

mod average;
mod bad_input;
mod calibrate;
mod chromium;
mod classify;
mod compare;
mod concepts;
mod convert;
mod dedup;
mod easynlp;
mod easynlp_flags;
mod easynlp_usage;
mod evaluate;
mod evaluate_rules;
mod help;
mod hub;
mod import;
mod inspect;
#[cfg(unix)]
mod interrupt;
mod memory;
mod pages;
mod predict;
mod predict_run;
mod queue;
mod report;
mod split;
mod support;
mod text_and_pixels;
mod train;
mod tuning;
