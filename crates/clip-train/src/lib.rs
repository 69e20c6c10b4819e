//! Trainer, objectives, schedules, checkpoints, observers.
