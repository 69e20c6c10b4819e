//! Tables of figures, and lists of facts.

use crate::html::{Html, Part};

/// A table whose first column names its rows. It scrolls sideways where the screen is narrow.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table {
    caption: String,
    columns: Vec<String>,
    rows: Vec<(String, Vec<String>)>,
}

impl Table {
    /// An empty table. The first column, which holds the rows' names, has a heading too; it may be empty.
    pub fn new<C: Into<String>>(caption: impl Into<String>, columns: impl IntoIterator<Item = C>) -> Self {
        Self {
            caption: caption.into(),
            columns: columns.into_iter().map(Into::into).collect(),
            rows: Vec::new(),
        }
    }

    /// Appends a row: its name and its cells, which stand to the right, as figures do.
    #[must_use]
    pub fn row<C: Into<String>>(mut self, name: impl Into<String>, cells: impl IntoIterator<Item = C>) -> Self {
        self.rows
            .push((name.into(), cells.into_iter().map(Into::into).collect()));
        self
    }
}

/// A table under its caption, in a region that scrolls sideways where the screen is narrow; `inner` appends head and body.
pub(crate) fn scrolled(
    html: &mut Html,
    attributes: &[(&'static str, &str)],
    caption: &str,
    inner: impl FnOnce(&mut Html),
) {
    // The region can be reached by keyboard, so that it can be scrolled without a mouse.
    let region = [
        ("class", "scroll"),
        ("role", "region"),
        ("tabindex", "0"),
        ("aria-label", caption),
    ];
    html.element("div", &region, |html| {
        html.element("table", attributes, |html| {
            // The words keep their place when the table is scrolled.
            html.element("caption", &[], |html| html.text_element("span", "", caption));
            inner(html);
        });
    });
}

impl Part for Table {
    fn render(&self, html: &mut Html) {
        scrolled(html, &[], &self.caption, |html| {
            html.element("thead", &[], |html| {
                html.element("tr", &[], |html| {
                    for column in &self.columns {
                        html.element("th", &[("scope", "col"), ("dir", "auto")], |th| th.text(column));
                    }
                });
            });
            html.element("tbody", &[], |html| {
                for (name, cells) in &self.rows {
                    html.element("tr", &[], |html| {
                        html.element("th", &[("scope", "row"), ("dir", "auto")], |th| th.text(name));
                        cells.iter().for_each(|cell| html.text_element("td", "", cell));
                    });
                }
            });
        });
    }
}

/// A list of names and values: the data set, the seed, the model.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    facts: Vec<(String, String)>,
}

impl Facts {
    /// No facts yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a fact.
    #[must_use]
    pub fn fact(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.facts.push((name.into(), value.into()));
        self
    }
}

impl Part for Facts {
    fn render(&self, html: &mut Html) {
        html.element("dl", &[("class", "facts")], |html| {
            for (name, value) in &self.facts {
                html.element("div", &[], |html| {
                    html.text_element("dt", "", name);
                    html.text_element("dd", "", value);
                });
            }
        });
    }
}
