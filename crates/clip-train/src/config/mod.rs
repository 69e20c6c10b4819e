//! Everything a run can be told, as run.toml and the command's flags say it.

mod adapters;
mod check;
mod concepts;
mod data;
mod every;
mod read;
mod report;
mod teacher;
mod texts;
mod write;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clip_core::{Error, Result};
use clip_nn::Zoo;
use clip_nn::layers::ProjectionConfig;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::depth::{LayerDecay, LockLayers};
use crate::groups::NoDecay;
use crate::objectives::{self, ObjectiveTables};
use crate::optimizer::OptimizerConfig;
use crate::queue::QueueConfig;
use crate::schedule::{CoolDown, Schedule};

pub use adapters::LoraConfig;
pub use concepts::{ConceptSourceKind, ConceptsConfig};
pub use data::{Augmentation, BadRows, DataConfig, Environment};
pub use every::Every;
pub use report::ReportConfig;
pub use teacher::TeacherConfig;
pub use texts::TextAugmentation;
pub(crate) use write::HEADER;

/// What a run's linear layers multiply in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floats.
    #[default]
    F32,
    /// bfloat16, over weights kept in f32.
    Bf16,
}

impl Precision {
    /// As a model's pass takes it.
    pub(crate) fn of_pass(self) -> clip_nn::Compute {
        match self {
            Self::F32 => clip_nn::Compute::F32,
            Self::Bf16 => clip_nn::Compute::Bf16,
        }
    }
}

/// How a run is evaluated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvaluationConfig {
    /// How often.
    pub every: Every,
    /// The figure that `best` is best by.
    pub metric: String,
    /// The run ends after so many evaluations in a row without a new best; without it, only when all steps are done.
    pub patience: Option<u64>,
    /// Pairs embedded at once.
    pub batch_size: usize,
    /// Whether the features of the newest evaluation are kept: `valid.safetensors` in the output directory, as `predict`
    /// writes and `evaluate` reads features.
    pub keep_features: bool,
}

impl Default for EvaluationConfig {
    fn default() -> Self {
        Self {
            every: Every::Epoch,
            metric: "valid_mean_recall".into(),
            patience: None,
            batch_size: 64,
            keep_features: false,
        }
    }
}

/// Features of locked towers that are computed once and kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CacheConfig {
    /// Whether locked towers' features are kept at all.
    pub enabled: bool,
    /// Where they lie; `cache` in the output directory if not given. Runs may share it.
    pub directory: Option<PathBuf>,
    /// Files up to so many bytes are read into memory, larger ones are read a batch at a time.
    pub memory: u64,
    /// Rows computed at once by each thread.
    pub batch_size: usize,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            directory: None,
            memory: 1 << 30,
            batch_size: 32,
        }
    }
}

/// How two single towers become a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JoinConfig {
    /// Dimensions of the common space.
    pub embed_dim: usize,
    /// From the image tower into it.
    pub image_projection: ProjectionConfig,
    /// From the text tower into it.
    pub text_projection: ProjectionConfig,
    /// Whether the model has a bias, as SigLIP: what `[objectives.sigmoid]` trains.
    pub logit_bias: bool,
    /// Fields of the image tower's config to change, as `{ image_size = 128 }`.
    pub image: Map<String, Value>,
    /// Fields of the text tower's config to change.
    pub text: Map<String, Value>,
}

