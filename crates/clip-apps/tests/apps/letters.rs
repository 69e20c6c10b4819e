//! An engine that counts letters.

use std::sync::Arc;

use clip_core::{
    EmbedWorker, Embedder, Embeddings, EncodedImage, Error, Image, ImageDecoder, ImageTransform, ModelInfo, PixelBatch,
    Probability, Raster, Result, TokenBatch, Tokenizer, Vocabulary, WorkerOptions,
};

/// Embeds a text by how often each letter occurs; a picture of one pixel as the letter that its red value names.
struct Letters(ModelInfo);

struct Bytes;

impl Tokenizer for Bytes {
    fn encode(&self, texts: &[&str]) -> Result<TokenBatch> {
        let rows: Vec<Vec<u32>> = texts.iter().map(|text| text.bytes().map(u32::from).collect()).collect();
        Ok(rows.iter().map(Vec::as_slice).collect())
    }
    fn context_length(&self) -> usize {
        64
    }
    fn vocabulary(&self) -> Vocabulary {
        Vocabulary {
            size: 256,
            mask: None,
            special: vec![],
        }
    }
}

/// The red value of the first pixel.
struct Red;

impl ImageTransform for Red {
    fn size(&self) -> [usize; 2] {
        [1, 1]
    }
    fn describe(&self) -> String {
        "red".into()
    }
    fn apply(&self, image: &Image, pixels: &mut [f32]) -> Result<()> {
        let Raster::Rgb(samples) = image.raster() else {
            return Err(Error::invalid("no RGB picture"));
        };
        pixels.fill(f32::from(samples[0]));
        Ok(())
    }
}

/// Three bytes are a picture of one pixel.
pub(crate) struct OnePixel;

impl ImageDecoder for OnePixel {
    fn decode(&self, image: &EncodedImage) -> Result<Image> {
        match image {
            EncodedImage::Bytes(bytes) => Image::new(1, 1, Raster::Rgb(bytes.to_vec())),
            EncodedImage::File(_) => Err(Error::invalid("no files")),
        }
    }
}

fn letters<'a>(rows: impl Iterator<Item = Vec<u32>> + 'a) -> Result<Embeddings> {
    let count = |row: Vec<u32>| (0..26).map(move |letter| row.iter().filter(|&&id| id == 97 + letter).count() as f32);
    Ok(Embeddings::new(rows.flat_map(count).collect(), 26)?.normalised())
}

impl Embedder for Letters {
    fn info(&self) -> &ModelInfo {
        &self.0
    }
    fn id(&self) -> Result<String> {
        Ok("letters".into())
    }
    fn tokenizer(&self) -> Result<Arc<dyn Tokenizer>> {
        Ok(Arc::new(Bytes))
    }
    fn transform(&self) -> Result<Arc<dyn ImageTransform>> {
        Ok(Arc::new(Red))
    }
    fn embed_tokens(&self, tokens: &TokenBatch) -> Result<Embeddings> {
        letters(tokens.rows().map(<[u32]>::to_vec))
    }
    fn embed_pixels(&self, pixels: &PixelBatch) -> Result<Embeddings> {
        letters(pixels.rows().map(|row| vec![row[0] as u32]))
    }
}

pub(crate) fn worker() -> EmbedWorker {
    let info = ModelInfo {
        dim: 26,
        logit_scale: 1.0,
        logit_bias: None,
        probability: Probability::Softmax,
        context_length: 64,
        image_size: [1, 1],
    };
    EmbedWorker::new(Box::new(Letters(info)), WorkerOptions::default()).unwrap()
}
