//! Progress of a command: a bar on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use clip_format::Watch;

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use super::args::note;

/// Counts what has been done. Silent for work that takes under a few seconds and no terminal is watching.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    what: &'static str,
    total: Option<u64>,
    done: u64,
    started: Instant,
    spoke: Instant,
}

/// Plain lines come at most this often.
const PAUSE: Duration = Duration::from_secs(10);

impl Progress {
    /// Begins counting `what`, up to `total` where known.
    pub(crate) fn start(what: &'static str, total: Option<u64>) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let template = if total.is_some() {
                "{msg} {wide_bar} {pos}/{len} {rate}, {eta} left"
            } else {
                "{msg} {spinner} {pos} {rate}"
            };
            let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
            // A template that does not parse would be a defect; the plain bar is good enough then.
            let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            bar.with_style(style.with_key("rate", rate)).with_message(what)
        });
        let now = Instant::now();
        Self {
            bar,
            what,
            total,
            done: 0,
            started: now,
            spoke: now,
        }
    }

    /// Counts `rows` more.
    pub(crate) fn add(&mut self, rows: u64) {
        self.done += rows;
        if let Some(bar) = &self.bar {
            bar.set_position(self.done);
        } else if self.spoke.elapsed() >= PAUSE {
            self.spoke = Instant::now();
            let rate = self.done as f64 / self.started.elapsed().as_secs_f64();
            let of = self.total.map_or(String::new(), |total| format!(" of {total}"));
            note(&format!("{}: {}{of}, {rate:.1} a second", self.what, self.done));
        }
    }

    /// `rows` are done in all, as those who count for themselves say.
    pub(crate) fn reach(&mut self, rows: u64) {
        self.add(rows.saturating_sub(self.done));
    }

    /// Ends counting; the bar goes away.
    pub(crate) fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

/// How fast it goes, with no more digits than mean something.
fn rate(state: &ProgressState, line: &mut dyn std::fmt::Write) {
    // Nobody is told if a terminal's line cannot be made.
    write!(line, "{:.1}/s", state.per_sec()).ok();
}

/// Downloads: a bar a file on a terminal, plain lines elsewhere.
#[derive(Default)]
pub(crate) struct Downloads {
    bar: Option<ProgressBar>,
    file: String,
    length: Option<u64>,
    there: u64,
    spoke: Option<Instant>,
}

/// Smaller files come and go without a line.
const SMALL: u64 = 1 << 20;

impl Watch for Downloads {
    fn begin(&mut self, file: &str, length: Option<u64>, there: u64) {
        // One that broke off is begun again.
        self.end();
        self.length = length;
        self.there = there;
        file.clone_into(&mut self.file);
        let small = length.is_some_and(|length| length < SMALL);
        if std::io::stderr().is_terminal() {
            let template = if length.is_some() {
                "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}, {eta} left"
            } else {
                "{msg} {spinner} {bytes} {bytes_per_sec}"
            };
            let bar = length.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
            let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = bar.with_style(style).with_message(self.file.clone());
            bar.set_position(there);
            self.bar = Some(bar);
        } else if !small {
            self.say();
        }
        self.spoke = Some(Instant::now());
    }

    fn received(&mut self, bytes: u64) {
        self.there += bytes;
        if let Some(bar) = &self.bar {
            bar.set_position(self.there);
        } else if self.spoke.is_none_or(|spoke| spoke.elapsed() >= PAUSE) {
            self.spoke = Some(Instant::now());
            self.say();
        }
    }

    fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn note(&mut self, text: &str) {
        note(text);
    }
}

impl Downloads {
    fn say(&self) {
        let of = self
            .length
            .map_or(String::new(), |length| format!(" of {}", megabytes(length)));
        note(&format!("fetching {}: {}{of}", self.file, megabytes(self.there)));
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
