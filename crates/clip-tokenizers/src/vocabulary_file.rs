//! Vocabulary files: reading them within bounds, and telling by their content what they are.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use clip_core::serde_json::Value;
use clip_core::{Error, Result};
use flate2::read::MultiGzDecoder;

/// The largest file that is read, unpacked: several times the largest vocabulary in use.
const MOST_BYTES: u64 = 256 << 20;

/// How much is unpacked at a time.
const CHUNK: usize = 64 << 10;

/// How many lines are looked at to tell a list of merges from a list of words.
const LINES_LOOKED_AT: usize = 32;

/// What a vocabulary file is, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum VocabularyKind {
    /// Byte-pair merges, packed with gzip: `bpe_simple_vocab_16e6.txt.gz`, also under the name `vocab.txt`.
    GzipMerges,
    /// Byte-pair merges as plain text: `merges.txt`.
    Merges,
    /// One word piece a line: BERT's `vocab.txt`.
    WordPiece,
    /// A whole pipeline in Hugging Face's `tokenizer.json`.
    TokenizerJson,
}

impl VocabularyKind {
    /// Tells what a file is by its content.
    ///
    /// # Errors
    /// The file cannot be read, or is none of these.
    pub fn of_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::of_bytes(&read(path)?).map_err(|error| error.file(path))
    }

    /// Tells what the content of a file is.
    ///
    /// # Errors
    /// It is none of these.
    pub fn of_bytes(bytes: &[u8]) -> Result<Self> {
        if is_gzip(bytes) {
            return match of_text(&first_lines(bytes, LINES_LOOKED_AT + 1)?)? {
                Self::Merges => Ok(Self::GzipMerges),
                _ => Err(Error::invalid("a gzip file that holds no byte-pair merges").remedy("unpack it")),
            };
        }
        of_text(&text(bytes)?)
    }
}

fn of_text(text: &str) -> Result<VocabularyKind> {
    let unknown = |what: &str| {
        let remedy = "give byte-pair merges (plain or gzip), a BERT vocabulary (one piece a line) or a tokenizer.json";
        Error::invalid(format!("not a tokenizer's vocabulary: {what}")).remedy(remedy)
    };
    if text.trim_start().starts_with('{')
        && let Ok(Value::Object(object)) = clip_core::serde_json::from_str(text)
    {
        return if object.contains_key("model") {
            Ok(VocabularyKind::TokenizerJson)
        } else {
            Err(unknown("a JSON file without `model`"))
        };
    }
    let mut lines = text.lines();
    if lines.next().is_none_or(|first| first.contains("#version:")) && !text.is_empty() {
        return Ok(VocabularyKind::Merges);
    }
    // The first line of merges is a title and may look like anything.
    let fields: Vec<usize> = lines
        .filter(|line| !line.is_empty())
        .take(LINES_LOOKED_AT)
        .map(|line| line.split_whitespace().count())
        .collect();
    match () {
        () if fields.is_empty() => Err(unknown("there are not two lines")),
        () if fields.iter().all(|&fields| fields == 2) => Ok(VocabularyKind::Merges),
        () if fields.iter().all(|&fields| fields < 2) => Ok(VocabularyKind::WordPiece),
        () => Err(unknown("some lines have one word and some more")),
    }
}

/// Reads a file as it is.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(|error| Error::io("open the vocabulary", path, error))?;
    bounded(file).map_err(|error| Error::io("read the vocabulary", path, error))
}

/// The text of a file's content, unpacked if it is packed.
pub(crate) fn text(bytes: &[u8]) -> Result<String> {
    first_lines(bytes, usize::MAX)
}

