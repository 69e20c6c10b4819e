//! What a vocabulary holds, apart from the file it came in: readers of models want it in different forms.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

use clip_core::serde_json::{self, Map, Value};
use clip_core::{Error, Result};
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::bpe::HF_SPECIAL;
use crate::merges::{MOST_LINES, Merges};
use crate::vocabulary_file::{VocabularyKind, first_lines, read, text};
use crate::{bpe, wordpiece};

/// What stands in the first line of a list of merges, which every reader skips.
const TITLE: &str = "#version: 0.2";

/// The contents of a vocabulary: byte-pair merges, or word pieces.
///
/// ```
/// use clip_tokenizers::{VocabularyContents, VocabularyKind};
///
/// let contents = VocabularyContents::bundled_merges()?;
/// assert_eq!((contents.kind(), contents.size()), (VocabularyKind::Merges, 49408));
/// assert!(contents.merges_text()?.starts_with("#version: 0.2\ni n\n"));
/// # Ok::<(), clip_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VocabularyContents {
    held: Held,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Held {
    /// The lines behind the title, and all tokens by id.
    Merges { lines: Vec<String>, tokens: Vec<String> },
    /// The pieces by id.
    Pieces(Vec<String>),
}

impl VocabularyContents {
    /// Reads a vocabulary's file in any of the forms that [`VocabularyKind`] tells apart.
    ///
    /// # Errors
    /// The file cannot be read or is none of them; the ids of a `tokenizer.json` are not those that its merges or its pieces
    /// have in every other form.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::of_bytes(&read(path)?).map_err(|error| error.file(path))
    }

    /// The merges that come with this crate: OpenAI's.
    ///
    /// # Errors
    /// None but a defect of this crate.
    pub fn bundled_merges() -> Result<Self> {
        Self::of_merges(&first_lines(bpe::BUNDLED, MOST_LINES)?)
    }

    /// The word pieces that come with this crate: those of BERT-base Chinese.
    ///
    /// # Errors
    /// None but a defect of this crate.
    pub fn bundled_pieces() -> Result<Self> {
        Ok(Self::of_pieces(&text(wordpiece::BUNDLED)?))
    }

    fn of_bytes(bytes: &[u8]) -> Result<Self> {
        match VocabularyKind::of_bytes(bytes)? {
            VocabularyKind::GzipMerges | VocabularyKind::Merges => Self::of_merges(&text(bytes)?),
            VocabularyKind::WordPiece => Ok(Self::of_pieces(&text(bytes)?)),
            VocabularyKind::TokenizerJson => Self::of_json(&text(bytes)?),
        }
    }

    fn of_merges(text: &str) -> Result<Self> {
        let merges = Merges::read(text, HF_SPECIAL)?;
        let mut tokens = vec![String::new(); merges.end as usize + 1];
        for (token, id) in merges.model.get_vocab() {
            tokens[id as usize] = token;
        }
        let lines = text.split('\n').skip(1).take(MOST_LINES - 1).map(str::to_owned);
        Ok(Self {
            held: Held::Merges {
                lines: lines.collect(),
                tokens,
            },
        })
    }

    fn of_pieces(text: &str) -> Self {
        Self {
            held: Held::Pieces(wordpiece::lines(text).map(str::to_owned).collect()),
        }
    }

    fn of_json(text: &str) -> Result<Self> {
        let json: Value = serde_json::from_str(text)
            .map_err(|error| Error::invalid(format!("the tokenizer.json is no JSON: {error}")))?;
        let ids = ids(&json);
        let contents = match json.pointer("/model/merges").and_then(Value::as_array) {
            Some(merges) => Self::of_merges(&lines_of(merges)?)?,
            None => {
                let mut pieces: Vec<(u64, &str)> = ids.iter().map(|(piece, id)| (*id, *piece)).collect();
                pieces.sort_unstable();
                Self {
                    held: Held::Pieces(pieces.into_iter().map(|(_, piece)| piece.to_owned()).collect()),
                }
            }
        };
        let tokens = contents.tokens();
        let fits = ids.len() == contents.size()
            && ids.iter().all(|(token, id)| {
                let here = usize::try_from(*id).ok().and_then(|id| tokens.get(id));
                here.is_some_and(|here| here == token)
            });
        if fits {
            Ok(contents)
        } else {
            Err(
                Error::invalid("its ids do not follow from its merges or the order of its pieces")
                    .remedy("such a vocabulary has no other form; keep the tokenizer.json"),
            )
        }
    }

    /// [`VocabularyKind::Merges`] or [`VocabularyKind::WordPiece`].
    pub fn kind(&self) -> VocabularyKind {
        match &self.held {
            Held::Merges { .. } => VocabularyKind::Merges,
            Held::Pieces(_) => VocabularyKind::WordPiece,
        }
    }

    /// How many ids there are, special tokens included.
    pub fn size(&self) -> usize {
        self.tokens().len()
    }

    /// Merges as `merges.txt` has them: a title, then one merge a line.
    ///
    /// # Errors
    /// These are word pieces.
    pub fn merges_text(&self) -> Result<String> {
        match &self.held {
            // No line break at the end: where the list is shorter than CLIP's, it would count as one more merge.
            Held::Merges { lines, .. } => Ok([&[TITLE.to_owned()], &lines[..]].concat().join("\n")),
            Held::Pieces(_) => Err(Error::invalid("word pieces have no form as byte-pair merges")),
        }
    }

    /// The same, packed with gzip, as OpenAI's own file is.
    ///
    /// # Errors
    /// These are word pieces.
    pub fn packed_merges(&self) -> Result<Vec<u8>> {
        let mut packed = GzEncoder::new(Vec::new(), Compression::default());
        let written = packed.write_all(self.merges_text()?.as_bytes());
        let packed = written.and_then(|()| packed.finish());
        packed.map_err(|error| Error::internal(format!("packing a vocabulary: {error}")).source(error))
    }

    /// All tokens and their ids, as `vocab.json` has them.
    pub fn token_ids(&self) -> Value {
        let ids = self.tokens().iter().zip(0u64..);
        Value::Object(ids.map(|(token, id)| (token.clone(), id.into())).collect::<Map<_, _>>())
    }

    /// Word pieces as `vocab.txt` has them: one a line, in the order of their ids.
    ///
    /// # Errors
    /// These are merges.
    pub fn pieces_text(&self) -> Result<String> {
        match &self.held {
            Held::Pieces(pieces) => Ok(pieces.join("\n") + "\n"),
            Held::Merges { .. } => Err(Error::invalid("byte-pair merges have no form as word pieces")),
        }
    }

    fn tokens(&self) -> &[String] {
        match &self.held {
            Held::Merges { tokens, .. } => tokens,
            Held::Pieces(pieces) => pieces,
        }
    }
}

