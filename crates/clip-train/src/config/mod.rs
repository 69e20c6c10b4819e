//! Everything a run can be told, as run.toml and the command's flags say it.

mod adapters;
mod cache;
mod check;
mod concepts;
mod data;
mod evaluation;
mod every;
mod join;
mod keep;
mod precision;
pub(crate) mod read;
mod report;
mod set;
mod teacher;
#[cfg(test)]
mod tests;
mod texts;
mod write;

use std::collections::BTreeMap;
use std::path::Path;

use clip_core::{Error, Result, Truncation};
use clip_nn::Zoo;
use serde::{Deserialize, Serialize};

use crate::depth::{LayerDecay, LockLayers};
use crate::groups::NoDecay;
use crate::objectives::{self, ObjectiveTables};
use crate::optimizer::{Algorithm, OptimizerConfig};
use crate::queue::QueueConfig;
use crate::schedule::{CoolDown, Schedule};

pub use adapters::LoraConfig;
pub use cache::CacheConfig;
pub use concepts::{ConceptSourceKind, ConceptsConfig};
pub use data::{Augmentation, BadRows, DataConfig, Environment};
pub use evaluation::EvaluationConfig;
pub use every::Every;
pub use join::JoinConfig;
pub use keep::Keep;
pub use precision::Precision;
pub use report::ReportConfig;
pub use teacher::TeacherConfig;
pub use texts::TextAugmentation;
pub(crate) use write::HEADER;

/// A run. Every field has a default, so a file names only what differs; unknown keys are refused.
///
/// ```
/// use clip_train::RunConfig;
/// let config = RunConfig::from_toml("epochs = 3\n[objectives.info_nce]\nlabel_smoothing = 0.1", "run.toml")?;
/// assert_eq!((config.epochs, config.batch_size), (3, 64));
/// let error = RunConfig::from_toml("epoch = 3", "run.toml").unwrap_err();
/// assert_eq!(error.to_string(), "run.toml, row 1: unknown key `epoch`; did you mean `epochs`?");
/// # Ok::<(), clip_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunConfig {
    /// The model to start from: a directory, a weights file, or `hf:owner/name[@revision]`.
    pub model: Option<String>,
    /// Two single towers under fresh projections, instead of `model`.
    pub image_tower: Option<String>,
    /// The text tower beside `image_tower`.
    pub text_tower: Option<String>,
    /// How often each pair is seen.
    pub epochs: u64,
    /// Ends the run after so many steps, if the epochs have not ended it before. Needed where a source does not know how
    /// many pairs it has.
    pub max_steps: Option<u64>,
    /// Pairs a step: all of them are each other's candidates.
    pub batch_size: usize,
    /// Pairs that go through a tower at once; 0 for the whole batch. Changes memory and time, not the result.
    pub micro_batch: usize,
    /// Whether a last batch of fewer pairs is left out of an epoch.
    pub drop_last: bool,
    /// The rate after the warm-up.
    pub lr: f64,
    /// Steps over which the rate goes up.
    pub warmup_steps: u64,
    /// The share of the run's steps over which it does, rounded down, in the place of `warmup_steps`.
    pub warmup_share: Option<f64>,
    /// How the rate goes on.
    pub schedule: Schedule,
    /// The last steps, over which a constant rate goes down to 0.
    pub cooldown_steps: u64,
    /// How it goes down: 1 straight, more faster at first.
    pub cooldown_power: f64,
    /// What makes changes of gradients: `adamw`, `adam`, `bert_adam`, `sgd`.
    pub optimizer: Algorithm,
    /// Weight decay.
    pub weight_decay: f64,
    /// Which parameters do not decay: `open_clip`, `easynlp`, or a list of strings that their names contain.
    pub no_decay: NoDecay,
    /// Decay of the optimizer's two averages; the first is the momentum of `sgd`.
    pub betas: [f64; 2],
    /// Added to the root of the second average.
    pub eps: f64,
    /// The most that all gradients' common norm may be; 0 for no limit.
    pub grad_clip: f64,
    /// Between which values the logarithm of the temperature is kept after each step; `[-inf, inf]` lets it be.
    pub logit_scale_range: [f64; 2],
    /// What keeps its weights: prefixes of canonical names, as `image` (the tower), `text`, `image_projection`,
    /// `logit_scale`.
    pub lock: Vec<String>,
    /// Decides every random number.
    pub seed: u64,
    /// Whether an epoch's order is drawn; otherwise the rows come as they stand.
    pub shuffle: bool,
    /// A column of which no batch holds one value twice.
    pub unique_by: Option<String>,
    /// A column of one value of which whole batches come: hard negatives.
    pub batch_by: Option<String>,
    /// The share of batches that do, if `batch_by` is given.
    pub batch_by_share: f64,
    /// The type that linear layers compute in.
    pub dtype: Precision,
    /// The most tokens a text may have; the model's own if not given.
    pub context_length: Option<usize>,
    /// What becomes of a text of more.
    pub truncation: Truncation,
    /// Steps between lines of metrics.jsonl.
    pub log_every: u64,
    /// How often a checkpoint is written.
    pub checkpoint_every: Every,
    /// How many checkpoints are kept: a number, or `all`.
    pub keep: Keep,
    /// So many steps in a row whose loss or gradient is not finite end the run; each of them is left out.
    pub max_bad_steps: u64,
    /// The decay of the weights' moving average, which is then evaluated and written in their place; 0 for none.
    pub ema: f64,
    /// A block's share of the rate of the block above it; 1 for the same rate everywhere.
    pub layer_decay: f64,
    /// The share of a picture's patches that training leaves out.
    pub patch_dropout: f64,
    /// Shares of the rate by prefix of canonical names.
    pub rates: BTreeMap<String, f64>,
    /// How many of each tower's first blocks keep their weights, with the embeddings below them.
    pub lock_layers: LockLayers,
    /// Adapters that are trained in the place of the towers' weights; none if not given.
    pub lora: Option<LoraConfig>,
    /// At the end, the weights are averaged with those of the initial model: `(1 - x)` of it and `x` of what was trained.
    /// Not where two towers are joined.
    pub average_init: Option<f64>,
    /// How the two single towers are joined.
    pub join: JoinConfig,
    /// Tables and their columns.
    pub data: DataConfig,
    /// Where the concepts of pairs come from.
    pub concepts: ConceptsConfig,
    /// The feature queue, which a run has where an objective looks at it.
    pub queue: QueueConfig,
    /// Views of pictures.
    pub augmentation: Augmentation,
    /// Further views of texts.
    pub text_augmentation: TextAugmentation,
    /// What the run learns from beside its pairs.
    pub teacher: TeacherConfig,
    /// Features of locked towers.
    pub cache: CacheConfig,
    /// How the run is evaluated.
    pub evaluation: EvaluationConfig,
    /// The page about the run.
    pub report: ReportConfig,
    /// What is minimised: a table for each objective, with its `weight` and its own settings.
    pub objectives: ObjectiveTables,
    /// What the run was made on. Recorded, not read.
    pub environment: Environment,
}

