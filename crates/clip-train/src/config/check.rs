//! Which settings make no sense.

use clip_core::{Error, Result};

use super::{Every, Keep, LoraConfig, RunConfig};
use crate::evaluate::Figure;
use crate::schedule::Schedule;

impl RunConfig {
    /// Checks ranges; [`from_toml`](Self::from_toml) has done so, a caller that sets fields does it again.
    ///
    /// # Errors
    /// The first setting that makes no sense.
    pub fn check(&self) -> Result<()> {
        let [low, high] = self.logit_scale_range;
        let wrong = [
            (self.epochs == 0, "epochs is 0"),
            (self.batch_size == 0, "batch_size is 0"),
            (!(self.lr.is_finite() && self.lr >= 0.0), "lr is no number from 0"),
            (
                !(self.weight_decay.is_finite() && self.weight_decay >= 0.0),
                "weight_decay is no number from 0",
            ),
            (
                !self.betas.iter().all(|beta| (0.0..1.0).contains(beta)),
                "betas are not from 0 to below 1",
            ),
            (!(self.eps.is_finite() && self.eps > 0.0), "eps is no number above 0"),
            (
                !(self.grad_clip.is_finite() && self.grad_clip >= 0.0),
                "grad_clip is no number from 0",
            ),
            (
                low.is_nan() || high.is_nan() || low > high,
                "logit_scale_range is no range",
            ),
            (
                self.rates.values().any(|rate| !(rate.is_finite() && *rate >= 0.0)),
                "a share in rates is no number from 0",
            ),
            (
                !(0.0..=1.0).contains(&self.data.caption_share),
                "data.caption_share is not from 0 to 1",
            ),
            (self.log_every == 0, "log_every is 0"),
            (self.checkpoint_every == Every::Steps(0), "checkpoint_every is 0"),
            (self.evaluation.every == Every::Steps(0), "evaluation.every is 0"),
            (self.evaluation.patience == Some(0), "evaluation.patience is 0"),
            (!(0.0..1.0).contains(&self.ema), "ema is not from 0 to below 1"),
            (
                !(self.layer_decay > 0.0 && self.layer_decay <= 1.0),
                "layer_decay is not above 0 and up to 1",
            ),
            (
                !(0.0..1.0).contains(&self.patch_dropout),
                "patch_dropout is not from 0 to below 1",
            ),
            (self.evaluation.batch_size == 0, "evaluation.batch_size is 0"),
            (self.cache.batch_size == 0, "cache.batch_size is 0"),
            (self.max_steps == Some(0), "max_steps is 0"),
            (
                self.average_init.is_some_and(|share| !(0.0..=1.0).contains(&share)),
                "average_init is no share from 0 to 1",
            ),
            (
                self.average_init.is_some() && self.image_tower.is_some(),
                "average_init averages with the initial model, and two towers that are joined are none",
            ),
            (
                self.keep == Keep::Newest(0),
                "keep is 0: a run needs its newest checkpoint",
            ),
            (
                self.warmup_share.is_some_and(|share| !(0.0..=1.0).contains(&share)),
                "warmup_share is no share from 0 to 1",
            ),
            (
                self.warmup_share.is_some() && self.warmup_steps > 0,
                "warmup_steps and warmup_share both say how long the rate goes up",
            ),
            (
                self.unique_by.is_some() && !self.shuffle,
                "unique_by draws an order, and shuffle is false",
            ),
            (
                self.batch_by.is_some() && !self.shuffle,
                "batch_by draws an order, and shuffle is false",
            ),
            (
                self.batch_by.is_some() && self.unique_by.is_some(),
                "batch_by and unique_by both choose what a batch holds",
            ),
            (
                !(0.0..=1.0).contains(&self.batch_by_share),
                "batch_by_share is not from 0 to 1",
            ),
            (
                self.cooldown_steps > 0 && self.schedule != Schedule::Constant,
                "cooldown_steps is for schedule = \"constant\": the others go down by themselves",
            ),
            (
                !(self.cooldown_power.is_finite() && self.cooldown_power > 0.0),
                "cooldown_power is no number above 0",
            ),
        ];
        if let Some((_, what)) = wrong.iter().find(|(wrong, _)| *wrong) {
            return Err(Error::invalid(*what).remedy("correct it in run.toml or by its flag"));
        }
        self.lora.as_ref().map_or(Ok(()), LoraConfig::check)?;
        self.text_augmentation.check()?;
        self.concepts.check()?;
        self.queue.check()?;
        self.teacher.check()?;
        self.augmentation.check()?;
        Figure::new(&self.evaluation.metric).check()
    }
}
