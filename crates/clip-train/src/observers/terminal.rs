//! Progress for people: a bar on a terminal, plain lines elsewhere.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use clip_core::{Error, Event, Observer, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Map, Value};

/// Shows step, loss and its terms, temperature, how full the queue is, pairs a second and the time left on standard
/// error.
pub struct Terminal {
    out: Out,
    /// Pairs since `since`, at whose time the last line was written.
    pairs: f64,
    since: Instant,
    every: Duration,
    steps: u64,
    /// The step that was told last; those between were not.
    told: u64,
    /// When this process began its steps, and how many there were before.
    began: (Instant, u64),
}

enum Out {
    Bar(ProgressBar),
    Plain(Box<dyn Write + Send>),
}

impl Terminal {
    /// A bar if standard error is a terminal, else a line now and then.
    pub fn new() -> Self {
        if io::stderr().is_terminal() {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            Self::with(Out::Bar(bar))
        } else {
            Self::plain(Box::new(io::stderr()), Duration::from_secs(5))
        }
    }

    /// Plain lines to `out`: every evaluation, checkpoint and note, and a step each `every`.
    pub fn plain(out: Box<dyn Write + Send>, every: Duration) -> Self {
        Self {
            every,
            ..Self::with(Out::Plain(out))
        }
    }

    fn with(out: Out) -> Self {
        Self {
            out,
            pairs: 0.0,
            since: Instant::now(),
            every: Duration::from_secs(1),
            steps: 0,
            told: 0,
            began: (Instant::now(), 0),
        }
    }

    fn line(&mut self, text: &str) {
        match &mut self.out {
            Out::Bar(bar) => bar.println(text),
            Out::Plain(out) => {
                // Whoever listened is gone (Ctrl-C ends a `| tee` as well): no reason to lose what was trained.
                if writeln!(out, "{text}").is_err() {
                    *out = Box::new(io::sink());
                }
            }
        }
    }

    fn started(&mut self, step: u64, steps: u64) -> Result<()> {
        self.steps = steps;
        self.since = Instant::now();
        self.told = step;
        self.began = (self.since, step);
        if let Out::Bar(bar) = &self.out {
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}, {eta} left")
                .map_err(|error| Error::internal(format!("the progress bar's template: {error}")))?;
            bar.set_style(style);
            bar.set_length(steps);
            bar.set_position(step);
            // Without this the time left of a resumed run would count the steps of the run before.
            bar.reset_eta();
            return Ok(());
        }
        self.line(&format!("training: step {step} of {steps}"));
        Ok(())
    }

    fn step(&mut self, figures: &Map<String, Value>) {
        let step = figures.get("step").and_then(Value::as_u64).unwrap_or(0);
        // Steps that were not told had as many pairs, near enough.
        let pairs = figures.get("pairs").and_then(Value::as_f64).unwrap_or(0.0);
        self.pairs += pairs * step.saturating_sub(self.told) as f64;
        self.told = step;
        let waited = self.since.elapsed();
        if let Out::Bar(bar) = &self.out {
            bar.set_position(step);
        }
        // The first step shows that it works; the others wait their turn.
        if waited < self.every && step > self.began.1 + 1 {
            return;
        }
        let rate = self.pairs / waited.as_secs_f64().max(1e-9);
        let text = format!("{}, {rate:.1} pairs/s", standing(figures));
        (self.pairs, self.since) = (0.0, Instant::now());
        if let Out::Bar(bar) = &self.out {
            bar.set_message(text);
            return;
        }
        let left = self.left(step);
        self.line(&format!("step {step} of {}: {text}{left}", self.steps));
    }

    /// The time left, by what the steps of this process took so far.
    fn left(&self, step: u64) -> String {
        let (since, before) = self.began;
        let done = step.saturating_sub(before);
        if done < 2 {
            return String::new();
        }
        let seconds = since.elapsed().as_secs_f64() / done as f64 * self.steps.saturating_sub(step) as f64;
        let left = match seconds {
            3600.0.. => format!("{:.1} h", seconds / 3600.0),
            60.0.. => format!("{:.0} min", seconds / 60.0),
            _ => format!("{seconds:.0} s"),
        };
        format!(", {left} left")
    }

    fn evaluated(&mut self, figures: &Map<String, Value>) {
        let step = figures.get("step").and_then(Value::as_u64).unwrap_or(0);
        let shown = ["r@1", "r@5", "r@10"].map(|figure| {
            let both = ["text_to_image", "image_to_text"].map(|direction| {
                let value = figures
                    .get(&format!("valid_{figure}_{direction}"))
                    .and_then(Value::as_f64);
                value.map_or_else(|| "-".into(), |value| format!("{value:.1}"))
            });
            format!("{figure} {}", both.join(" / "))
        });
        self.line(&format!(
            "evaluation after step {step}, text to image / image to text: {}",
            shown.join(", ")
        ));
    }
}

