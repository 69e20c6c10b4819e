//! The report: means, paired differences with their intervals, the choices of the baseline.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context, Result};
use serde_json::Value;

use super::arms::{Plan, Setting};
use super::data::Data;
use super::measure::{Answers, Questions};
use super::records::Records;
use super::runs::{CANDIDATE, Run};
use super::statistics::{Difference, Values, difference, mean};

/// A figure's value for each query, `NaN` for queries that it is not made of.
type Figure = fn(&Answers, &Questions) -> Vec<f64>;

/// The figures of the tables.
const FIGURES: [(&str, Figure); 6] = [
    ("R@1", |answers, _| answers.recall(1)),
    ("R@5", |answers, _| answers.recall(5)),
    ("R@10", |answers, _| answers.recall(10)),
    ("cMAP", |answers, questions| answers.precision(questions, true)),
    ("cNEW", |answers, questions| answers.precision(questions, false)),
    ("P@10", |answers, questions| answers.precision_10(questions, true)),
];

/// Places in [`FIGURES`] of those whose differences are shown.
const COMPARED: [usize; 4] = [0, 2, 3, 4];

/// What there is to say of a setting.
pub(super) enum Page {
    Text(String),
    /// So many runs have no answers here, and a page without them would be another one.
    Elsewhere(usize),
}

/// A page for each setting of which runs are done.
pub(super) fn pages(plan: &Plan, data: &Data, records: &Records) -> Result<Vec<(String, Page)>> {
    let mut pages = Vec::new();
    for setting in &plan.settings {
        let questions = data.catalogue(setting.language).questions(setting.items);
        let arms = Arms::read(setting, records, &questions)?;
        if arms.by_name.is_empty() {
            continue;
        }
        let page = if arms.unanswered > 0 {
            Page::Elsewhere(arms.unanswered)
        } else {
            Page::Text(of_setting(plan, setting, &arms, &questions)? + &choices(setting, records)?)
        };
        pages.push((setting.name.clone(), page));
    }
    Ok(pages)
}

/// What is known of an arm in a setting.
#[derive(Default)]
struct Arm {
    lines: Vec<Value>,
    /// By place in [`FIGURES`].
    values: [Values; FIGURES.len()],
}

struct Arms {
    by_name: BTreeMap<String, Arm>,
    /// Runs whose answers are not here.
    unanswered: usize,
}

impl Arms {
    fn read(setting: &Setting, records: &Records, questions: &Questions) -> Result<Self> {
        let mut arms = Self {
            by_name: BTreeMap::new(),
            unanswered: 0,
        };
        for (run, line) in records.of_setting(&setting.name) {
            if run.arm.starts_with(CANDIDATE) {
                continue;
            }
            let arm = arms.by_name.entry(run.arm.clone()).or_default();
            arm.lines.push(line);
            match records.answers(&run) {
                Some(answers) => {
                    for (values, (_, of)) in arm.values.iter_mut().zip(FIGURES) {
                        values.insert((run.fold.clone(), run.seed), of(&answers, questions));
                    }
                }
                None => arms.unanswered += 1,
            }
        }
        Ok(arms)
    }

    fn difference(&self, arm: &str, baseline: &str, figure: usize) -> Option<Difference> {
        let values = |name: &str| self.by_name.get(name).map(|arm| &arm.values[figure]);
        difference(values(arm)?, values(baseline)?)
    }
}

fn of_setting(plan: &Plan, setting: &Setting, arms: &Arms, questions: &Questions) -> Result<String> {
    let known = questions.concepts.iter().filter(|concept| concept.known).count();
    let mut text = format!(
        "# {}: {}\n\n`cargo xtask ablation --setting {}` · {} things asked for, {known} known and {} new concepts · [what the columns mean](../ablation.md)\n\n",
        setting.name,
        setting.says,
        setting.name,
        questions.tested.iter().filter(|tested| **tested).count(),
        questions.concepts.len() - known,
    );
    let order: Vec<&str> = plan
        .arms
        .iter()
        .map(|arm| arm.name.as_str())
        .filter(|name| arms.by_name.contains_key(*name))
        .collect();
    text += &means(plan, &order, arms)?;
    text += "\nAgainst the baseline:\n\n";
    let against = order
        .iter()
        .filter(|name| **name != "tuned")
        .map(|name| (*name, "tuned"));
    text += &differences(against, arms)?;
    let versus: Vec<(&str, &str)> = plan
        .versus
        .iter()
        .map(|[arm, other]| (arm.as_str(), other.as_str()))
        .filter(|(arm, other)| order.contains(arm) && order.contains(other))
        .collect();
    if !versus.is_empty() {
        text += "\nAgainst each other:\n\n";
        text += &differences(versus.into_iter(), arms)?;
    }
    if setting.folds.len() > 1 {
        text += "\nBy the artist who is tested, R@1 / cMAP:\n\n";
        text += &by_fold(setting, &order, arms)?;
    }
    Ok(text)
}

