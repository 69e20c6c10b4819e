//! Counts of pairs, shaded: which was taken for which.

use crate::cards::Tone;
use crate::html::{Html, Part};
use crate::table::scrolled;

/// How many shades there are; page.css names each.
const SHADES: usize = 8;

/// A field: its words, its shade, its colour.
#[derive(Debug, Clone, PartialEq)]
struct Field {
    words: String,
    shade: usize,
    tone: Tone,
}

/// A table of shaded fields, as a confusion matrix is. It scrolls sideways where the screen is narrow, and the names of its rows
/// stay in sight. Shades say nothing that the words do not say.
///
/// ```
/// use clip_page::{Matrix, Page, Tone};
/// let matrix = Matrix::new("What was taken for what", "truth ↓ taken for →", ["bag", "shoe"])
///     .row("bag", [("9".into(), 0.9, Tone::Good), ("1".into(), 0.1, Tone::Bad)])
///     .row("shoe", [("".into(), 0.0, Tone::Bad), ("7".into(), 1.0, Tone::Good)]);
/// let mut page = Page::new("Classes", "en");
/// page.add(&matrix);
/// assert!(page.render().contains("shade8"));
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Matrix {
    caption: String,
    corner: String,
    columns: Vec<String>,
    rows: Vec<(String, Vec<Field>)>,
}

impl Matrix {
    /// An empty matrix. The corner says what rows and columns are.
    pub fn new<C: Into<String>>(
        caption: impl Into<String>,
        corner: impl Into<String>,
        columns: impl IntoIterator<Item = C>,
    ) -> Self {
        Self {
            caption: caption.into(),
            corner: corner.into(),
            columns: columns.into_iter().map(Into::into).collect(),
            rows: Vec::new(),
        }
    }

    /// Appends a row: its name and, for each column, words, depth of the shade (0 to 1) and colour.
    #[must_use]
    pub fn row(mut self, name: impl Into<String>, fields: impl IntoIterator<Item = (String, f64, Tone)>) -> Self {
        let field = |(words, share, tone)| Field {
            words,
            shade: shade(share),
            tone,
        };
        self.rows.push((name.into(), fields.into_iter().map(field).collect()));
        self
    }
}

/// None of nothing; the lightest of the least that there is.
fn shade(share: f64) -> usize {
    if share > 0.0 {
        ((share * SHADES as f64).ceil() as usize).clamp(1, SHADES)
    } else {
        0
    }
}

impl Part for Matrix {
    fn render(&self, html: &mut Html) {
        scrolled(html, &[("class", "matrix")], &self.caption, |html| {
            html.element("thead", &[], |html| {
                html.element("tr", &[], |html| {
                    html.element("th", &[("scope", "col"), ("dir", "auto")], |th| th.text(&self.corner));
                    for column in &self.columns {
                        html.element("th", &[("scope", "col")], |th| {
                            th.text_element("span", "", column);
                        });
                    }
                });
            });
            html.element("tbody", &[], |html| {
                self.rows.iter().for_each(|row| render_row(html, row))
            });
        });
    }
}

fn render_row(html: &mut Html, (name, fields): &(String, Vec<Field>)) {
    html.element("tr", &[], |html| {
        html.element("th", &[("scope", "row"), ("dir", "auto")], |th| th.text(name));
        for field in fields {
            let class = format!("{} shade{}", field.tone.class(), field.shade);
            html.element("td", &[("class", &class)], |td| td.text(&field.words));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_little_is_seen_and_nothing_is_not() {
        let shares = [-1.0, 0.0, f64::NAN, 1e-9, 0.125, 0.126, 0.5, 1.0, 7.0];
        assert_eq!(shares.map(shade), [0, 0, 0, 1, 1, 2, 4, 8, 8]);
        let css = include_str!("page.css");
        assert!((1..=SHADES).all(|shade| css.contains(&format!(".shade{shade} {{"))));
        assert!(!css.contains(&format!(".shade{} {{", SHADES + 1)));
    }
}
