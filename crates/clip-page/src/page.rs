//! The shell around everything a page shows.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clip_core::{Error, Result};
use sha2::{Digest, Sha256};

use crate::html::{Html, Part};

/// The only style of a page: light and dark by the reader's choice, from a phone's width up.
const STYLE: &str = include_str!("page.css");

/// One HTML page that needs nothing but itself: no script, no font, no picture from elsewhere, and a
/// Content-Security-Policy that forbids them.
///
/// ```
/// use clip_page::{Page, Table};
/// let mut page = Page::new("Retrieval", "en");
/// page.paragraph("What 200 queries found.");
/// page.add(&Table::new("Figures", ["", "R@1"]).row("text to image", ["61.5"]));
/// assert!(page.render().starts_with("<!DOCTYPE html>"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    title: String,
    language: String,
    body: Html,
}

impl Page {
    /// An empty page with a title, in a language by its tag: `en`, `zh-Hans`.
    pub fn new(title: impl Into<String>, language: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            language: language.into(),
            body: Html::new(),
        }
    }

    /// Appends a heading, under the title.
    pub fn heading(&mut self, words: &str) -> &mut Self {
        self.body.text_element("h2", "", words);
        self
    }

    /// Appends a paragraph.
    pub fn paragraph(&mut self, words: &str) -> &mut Self {
        self.body.text_element("p", "", words);
        self
    }

    /// Appends a part.
    pub fn add(&mut self, part: &impl Part) -> &mut Self {
        part.render(&mut self.body);
        self
    }

    /// The whole page.
    pub fn render(&self) -> String {
        let mut html = Html::new();
        html.raw("<!DOCTYPE html>\n");
        html.element("html", &[("lang", &self.language)], |html| {
            html.raw("\n");
            html.element("head", &[], |html| self.head(html));
            html.raw("\n");
            html.element("body", &[], |html| {
                html.element("main", &[], |html| {
                    html.text_element("h1", "", &self.title);
                    html.append(&self.body);
                });
            });
            html.raw("\n");
        });
        html.raw("\n");
        html.to_string()
    }

    fn head(&self, html: &mut Html) {
        // Pictures from the page itself and the one style, known by its hash; nothing else, so that even markup that
        // slipped in could neither run nor send anything.
        let hash = STANDARD.encode(Sha256::digest(STYLE));
        let policy = format!(
            "default-src 'none'; style-src 'sha256-{hash}'; img-src data:; base-uri 'none'; form-action 'none'"
        );
        html.void("meta", &[("charset", "utf-8")]);
        html.void(
            "meta",
            &[("http-equiv", "Content-Security-Policy"), ("content", &policy)],
        );
        html.void(
            "meta",
            &[("name", "viewport"), ("content", "width=device-width, initial-scale=1")],
        );
        html.void("meta", &[("name", "referrer"), ("content", "no-referrer")]);
        html.element("title", &[], |html| html.text(&self.title));
        html.element("style", &[], |html| html.raw(STYLE));
    }

    /// Writes the page to a file, which appears whole or not at all.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let Some(name) = path.file_name() else {
            return Err(Error::invalid("the page needs the name of a file").file(path));
        };
        let mut beside = name.to_owned();
        beside.push(format!(".{}.part", std::process::id()));
        let beside = path.with_file_name(beside);
        let written = || -> std::io::Result<()> {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .open(&beside)?;
            file.write_all(self.render().as_bytes())?;
            file.sync_all()?;
            fs::rename(&beside, path)
        };
        written().map_err(|error| {
            // What cannot be removed either was most likely never made.
            let _ = fs::remove_file(&beside);
            Error::io("write the page", path, error)
        })
    }
}
