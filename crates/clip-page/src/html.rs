//! HTML that text cannot break out of.

use std::fmt;

use crate::picture::Picture;

/// A piece of HTML. Names of elements and attributes are written by the program; every other string goes in as text
/// and comes out as the same text, whatever it holds.
///
/// ```
/// use clip_page::Html;
/// let mut html = Html::new();
/// html.element("p", &[("class", "a\"b")], |p| p.text("<b> & co"));
/// assert_eq!(html.as_str(), "<p class=\"a&quot;b\">&lt;b&gt; &amp; co</p>");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Html {
    out: String,
}

/// Something that a page shows: a table, cards, a plot, yours.
pub trait Part {
    /// Appends its HTML.
    fn render(&self, html: &mut Html);
}

impl Html {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends text.
    pub fn text(&mut self, text: &str) {
        self.escape(text);
    }

    /// Appends an element with its attributes and whatever `inner` appends.
    pub fn element(&mut self, name: &'static str, attributes: &[(&'static str, &str)], inner: impl FnOnce(&mut Self)) {
        self.open(name, attributes);
        inner(self);
        self.raw("</");
        self.raw(name);
        self.raw(">");
    }

    /// Appends an element that holds nothing and has no end tag: `img`, `meta`, `br`.
    pub fn void(&mut self, name: &'static str, attributes: &[(&'static str, &str)]) {
        self.open(name, attributes);
    }

    /// Appends an element that holds text of a user's. Its direction (left to right or not) is that of the text.
    pub fn text_element(&mut self, name: &'static str, class: &'static str, text: &str) {
        let attributes: &[(&'static str, &str)] = if class.is_empty() {
            &[("dir", "auto")]
        } else {
            &[("class", class), ("dir", "auto")]
        };
        self.element(name, attributes, |inner| inner.text(text));
    }

    /// Appends a picture, as a data URI.
    pub fn picture(&mut self, picture: &Picture) {
        self.void(
            "img",
            &[
                ("src", &picture.data_uri()),
                ("alt", picture.alt()),
                ("decoding", "async"),
            ],
        );
    }

    /// The HTML so far.
    pub fn as_str(&self) -> &str {
        &self.out
    }

    /// Appends markup of the program's own.
    pub(crate) fn raw(&mut self, markup: &'static str) {
        self.out.push_str(markup);
    }

    /// Appends a drawing: SVG made by this crate, which holds no text of a user's.
    pub(crate) fn drawing(&mut self, svg: &str) {
        self.out.push_str(svg);
    }

    /// Appends HTML made before.
    pub(crate) fn append(&mut self, html: &Self) {
        self.out.push_str(&html.out);
    }

    fn open(&mut self, name: &'static str, attributes: &[(&'static str, &str)]) {
        self.raw("<");
        self.raw(name);
        for (attribute, value) in attributes {
            self.raw(" ");
            self.raw(attribute);
            self.raw("=\"");
            self.escape(value);
            self.raw("\"");
        }
        self.raw(">");
    }

    fn escape(&mut self, text: &str) {
        self.out.reserve(text.len());
        for character in text.chars() {
            match character {
                '&' => self.raw("&amp;"),
                '<' => self.raw("&lt;"),
                '>' => self.raw("&gt;"),
                '"' => self.raw("&quot;"),
                '\'' => self.raw("&#39;"),
                '\n' | '\t' => self.out.push(character),
                // HTML cannot hold control characters, and a parser would turn a carriage return into a line feed.
                '\r' => self.raw("&#13;"),
                character if character.is_control() => self.out.push(char::REPLACEMENT_CHARACTER),
                character => self.out.push(character),
            }
        }
    }
}

impl fmt::Display for Html {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.out)
    }
}
