//! Retrieval, driven by JSON as a server would, over an engine that counts letters.
#![allow(clippy::unwrap_used)] // Helpers of tests may unwrap as tests do.

use std::sync::Arc;

use clip_apps::Retrieval;
use clip_core::serde_json::json;
use clip_core::{
    EmbedWorker, Embedder, Embeddings, EncodedImage, Endpoint, Error, Image, ImageDecoder, ImageTransform, Kind,
    ModelInfo, PixelBatch, Probability, Raster, Result, TokenBatch, Tokenizer, Vocabulary, WorkerOptions,
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
struct OnePixel;

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

fn worker() -> EmbedWorker {
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

fn retrieval() -> Retrieval {
    let (worker, titles) = (worker(), ["banana", "cherry", "cab", "cherry"]);
    let gallery = worker.embed_texts(&titles).unwrap();
    Retrieval::new(worker, gallery, ["p1", "p2", "p3", "p4"].map(str::to_owned).to_vec()).unwrap()
}

#[test]
fn texts_and_pictures_find_their_rows() {
    let app = retrieval().decoder(Arc::new(OnePixel));
    // "YQAA" is the bytes 97 (the letter a), 0, 0.
    let request = json!({ "texts": ["cherries", "nab"], "images": ["data:image/x;base64,YQAA"], "k": 2 });
    let answer = app.call(request).unwrap();
    let found = |query: &str| {
        let queries = answer[query].as_array().unwrap();
        queries
            .iter()
            .map(|hits| {
                hits.as_array()
                    .unwrap()
                    .iter()
                    .map(|hit| hit["id"].as_str().unwrap())
                    .collect()
            })
            .collect()
    };
    let (texts, images): (Vec<Vec<&str>>, Vec<Vec<&str>>) = (found("texts"), found("images"));
    // Equal rows tie; the earlier comes first.
    assert_eq!(texts, [["p2", "p4"], ["p1", "p3"]]);
    assert_eq!(images, [["p1", "p3"]]);
    assert_eq!(answer["texts"][0][0]["row"], 1);
    assert!(answer["images"][0][0]["score"].as_f64().unwrap() > 0.7);
}

#[test]
fn bad_requests_are_refused() {
    let app = retrieval();
    for (request, what) in [
        (json!({ "texts": ["a"], "top": 3 }), "unknown field `top`"),
        (
            json!({ "images": ["data:image/x;base64,YQAA"] }),
            "pictures are not taken",
        ),
        (json!({ "texts": ["a"], "k": 10_001 }), "1 queries of 10001 hits"),
    ] {
        let error = app.call(request).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
        assert!(error.to_string().contains(what), "{error}");
    }
    let with_pictures = retrieval().decoder(Arc::new(OnePixel));
    let error = with_pictures
        .call(json!({ "images": ["data:image/x;base64,YQAA", "YQAA"] }))
        .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("column `images[1]`: the picture is no data URI"),
        "{error}"
    );
    assert!(app.schema()["request"]["properties"]["texts"].is_object());
    assert_eq!(app.call(json!({})).unwrap(), json!({ "texts": [], "images": [] }));
}

#[test]
fn a_gallery_of_another_model_is_refused() {
    let gallery = Embeddings::new(vec![1.0; 4], 4).unwrap();
    let error = Retrieval::new(worker(), gallery, vec!["p".into()]).err().unwrap();
    assert_eq!(error.what(), "a gallery of 4 dimensions, a model of 26");
    let error = Retrieval::new(worker(), Embeddings::default(), vec!["p".into()])
        .err()
        .unwrap();
    assert_eq!(error.what(), "1 ids for a gallery of 0 rows");
}
