//! From texts to features, where the padding between them matters.

use super::*;

/// A fixture with a small pipeline for its tokenizer.
fn with_tokenizer(model: &str, tokenizer: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors"] {
        fs::copy(fixture(model).join(name), folder.path().join(name)).unwrap();
    }
    let pipelines = Path::new(env!("CARGO_MANIFEST_DIR")).join("../clip-tokenizers/tests/json");
    fs::copy(pipelines.join(tokenizer), folder.path().join("tokenizer.json")).unwrap();
    folder
}

#[test]
fn a_text_has_the_same_features_whatever_stands_beside_it() {
    for (model, tokenizer, pad, positions) in [
        ("hf_siglip_tiny", "siglip.json", 1, 16),
        ("hf_vtde_roberta_vit_tiny", "roberta.json", 1, 40),
    ] {
        let folder = with_tokenizer(model, tokenizer);
        let pipeline = open(folder.path(), &zoo(), &Families::bundled(), &OpenOptions::default()).unwrap();
        let texts = ["red", "a photo of a red dress with white dots"];
        let together = pipeline.embed_texts(&texts).unwrap();
        for (row, text) in texts.into_iter().enumerate() {
            let alone = pipeline.embed_texts(&[text]).unwrap();
            // As the reference is asked: ids padded to a length by the caller.
            let batch = pipeline.tokenizer().unwrap().encode(&[text]).unwrap();
            let mut ids: Vec<i64> = batch.rows().next().unwrap().iter().map(|&id| i64::from(id)).collect();
            ids.resize(positions, pad);
            let ids = Tensor::from_slice(&ids).unsqueeze(0);
            let mask = ids.ne(pad);
            let padded = pipeline.embed_ids(Tokens { ids, mask }).unwrap();
            let same = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5);
            assert!(same(alone.row(0), padded.row(0)), "{model}: {text}");
            assert!(same(alone.row(0), together.row(row)), "{model}: {text}");
        }
        assert!(
            together
                .row(0)
                .iter()
                .zip(together.row(1))
                .any(|(a, b)| (a - b).abs() > 1e-2)
        );
    }
}
