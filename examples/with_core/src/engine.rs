//! The engine: colour words and pictures as points of one colour space.
//!
//! A text is the colour that its words name, a picture is its mean colour. Both become points of the unit sphere in
//! four dimensions by the inverse stereographic projection, which keeps near colours near: so the cosine that apps
//! rank by orders pictures by how close their colour is.

use std::sync::Arc;

use clip_core::{
    Embedder, Embeddings, Error, Image, ImageTransform, ModelInfo, PixelBatch, Probability, Raster, Result, TokenBatch,
    Tokenizer, Vocabulary,
};

/// Words that name a colour: red, green and blue from 0 to 1.
const COLOURS: [(&str, [f32; 3]); 11] = [
    ("red", [0.8, 0.1, 0.1]),
    ("orange", [1.0, 0.55, 0.1]),
    ("yellow", [1.0, 0.9, 0.1]),
    ("green", [0.1, 0.6, 0.15]),
    ("blue", [0.1, 0.2, 0.8]),
    ("purple", [0.5, 0.1, 0.55]),
    ("pink", [1.0, 0.6, 0.75]),
    ("brown", [0.45, 0.27, 0.12]),
    ("black", [0.05, 0.05, 0.05]),
    ("grey", [0.5, 0.5, 0.5]),
    ("white", [0.97, 0.97, 0.97]),
];

/// Words that shade it: the grey that is mixed in, and how much of it.
const SHADES: [(&str, f32, f32); 5] = [
    ("dark", 0.0, 0.5),
    ("deep", 0.0, 0.4),
    ("light", 1.0, 0.45),
    ("pale", 1.0, 0.5),
    ("bright", 1.0, 0.15),
];

/// The id of every word that is neither. It has no weight.
const OTHER: u32 = 0;

/// How far colours lie apart before they are projected. Larger: near colours differ more, far ones less.
const SPREAD: f32 = 2.0;

/// Words to ids: colours from 1 on, shades behind them.
struct Words;

impl Tokenizer for Words {
    fn encode(&self, texts: &[&str]) -> Result<TokenBatch> {
        let names: Vec<&str> = COLOURS
            .iter()
            .map(|(name, _)| *name)
            .chain(SHADES.iter().map(|(name, ..)| *name))
            .collect();
        let mut batch = TokenBatch::new();
        for text in texts {
            let lower = text.to_lowercase();
            let words = lower
                .split(|c: char| !c.is_alphanumeric())
                .filter(|word| !word.is_empty());
            let id = |word: &str| {
                names
                    .iter()
                    .position(|name| *name == word)
                    .map_or(OTHER, |at| at as u32 + 1)
            };
            batch.push(&words.map(id).take(self.context_length()).collect::<Vec<_>>());
        }
        Ok(batch)
    }

    fn context_length(&self) -> usize {
        32
    }

    fn vocabulary(&self) -> Vocabulary {
        Vocabulary {
            size: 1 + COLOURS.len() + SHADES.len(),
            mask: None,
            special: vec![],
        }
    }
}

/// A picture to one pixel: its mean colour.
struct MeanColour;

impl ImageTransform for MeanColour {
    fn size(&self) -> [usize; 2] {
        [1, 1]
    }

    fn describe(&self) -> String {
        "mean colour, 0 to 1".into()
    }

    fn apply(&self, image: &Image, pixels: &mut [f32]) -> Result<()> {
        let Raster::Rgb(samples) = image.raster() else {
            return Err(Error::invalid("the colour engine takes RGB pictures").remedy("convert the picture to RGB"));
        };
        for (channel, pixel) in pixels.iter_mut().enumerate() {
            let sum: f64 = samples
                .iter()
                .skip(channel)
                .step_by(3)
                .map(|&sample| f64::from(sample))
                .sum();
            *pixel = (sum / (samples.len() / 3) as f64 / 255.0) as f32;
        }
        Ok(())
    }
}

/// The engine.
pub struct Colours {
    info: ModelInfo,
}

impl Colours {
    /// The one there is: it has nothing to load.
    pub fn new() -> Self {
        let info = ModelInfo {
            dim: 4,
            logit_scale: 20.0,
            logit_bias: None,
            probability: Probability::Softmax,
            context_length: Words.context_length(),
            image_size: MeanColour.size(),
        };
        Self { info }
    }
}

impl Embedder for Colours {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn id(&self) -> Result<String> {
        // Features are comparable within one id: change it whenever tables or projection change.
        Ok("colours-1".into())
    }

    fn tokenizer(&self) -> Result<Arc<dyn Tokenizer>> {
        Ok(Arc::new(Words))
    }

    fn transform(&self) -> Result<Arc<dyn ImageTransform>> {
        Ok(Arc::new(MeanColour))
    }

    fn embed_tokens(&self, tokens: &TokenBatch) -> Result<Embeddings> {
        Embeddings::new(tokens.rows().map(named).flat_map(project).collect(), self.info.dim)
    }

    fn embed_pixels(&self, pixels: &PixelBatch) -> Result<Embeddings> {
        Embeddings::new(
            pixels
                .rows()
                .map(|row| [row[0], row[1], row[2]])
                .flat_map(project)
                .collect(),
            self.info.dim,
        )
    }
}

/// The colour that words name: the mean of their colours, shaded. Grey if they name none.
fn named(ids: &[u32]) -> [f32; 3] {
    let colours: Vec<[f32; 3]> = ids
        .iter()
        .filter_map(|&id| COLOURS.get((id as usize).checked_sub(1)?))
        .map(|(_, colour)| *colour)
        .collect();
    let mut colour = [0.5; 3];
    if !colours.is_empty() {
        colour = std::array::from_fn(|channel| {
            colours.iter().map(|colour| colour[channel]).sum::<f32>() / colours.len() as f32
        });
    }
    for &(_, grey, amount) in ids
        .iter()
        .filter_map(|&id| SHADES.get((id as usize).checked_sub(1 + COLOURS.len())?))
    {
        colour = colour.map(|value| value + (grey - value) * amount);
    }
    colour
}

/// The inverse stereographic projection, from colours around grey to the unit sphere: unit rows, as apps expect.
fn project(colour: [f32; 3]) -> [f32; 4] {
    let [x, y, z] = colour.map(|value| (value - 0.5) * SPREAD);
    let square = x * x + y * y + z * z;
    [2.0 * x, 2.0 * y, 2.0 * z, square - 1.0].map(|value| value / (square + 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_unit_rows_and_near_colours_are_near() -> Result<()> {
        let rows = Colours::new().embed_texts(&["dark red", "red", "Pale-Blue!", "nothing at all", ""])?;
        let dot = |a: usize, b: usize| rows.row(a).iter().zip(rows.row(b)).map(|(a, b)| a * b).sum::<f32>();
        assert!((0..5).all(|row| (dot(row, row) - 1.0).abs() < 1e-6));
        assert!(dot(0, 1) > dot(0, 2) && dot(0, 1) > dot(0, 3));
        assert_eq!(rows.row(3), rows.row(4));
        Ok(())
    }
}
