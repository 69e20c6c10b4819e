//! The tokenizer a checkpoint asks for.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clip_core::{Error, Result, Tokenizer, Truncation};
use clip_tokenizers::{
    BpeOptions, ChineseWordPiece, Cleaning, ClipBpe, Flavour, JsonTokenizer, VocabularyContents, VocabularyKind,
    WordPieceOptions,
};
use serde_json::Value;

use crate::families::VocabularyForm;
use crate::json::read_json;

const VOCAB_TXT: &str = "vocab.txt";

/// Files that make a vocabulary, in the order they are looked for.
const VOCABULARIES: [&str; 4] = [
    VOCAB_TXT,
    "merges.txt",
    "tokenizer.json",
    "bpe_simple_vocab_16e6.txt.gz",
];
/// Files that belong to it and are copied with it.
const COMPANIONS: [&str; 5] = [
    "spiece.model",
    "vocab.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
];

/// A directory's vocabulary files, for copying along with a model.
pub(crate) fn files(directory: &Path) -> Vec<PathBuf> {
    names()
        .map(|name| directory.join(name))
        .filter(|path| path.is_file())
        .collect()
}

/// The names of a vocabulary's files, those that make it first.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    VOCABULARIES.into_iter().chain(COMPANIONS)
}

/// Whether a file's name is one of a vocabulary's.
pub(crate) fn is_vocabulary_name(name: &str) -> bool {
    VOCABULARIES.contains(&name) || COMPANIONS.contains(&name)
}

/// Puts a model's vocabulary into a directory in the form that a layout's readers look for. Where the model has no file
/// and is used with a bundled vocabulary, that is written out, unless the layout takes files as they are.
pub(crate) fn write(form: VocabularyForm, files: &[PathBuf], config: &Value, directory: &Path) -> Result<()> {
    let name = |path: &Path| path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
    let stranger = files
        .iter()
        .find(|path| !name(path).is_some_and(|name| is_vocabulary_name(&name)));
    if let Some(path) = stranger {
        return Err(Error::invalid("is no vocabulary file").file(path));
    }
    // The one that counts when the model is opened.
    let main = VOCABULARIES.iter().find_map(|wanted| {
        let mut found = files.iter().filter(|path| name(path).as_deref() == Some(wanted));
        found.next()
    });
    let contents = || match main {
        Some(path) => VocabularyContents::open(path).map(Some),
        None => bundled(config),
    };
    let put = |name: &str, bytes: &[u8]| {
        let path = directory.join(name);
        fs::write(&path, bytes).map_err(|error| Error::io("write", &path, error))
    };
    let all = || {
        files.iter().try_for_each(|path| {
            let name = path.file_name().unwrap_or_default();
            copy(path, &directory.join(name))
        })
    };
    if form == VocabularyForm::AsItIs {
        return all();
    }
    let kind = main.map(VocabularyKind::of_file).transpose()?;
    match (form, kind, main) {
        // As it was, to the byte.
        (VocabularyForm::VocabTxt, Some(VocabularyKind::GzipMerges | VocabularyKind::WordPiece), Some(path)) => {
            copy(path, &directory.join(VOCAB_TXT))
        }
        (VocabularyForm::VocabTxt, ..) => match contents()? {
            None => Ok(()),
            Some(contents) if contents.kind() == VocabularyKind::Merges => put(VOCAB_TXT, &contents.packed_merges()?),
            Some(contents) => put(VOCAB_TXT, contents.pieces_text()?.as_bytes()),
        },
        (_, None | Some(VocabularyKind::GzipMerges), _) => match contents()? {
            None => all(),
            Some(contents) if contents.kind() == VocabularyKind::Merges => {
                put("merges.txt", contents.merges_text()?.as_bytes())?;
                put("vocab.json", format!("{}\n", contents.token_ids()).as_bytes())
            }
            Some(contents) => put(VOCAB_TXT, contents.pieces_text()?.as_bytes()),
        },
        _ => all(),
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to)
        .map(drop)
        .map_err(|error| Error::io("copy", from, error))
}

/// The bundled vocabulary that a model without one is used with; `None` if none fits its table of embeddings.
fn bundled(config: &Value) -> Result<Option<VocabularyContents>> {
    let contents = match Rule::of(config) {
        Ok(Rule::Bpe(_)) => VocabularyContents::bundled_merges()?,
        Ok(Rule::WordPiece { .. }) => VocabularyContents::bundled_pieces()?,
        Ok(Rule::HuggingFace { .. }) | Err(_) => return Ok(None),
    };
    let rows = config.pointer("/text_config/vocab_size").and_then(Value::as_u64);
    Ok((rows == Some(contents.size() as u64)).then_some(contents))
}