/// Where the loss stands: itself, its terms where they say more, the temperature, how full the queue is.
fn standing(figures: &Map<String, Value>) -> String {
    let number = |name: &str| figures.get(name).and_then(Value::as_f64);
    let mut text = number("loss").map_or_else(|| "loss not finite".into(), |loss| format!("loss {loss:.4}"));
    // The terms stand between the loss and the rate; a single one of weight 1 is the loss itself.
    let behind = figures.iter().skip_while(|(name, _)| *name != "loss").skip(1);
    let terms = behind.take_while(|(name, _)| *name != "lr");
    let terms: Vec<String> = terms
        .filter(|(_, value)| Some(*value) != figures.get("loss"))
        .filter_map(|(name, value)| Some(format!("{name} {:.4}", value.as_f64()?)))
        .collect();
    if !terms.is_empty() {
        text = format!("{text} ({})", terms.join(", "));
    }
    if let Some(scale) = number("logit_scale") {
        text = format!("{text}, temperature {:.4}", (-scale).exp());
    }
    if let Some(fill) = number("queue") {
        text = format!("{text}, queue {:.0} %", 100.0 * fill);
    }
    text
}

impl Default for Terminal {
    fn default() -> Self {
        Self::new()
    }
}

impl Observer for Terminal {
    fn observe(&mut self, event: &Event<'_>) -> Result<()> {
        match event {
            Event::Started { step, steps } => self.started(*step, *steps)?,
            Event::Step(figures) => self.step(figures),
            Event::Evaluated(figures) => self.evaluated(figures),
            Event::Saved { path, step } => self.line(&format!("step {step} saved in {}", path.display())),
            Event::Note(text) => self.line(text),
            Event::Finished { step } => {
                if let Out::Bar(bar) = &self.out {
                    bar.finish_and_clear();
                }
                self.line(&format!("training has ended after step {step}"));
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn plain_lines() {
        let page = Page::default();
        let mut terminal = Terminal::plain(Box::new(page.clone()), Duration::from_secs(3600));
        let step = |step: u64| json!({ "step": step, "loss": 1.5, "lr": 0.1, "pairs": 8 });
        let figures = json!({ "step": 3, "valid_r@1_text_to_image": 25.0, "valid_r@1_image_to_text": 50.0 });
        terminal.observe(&Event::Started { step: 0, steps: 3 }).unwrap();
        for n in 1..=3 {
            terminal.observe(&Event::Step(step(n).as_object().unwrap())).unwrap();
        }
        terminal
            .observe(&Event::Evaluated(figures.as_object().unwrap()))
            .unwrap();
        terminal.observe(&Event::Finished { step: 3 }).unwrap();
        let text = String::from_utf8(page.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(lines[1].starts_with("step 1 of 3: loss 1.5000, "), "{text}");
        assert!(lines[1].ends_with(" pairs/s"), "{text}");
        assert_eq!(
            lines[2],
            "evaluation after step 3, text to image / image to text: r@1 25.0 / 50.0, r@5 - / -, r@10 - / -"
        );
    }

    struct Gone;

    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_run_outlives_whoever_reads_its_progress() {
        let mut terminal = Terminal::plain(Box::new(Gone), Duration::ZERO);
        terminal.observe(&Event::Started { step: 0, steps: 3 }).unwrap();
        terminal.observe(&Event::Note("more")).unwrap();
    }

    #[test]
    fn a_line_says_where_the_loss_stands() {
        let figures = json!({
            "step": 3, "epoch": 0, "loss": 2.5, "info_nce": 2.25, "concept_prototypes": 0.25, "lr": 0.1,
            "logit_scale": 100f64.ln(), "grad_norm": 1.0, "pairs": 8, "queue": 0.625,
        });
        assert_eq!(
            standing(figures.as_object().unwrap()),
            "loss 2.5000 (info_nce 2.2500, concept_prototypes 0.2500), temperature 0.0100, queue 62 %"
        );
        let alone = json!({ "step": 3, "loss": 2.5, "info_nce": 2.5, "lr": 0.1 });
        assert_eq!(standing(alone.as_object().unwrap()), "loss 2.5000");
        let out = json!({ "step": 3, "loss": null, "info_nce": null, "lr": 0.1 });
        assert_eq!(standing(out.as_object().unwrap()), "loss not finite");
    }

    #[test]
    fn time_left_and_steps_that_were_not_told() {
        let page = Page::default();
        let mut terminal = Terminal::plain(Box::new(page.clone()), Duration::ZERO);
        terminal.observe(&Event::Started { step: 100, steps: 400 }).unwrap();
        // As if the run went on ten seconds ago.
        let earlier = |time: Instant| time.checked_sub(Duration::from_secs(10)).unwrap();
        (terminal.since, terminal.began.0) = (earlier(terminal.since), earlier(terminal.began.0));
        let step = json!({ "step": 200, "loss": 1.5, "lr": 0.1, "pairs": 8 });
        terminal.observe(&Event::Step(step.as_object().unwrap())).unwrap();
        let text = String::from_utf8(page.0.lock().unwrap().clone()).unwrap();
        let line = text.lines().last().unwrap();
        // 100 steps in 10 seconds: 200 are left, of 8 pairs each.
        let rest = line.strip_prefix("step 200 of 400: loss 1.5000, ").unwrap();
        let rate: f64 = rest.split_once(' ').unwrap().0.parse().unwrap();
        assert!(
            (79.0..=80.0).contains(&rate) && rest.ends_with(" pairs/s, 20 s left"),
            "{line}"
        );
    }
}
