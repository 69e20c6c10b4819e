//! Training: runs, objectives, the optimizer, schedules, checkpoints, observers.
mod batch;
mod checkpoint;
mod clip;
mod config;
mod evaluate;
mod folder;
mod groups;
mod inputs;
mod job;
mod objectives;
mod observers;
mod optimizer;
mod run;
mod schedule;
mod seeds;
mod step;
mod trainer;
mod views;

pub use batch::{Batch, BatchSource, BatchStream};
pub use checkpoint::{Best, Checkpoint, RunState};
pub use clip::clip_gradients;
pub use config::{
    Augmentation, BadRows, CacheConfig, Compute, DataConfig, Environment, EvaluationConfig, JoinConfig, RunConfig,
};
pub use evaluate::{Embedded, Evaluation, Figure, figures};
pub use groups::NoDecay;
pub use inputs::Reading;
pub use job::{Job, Trained, train};
pub use objectives::{InfoNce, InfoNceConfig, ObjectiveTables, Objectives, SameItem, register};
pub use observers::{JsonLines, TensorBoard, Terminal};
pub use optimizer::{Optimizer, OptimizerConfig};
pub use run::{Existing, RunDir, Usage, is_usage};
pub use schedule::Schedule;
pub use step::{StepLoss, StepOptions, back_propagate};
pub use trainer::{Parts, Summary, Trainer};
