//! A small BERT that knows nothing yet: a config, a vocabulary of the texts at hand, random weights.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::draw::Draw;
use crate::workspace::write_whole;

/// Written last: a folder that has it is whole.
pub(super) const WEIGHTS: &str = "model.safetensors";

const WIDTH: usize = 128;
const LAYERS: usize = 2;
const HEADS: usize = 2;
const INNER: usize = 256;
const POSITIONS: usize = 52;
/// Standard deviation of weights, BERT's own.
const DEVIATION: f64 = 0.02;

/// Writes the tower for the vocabulary of some texts.
pub(super) fn write<'a>(folder: &Path, texts: impl Iterator<Item = &'a str>) -> Result<()> {
    let vocabulary = vocabulary(texts);
    let config = json!({
        "model_type": "bert", "architectures": ["BertModel"], "vocab_size": vocabulary.len(), "hidden_size": WIDTH,
        "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "intermediate_size": INNER, "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "max_position_embeddings": POSITIONS,
        "type_vocab_size": 2, "layer_norm_eps": 1e-12, "pad_token_id": 0, "pooling": "mean",
    });
    write_whole(&folder.join("config.json"), format!("{config:#}\n"))?;
    write_whole(&folder.join("vocab.txt"), vocabulary.join("\n") + "\n")?;
    write_whole(&folder.join(WEIGHTS), weights(vocabulary.len()))
}

/// Special tokens, then every character (alone and within a word) and every word of the texts, in lower case.
fn vocabulary<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut pieces = BTreeSet::new();
    let ascii = ('a'..='z').chain('0'..='9');
    pieces.extend(ascii.flat_map(|letter| [letter.to_string(), format!("##{letter}")]));
    for text in texts {
        let text = text.to_lowercase();
        for letter in text.chars().filter(|letter| !letter.is_whitespace()) {
            pieces.extend([letter.to_string(), format!("##{letter}")]);
        }
        let words = text.split(|letter: char| !letter.is_alphanumeric());
        // The tokenizer parts Chinese characters itself, so a word of them would never be met.
        pieces.extend(
            words
                .filter(|word| !word.is_empty() && word.is_ascii())
                .map(str::to_owned),
        );
    }
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
    special.map(String::from).into_iter().chain(pieces).collect()
}

/// Names and shapes, as Hugging Face's `BertModel` has them, without the pooler.
fn shapes(words: usize) -> Vec<(String, Vec<usize>)> {
    let mut shapes = vec![
        ("embeddings.word_embeddings.weight".to_owned(), vec![words, WIDTH]),
        (
            "embeddings.position_embeddings.weight".to_owned(),
            vec![POSITIONS, WIDTH],
        ),
        ("embeddings.token_type_embeddings.weight".to_owned(), vec![2, WIDTH]),
    ];
    let mut pair = |name: String, weight: Vec<usize>| {
        shapes.push((format!("{name}.bias"), vec![weight[0]]));
        shapes.push((format!("{name}.weight"), weight));
    };
    pair("embeddings.LayerNorm".into(), vec![WIDTH]);
    for layer in 0..LAYERS {
        for (name, weight) in [
            ("attention.self.query", vec![WIDTH, WIDTH]),
            ("attention.self.key", vec![WIDTH, WIDTH]),
            ("attention.self.value", vec![WIDTH, WIDTH]),
            ("attention.output.dense", vec![WIDTH, WIDTH]),
            ("attention.output.LayerNorm", vec![WIDTH]),
            ("intermediate.dense", vec![INNER, WIDTH]),
            ("output.dense", vec![WIDTH, INNER]),
            ("output.LayerNorm", vec![WIDTH]),
        ] {
            pair(format!("encoder.layer.{layer}.{name}"), weight);
        }
    }
    shapes
}

/// A safetensors file of BERT's initial weights: norms 1, biases 0, all else normal.
fn weights(words: usize) -> Vec<u8> {
    let (mut header, mut data) = (Map::new(), Vec::new());
    for (name, shape) in shapes(words) {
        let start = data.len();
        let mut draw = Draw::of(&name, 0);
        for _ in 0..shape.iter().product() {
            let value = if name.ends_with(".bias") {
                0.0
            } else if name.contains("LayerNorm") {
                1.0
            } else {
                // The sum of twelve even numbers is normal enough.
                DEVIATION * ((0..12).map(|_| draw.share()).sum::<f64>() - 6.0)
            };
            data.extend((value as f32).to_le_bytes());
        }
        let entry = json!({"dtype": "F32", "shape": shape, "data_offsets": [start, data.len()]});
        header.insert(name, entry);
    }
    let header = Value::Object(header).to_string();
    // Tensors start at a multiple of eight bytes.
    let header = format!("{header:<width$}", width = header.len().next_multiple_of(8));
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend(data);
    file
}

#[cfg(test)]
mod tests {
    use super::super::measure;
    use super::*;

    #[test]
    fn every_text_has_tokens() {
        let vocabulary = vocabulary(["Red o’clock", "山上 DVD"].into_iter());
        for piece in ["[PAD]", "red", "clock", "’", "山", "##上", "dvd", "##z", "z"] {
            assert!(vocabulary.iter().any(|known| known == piece), "{piece}");
        }
        assert_eq!(vocabulary[..3], ["[PAD]", "[UNK]", "[CLS]"]);
    }

    #[test]
    fn the_weights_are_a_file_of_their_shapes() {
        let file = weights(40);
        for (name, shape) in shapes(40).iter().filter(|(_, shape)| shape.len() == 2) {
            assert!(measure::rows(&file, name).is_ok(), "{name} {shape:?}");
        }
        let norm = "embeddings.LayerNorm.weight";
        assert!(String::from_utf8_lossy(&file).contains(norm));
        assert!(measure::rows(&file, norm).is_err(), "it has one dimension");
    }
}
