//! Whole pages: what a parser makes of them, and how a small one reads.
#![allow(clippy::unwrap_used)] // Helpers of tests may unwrap as tests do.

use std::cell::RefCell;

use clip_page::{
    Card, Cards, Exhibit, Facts, Listing, Matrix, Page, Picture, Plot, Plots, Side, Table, Tone, Verdict, Versus,
};
use html5ever::tendril::StrTendril;
use html5ever::tokenizer::{BufferQueue, Token, TokenSink, TokenSinkResult, Tokenizer, TokenizerOpts};
use proptest::prelude::*;

/// What a browser's tokenizer finds: elements with the names of their attributes, and all text.
#[derive(Default)]
struct Found {
    elements: RefCell<Vec<String>>,
    values: RefCell<Vec<String>>,
    text: RefCell<String>,
    comments: RefCell<usize>,
}

impl TokenSink for Found {
    type Handle = ();

    fn process_token(&self, token: Token, _line: u64) -> TokenSinkResult<()> {
        match token {
            Token::TagToken(tag) => {
                let names: Vec<String> = tag
                    .attrs
                    .iter()
                    .map(|attribute| attribute.name.local.to_string())
                    .collect();
                self.elements
                    .borrow_mut()
                    .push(format!("{:?} {} {names:?}", tag.kind, tag.name));
                self.values
                    .borrow_mut()
                    .extend(tag.attrs.iter().map(|attribute| attribute.value.to_string()));
            }
            Token::CharacterTokens(text) => self.text.borrow_mut().push_str(&text),
            Token::CommentToken(_) => *self.comments.borrow_mut() += 1,
            _ => {}
        }
        TokenSinkResult::Continue
    }
}

fn parse(html: &str) -> Found {
    let input = BufferQueue::default();
    input.push_back(StrTendril::from(html));
    let tokenizer = Tokenizer::new(Found::default(), TokenizerOpts::default());
    let _ = tokenizer.feed(&input);
    tokenizer.end();
    tokenizer.sink
}

/// A page with a string at every place that takes one.
fn page_of(text: &str) -> Page {
    let picture = || Picture::new(*b"\x89PNG\r\n\x1a\n", text).unwrap();
    let mut page = Page::new(text, text);
    page.heading(text).paragraph(text);
    page.add(&Facts::new().fact(text, text));
    page.add(&Table::new(text, [text]).row(text, [text]));
    let card = Card::new(Exhibit::picture(picture(), text), Verdict::new(Tone::Bad, text))
        .answer(
            Exhibit::picture(picture(), text),
            text,
            Some(Verdict::new(Tone::Good, text)),
        )
        .answer(Exhibit::words(text), text, None);
    page.add(&Cards::new([card]));
    page.add(&Plots::new([Plot::new(text).line(format!("{text} "), [(1.0, 2.0)])]));
    page.add(&Listing::new(text, text));
    page.add(&Matrix::new(text, text, [text]).row(text, [(text.to_owned(), 0.5, Tone::Good)]));
    let side = || {
        Side::new(text, Verdict::new(Tone::Plain, text)).answer(
            Exhibit::picture(picture(), text),
            text,
            [Verdict::new(Tone::Apart, text), Verdict::new(Tone::Good, text)],
        )
    };
    let verdict = Verdict::new(Tone::Plain, text);
    page.add(&Versus::new(Exhibit::words(text), verdict, [side(), side()]));
    page
}

proptest! {
    /// Whatever the text, the parsed page has the elements and attributes of a harmless one, and shows the text.
    #[test]
    fn text_never_becomes_markup(text in prop_oneof![
        "[<>&\"'/=a-z! \\-;#0-9]{1,40}",
        ".{1,40}",
        Just("</title></style><script>alert(1)</script>".to_owned()),
        Just("\"><img src=x onerror=alert(1)>".to_owned()),
        Just("<!-- --!><![CDATA[ &lt;b&gt; &#60;".to_owned()),
    ]) {
        let (harmless, found) = (parse(&page_of("x").render()), parse(&page_of(&text).render()));
        prop_assert_eq!(&*found.elements.borrow(), &*harmless.elements.borrow());
        prop_assert_eq!(*found.comments.borrow(), 0);
        let shown: String = text
            .chars()
            .map(|c| if c.is_control() && !matches!(c, '\n' | '\t' | '\r') { '\u{fffd}' } else { c })
            .collect();
        prop_assert!(found.text.borrow().matches(&shown).count() >= 16);
        prop_assert!(found.values.borrow().iter().filter(|value| **value == shown).count() >= 5);
    }
}

#[test]
fn a_small_page_reads_like_this() {
    let mut page = Page::new("Cups & saucers", "en");
    page.paragraph("Two queries, three pictures.");
    page.add(&Facts::new().fact("Seed", "7"));
    page.add(&Table::new("Recall in percent", ["", "R@1", "R@5"]).row("text to image", ["50.0", "100.0"]));
    page.heading("Queries");
    let picture = Picture::new(*b"GIF89a", "a <red> cup").unwrap();
    let card = Card::new(Exhibit::words("red cup"), Verdict::new(Tone::Good, "found at rank 1"))
        .answer(
            Exhibit::picture(picture, "cup"),
            "0.81",
            Some(Verdict::new(Tone::Good, "right")),
        )
        .answer(Exhibit::words("saucer"), "0.20", None);
    page.add(&Cards::new([card]));
    let html = page.render();
    // The style has no place in a snapshot: only that the policy names its hash matters, and browsers check that.
    let (head, rest) = html.split_once("<style>").unwrap();
    let (_, body) = rest.split_once("</style>").unwrap();
    let hash = head.split_once("sha256-").unwrap().1.split_once("&#39;").unwrap().0;
    insta::assert_snapshot!(format!("{}{}", head.replace(hash, "HASH"), body).replace("><", ">\n<"));
}

#[test]
fn a_page_appears_whole_or_not_at_all() {
    let folder = std::env::temp_dir().join(format!("clip-page-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("page.html");
    page_of("first").write(&path).unwrap();
    page_of("second").write(&path).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), page_of("second").render());
    // A folder cannot be replaced by a file: an error that names it, and nothing left beside it.
    let taken = folder.join("taken");
    std::fs::create_dir_all(taken.join("inner")).unwrap();
    let error = page_of("x").write(&taken).unwrap_err();
    assert!(error.to_string().contains("taken: cannot write the page"), "{error}");
    let mut names: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["page.html", "taken"]);
    std::fs::remove_dir_all(&folder).unwrap();
}
