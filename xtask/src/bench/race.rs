//! Programs run in turn, each a whole process, and the table of what each took.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::process;

/// One program.
pub(super) struct Entrant {
    pub(super) name: &'static str,
    /// Program and arguments.
    pub(super) words: Vec<OsString>,
    /// Rows that the whole process works on, of a program that prints no speed.
    rows: Option<u32>,
}

impl Entrant {
    pub(super) fn new(name: &'static str, words: Vec<OsString>) -> Self {
        let rows = None;
        Self { name, words, rows }
    }

    /// A program whose speed is its rows by the seconds of its whole process, its start included.
    pub(super) fn of_rows(name: &'static str, words: Vec<OsString>, rows: u32) -> Self {
        Self {
            rows: Some(rows),
            ..Self::new(name, words)
        }
    }
}

/// What a program is judged by.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Measure {
    /// The whole process on the clock, on all cores: less is better.
    Seconds,
    /// What the program prints on its last line, in a unit: more is better.
    Printed {
        unit: &'static str,
        /// Whether it is kept on one core.
        one_core: bool,
    },
}

impl Measure {
    pub(super) fn printed(unit: &'static str, one_core: bool) -> Self {
        Self::Printed { unit, one_core }
    }

    fn unit(self) -> &'static str {
        match self {
            Self::Seconds => "s",
            Self::Printed { unit, .. } => unit,
        }
    }
}

/// What one run of one program cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    score: f64,
    /// Seconds of processor time.
    cpu: f64,
    /// MiB.
    peak: f64,
    /// The share of the machine's peak that the program says it reached, in percent.
    share: Option<f64>,
}

/// The programs of one bench; the first is ours.
pub(super) struct Race<'a> {
    pub(super) measure: Measure,
    pub(super) entrants: Vec<Entrant>,
    /// An entrant of whose speed every row is also told in multiples.
    pub(super) base: Option<&'static str>,
    pub(super) python: &'a Path,
    /// The script that runs a program and counts.
    pub(super) wrapper: PathBuf,
    /// Where the programs write.
    pub(super) output: PathBuf,
}

/// A command of words.
pub(super) fn command(words: &[OsString]) -> Command {
    let mut words = words.iter();
    let mut command = Command::new(words.next().cloned().unwrap_or_default());
    command.args(words);
    command
}

impl Race<'_> {
    /// Some rounds; in each, every program once. Every other round goes backwards, so that nobody always follows the
    /// same neighbour.
    pub(super) fn run(&self, rounds: u32, mut tell: impl FnMut(u32)) -> Result<Vec<Vec<Reading>>> {
        fs::create_dir_all(&self.output).with_context(|| format!("cannot make {}", self.output.display()))?;
        let pin = self.pin();
        let mut readings = vec![Vec::new(); self.entrants.len()];
        for round in 0..rounds {
            let mut order: Vec<usize> = (0..self.entrants.len()).collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for place in order {
                readings[place].push(self.once(&self.entrants[place], &pin)?);
            }
            tell(round + 1);
        }
        Ok(readings)
    }

    /// The words that keep a program on one core, where that is asked for and can be done.
    fn pin(&self) -> Vec<OsString> {
        let core = (cores() - 1).to_string();
        let one_core = matches!(self.measure, Measure::Printed { one_core: true, .. });
        if one_core && process::probe("taskset", &["-c", &core, "true"]).is_some() {
            ["taskset", "-c", &core].map(Into::into).to_vec()
        } else {
            Vec::new()
        }
    }

    fn once(&self, entrant: &Entrant, pin: &[OsString]) -> Result<Reading> {
        let cost = self.output.join("cost.json");
        let mut run = Command::new(self.python);
        run.arg(&self.wrapper).arg(&cost).args(pin).args(&entrant.words);
        let printed = process::output(&mut run).with_context(|| format!("in the bench of {}", entrant.name))?;
        let cost = fs::read_to_string(&cost).with_context(|| format!("cannot read {}", cost.display()))?;
        let cost: Value = serde_json::from_str(&cost)?;
        let number = |key: &str| cost[key].as_f64().with_context(|| format!("measure.py wrote no {key}"));
        let score = match (self.measure, entrant.rows) {
            (Measure::Seconds, _) => number("wall")?,
            (_, Some(rows)) => f64::from(rows) / number("wall")?,
            _ => speed(&printed, self.measure.unit())
                .with_context(|| format!("{} printed no speed: {printed}", entrant.name))?,
        };
        Ok(Reading {
            score,
            cpu: number("cpu")?,
            peak: number("peak")?,
            share: share(&printed),
        })
    }

    /// Measures and writes the table.
    pub(super) fn table(&self, rounds: u32) -> Result<String> {
        let before = load();
        let readings = self.run(rounds, |round| println!("round {round} of {rounds}"))?;
        let unit = self.measure.unit();
        let mut text = format!(
            "{}; {} cores; load {before} before and {} after, this bench's own included; {}; {rounds} rounds.\n\n",
            cpu_model(),
            cores(),
            load(),
            process::probe("date", &["+%Y-%m-%d"]).unwrap_or_default().trim(),
        );
        text += &format!(
            "| | best, {unit} | median, {unit} | CPU s, median | peak MiB | faster, best | faster, median | less memory |\n\
             |---|---|---|---|---|---|---|---|\n"
        );
        let ours = self.row(&readings[0]);
        for (entrant, readings) in self.entrants.iter().zip(&readings) {
            let row = self.row(readings);
            let times = |theirs: f64, ours: f64| match self.measure {
                Measure::Seconds => theirs / ours,
                _ => ours / theirs,
            };
            text += &format!(
                "| {} | {:.2} | {:.2} | {:.2} | {:.0} | {:.2}× | {:.2}× | {:.2}× |\n",
                entrant.name,
                row.best,
                row.median,
                row.cpu,
                row.peak,
                times(row.best, ours.best),
                times(row.median, ours.median),
                row.peak / ours.peak,
            );
        }
        text += &format!(
            "\nThe last three columns say how many times {} is faster, and takes less memory, than that row.\n",
            self.entrants[0].name
        );
        if let Some(base) = self.base {
            text += &self.multiples(base, &readings);
        }
        Ok(text)
    }

    /// A table of everyone's speed in multiples of one entrant's, and of the share of the machine's peak where told.
    fn multiples(&self, base: &str, readings: &[Vec<Reading>]) -> String {
        let Some(place) = self.entrants.iter().position(|entrant| entrant.name == base) else {
            return String::new();
        };
        let than = self.row(&readings[place]);
        let row = |(entrant, readings): (&Entrant, &Vec<Reading>)| {
            let row = self.row(readings);
            let share = row.share.map_or_else(String::new, |share| format!("{share:.0} %"));
            format!(
                "| {} | {:.2}× | {:.2}× | {share} |\n",
                entrant.name,
                row.best / than.best,
                row.median / than.median
            )
        };
        let rows: String = self.entrants.iter().zip(readings).map(row).collect();
        format!("\n| in multiples of {base} | best | median | of the machine's peak, best |\n|---|---|---|---|\n{rows}")
    }

    fn row(&self, readings: &[Reading]) -> Row {
        let of = |value: fn(&Reading) -> f64| readings.iter().map(value);
        let best = match self.measure {
            Measure::Seconds => of(|reading| reading.score).fold(f64::INFINITY, f64::min),
            _ => of(|reading| reading.score).fold(0.0, f64::max),
        };
        Row {
            best,
            median: median(of(|reading| reading.score).collect()),
            cpu: median(of(|reading| reading.cpu).collect()),
            peak: of(|reading| reading.peak).fold(0.0, f64::max),
            share: readings
                .iter()
                .filter_map(|reading| reading.share)
                .max_by(f64::total_cmp),
        }
    }
}

