//! The learning rate of each step: pure functions of the step.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

/// How the rate goes over a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// OpenCLIP's: up by `(step + 1) / warmup`, then down half a cosine to 0.
    #[default]
    Cosine,
    /// Hugging Face's and EasyNLP's: up by `step / warmup` (so the first step has rate 0), then straight down to 0.
    Linear,
    /// OpenCLIP's `const`: up by `(step + 1) / warmup`, then level.
    Constant,
}

impl Schedule {
    /// The rate of a step (from 0) of `steps`, of which the first `warmup` go up to `peak`.
    ///
    /// ```
    /// use clip_train::Schedule;
    /// let rates = [0, 1, 2, 3].map(|step| Schedule::Cosine.rate(1.0, step, 2, 4));
    /// assert_eq!(rates, [0.5, 1.0, 1.0, 0.5]);
    /// ```
    pub fn rate(self, peak: f64, step: u64, warmup: u64, steps: u64) -> f64 {
        if step < warmup {
            let up = match self {
                Self::Linear => step,
                Self::Cosine | Self::Constant => step + 1,
            };
            return peak * up as f64 / warmup as f64;
        }
        // A run may take more steps than were planned, where a stream did not know its length: the rate stays 0 then.
        let rest = steps.saturating_sub(warmup).max(1) as f64;
        let done = ((step - warmup) as f64 / rest).min(1.0);
        match self {
            Self::Cosine => 0.5 * (1.0 + (PI * done).cos()) * peak,
            Self::Linear => peak * (1.0 - done),
            Self::Constant => peak,
        }
    }
}

/// How a level rate ends: OpenCLIP's `const-cooldown`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CoolDown {
    /// The last steps of the run, over which the rate goes to 0; 0 for none.
    pub steps: u64,
    /// 1 goes straight, more falls faster at first.
    pub power: f64,
}

impl CoolDown {
    /// The share of the rate that is left in a step (from 0) of `steps`: `(1 − e / n)^power` in step `e` (from 0) of the
    /// last `n`, 1 before them.
    ///
    /// ```
    /// use clip_train::CoolDown;
    /// let down = CoolDown { steps: 2, power: 1.0 };
    /// assert_eq!([0, 1, 2, 3].map(|step| down.share(step, 4)), [1.0, 1.0, 1.0, 0.5]);
    /// ```
    pub fn share(self, step: u64, steps: u64) -> f64 {
        let into = step.saturating_sub(steps.saturating_sub(self.steps));
        if self.steps == 0 || into == 0 {
            return 1.0;
        }
        // A run may take more steps than were planned, as above.
        (1.0 - into as f64 / self.steps.min(steps).max(1) as f64)
            .max(0.0)
            .powf(self.power)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn trace(name: &str) -> Vec<f64> {
        let path = format!("{}/../../tests/fixtures/train/{name}.json", env!("CARGO_MANIFEST_DIR"));
        let value: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let rows = value["trace"].as_array().unwrap();
        rows.iter().map(|row| row["lr"].as_f64().unwrap()).collect()
    }

    #[test]
    fn rates_are_those_of_the_references() {
        for (schedule, name) in [(Schedule::Cosine, "cosine_accum1"), (Schedule::Linear, "linear_accum1")] {
            let wanted = trace(name);
            assert_eq!(wanted.len(), 6);
            for (step, wanted) in wanted.iter().enumerate() {
                let rate = schedule.rate(1e-3, step as u64, 2, 6);
                assert!(
                    (rate - wanted).abs() < 1e-15,
                    "{name}, step {step}: {rate} against {wanted}"
                );
            }
        }
    }

    #[test]
    fn without_warm_up_the_first_step_has_the_whole_rate() {
        for schedule in [Schedule::Cosine, Schedule::Linear, Schedule::Constant] {
            assert_eq!(schedule.rate(0.3, 0, 0, 10), 0.3);
        }
        assert_eq!(Schedule::Constant.rate(0.3, 9, 4, 10), 0.3);
        assert_eq!(Schedule::Constant.rate(0.4, 0, 4, 10), 0.1);
    }

    /// `const_lr_cooldown` of OpenCLIP 3.3 (training/scheduler.py), base_lr = 1, 10 steps, cooldown_steps = 4:
    /// `(1 - e / 4) ** power` from step 6 on.
    #[test]
    fn a_level_rate_cools_down_as_open_clips() {
        let rates = |power| {
            let down = CoolDown { steps: 4, power };
            [0, 1, 5, 6, 7, 8, 9].map(|step| Schedule::Constant.rate(1.0, step, 2, 10) * down.share(step, 10))
        };
        assert_eq!(rates(1.0), [0.5, 1.0, 1.0, 1.0, 0.75, 0.5, 0.25]);
        assert_eq!(rates(2.0), [0.5, 1.0, 1.0, 1.0, 0.5625, 0.25, 0.0625]);
        let down = |steps| CoolDown { steps, power: 1.0 };
        assert_eq!((down(0).share(9, 10), down(0).share(12, 10)), (1.0, 1.0));
        assert_eq!((down(4).share(12, 10), down(40).share(5, 10)), (0.0, 0.5));
    }

    proptest! {
        #[test]
        fn a_rate_is_never_negative_nor_above_the_peak(step in 0u64..200, warmup in 0u64..100, steps in 0u64..100) {
            for schedule in [Schedule::Cosine, Schedule::Linear, Schedule::Constant] {
                let rate = schedule.rate(1.0, step, warmup, steps);
                prop_assert!((0.0..=1.0).contains(&rate), "{rate}");
            }
        }
    }
}
