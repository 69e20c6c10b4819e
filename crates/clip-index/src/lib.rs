//! The exact score-and-rank kernel.
