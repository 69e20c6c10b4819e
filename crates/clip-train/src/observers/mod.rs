//! Who is told what happens in a run.

mod jsonl;
mod record;
mod tensorboard;
mod terminal;

pub use jsonl::JsonLines;
pub use tensorboard::TensorBoard;
pub use terminal::Terminal;