/// The first lines of a file's content, unpacked if it is packed, no further than needed: unpacking is most of the time
/// that opening takes. Whatever follows them up to the next line break may be there too.
pub(crate) fn first_lines(bytes: &[u8], most: usize) -> Result<String> {
    let bytes = if is_gzip(bytes) {
        let broken = |error: std::io::Error| Error::invalid(format!("the gzip data is broken: {error}")).source(error);
        unpack(bytes, most).map_err(broken)?
    } else {
        bytes.to_vec()
    };
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Error::invalid(format!("the vocabulary is not UTF-8 text (byte {at})"))
            .remedy("check that the file is a tokenizer's vocabulary")
    })
}

/// Unpacks gzip up to the line break that ends the last line wanted, or all.
fn unpack(packed: &[u8], most_lines: usize) -> std::io::Result<Vec<u8>> {
    let mut reader = BufReader::with_capacity(CHUNK, MultiGzDecoder::new(packed));
    let mut bytes = Vec::new();
    let mut lines = 0;
    loop {
        let chunk = reader.fill_buf()?;
        let breaks = chunk
            .iter()
            .enumerate()
            .filter(|&(_, &byte)| byte == b'\n')
            .map(|(at, _)| at);
        let last = breaks.clone().nth(most_lines - lines - 1);
        let length = last.map_or(chunk.len(), |at| at + 1);
        lines += if last.is_some() {
            most_lines - lines
        } else {
            breaks.count()
        };
        bytes.extend_from_slice(&chunk[..length]);
        reader.consume(length);
        if length == 0 || lines == most_lines {
            return Ok(bytes);
        }
        if bytes.len() as u64 > MOST_BYTES {
            return Err(too_large());
        }
    }
}

fn is_gzip(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x1f, 0x8b])
}

fn bounded(reader: impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(too_large());
    }
    Ok(bytes)
}

fn too_large() -> std::io::Error {
    let what = format!("it is larger than {} MiB", MOST_BYTES >> 20);
    std::io::Error::new(std::io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(text: &str) -> Vec<u8> {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(text.as_bytes()).unwrap();
        packed.finish().unwrap()
    }

    #[test]
    fn content_tells_the_kind() {
        use VocabularyKind as K;
        for (content, kind) in [
            ("#version: 0.2\ni n\nt h\n", K::Merges),
            ("any title\ni n\nt h</w>", K::Merges),
            ("[PAD]\n[unused1]\n\n##a\n", K::WordPiece),
            ("{\n}\n[UNK]\n", K::WordPiece),
            ("{\"version\": \"1.0\", \"model\": {}}", K::TokenizerJson),
        ] {
            assert_eq!(K::of_bytes(content.as_bytes()).unwrap(), kind, "{content}");
        }
        assert_eq!(K::of_bytes(&gzip("title\ni n\n")).unwrap(), K::GzipMerges);
    }

    #[test]
    fn no_more_lines_are_unpacked_than_wanted() {
        let packed = gzip("one\ntwo\nthree");
        assert_eq!(first_lines(&packed, 1).unwrap(), "one\n");
        assert_eq!(first_lines(&packed, 2).unwrap(), "one\ntwo\n");
        assert_eq!(first_lines(&packed, 3).unwrap(), "one\ntwo\nthree");
        let long = "a b\n".repeat(100_000);
        assert_eq!(first_lines(&gzip(&long), 70_000).unwrap(), long[..280_000]);
        assert_eq!(text(&gzip(&long)).unwrap(), long);
    }

    #[test]
    fn anything_else_is_refused_with_a_remedy() {
        for content in [
            &b""[..],
            b"one line",
            b"a\nb c\nd\n",
            b"{\"!\": 0}",
            b"\xff\xfe",
            b"\x1f\x8bnot gzip",
            &gzip("[PAD]\n[UNK]\n"),
        ] {
            let error = VocabularyKind::of_bytes(content).unwrap_err();
            assert_eq!(error.kind(), clip_core::Kind::Invalid, "{error}");
        }
        assert_eq!(
            VocabularyKind::of_file("no/such/file").unwrap_err().kind(),
            clip_core::Kind::NotFound
        );
    }
}
