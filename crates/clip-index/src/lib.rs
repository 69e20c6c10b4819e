//! Exact nearest neighbours: one blocked kernel that scores, ranks and selects.
//!
//! The score matrix of queries and gallery is never held: it is made in tiles, and each tile is counted
//! ([`rank`], [`rank_both`]) or searched ([`top_k`]) while it lies in the cache. Extra memory is a few MiB, whatever
//! the number of rows. [`Figures`] sums ranks up as recalls, median and reciprocal rank; [`average_precision`] looks at all right
//! rows of a query and not only at the first.
//!
//! Equal rows score alike **to the bit**, wherever they stand and whatever the machine's instructions are, so a tie
//! is a tie and counts against the query.

mod chance;
mod figures;
mod gemm;
mod positives;
mod precision;
mod rank;
mod sweep;
mod threads;
mod top;

pub use chance::chance_both;
pub use figures::Figures;
pub use positives::{PositiveLists, Positives};
pub use precision::{Precision, PrecisionFigures, average_precision, chance_precision};
pub use rank::{Ranks, rank, rank_both};
pub use threads::Options;
pub use top::{Scored, top_k};