/// The ids of a `tokenizer.json`: the model's, and of tokens that were added.
fn ids(json: &Value) -> HashMap<&str, u64> {
    let model = json.pointer("/model/vocab").and_then(Value::as_object);
    let mut ids: HashMap<&str, u64> = model
        .into_iter()
        .flatten()
        .filter_map(|(token, id)| Some((token.as_str(), id.as_u64()?)))
        .collect();
    let added = json.get("added_tokens").and_then(Value::as_array);
    ids.extend(added.into_iter().flatten().filter_map(|token| {
        let content = token.get("content")?.as_str()?;
        Some((content, token.get("id")?.as_u64()?))
    }));
    ids
}

/// Merges of a `tokenizer.json`, pairs or texts with a space between, as the lines of a list.
fn lines_of(merges: &[Value]) -> Result<String> {
    let mut text = TITLE.to_owned();
    for merge in merges {
        let line = match merge {
            Value::String(line) => Some(line.clone()),
            Value::Array(pair) => match pair.as_slice() {
                [Value::String(first), Value::String(second)] => Some(format!("{first} {second}")),
                _ => None,
            },
            _ => None,
        };
        let line = line.filter(|line| !line.contains('\n'));
        let line = line.ok_or_else(|| Error::invalid(format!("the tokenizer.json has a merge {merge}")))?;
        text.push('\n');
        text.push_str(&line);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BpeOptions, ChineseWordPiece, ClipBpe, WordPieceOptions};
    use clip_core::Tokenizer;
    use clip_core::serde_json::json;

    fn written(bytes: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn every_form_of_merges_holds_the_same_tokenizer() {
        let bundled = VocabularyContents::bundled_merges().unwrap();
        let plain = bundled.merges_text().unwrap();
        let tokenizer = ClipBpe::bundled(BpeOptions::default()).unwrap();
        let wanted = tokenizer.encode(&["Red shoes &amp; 42 naïve Ärmel"]).unwrap();
        for form in [plain.clone().into_bytes(), bundled.packed_merges().unwrap()] {
            let file = written(&form);
            assert_eq!(VocabularyContents::open(file.path()).unwrap(), bundled);
            let again = ClipBpe::open(file.path(), BpeOptions::default()).unwrap();
            assert_eq!(again.encode(&["Red shoes &amp; 42 naïve Ärmel"]).unwrap(), wanted);
        }
        let ids = bundled.token_ids();
        assert_eq!(
            (&ids["!"], &ids["<|endoftext|>"], &ids["in"]),
            (&json!(0), &json!(49407), &json!(512))
        );
        assert_eq!(ids.as_object().unwrap().len(), 49408);
        // The same in one JSON file, in both spellings of a merge.
        let merges: Vec<&str> = plain.split('\n').skip(1).collect();
        let pairs: Vec<Vec<&str>> = merges.iter().map(|merge| merge.split(' ').collect()).collect();
        for merges in [json!(merges), json!(pairs)] {
            let json = json!({"model": {"type": "BPE", "vocab": ids, "merges": merges}}).to_string();
            assert_eq!(
                VocabularyContents::open(written(json.as_bytes()).path()).unwrap(),
                bundled
            );
        }
    }

    #[test]
    fn a_short_list_keeps_its_size() {
        let short = VocabularyContents::of_bytes(b"title\na b\nab c").unwrap();
        assert_eq!(short.size(), 516);
        let again = VocabularyContents::of_bytes(short.merges_text().unwrap().as_bytes()).unwrap();
        assert_eq!(again, short);
        let packed = short.packed_merges().unwrap();
        assert_eq!(VocabularyContents::of_bytes(&packed).unwrap(), short);
    }

    #[test]
    fn pieces_are_lines_and_ids() {
        let bundled = VocabularyContents::bundled_pieces().unwrap();
        assert_eq!(bundled.size(), 21128);
        let file = written(bundled.pieces_text().unwrap().as_bytes());
        assert_eq!(VocabularyContents::open(file.path()).unwrap(), bundled);
        let tokenizer = ChineseWordPiece::open(file.path(), WordPieceOptions::default()).unwrap();
        assert_eq!(tokenizer.vocabulary().size, 21128);
        let vocab = json!({"[PAD]": 0, "[UNK]": 1, "red": 2});
        let json = |added: Value| json!({"model": {"type": "WordPiece", "vocab": vocab}, "added_tokens": added});
        let of = |json: Value| VocabularyContents::of_bytes(json.to_string().as_bytes());
        let added = json!([{"id": 3, "content": "[NEW]"}, {"id": 1, "content": "[UNK]"}]);
        assert_eq!(
            of(json(added)).unwrap().pieces_text().unwrap(),
            "[PAD]\n[UNK]\nred\n[NEW]\n"
        );
        let gap = json!([{"id": 7, "content": "[NEW]"}]);
        assert!(of(json(gap)).unwrap_err().to_string().contains("its ids do not follow"));
    }

    #[test]
    fn ids_that_are_in_another_order_have_no_other_form() {
        let text = "title\na b";
        let mut ids = VocabularyContents::of_bytes(text.as_bytes()).unwrap().token_ids();
        (ids["ab"], ids["<|startoftext|>"]) = (json!(513), json!(512));
        let json = json!({"model": {"vocab": ids, "merges": ["a b"]}}).to_string();
        let error = VocabularyContents::of_bytes(json.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("do not follow from its merges"), "{error}");
        for merges in [json!([["a"]]), json!([3]), json!(["a\nb"])] {
            let json = json!({"model": {"vocab": {}, "merges": merges}}).to_string();
            assert!(VocabularyContents::of_bytes(json.as_bytes()).is_err());
        }
        let merges = VocabularyContents::of_bytes(text.as_bytes()).unwrap();
        assert!(merges.pieces_text().is_err());
        assert!(VocabularyContents::of_pieces("[UNK]\n").packed_merges().is_err());
    }
}