impl Default for RunConfig {
    fn default() -> Self {
        Self {
            model: None,
            image_tower: None,
            text_tower: None,
            epochs: 10,
            max_steps: None,
            batch_size: 64,
            micro_batch: 0,
            drop_last: false,
            lr: 5e-5,
            warmup_steps: 0,
            warmup_share: None,
            schedule: Schedule::Cosine,
            cooldown_steps: 0,
            cooldown_power: 1.0,
            optimizer: Algorithm::AdamW,
            weight_decay: 0.2,
            no_decay: NoDecay::OpenClip,
            betas: [0.9, 0.98],
            eps: 1e-6,
            grad_clip: 1.0,
            logit_scale_range: [0.0, 100f64.ln()],
            lock: Vec::new(),
            seed: 0,
            shuffle: true,
            unique_by: None,
            batch_by: None,
            batch_by_share: 0.5,
            dtype: Precision::F32,
            context_length: None,
            truncation: Truncation::KeepEnd,
            log_every: 1,
            checkpoint_every: Every::Epoch,
            keep: Keep::default(),
            max_bad_steps: 20,
            ema: 0.0,
            layer_decay: 1.0,
            patch_dropout: 0.0,
            rates: BTreeMap::new(),
            lock_layers: LockLayers::default(),
            lora: None,
            average_init: None,
            join: JoinConfig::default(),
            data: DataConfig::default(),
            concepts: ConceptsConfig::default(),
            queue: QueueConfig::default(),
            augmentation: Augmentation::default(),
            text_augmentation: TextAugmentation::default(),
            teacher: TeacherConfig::default(),
            cache: CacheConfig::default(),
            evaluation: EvaluationConfig::default(),
            report: ReportConfig::default(),
            objectives: ObjectiveTables::from([("info_nce".to_owned(), serde_json::Map::new())]),
            environment: Environment::default(),
        }
    }
}