struct Row {
    best: f64,
    median: f64,
    cpu: f64,
    peak: f64,
    share: Option<f64>,
}

/// The middle value; of an even number, the mean of the two in the middle.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// Reads `354.2 pictures/s on one thread`, the last line that all programs of the bench print alike.
fn speed(printed: &str, unit: &str) -> Option<f64> {
    let (number, rest) = printed.lines().last()?.split_once(' ')?;
    rest.starts_with(unit).then(|| number.parse().ok())?
}

/// Reads `93.1 % of the machine's peak: ...`, a line of its own of those that measure it.
fn share(printed: &str) -> Option<f64> {
    let percent = |line: &str| line.split_once(" % of the machine's peak")?.0.parse().ok();
    printed.lines().find_map(percent)
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

fn cpu_model() -> String {
    let linux = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let named = linux
        .lines()
        .find_map(|line| Some(line.strip_prefix("model name")?.split_once(':')?.1.to_string()));
    let model = named.or_else(|| process::probe("sysctl", &["-n", "machdep.cpu.brand_string"]));
    model.map_or_else(|| "unknown processor".to_string(), |model| model.trim().to_string())
}

/// The mean number of running programs over the last minute: other work on the machine is noise in every figure.
fn load() -> String {
    let text = process::probe("uptime", &[]).unwrap_or_default();
    let load = text
        .rsplit_once("average")
        .and_then(|(_, rest)| rest.split([' ', ',']).find(|word| word.contains('.')));
    load.unwrap_or("unknown").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn speed_is_read_from_the_last_line() {
        let printed = "decode 1.2 ms, resize + crop + normalise 0.5 ms\n354.2 pictures/s on one thread\n";
        assert_eq!(speed(printed, "pictures/s"), Some(354.2));
        assert_eq!(speed(printed, "pairs per CPU second"), None);
        assert_eq!(speed("no pictures/s\n", "pictures/s"), None);
        assert_eq!(speed("", "s"), None);
        assert_eq!(
            share("93.1 % of the machine's peak: 104 of 112 GFLOP/s\n5 pictures/s"),
            Some(93.1)
        );
        assert_eq!(share(printed), None);
    }

    #[test]
    fn a_race_counts_every_program_in_every_round_and_says_who_is_better() {
        let folder = tempfile::tempdir().unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let python = Path::new("python3");
        let sleep = |seconds: &str| vec!["sleep".into(), seconds.into()];
        let race = Race {
            measure: Measure::Seconds,
            entrants: vec![Entrant::new("ours", sleep("0.1")), Entrant::new("theirs", sleep("0.4"))],
            base: None,
            python,
            wrapper: root.join("benches/peers/measure.py"),
            output: folder.path().join("output"),
        };
        let mut rounds = Vec::new();
        let readings = race.run(2, |round| rounds.push(round)).unwrap();
        assert_eq!(rounds, [1, 2]);
        let [ours, theirs] = [0, 1].map(|place| race.row(&readings[place]));
        assert!(ours.best >= 0.1 && theirs.best >= 0.4, "{} {}", ours.best, theirs.best);
        assert!(ours.peak > 0.1, "{} MiB", ours.peak);
        assert!(race.table(1).unwrap().contains("| theirs | 0."));
        let broken = Race {
            entrants: vec![Entrant::new("broken", vec!["false".into()])],
            ..race
        };
        let message = broken.run(1, |_| ()).unwrap_err().to_string();
        assert!(message.contains("broken"), "{message}");
    }
}
