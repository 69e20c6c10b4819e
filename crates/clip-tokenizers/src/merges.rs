//! CLIP's merges file, and the vocabulary that follows from it.

use clip_core::{Error, Result};
use tokenizers::models::bpe::{BPE, Vocab};

/// The full vocabulary; a file may hold more merges, which OpenAI's code leaves out.
const FULL_VOCABULARY: usize = 49_152;
const BYTES: usize = 256;
const MOST_MERGES: usize = FULL_VOCABULARY - BYTES - 2;
/// The lines that count: the title and the merges.
pub(crate) const MOST_LINES: usize = MOST_MERGES + 1;

/// Marks the last symbol of a word.
const END_OF_WORD: &str = "</w>";

/// A byte-pair model and the ids of its two special tokens.
pub(crate) struct Merges {
    pub(crate) model: BPE,
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Merges {
    /// Reads merges: a title line, then two symbols a line, most frequent first. The ids are: 256 bytes, 256 bytes at a
    /// word's end, one for each line, then the start token and the end token under the given names.
    ///
    /// A line break at the very end of a file that was cut short counts as one more line, as in OpenCLIP, and takes an id.
    pub(crate) fn read(text: &str, [start, end]: [&str; 2]) -> Result<Self> {
        let mut vocab = Vocab::with_capacity(FULL_VOCABULARY + BYTES);
        let mut merges = Vec::with_capacity(MOST_MERGES);
        let mut next = 0;
        let mut add = |vocab: &mut Vocab, token: String| {
            vocab.insert(token, next);
            next += 1;
        };
        let bytes = alphabet();
        for byte in &bytes {
            add(&mut vocab, byte.to_string());
        }
        for byte in &bytes {
            add(&mut vocab, format!("{byte}{END_OF_WORD}"));
        }
        for (line, row) in text.split('\n').zip(1..).skip(1).take(MOST_MERGES) {
            let mut symbols = line.split_whitespace();
            match [symbols.next(), symbols.next(), symbols.next()] {
                [Some(first), Some(second), None] => {
                    add(&mut vocab, format!("{first}{second}"));
                    merges.push((first.to_owned(), second.to_owned()));
                }
                [None, ..] => add(&mut vocab, String::new()),
                _ => {
                    return Err(Error::invalid("a merge must be two symbols with a space between")
                        .row(row)
                        .remedy("check that the file is a list of byte-pair merges"));
                }
            }
        }
        add(&mut vocab, start.to_owned());
        add(&mut vocab, end.to_owned());
        // A merge of symbols that never come to be is never used.
        merges.retain(|(first, second)| vocab.contains_key(first) && vocab.contains_key(second));
        let model = BPE::builder()
            .vocab_and_merges(vocab, merges)
            .unk_token(end.to_owned())
            .end_of_word_suffix(END_OF_WORD.to_owned())
            .build()
            .map_err(|error| Error::invalid(format!("the merges do not fit together: {error}")))?;
        Ok(Self {
            model,
            start: next - 2,
            end: next - 1,
        })
    }
}

/// The characters that stand for the 256 bytes, in the order of their ids: printable bytes stand for themselves and come
/// first, the others are moved past 255.
fn alphabet() -> Vec<char> {
    let (printable, other): (Vec<u8>, Vec<u8>) = (0..=255).partition(|&byte| is_printable(byte));
    let moved = (256..).filter_map(char::from_u32).zip(other).map(|(c, _)| c);
    printable.into_iter().map(char::from).chain(moved).collect()
}

fn is_printable(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff)
}

/// The character that stands for each byte.
pub(crate) fn byte_characters() -> [char; 256] {
    let mut characters = ['\0'; 256];
    let printable = (0..=255).filter(|&byte| is_printable(byte));
    let other = (0..=255).filter(|&byte| !is_printable(byte));
    for (byte, character) in printable.chain(other).zip(alphabet()) {
        characters[usize::from(byte)] = character;
    }
    characters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_the_known_characters() {
        let characters = byte_characters();
        assert_eq!(
            [characters[b'a' as usize], characters[b' ' as usize], characters[0]],
            ['a', 'Ġ', 'Ā']
        );
        assert_eq!(characters[0xad], 'Ń');
    }

    #[test]
    fn a_final_line_break_takes_an_id() {
        let cut = Merges::read("title\na b", ["<s>", "</s>"]).unwrap();
        assert_eq!([cut.start, cut.end], [513, 514]);
        let with_break = Merges::read("title\na b\n", ["<s>", "</s>"]).unwrap();
        assert_eq!([with_break.start, with_break.end], [514, 515]);
    }

    #[test]
    fn wrong_lines_name_their_row() {
        let error = Merges::read("title\na b\na b c\n", ["<s>", "</s>"]).err().unwrap();
        assert_eq!(error.place().row, Some(3));
    }
}