impl Default for JoinConfig {
    fn default() -> Self {
        Self {
            embed_dim: 512,
            image_projection: ProjectionConfig::default(),
            text_projection: ProjectionConfig::default(),
            logit_bias: false,
            image: Map::new(),
            text: Map::new(),
        }
    }
}

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
    /// How the rate goes on.
    pub schedule: Schedule,
    /// The last steps, over which a constant rate goes down to 0.
    pub cooldown_steps: u64,
    /// How it goes down: 1 straight, more faster at first.
    pub cooldown_power: f64,
    /// Weight decay of AdamW.
    pub weight_decay: f64,
    /// Which parameters do not decay: `open_clip`, `easynlp`, or a list of strings that their names contain.
    pub no_decay: NoDecay,
    /// Decay of AdamW's two averages.
    pub betas: [f64; 2],
    /// AdamW's epsilon.
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
    /// Steps between lines of metrics.jsonl.
    pub log_every: u64,
    /// How often a checkpoint is written.
    pub checkpoint_every: Every,
    /// How many checkpoints are kept.
    pub keep: usize,
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
            schedule: Schedule::Cosine,
            cooldown_steps: 0,
            cooldown_power: 1.0,
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
            log_every: 1,
            checkpoint_every: Every::Epoch,
            keep: 2,
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
        let mut values = self.clone();
        let tables = values.objectives.values_mut();
        // TOML has no null; the keys are there as comments.
        tables.for_each(|table| table.retain(|_, value| !value.is_null()));
        write::write(self, &values)
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
        self.schedule.rate(self.lr, step, self.warmup_steps, steps) * down.share(step, steps)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Settings of which some are away from their defaults, resolved.
    fn resolved() -> RunConfig {
        let mut zoo = Zoo::new();
        objectives::register(&mut zoo).unwrap();
        let config = RunConfig {
            model: Some("dir".into()),
            no_decay: NoDecay::Containing(vec!["ln".into()]),
            logit_scale_range: [f64::NEG_INFINITY, f64::INFINITY],
            rates: BTreeMap::from([("image".to_owned(), 0.1), ("text.layers.0".to_owned(), 0.5)]),
            unique_by: Some("item".into()),
            checkpoint_every: Every::Steps(40),
            ..RunConfig::default()
        };
        config.resolved(&zoo).unwrap()
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut zoo = Zoo::new();
        objectives::register(&mut zoo).unwrap();
        let resolved = resolved();
        let text = resolved.to_toml().unwrap();
        let again = RunConfig::from_toml(&text, "run.toml").unwrap().resolved(&zoo).unwrap();
        assert_eq!(again, resolved);
        assert_eq!(again.to_toml().unwrap(), text);
        let empty = RunConfig::default().to_toml().unwrap();
        assert_eq!(RunConfig::from_toml(&empty, "run.toml").unwrap(), RunConfig::default());
    }

    #[test]
    fn every_key_there_is_stands_in_the_file() {
        let text = resolved().to_toml().unwrap();
        for line in [
            "lr = 0.00005",
            "model = \"dir\"",
            "# image_tower: not set",
            "unique_by = \"item\"",
            "# max_steps: not set",
            "checkpoint_every = 40",
            "[evaluation]\nevery = \"epoch\"\nmetric = \"valid_mean_recall\"\n# patience: not set\n",
            "logit_scale_range = [-inf, inf]",
            "[rates]\nimage = 0.1\n\"text.layers.0\" = 0.5",
            "# id_column: not set\nbad_rows = \"stop\"",
            "[objectives.info_nce]\nweight = 1.0",
            "label_smoothing = 0.0",
            "same_item = \"positive\"",
            "libtorch = ",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn an_unknown_key_names_the_nearest() {
        let cases = [
            (
                "\nbatchsize = 3",
                "run.toml, row 2: unknown key `batchsize`; did you mean `batch_size`?",
            ),
            (
                "[evaluation]\nmetrics = 3",
                "run.toml, row 2: unknown key `metrics`; did you mean `metric`?",
            ),
        ];
        for (text, message) in cases {
            assert_eq!(RunConfig::from_toml(text, "run.toml").unwrap_err().to_string(), message);
        }
        let error = RunConfig::from_toml("zzzzzzz = 3", "run.toml").unwrap_err().to_string();
        assert!(
            error.starts_with("run.toml, row 1: unknown key `zzzzzzz`; known: "),
            "{error}"
        );
    }

    #[test]
    fn an_objectives_unknown_key_and_name_are_refused_when_resolved() {
        let mut zoo = Zoo::new();
        objectives::register(&mut zoo).unwrap();
        let resolve = |text: &str| {
            RunConfig::from_toml(text, "run.toml")
                .unwrap()
                .resolved(&zoo)
                .unwrap_err()
                .to_string()
        };
        let error = resolve("[objectives.info_nce]\nsmoothing = 0.1");
        assert!(
            error.contains("smoothing") && error.contains("label_smoothing"),
            "{error}"
        );
        let error = resolve("[objectives.other]");
        assert!(
            error.contains("unknown objective `other`; known: ") && error.contains("info_nce"),
            "{error}"
        );
        assert!(resolve("[objectives.info_nce]\nweight = -1").contains("weight"));
    }

    #[test]
    fn wrong_values_say_where() {
        let error = RunConfig::from_toml("epochs = \"three\"", "run.toml")
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("run.toml, row 1: "), "{error}");
        assert!(error.contains("epochs") || error.contains("three"), "{error}");
        for text in [
            "batch_size = 0",
            "lr = nan",
            "betas = [0.9, 1.0]",
            "logit_scale_range = [1.0, 0.0]",
            "keep = 0",
        ] {
            assert!(RunConfig::from_toml(text, "run.toml").is_err(), "{text}");
        }
    }

    #[test]
    fn steps_of_a_run() {
        let config = RunConfig {
            epochs: 3,
            batch_size: 8,
            ..RunConfig::default()
        };
        assert_eq!(config.steps(Some(17)).unwrap(), 9);
        let whole = RunConfig {
            drop_last: true,
            ..config.clone()
        };
        assert_eq!(whole.steps(Some(17)).unwrap(), 6);
        assert!(whole.steps(Some(7)).is_err() && config.steps(Some(0)).is_err() && config.steps(None).is_err());
        let few = RunConfig {
            max_steps: Some(4),
            ..config
        };
        assert_eq!((few.steps(Some(17)).unwrap(), few.steps(None).unwrap()), (4, 4));
    }
}