/// How texts are prepared and cut into tokens, in words that differ where it differs.
pub(crate) fn describe(directory: &Path, config: &Value) -> Result<String> {
    Ok(match Rule::of(config)? {
        Rule::Bpe(Cleaning::HuggingFace) => "byte pairs, cleaned as Hugging Face does".to_owned(),
        Rule::Bpe(Cleaning::Canonical) => "byte pairs, cleaned as OpenCLIP does for SigLIP".to_owned(),
        Rule::Bpe(_) => "byte pairs, cleaned as OpenCLIP does".to_owned(),
        Rule::WordPiece { flavour, lower_case } => {
            let unseen = config.pointer("/tokenizer/pad_is_unseen") == Some(&Value::Bool(true));
            let pad = if unseen {
                ", nothing looks at a literal pad token"
            } else {
                ""
            };
            let whose = if flavour == Flavour::ChineseClip {
                "Chinese-CLIP's"
            } else {
                "BERT's"
            };
            let case = if lower_case_of(directory)?.unwrap_or(lower_case) {
                "lower case"
            } else {
                "case kept"
            };
            format!("word pieces by {whose} rules, {case}{pad}")
        }
        Rule::HuggingFace { name: Some(name), .. } => format!("the tokenizer `{name}`"),
        Rule::HuggingFace { cleaning, .. } => {
            let cleaned = match cleaning {
                Cleaning::HuggingFace => "",
                Cleaning::Canonical => ", after OpenCLIP's cleaning for SigLIP",
                _ => ", after OpenCLIP's cleaning",
            };
            format!("what the tokenizer's own file says{cleaned}")
        }
    })
}

/// What a canonical config says about its tokenizer.
enum Rule {
    Bpe(Cleaning),
    WordPiece {
        flavour: Flavour,
        lower_case: bool,
    },
    /// A tokenizer of Hugging Face: only a file can bring it, a `tokenizer.json` that says all or a list of word pieces.
    HuggingFace {
        name: Option<String>,
        cleaning: Cleaning,
    },
}

impl Rule {
    fn of(config: &Value) -> Result<Self> {
        let tokenizer = config.get("tokenizer").unwrap_or(&Value::Null);
        let text = |key: &str| tokenizer.get(key).and_then(Value::as_str);
        match (text("type"), text("cleaning"), text("flavour")) {
            (Some("clip_bpe"), None | Some("open_clip"), _) => Ok(Self::Bpe(Cleaning::OpenClip)),
            (Some("clip_bpe"), Some("hugging_face"), _) => Ok(Self::Bpe(Cleaning::HuggingFace)),
            (Some("clip_bpe"), Some("canonical"), _) => Ok(Self::Bpe(Cleaning::Canonical)),
            (Some("word_piece"), _, flavour @ (None | Some("bert" | "chinese_clip"))) => {
                let flavour = if flavour == Some("chinese_clip") {
                    Flavour::ChineseClip
                } else {
                    Flavour::Bert
                };
                let lower_case = tokenizer.get("lower_case").and_then(Value::as_bool).unwrap_or(true);
                Ok(Self::WordPiece { flavour, lower_case })
            }
            (Some("hugging_face"), cleaning @ (None | Some("open_clip" | "hugging_face" | "canonical")), _) => {
                Ok(Self::HuggingFace {
                    name: text("name").map(str::to_owned),
                    // OpenCLIP cleans what it hands to such a tokenizer.
                    cleaning: match cleaning {
                        Some("hugging_face") => Cleaning::HuggingFace,
                        Some("canonical") => Cleaning::Canonical,
                        _ => Cleaning::OpenClip,
                    },
                })
            }
            (None, ..) if tokenizer.is_null() => Err(Error::invalid(
                "the config does not say which tokenizer its text tower has",
            )
            .remedy("add `tokenizer`, for instance {\"type\": \"word_piece\"} or {\"type\": \"clip_bpe\"}")),
            _ => Err(Error::invalid(format!("the tokenizer {tokenizer} is not supported"))),
        }
    }
}

/// The tokenizer of a canonical config and the vocabulary of a directory, or the one bundled for it.
pub(crate) fn tokenizer(
    directory: &Path,
    config: &Value,
    (context_length, truncation): (usize, Truncation),
    rows: usize,
) -> Result<Arc<dyn Tokenizer>> {
    let file = VOCABULARIES
        .iter()
        .map(|name| directory.join(name))
        .find(|path| path.is_file());
    let tokenizer: Arc<dyn Tokenizer> = match (Rule::of(config)?, &file) {
        (Rule::Bpe(cleaning), file) => bpe(
            file.as_deref(),
            BpeOptions {
                context_length,
                cleaning,
                truncation,
            },
        )?,
        (Rule::WordPiece { flavour, lower_case }, file) => {
            let lower_case = lower_case_of(directory)?.unwrap_or(lower_case);
            word_piece(
                file.as_deref(),
                WordPieceOptions {
                    context_length,
                    flavour,
                    lower_case,
                },
            )?
        }
        (Rule::HuggingFace { .. }, _) if truncation != Truncation::KeepEnd => {
            return Err(
                Error::invalid("EasyNLP has no models with this kind of tokenizer").remedy("leave --truncation out")
            );
        }
        (Rule::HuggingFace { name, cleaning }, _) => {
            let (tokenizer, file) = hugging_face(directory, name.as_deref(), cleaning, context_length)?;
            check_vocabulary(tokenizer.vocabulary().size, rows, Some(&file))?;
            return Ok(tokenizer);
        }
    };
    check_vocabulary(tokenizer.vocabulary().size, rows, file.as_deref())?;
    Ok(tokenizer)
}

