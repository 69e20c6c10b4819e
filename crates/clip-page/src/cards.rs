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
    /// Neither.
    #[default]
    Plain,
}

impl Tone {
    fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Plain => "plain",
        }
    }

    fn sign(self) -> &'static str {
        match self {
            Self::Good => "✓",
            Self::Bad => "✗",
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

    fn render(&self, html: &mut Html, name: &'static str) {
        let class = match self.tone {
            Tone::Good => "verdict good",
            Tone::Bad => "verdict bad",
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

/// One of the things that were found.
#[derive(Debug, Clone, PartialEq, Default)]
struct Answer {
    exhibit: Exhibit,
    figure: String,
    mark: Option<Verdict>,
}

/// A query, a verdict on it, and its answers, best first.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Card {
    query: Exhibit,
    verdict: Verdict,
    answers: Vec<Answer>,
}

impl Card {
    /// A card without answers yet.
    pub fn new(query: Exhibit, verdict: Verdict) -> Self {
        Self {
            query,
            verdict,
            answers: Vec::new(),
        }
    }

    /// Appends an answer with its figure (a score, a rank) and, for one that should stand out, a mark.
    #[must_use]
    pub fn answer(mut self, exhibit: Exhibit, figure: impl Into<String>, mark: Option<Verdict>) -> Self {
        self.answers.push(Answer {
            exhibit,
            figure: figure.into(),
            mark,
        });
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
            html.element("header", &[], |html| {
                if let Some(picture) = &self.query.picture {
                    html.picture(picture);
                }
                html.element("div", &[], |html| {
                    if !self.query.words.is_empty() {
                        html.text_element("h3", "", &self.query.words);
                    }
                    self.verdict.render(html, "p");
                });
            });
            let class = if self.answers.iter().any(|answer| answer.exhibit.picture.is_some()) {
                "pictures"
            } else {
                "lines"
            };
            html.element("ol", &[("class", class)], |html| {
                self.answers.iter().for_each(|answer| answer.render(html))
            });
        });
    }
}

impl Answer {
    fn render(&self, html: &mut Html) {
        let class = self.mark.as_ref().map_or("plain", |mark| mark.tone.class());
        html.element("li", &[("class", class)], |html| {
            if let Some(picture) = &self.exhibit.picture {
                html.picture(picture);
            }
            html.element("div", &[("class", "caption")], |html| {
                if let Some(mark) = &self.mark {
                    mark.render(html, "span");
                }
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
