//! `cargo xtask`: everything the workspace does to itself. It sets up, shows the main job, tests and checks.
//!
//! It is compiled before anything else on a fresh machine, so it depends on little, and on nothing that links
//! libtorch: it is what brings libtorch.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command: its lines are its output"
)]

mod ablation;
mod bench;
mod checksum;
mod demo;
mod fetch;
mod graph;
mod parity;
mod prerequisites;
mod process;
mod python;
mod setup;
mod stage;
mod steps;
mod strangers;
mod test;
mod tidy;
mod wheels;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

/// Set-up, demo, tests and checks of the workspace.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Options {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Put libtorch where compiler and loader look for it (`target/libtorch`).
    ///
    /// Your own libtorch wins: with LIBTORCH=DIR or LIBTORCH_USE_PYTORCH=1 set, target/libtorch is linked to it.
    /// Otherwise the one that fits is fetched with pip, checked and kept in your cache folder (CLIPZOO_CACHE, else the
    /// platform's), where other clones find it. Example: cargo xtask setup
    Setup(setup::Options),
    /// Do the main job on real data: train from two pretrained towers, evaluate, predict.
    ///
    /// What is done already is kept: stop it whenever you like and call it again. Results go to target/demo.
    /// Example: cargo xtask demo
    Demo,
    /// Compare the objectives of the feature queue with a tuned baseline, on artists and things that were not trained on.
    ///
    /// What is done is kept in docs/results/ablation and not done again; reports go to docs/results/ablation.
    /// Example: cargo xtask ablation --setting clean --only tuned mix --fold noto --seed 1
    Ablation(ablation::Options),
    /// Measure ours and the Python peers side by side: preprocessing, encoders, training, ranking.
    ///
    /// Sets up a Python environment with the peers (several GB) in target/peers; with CLIPZOO_BENCH_VENV=DIR yours is used. Tables go to target/bench/NAME.md. Example: cargo xtask bench cold-start
    Bench(bench::Options),
    /// Compare whole models with the Python peers that their layouts belong to, and let these load what we write.
    ///
    /// Models of full size with random weights, written by open_clip, cn_clip and transformers, are opened here, rewritten in
    /// every layout that can hold them and loaded strictly by the peer of that layout; so are the stored small ones. Sets up
    /// a Python environment with the peers (several GB) in target/peers; with CLIPZOO_PARITY_VENV=DIR yours is used.
    /// Example: cargo xtask parity ViT-B-32
    Parity(parity::Options),
    /// Test everything that can be tested here; name what was skipped for want of a tool.
    ///
    /// Example: cargo xtask test --only clippy
    Test(test::Options),
    /// Check what no other tool checks: module docs, file sizes, unsafe code, versions, paths in texts.
    ///
    /// Example: cargo xtask tidy
    Tidy,
    /// Check who imports whom among the crates.
    ///
    /// Example: cargo xtask graph
    Graph,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let done = Workspace::find().and_then(|workspace| match options.task {
        Task::Setup(options) => setup::run(&workspace, &options),
        Task::Demo => demo::run(&workspace),
        Task::Ablation(options) => ablation::run(&workspace, &options),
        Task::Bench(options) => bench::run(&workspace, &options),
        Task::Parity(options) => parity::run(&workspace, &options),
        Task::Test(options) => test::run(&workspace, &options),
        Task::Tidy => tidy::run(&workspace),
        Task::Graph => graph::run(&workspace),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