/// The tokenizer of a directory of Hugging Face's, and its file. Lists of merges are passed over: only the
/// `tokenizer.json` beside them says what is done with them.
fn hugging_face(
    directory: &Path,
    name: Option<&str>,
    cleaning: Cleaning,
    context_length: usize,
) -> Result<(Arc<dyn Tokenizer>, PathBuf)> {
    let json = directory.join("tokenizer.json");
    if json.is_file() {
        let tokenizer: Arc<dyn Tokenizer> = match cleaning {
            Cleaning::OpenClip | Cleaning::Canonical => Arc::new(ClipBpe::open(
                &json,
                BpeOptions {
                    context_length,
                    cleaning,
                    ..BpeOptions::default()
                },
            )?),
            _ => Arc::new(JsonTokenizer::open(&json, context_length)?),
        };
        return Ok((tokenizer, json));
    }
    let pieces = directory.join("vocab.txt");
    if pieces.is_file() {
        let options = WordPieceOptions {
            context_length,
            flavour: Flavour::Bert,
            lower_case: lower_case_of(directory)?.unwrap_or(true),
        };
        return Ok((word_piece(Some(&pieces), options)?, pieces));
    }
    let there = ["spiece.model", "sentencepiece.bpe.model", "merges.txt"]
        .into_iter()
        .find(|name| directory.join(name).is_file());
    let what = match (there, name) {
        (Some(there), _) => format!("the model's vocabulary is in {there}, which alone is not read"),
        (None, Some(name)) => format!("the model wants the tokenizer `{name}`, which is not beside it"),
        (None, None) => "the model's tokenizer is not beside it".to_owned(),
    };
    Err(Error::not_found(what).remedy("put its tokenizer.json or vocab.txt into the model's folder"))
}

fn bpe(file: Option<&Path>, options: BpeOptions) -> Result<Arc<dyn Tokenizer>> {
    let Some(file) = file else {
        return Ok(Arc::new(ClipBpe::bundled(options)?));
    };
    if VocabularyKind::of_file(file)? == VocabularyKind::WordPiece {
        return Err(
            Error::invalid("is a WordPiece vocabulary, but the text tower takes byte pairs")
                .file(file)
                .remedy("put the model's merges.txt or tokenizer.json in its place"),
        );
    }
    Ok(Arc::new(ClipBpe::open(file, options)?))
}

fn word_piece(file: Option<&Path>, options: WordPieceOptions) -> Result<Arc<dyn Tokenizer>> {
    let Some(file) = file else {
        return Ok(Arc::new(ChineseWordPiece::bundled(options)?));
    };
    if matches!(
        VocabularyKind::of_file(file)?,
        VocabularyKind::Merges | VocabularyKind::GzipMerges
    ) {
        return Err(Error::invalid("holds byte pairs, but the text tower takes WordPiece")
            .file(file)
            .remedy("put the model's vocab.txt (a word piece a line) or tokenizer.json in its place"));
    }
    Ok(Arc::new(ChineseWordPiece::open(file, options)?))
}

/// `do_lower_case` of `tokenizer_config.json`, if it is there.
fn lower_case_of(directory: &Path) -> Result<Option<bool>> {
    let path = directory.join("tokenizer_config.json");
    if !path.is_file() {
        return Ok(None);
    }
    Ok(read_json(&path)?.get("do_lower_case").and_then(Value::as_bool))
}

/// Checks that every id has a row in the table of embeddings. A table may have some rows more (they are padded); with
/// the bundled vocabulary, which is only the family's usual one, it must have exactly as many.
pub fn check_vocabulary(size: usize, rows: usize, file: Option<&Path>) -> Result<()> {
    let fits = if file.is_some() { size <= rows } else { size == rows };
    if fits {
        return Ok(());
    }
    let error = |which| {
        Error::invalid(format!(
            "{which} does not fit the weights: {size} tokens, {rows} embeddings"
        ))
    };
    Err(match file {
        Some(file) => error("the vocabulary")
            .file(file)
            .remedy("put the model's own vocabulary into its folder"),
        None => error("the model brings no vocabulary, and the bundled one").remedy(format!(
            "put the model's own into its folder: {}",
            VOCABULARIES.join(" or ")
        )),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_vocabulary_must_fit() {
        let file = Some(Path::new("vocab.txt"));
        check_vocabulary(100, 128, file).unwrap();
        assert_eq!(
            check_vocabulary(129, 128, file).unwrap_err().to_string(),
            "vocab.txt: the vocabulary does not fit the weights: 129 tokens, 128 embeddings; put the model's own \
             vocabulary into its folder"
        );
        check_vocabulary(128, 128, None).unwrap();
        assert!(check_vocabulary(100, 128, None).is_err());
    }

    #[test]
    fn unknown_tokenizers_are_told() {
        let error = |config: Value| Rule::of(&config).err().unwrap().to_string();
        assert!(error(json!({})).contains("does not say which tokenizer"));
        assert!(error(json!({"tokenizer": {"type": "clip_bpe", "cleaning": "soap"}})).contains("is not supported"));
    }
}
