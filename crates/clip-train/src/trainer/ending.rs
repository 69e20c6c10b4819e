//! How a run ends: in the end, early, not at all, or before this process began.

use clip_core::{Error, Event, Result};

use super::points::Point;
use super::{Parts, Summary, Trainer};
use crate::checkpoint::RunState;

impl Trainer {
    /// What is due when a run ends.
    pub(super) fn end(mut self) -> Result<Summary> {
        self.look_up(Point::End)?;
        self.checkpoints.prune(self.config.keep, None)?;
        if self.state.stopped_early(&self.config) {
            self.tell(&Event::Note(&stopped_early(&self.state)))?;
        }
        self.tell(&Event::Finished { step: self.state.step })?;
        self.summary.step = self.state.step;
        self.summary.refused = self.state.refused;
        self.summary.best = self.state.best;
        if let Some(report) = &mut self.report {
            report.end(&self.summary)?;
        }
        self.checkpoints.end(self.state.step)?;
        Ok(self.summary)
    }

    /// What there is to say of steps that came to nothing.
    pub(super) fn diverged(&self) -> Error {
        let rows = match self.suspects.rows.as_str() {
            "" => String::new(),
            rows => format!(", of {rows}"),
        };
        Error::invalid(format!(
            "the loss or its gradient was not finite in {} steps in a row, the last of them step {}{rows}",
            self.state.bad_steps, self.state.step
        ))
        .remedy("use a lower --lr, a longer warm-up, or dtype = \"f32\", and resume")
    }
}

/// What there is to say where an epoch had not one batch: the model would be written as if it had been trained.
pub(super) fn no_batch(refused: u64) -> Error {
    let error = Error::invalid(format!(
        "the training table has no batch to train on: {refused} rows were refused"
    ));
    if refused > 0 {
        error.remedy("see why in the list of refused rows (RUN.rejects.jsonl)")
    } else {
        error.remedy("take a smaller --batch-size, or set drop_last = false")
    }
}

/// What there is to say of a run that waits no longer for a new best.
fn stopped_early(state: &RunState) -> String {
    let best = state.best.as_ref().map_or_else(String::new, |best| {
        format!("; the best {} is {} of step {}", best.metric, best.value, best.step)
    });
    format!(
        "stopped after step {}, since {} evaluations in a row brought no new best{best}",
        state.step, state.stale
    )
}

/// What there is to say of a run that has done everything already; its files stay as they are.
pub(super) fn finished(mut parts: Parts) -> Result<Summary> {
    let Some(checkpoint) = parts.run.checkpoint() else {
        return Err(Error::internal("a run without a checkpoint is not finished"));
    };
    let state = checkpoint.state();
    let note = if state.stopped_early(&parts.config) {
        format!("the run is finished: {}", stopped_early(state))
    } else {
        format!("the run is finished: all {} steps are done", state.step)
    };
    for observer in &mut parts.observers {
        observer.observe(&Event::Note(&note))?;
        observer.observe(&Event::Finished { step: state.step })?;
    }
    Ok(Summary {
        step: state.step,
        done: 0,
        seconds: 0.0,
        loss: None,
        evaluated: None,
        best: state.best.clone(),
        refused: state.refused,
    })
}
