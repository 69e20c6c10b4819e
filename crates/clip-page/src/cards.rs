//! Cards: a query and what was found for it.

use crate::html::{Html, Part};
use crate::picture::Picture;

/// How something went. It shows as a colour and a sign; the words beside it say the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tone {
    /// As it should be.
    Good,
    /// Not as it should be.
    Bad,
    /// Neither, but worth a look: what two sides do not share.
    Apart,
    /// Neither.
    #[default]
    Plain,
}

impl Tone {
    pub(crate) fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Apart => "apart",
            Self::Plain => "plain",
        }
    }

    fn sign(self) -> &'static str {
        match self {
            Self::Good => "✓",
            Self::Bad => "✗",
            Self::Apart => "◆",
            Self::Plain => "",
        }
    }
}

/// A few words on how something went.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verdict {
    tone: Tone,
    words: String,
}

impl Verdict {
    /// A verdict in words.
    pub fn new(tone: Tone, words: impl Into<String>) -> Self {
        Self {
            tone,
            words: words.into(),
        }
    }

    /// Whether there are no words.
    pub(crate) fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    pub(crate) fn render(&self, html: &mut Html, name: &'static str) {
        let class = match self.tone {
            Tone::Good => "verdict good",
            Tone::Bad => "verdict bad",
            Tone::Apart => "verdict apart",
            Tone::Plain => "verdict plain",
        };
        html.element(name, &[("class", class)], |html| {
            if self.tone != Tone::Plain {
                // The words say it, so a screen reader need not.
                html.element("span", &[("class", "sign"), ("aria-hidden", "true")], |span| {
                    span.text(self.tone.sign())
                });
            }
            html.text_element("span", "", &self.words);
        });
    }
}

/// A picture, words, or both: what a query is and what an answer is.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Exhibit {
    picture: Option<Picture>,
    words: String,
}

impl Exhibit {
    /// Words alone.
    pub fn words(words: impl Into<String>) -> Self {
        Self {
            picture: None,
            words: words.into(),
        }
    }

    /// A picture with words below it, which may be empty.
    pub fn picture(picture: Picture, words: impl Into<String>) -> Self {
        Self {
            picture: Some(picture),
            words: words.into(),
        }
    }
}

/// Things that were found, best first: what stands below a query.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Answers(Vec<Answer>);

/// One of the things that were found.
#[derive(Debug, Clone, PartialEq, Default)]
struct Answer {
    exhibit: Exhibit,
    figure: String,
    /// The first decides the frame.
    marks: Vec<Verdict>,
}

/// A query, a verdict on it, and its answers, best first.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Card {
    query: Exhibit,
    verdict: Verdict,
    answers: Answers,
}

impl Card {
    /// A card without answers yet.
    pub fn new(query: Exhibit, verdict: Verdict) -> Self {
        Self {
            query,
            verdict,
            answers: Answers::default(),
        }
    }

    /// Appends an answer with its figure (a score, a rank) and, for one that should stand out, a mark.
    #[must_use]
    pub fn answer(mut self, exhibit: Exhibit, figure: impl Into<String>, mark: Option<Verdict>) -> Self {
        self.answers.push(exhibit, figure.into(), mark);
        self
    }
}

/// Cards below each other or, where the screen is wide and answers are few, side by side.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Cards {
    cards: Vec<Card>,
}

impl Cards {
    /// Given cards, in order.
    pub fn new(cards: impl IntoIterator<Item = Card>) -> Self {
        Self {
            cards: cards.into_iter().collect(),
        }
    }
}

impl Part for Cards {
    fn render(&self, html: &mut Html) {
        html.element("div", &[("class", "cards")], |html| {
            self.cards.iter().for_each(|card| card.render(html))
        });
    }
}

impl Part for Card {
    fn render(&self, html: &mut Html) {
        html.element("article", &[("class", "card")], |html| {
            header(html, &self.query, &self.verdict);
            self.answers.render(html);
        });
    }
}

/// What was asked, and how it went.
pub(crate) fn header(html: &mut Html, query: &Exhibit, verdict: &Verdict) {
    html.element("header", &[], |html| {
        if let Some(picture) = &query.picture {
            html.picture(picture);
        }
        html.element("div", &[], |html| {
            if !query.words.is_empty() {
                html.text_element("h3", "", &query.words);
            }
            verdict.render(html, "p");
        });
    });
}

impl Answers {
    pub(crate) fn push(&mut self, exhibit: Exhibit, figure: String, marks: impl IntoIterator<Item = Verdict>) {
        let marks = marks.into_iter().collect();
        self.0.push(Answer { exhibit, figure, marks });
    }

    pub(crate) fn render(&self, html: &mut Html) {
        let class = if self.0.iter().any(|answer| answer.exhibit.picture.is_some()) {
            "pictures"
        } else {
            "lines"
        };
        html.element("ol", &[("class", class)], |html| {
            self.0.iter().for_each(|answer| answer.render(html))
        });
    }
}

impl Answer {
    fn render(&self, html: &mut Html) {
        let class = self.marks.first().map_or("plain", |mark| mark.tone.class());
        html.element("li", &[("class", class)], |html| {
            if let Some(picture) = &self.exhibit.picture {
                html.picture(picture);
            }
            html.element("div", &[("class", "caption")], |html| {
                self.marks.iter().for_each(|mark| mark.render(html, "span"));
                if !self.exhibit.words.is_empty() {
                    html.text_element("span", "words", &self.exhibit.words);
                }
                if !self.figure.is_empty() {
                    html.text_element("span", "figure", &self.figure);
                }
            });
        });
    }
}
