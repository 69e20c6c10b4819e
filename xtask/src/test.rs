//! Every check of the repository, one after the other, cheapest first. It stops at the first that fails.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::prerequisites::{self, Need};
use crate::process::{self, cargo};
use crate::workspace::Workspace;
use crate::{graph, setup, strangers, tidy};

/// What to test.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Skip nothing: a missing tool is an error, and large tests (gigabytes of disk) run too.
    #[arg(long, conflicts_with = "only")]
    all: bool,
    /// Take one step alone.
    #[arg(long, value_name = "STEP")]
    only: Option<Step>,
}

/// The steps, in the order they are taken.
///
/// The tests stand last, so that their closing lines are what one sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Step {
    /// rustfmt has nothing to change.
    Fmt,
    /// `cargo xtask tidy`.
    Tidy,
    /// `cargo xtask graph`: who imports whom.
    Graph,
    /// Licences and sources of what we depend on (needs cargo-deny).
    Deny,
    /// clippy has nothing to say about any target, benches and examples included.
    Clippy,
    /// The documentation builds without a warning.
    Rustdoc,
    /// The examples in the documentation run.
    Doctests,
    /// The examples of a stranger's crate build, pass and run.
    Examples,
    /// The tests: with cargo-nextest where it is installed, else with cargo's own runner.
    Tests,
}

impl Step {
    fn name(self) -> String {
        self.to_possible_value()
            .map(|value| value.get_name().to_string())
            .unwrap_or_default()
    }

    /// The tool without which the step is skipped.
    fn tool(self) -> Option<Need> {
        (self == Self::Deny).then_some(Need::CargoDeny)
    }

    /// `all` takes the tests too that are marked as large: `#[ignore = "…"]`.
    fn take(self, workspace: &Workspace, all: bool) -> Result<()> {
        let run = |arguments: &[&str]| process::run(cargo(workspace).args(arguments));
        match self {
            Self::Fmt => run(&["fmt", "--all", "--check"]),
            Self::Tidy => tidy::run(workspace),
            Self::Graph => graph::run(workspace),
            // Advisories need a database from the network; they are asked for by hand.
            Self::Deny => run(&["deny", "--workspace", "check", "bans", "licenses", "sources"]),
            Self::Clippy => run(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
            Self::Rustdoc => {
                let arguments = ["doc", "--workspace", "--no-deps", "--quiet"];
                process::run(cargo(workspace).args(arguments).env("RUSTDOCFLAGS", "-D warnings"))
            }
            Self::Doctests => run(&["test", "--workspace", "--doc", "--quiet"]),
            Self::Examples => strangers::run(workspace),
            Self::Tests if process::probe("cargo-nextest", &["--version"]).is_some() => {
                let levels = ["--status-level", "slow", "--final-status-level", "fail"];
                let large = ["--run-ignored", if all { "all" } else { "default" }];
                run(&[&["nextest", "run", "--workspace"], &levels[..], &large].concat())
            }
            Self::Tests => {
                let arguments = ["test", "--workspace", "--lib", "--bins", "--tests", "--no-fail-fast"];
                let large: &[&str] = if all { &["--", "--include-ignored"] } else { &[] };
                run(&[&arguments[..], large].concat())
            }
        }
    }
}

/// Sets up, then takes the steps.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let steps: Vec<Step> = options
        .only
        .map_or_else(|| Step::value_variants().to_vec(), |step| vec![step]);
    // Told before the first minute is spent. A step asked for by name is not skipped either.
    let mut tools: Vec<Need> = steps.iter().filter_map(|step| step.tool()).collect();
    if options.all {
        // Pages are looked at by tests that are left out otherwise.
        tools.push(Need::Chromium);
    }
    if options.all || options.only.is_some() {
        prerequisites::check(&tools)?;
    }
    setup::ensure(workspace, &[])?;

    let (mut taken, mut skipped) = (Vec::new(), Vec::new());
    for (place, step) in steps.iter().enumerate() {
        if let Some(tool) = step.tool().filter(|tool| !tool.met()) {
            skipped.push(format!("{}, for want of {}", step.name(), tool.hint()));
            continue;
        }
        println!("\n== {} ({} of {})", step.name(), place + 1, steps.len());
        let start = Instant::now();
        step.take(workspace, options.all).with_context(|| {
            format!(
                "the step `{0}` failed; alone it is `cargo xtask test --only {0}`",
                step.name()
            )
        })?;
        taken.push((step.name(), start.elapsed()));
    }

    println!();
    for (name, time) in &taken {
        println!("{name:>10}  {}", minutes(*time));
    }
    println!(
        "{:>10}  {}",
        "together",
        minutes(taken.iter().map(|(_, time)| *time).sum())
    );
    if !skipped.is_empty() {
        println!("skipped:\n  {}", skipped.join("\n  "));
    }
    Ok(())
}

/// Minutes and seconds.
fn minutes(time: Duration) -> String {
    let seconds = time.as_secs_f32().round() as u64;
    format!("{} min {:02} s", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tests_come_last_and_every_step_has_a_name() {
        let steps = Step::value_variants();
        assert_eq!(steps.last(), Some(&Step::Tests));
        assert!(
            steps
                .iter()
                .all(|step| Step::from_str(&step.name(), false) == Ok(*step))
        );
    }

    #[test]
    fn times_are_minutes_and_seconds() {
        assert_eq!(minutes(Duration::from_millis(125_400)), "2 min 05 s");
    }
}
