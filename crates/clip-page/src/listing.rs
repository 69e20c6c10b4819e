//! Text that is shown as it stands: settings, a log.

use crate::html::{Html, Part};

/// Lines of text under a title, folded until they are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    title: String,
    text: String,
}

impl Listing {
    /// A text and what it is.
    pub fn new(title: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            text: text.into(),
        }
    }
}

impl Part for Listing {
    fn render(&self, html: &mut Html) {
        html.element("details", &[("class", "listing")], |html| {
            html.text_element("summary", "", &self.title);
            html.element("pre", &[("dir", "auto")], |html| {
                // A parser drops a line feed behind the tag.
                html.raw("\n");
                html.text(&self.text);
            });
        });
    }
}
