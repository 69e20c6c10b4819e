//! Exact nearest neighbours: one blocked kernel that scores, ranks and selects.
//!
//! The score matrix of queries and gallery is never held: it is made in tiles, and each tile is counted
//! ([`rank`], [`rank_both`], [`precisions`], [`precisions_both`]) or searched ([`top_k`]) while it lies in the cache. Extra memory is a few MiB,
//! whatever the number of rows. [`Figures`] sums ranks up as recalls, median, mean and reciprocal rank;
//! [`PrecisionFigures`] looks at all right rows of a query and not only at the first, graded ones too. [`Groups`] let rows of one
//! product count once; [`rank_sampled`] ranks among a few rows drawn for each query.
//!
//! Equal rows score alike **to the bit**, wherever they stand and whatever the machine's instructions are, so a tie
//! is a tie and counts against the query.

mod chance;
mod cuts;
mod figures;
mod gemm;
mod groups;
mod lists;
mod positives;
mod precision;
mod precisions;
mod rank;
mod sampled;
mod steps;
mod sweep;
mod targets;
mod threads;
mod top;

pub use chance::{chance, chance_precision, chance_sampled};
pub use cuts::{AtCuts, Cuts};
pub use figures::Figures;
pub use groups::Groups;
pub use lists::{PositiveLists, Right};
pub use positives::Positives;
pub use precision::{Precision, PrecisionFigures};
pub use precisions::{precisions, precisions_both};
pub use rank::{Ranks, rank, rank_both};
pub use sampled::{Sample, SampledRanks, rank_sampled};
#[doc(hidden)]
pub use sweep::bare_product;
pub use threads::Options;
pub use top::{Scored, top_k};
