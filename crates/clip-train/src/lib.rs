//! Training: runs, objectives, the optimizer, schedules, checkpoints, observers.
mod batch;
mod clip;
mod config;
mod groups;
mod objectives;
mod optimizer;
mod schedule;
mod seeds;
mod step;

pub use batch::{Batch, BatchSource, BatchStream};
pub use clip::clip_gradients;
pub use config::{Augmentation, BadRows, CacheConfig, Compute, DataConfig, Environment, EvaluationConfig, RunConfig};
pub use groups::NoDecay;
pub use objectives::{InfoNce, InfoNceConfig, ObjectiveTables, Objectives, SameItem, register};
pub use optimizer::{Optimizer, OptimizerConfig};
pub use schedule::Schedule;
pub use step::{StepLoss, StepOptions, back_propagate};
