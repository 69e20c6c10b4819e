//! Another engine under clipzoo's apps, without libtorch.
//!
//! clipzoo's apps know models by one contract, [`clip_core::Embedder`]: texts and pictures in, unit rows out. Whoever
//! implements it (ONNX Runtime, a remote service, the colour engine here) gets retrieval, evaluation, prediction and
//! the server with it. What there is to write:
//!
//! 1. a `Tokenizer` and an `ImageTransform`: what the engine sees of a text and of a picture (`engine.rs`);
//! 2. an `Embedder` over both (`engine.rs`);
//! 3. if pictures come in a format of your own, an `ImageDecoder` (`ppm.rs`).
//!
//! `EmbedWorker` then gives the engine a thread of its own and gathers the requests of all callers into batches, so
//! the engine itself need not be thread-safe. Run it: `cargo run` in this folder.

mod engine;
mod ppm;

use std::sync::Arc;

use clip_apps::{Relevance, Retrieval, RetrievalRequest, Rules, chance, evaluate};
use clip_core::serde_json::json;
use clip_core::{App, EmbedWorker, Embedder, EncodedImage, Endpoint, ImageDecoder, Kind, Result, WorkerOptions};

use crate::engine::Colours;
use crate::ppm::Ppm;

/// A shop's fabrics: what the label says, and the colour that the dyer mixed, which is not quite what the label says.
const FABRICS: [(&str, [u8; 3]); 14] = [
    ("red wool", [206, 26, 34]),
    ("dark red velvet", [112, 12, 20]),
    ("light red cotton", [238, 128, 122]),
    ("orange silk", [246, 148, 22]),
    ("yellow linen", [250, 230, 36]),
    ("green felt", [22, 146, 44]),
    ("dark green tweed", [10, 76, 24]),
    ("light green gauze", [132, 206, 140]),
    ("blue denim", [28, 50, 196]),
    ("dark blue serge", [14, 22, 104]),
    ("light blue poplin", [136, 148, 234]),
    ("purple satin", [130, 22, 136]),
    ("black leather", [18, 16, 20]),
    ("grey flannel", [122, 130, 126]),
];

fn main() -> Result<()> {
    // The engine moves to a thread of its own; clones of the worker may be used from any thread.
    let worker = EmbedWorker::new(Box::new(Colours::new()), WorkerOptions::default())?;

    // The shop's pictures, decoded by our own decoder and embedded by our own engine.
    let files: Vec<Vec<u8>> = (0..)
        .zip(FABRICS)
        .map(|(seed, (_, colour))| ppm::woven(colour, seed))
        .collect();
    let mut pictures = Vec::new();
    for file in &files {
        pictures.push(Ppm.decode(&EncodedImage::Bytes(file.as_slice().into()))?);
    }
    let images = worker.embed_images(&pictures)?;

    // How good is it? The same figures as `clipzoo evaluate --json`, ties counted against.
    let labels: Vec<&str> = FABRICS.iter().map(|(label, _)| *label).collect();
    let texts = worker.embed_texts(&labels)?;
    let (relevance, rules) = (Relevance::diagonal(), Rules::default());
    let evaluation = evaluate(&texts, &images, &relevance, &rules)?;
    let guessed = chance(&relevance, texts.len(), images.len(), &rules)?;
    println!("text to image: {:?}", evaluation.text_to_image);
    println!("by chance:     {:?}", guessed.text_to_image);
    assert_eq!(evaluation.text_to_image.figures.recall(1), Some(100.0));
    assert_eq!(evaluation.image_to_text.figures.recall(1), Some(100.0));
    assert!(guessed.text_to_image.figures.recall(1) < Some(10.0));

    // Retrieval, typed: by words that no label has.
    let ids = labels.iter().map(|label| (*label).to_owned()).collect();
    let shop = Retrieval::new(worker, images, ids)?.decoder(Arc::new(Ppm));
    let words = ["deep red", "a pale blue", "white"];
    let request = RetrievalRequest {
        texts: words.map(str::to_owned).to_vec(),
        images: vec![],
        k: 2,
    };
    let answer = shop.run(request)?;
    for (query, hits) in words.iter().zip(&answer.texts) {
        let hits: Vec<String> = hits
            .iter()
            .map(|hit| format!("{} ({:.3})", hit.id, hit.score))
            .collect();
        println!("{query}: {}", hits.join(", "));
    }
    assert_eq!(answer.texts[0][0].id, "dark red velvet");
    assert_eq!(answer.texts[1][0].id, "light blue poplin");

    // Retrieval, as a server drives it: JSON in, JSON out, a picture as the query.
    let endpoint: &dyn Endpoint = &shop;
    let grass = ppm::data_uri(&ppm::woven([30, 140, 60], 99));
    let answer = endpoint.call(json!({ "images": [grass], "k": 1 }))?;
    println!("{} of a picture of grass: {answer}", endpoint.name());
    assert_eq!(answer["images"][0][0]["id"], "green felt");

    // What cannot be read is refused by a message that names the field.
    let refused = endpoint.call(json!({ "images": ["data:image/x-portable-pixmap;base64,UDMK"] }));
    let error = refused.expect_err("this is no binary PPM");
    println!("refused: {error}");
    assert_eq!(error.kind(), Kind::Invalid);
    Ok(())
}
