//! Training: runs, objectives, the optimizer, schedules, checkpoints, observers.
//!
//! [`train`] is what the command calls: it takes a [`Job`] (a model, tables, a [`RunConfig`], an opened [`RunDir`]), keeps
//! the features of locked towers, and runs the [`Trainer`]. A [`Trainer`] takes any [`BatchSource`] and [`Evaluation`].
//!
//! A step is one path, [`back_propagate`]: towers, detached features, the [`Objectives`]' loss, towers again, with one
//! micro-batch or many. Nothing drawn at random has a state: the generator is seeded before each use by what the use is,
//! so a run resumed from a [`Checkpoint`] gives the numbers of one that was never stopped (same machine, same threads).
//!
//! Training names no backbone and no family: models are built by the caller's zoo and written by the caller's
//! [`ModelWriter`](clip_nn::ModelWriter). [`register`] adds our objectives to a zoo as anybody would.

mod batch;
mod checkpoint;
mod clip;
mod concepts;
mod config;
mod depth;
mod ema;
mod evaluate;
mod fit;
mod folder;
mod groups;
mod inputs;
mod job;
mod masking;
mod measure;
mod numbers;
mod objectives;
mod observers;
mod optimizer;
mod queue;
mod report;
mod run;
mod saved;
mod schedule;
mod seeds;
mod start;
mod step;
mod stop;
mod trainer;
mod views;

pub use batch::{Batch, BatchSource, BatchStream, MaskedTokens};
pub use checkpoint::{Best, Checkpoint, RunState};
pub use clip::clip_gradients;
pub use concepts::NameReader;
pub use config::{
    Augmentation, BadRows, CacheConfig, ConceptSourceKind, ConceptsConfig, DataConfig, Environment, EvaluationConfig,
    Every, JoinConfig, Keep, LoraConfig, Precision, ReportConfig, RunConfig, TeacherConfig, TextAugmentation,
};
pub use depth::{LayerDecay, LockLayers};
pub use evaluate::{Embedded, Evaluation, Figure, Shown, figures};
pub use groups::NoDecay;
pub use inputs::Reading;
pub use job::{Job, Trained, train};
pub use masking::{Masked, mask};
pub use measure::measure;
pub use numbers::Mean;
pub use objectives::{
    Anchors, ConceptPrototypes, ConceptPrototypesConfig, Directions, Distill, DistillConfig, InfoNce, InfoNceConfig,
    MaskedLanguage, MaskedLanguageConfig, MultiView, NearestNeighbour, NearestNeighbourConfig, ObjectiveTables,
    Objectives, SameItem, Sigmoid, SigmoidConfig, SimSiam, SimSiamConfig, TermValues, register,
};
pub use observers::{JsonLines, TensorBoard, Terminal};
pub use optimizer::{Algorithm, Optimizer, OptimizerConfig};
pub use queue::{QueueConfig, RingQueue};
pub use report::write_report;
pub use run::{Existing, RunDir, Usage, is_usage};
pub use saved::{Near, SavedQueue};
pub use schedule::{CoolDown, Schedule};
pub use step::{Beside, StepLoss, StepOptions, Stepped, back_propagate};
pub use stop::Stop;
pub use trainer::{Parts, Summary, Trainer};
