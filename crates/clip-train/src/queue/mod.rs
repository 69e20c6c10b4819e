//! The feature queue: what training remembers of the pairs it saw lately, and the concepts' prototypes in it.

mod concepts;
mod config;
mod nearest;
mod ring;
mod slots;
mod state;
#[cfg(test)]
mod tests;

pub use config::QueueConfig;
pub use ring::RingQueue;
