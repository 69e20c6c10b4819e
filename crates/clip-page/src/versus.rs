//! What two sides found for one query, beside each other on any screen.

use crate::cards::{Answers, Exhibit, Verdict, header};
use crate::html::{Html, Part};

/// One of two sides: its name, how it did, and its answers, best first.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Side {
    name: String,
    verdict: Verdict,
    answers: Answers,
}

impl Side {
    /// A side without answers yet. The verdict may be empty: `Verdict::default()`.
    pub fn new(name: impl Into<String>, verdict: Verdict) -> Self {
        Self {
            name: name.into(),
            verdict,
            answers: Answers::default(),
        }
    }

    /// Appends an answer with its figure (a score, a rank) and its marks, the first of which decides its frame.
    #[must_use]
    pub fn answer(
        mut self,
        exhibit: Exhibit,
        figure: impl Into<String>,
        marks: impl IntoIterator<Item = Verdict>,
    ) -> Self {
        self.answers.push(exhibit, figure.into(), marks);
        self
    }
}

/// A query, a verdict on it, and what two sides found. The sides stand beside each other even on a phone, since they are
/// there to be compared.
///
/// ```
/// use clip_page::{Exhibit, Page, Side, Tone, Verdict, Versus};
/// let before = Side::new("A", Verdict::new(Tone::Bad, "right picture at rank 9"));
/// let after = Side::new("B", Verdict::new(Tone::Good, "right picture first"))
///     .answer(Exhibit::words("red shoe"), "0.412", [Verdict::new(Tone::Apart, "only B")]);
/// let mut page = Page::new("Two models", "en");
/// page.add(&Versus::new(Exhibit::words("a red shoe"), Verdict::default(), [before, after]));
/// assert!(page.render().contains("only B"));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Versus {
    query: Exhibit,
    verdict: Verdict,
    sides: [Side; 2],
}

impl Versus {
    /// A query, how it went, and both sides.
    pub fn new(query: Exhibit, verdict: Verdict, sides: [Side; 2]) -> Self {
        Self { query, verdict, sides }
    }
}

impl Part for Versus {
    fn render(&self, html: &mut Html) {
        html.element("article", &[("class", "card versus")], |html| {
            header(html, &self.query, &self.verdict);
            html.element("div", &[("class", "sides")], |html| {
                self.sides.iter().for_each(|side| side.render(html))
            });
        });
    }
}

impl Part for Side {
    fn render(&self, html: &mut Html) {
        html.element("section", &[("class", "side")], |html| {
            html.element("div", &[("class", "name")], |html| {
                html.text_element("h4", "", &self.name);
                if !self.verdict.is_empty() {
                    self.verdict.render(html, "p");
                }
            });
            self.answers.render(html);
        });
    }
}
