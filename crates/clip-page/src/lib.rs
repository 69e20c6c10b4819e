//! One self-contained HTML page: style, escaping, inline pictures, and a policy that lets nothing else in.
//!
//! A [`Page`] is put together from [`Part`]s: [`Table`], [`Facts`], [`Cards`], [`Versus`], [`Matrix`], [`Plots`], [`Listing`], or your own over
//! [`Html`]. Whatever text goes in is shown as that text, never read as markup. Words are the caller's, so pages can be in any language.

mod cards;
mod html;
mod listing;
mod matrix;
mod page;
mod picture;
mod plot;
mod table;
mod versus;

pub use cards::{Card, Cards, Exhibit, Tone, Verdict};
pub use html::{Html, Part};
pub use listing::Listing;
pub use matrix::Matrix;
pub use page::Page;
pub use picture::Picture;
pub use plot::{Plot, Plots};
pub use table::{Facts, Table};
pub use versus::{Side, Versus};
