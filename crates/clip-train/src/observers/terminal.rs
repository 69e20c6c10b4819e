//! Progress for people: a bar on a terminal, plain lines elsewhere.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use clip_core::{Error, Event, Observer, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Map, Value};

/// Shows step, loss, pairs a second and the time left on standard error.
pub struct Terminal {
    out: Out,
    /// Pairs since `since`, at whose time the last line was written.
    pairs: f64,
    since: Instant,
    every: Duration,
    steps: u64,
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
        }
    }

    fn line(&mut self, text: &str) -> Result<()> {
        match &mut self.out {
            Out::Bar(bar) => {
                bar.println(text);
                Ok(())
            }
            Out::Plain(out) => {
                writeln!(out, "{text}").map_err(|error| Error::unavailable(format!("cannot write progress: {error}")))
            }
        }
    }

    fn started(&mut self, step: u64, steps: u64) -> Result<()> {
        self.steps = steps;
        self.since = Instant::now();
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
        self.line(&format!("training: step {step} of {steps}"))
    }

    fn step(&mut self, figures: &Map<String, Value>) -> Result<()> {
        let number = |name: &str| figures.get(name).and_then(Value::as_f64);
        let step = figures.get("step").and_then(Value::as_u64).unwrap_or(0);
        self.pairs += number("pairs").unwrap_or(0.0);
        let waited = self.since.elapsed();
        if let Out::Bar(bar) = &self.out {
            bar.set_position(step);
        }
        // The first step shows that it works; the others wait their turn.
        if waited < self.every && step > 1 {
            return Ok(());
        }
        let rate = self.pairs / waited.as_secs_f64().max(1e-9);
        let loss = number("loss").map_or_else(|| "not finite".into(), |loss| format!("{loss:.4}"));
        let text = format!("loss {loss}, {rate:.1} pairs/s");
        (self.pairs, self.since) = (0.0, Instant::now());
        if let Out::Bar(bar) = &self.out {
            bar.set_message(text);
            return Ok(());
        }
        self.line(&format!("step {step} of {}: {text}", self.steps))
    }

    fn evaluated(&mut self, figures: &Map<String, Value>) -> Result<()> {
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
        ))
    }
}

impl Default for Terminal {
    fn default() -> Self {
        Self::new()
    }
}

impl Observer for Terminal {
    fn observe(&mut self, event: &Event<'_>) -> Result<()> {
        match event {
            Event::Started { step, steps } => self.started(*step, *steps),
            Event::Step(figures) => self.step(figures),
            Event::Evaluated(figures) => self.evaluated(figures),
            Event::Saved { path, step } => self.line(&format!("step {step} saved in {}", path.display())),
            Event::Note(text) => self.line(text),
            Event::Finished { step } => {
                if let Out::Bar(bar) = &self.out {
                    bar.finish_and_clear();
                }
                self.line(&format!("training has ended after step {step}"))
            }
            _ => Ok(()),
        }
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
        let step = |step: u64| json!({ "step": step, "loss": 1.5, "pairs": 8 });
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
        assert_eq!(
            lines[2],
            "evaluation after step 3, text to image / image to text: r@1 25.0 / 50.0, r@5 - / -, r@10 - / -"
        );
    }
}