impl RunConfig {
    /// Reads a run.toml's text; `file` is what messages call it.
    ///
    /// # Errors
    /// No TOML, an unknown key (the nearest known one is named), a value of the wrong kind or out of range.
    pub fn from_toml(text: &str, file: impl AsRef<Path>) -> Result<Self> {
        let config: Self = toml::from_str(text).map_err(|error| read::explain(&error, text).file(&file))?;
        config.check().map_err(|error| error.file(&file))?;
        Ok(config)
    }

    /// Reads a run.toml.
    ///
    /// # Errors
    /// As [`from_toml`](Self::from_toml), and where the file cannot be read.
    pub fn load(file: impl AsRef<Path>) -> Result<Self> {
        let text = std::fs::read_to_string(&file).map_err(|error| Error::io("read", &file, error))?;
        Self::from_toml(&text, file)
    }

    /// Everything, as TOML; a key that is not set stands as a comment. Reading it gives these settings again.
    pub fn to_toml(&self) -> Result<String> {
        // The keys are there as comments.
        write::write(self, &self.without_nulls())
    }

    /// The same without keys of objectives that have no value: TOML has no null.
    fn without_nulls(&self) -> Self {
        let mut values = self.clone();
        let tables = values.objectives.values_mut();
        tables.for_each(|table| table.retain(|_, value| !value.is_null()));
        values
    }

    /// The settings with every default of the objectives written out as well.
    ///
    /// # Errors
    /// An objective that the zoo does not know, or settings that it refuses.
    pub fn resolved(&self, zoo: &Zoo) -> Result<Self> {
        let objectives = objectives::resolve(&self.objectives, zoo)?;
        Ok(Self {
            objectives,
            ..self.clone()
        })
    }

    /// The optimizer's part, less the decay over layers, which depends on the model: [`LayerDecay::new`].
    pub fn optimizer(&self) -> OptimizerConfig {
        OptimizerConfig {
            algorithm: self.optimizer,
            betas: self.betas,
            eps: self.eps,
            weight_decay: self.weight_decay,
            no_decay: self.no_decay.clone(),
            rates: self.rates.clone(),
            layer_decay: LayerDecay::NONE,
        }
    }

    /// The rate of a step (from 0) of `steps`.
    pub fn rate(&self, step: u64, steps: u64) -> f64 {
        let down = CoolDown {
            steps: self.cooldown_steps,
            power: self.cooldown_power,
        };
        self.schedule.rate(self.lr, step, self.warmup(steps), steps) * down.share(step, steps)
    }

    /// Over how many of `steps` steps the rate goes up.
    pub fn warmup(&self, steps: u64) -> u64 {
        match self.warmup_share {
            Some(share) => (share * steps as f64) as u64,
            None => self.warmup_steps,
        }
    }

    /// Steps of the whole run where an epoch has `pairs` pairs.
    ///
    /// # Errors
    /// The number of pairs is unknown and `max_steps` not given, or there is not one batch.
    pub fn steps(&self, pairs: Option<u64>) -> Result<u64> {
        let batch = self.batch_size as u64;
        let planned = match pairs {
            Some(pairs) => {
                let an_epoch = if self.drop_last {
                    pairs / batch
                } else {
                    pairs.div_ceil(batch)
                };
                if an_epoch == 0 {
                    return Err(
                        Error::invalid(format!("{pairs} training pairs make no batch of {}", self.batch_size))
                            .remedy("give more pairs, or a smaller --batch-size"),
                    );
                }
                Some(an_epoch.saturating_mul(self.epochs))
            }
            None => None,
        };
        match (planned, self.max_steps) {
            (Some(planned), Some(most)) => Ok(planned.min(most)),
            (Some(steps), None) | (None, Some(steps)) => Ok(steps),
            (None, None) => Err(
                Error::invalid("the training pairs cannot be counted before they are read")
                    .remedy("set max_steps in run.toml"),
            ),
        }
    }
}