fn means(plan: &Plan, order: &[&str], arms: &Arms) -> Result<String> {
    let names: Vec<&str> = FIGURES.iter().map(|(name, _)| *name).collect();
    let mut text = format!(
        "| arm | runs | {} | s | MiB |\n|---|---|{}---|---|\n",
        names.join(" | "),
        "---|".repeat(names.len())
    );
    for name in order {
        let arm = &arms.by_name[*name];
        let cells: Vec<String> = arm.values.iter().map(|values| number(mean(values))).collect();
        let cost = |key: &str| {
            let all: Option<Vec<f64>> = arm.lines.iter().map(|line| line[key].as_f64()).collect();
            all.map(|all| all.iter().sum::<f64>() / all.len() as f64)
        };
        writeln!(
            text,
            "| {name}: {} | {} | {} | {} | {:.0} |",
            plan.arm(name)?.says,
            arm.lines.len(),
            cells.join(" | "),
            number(cost("cpu_seconds")),
            cost("peak_mib").unwrap_or(f64::NAN),
        )?;
    }
    Ok(text)
}

fn differences<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>, arms: &Arms) -> Result<String> {
    let names = COMPARED.map(|place| FIGURES[place].0).join(" | ");
    let mut text = format!(
        "| arm − other | pairs | {names} |\n|---|---|{}\n",
        "---|".repeat(COMPARED.len())
    );
    for (arm, other) in pairs {
        let cells = COMPARED.map(|figure| arms.difference(arm, other, figure));
        let pairs = cells
            .iter()
            .flatten()
            .map(|difference| difference.pairs)
            .max()
            .unwrap_or(0);
        let cells = cells.map(interval).join(" | ");
        writeln!(text, "| {arm} − {other} | {pairs} | {cells} |")?;
    }
    Ok(text)
}

fn by_fold(setting: &Setting, order: &[&str], arms: &Arms) -> Result<String> {
    let mut text = format!(
        "| arm | {} |\n|---|{}\n",
        setting.folds.join(" | "),
        "---|".repeat(setting.folds.len())
    );
    for name in order {
        let arm = &arms.by_name[*name];
        let cell = |fold: &String| {
            let of = |figure: usize| {
                let values = arm.values[figure].iter().filter(|((of, _), _)| of == fold);
                number(mean(&values.map(|(key, units)| (key.clone(), units.clone())).collect()))
            };
            format!("{} / {}", of(0), of(3))
        };
        let cells: Vec<String> = setting.folds.iter().map(cell).collect();
        writeln!(text, "| {name} | {} |", cells.join(" | "))?;
    }
    Ok(text)
}

/// Which candidates the baselines were chosen from, and by what recall.
fn choices(setting: &Setting, records: &Records) -> Result<String> {
    let mut by_candidate: BTreeMap<String, BTreeMap<String, f64>> = BTreeMap::new();
    let candidates: Vec<(Run, Value)> = records
        .of_setting(&setting.name)
        .into_iter()
        .filter(|(run, _)| run.arm.starts_with(CANDIDATE))
        .collect();
    for (run, line) in &candidates {
        let recall = line["mean_recall"].as_f64().context("a line without mean_recall")?;
        let name = run.arm.trim_start_matches(CANDIDATE).to_owned();
        by_candidate.entry(name).or_default().insert(run.fold.clone(), recall);
    }
    if by_candidate.is_empty() {
        return Ok(String::new());
    }
    let folds: Vec<&String> = by_candidate
        .values()
        .next()
        .map(|folds| folds.keys().collect())
        .unwrap_or_default();
    let heads: Vec<&str> = folds.iter().map(|fold| fold.as_str()).collect();
    let mut text = format!(
        "\nHow the baseline was chosen, in `{}`: mean recall on the artist who chooses for a fold (the highest is taken):\n\n| candidate | {} |\n|---|{}\n",
        setting.name,
        heads.join(" | "),
        "---|".repeat(folds.len())
    );
    for (name, recalls) in &by_candidate {
        let cells: Vec<String> = folds.iter().map(|fold| number(recalls.get(*fold).copied())).collect();
        writeln!(text, "| {name} | {} |", cells.join(" | "))?;
    }
    Ok(text)
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "–".into(), |value| format!("{value:.1}"))
}

/// A difference with its sign and interval.
fn interval(difference: Option<Difference>) -> String {
    let signed = |value: f64| format!("{value:+.1}").replace('-', "−");
    difference.map_or_else(
        || "–".into(),
        |found| format!("{} [{}, {}]", signed(found.mean), signed(found.low), signed(found.high)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_have_a_sign_and_an_interval() {
        let found = Difference {
            mean: -0.26,
            low: -1.0,
            high: 0.54,
            pairs: 20,
        };
        assert_eq!(interval(Some(found)), "−0.3 [−1.0, +0.5]");
        assert_eq!((interval(None), number(Some(2.04))), ("–".into(), "2.0".into()));
    }
}
