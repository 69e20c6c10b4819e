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

#[test]
fn a_literal_pad_token_is_masked_by_the_familys_rule() {
    let _guard = tch::no_grad_guard();
    // EasyNLP masks the id wherever it stands; Hugging Face's tokenizer counts it as a token of the text.
    for (name, unseen) in [("easynlp_chinese_clip_rn_tiny", true), ("hf_chinese_clip_tiny", false)] {
        let loaded = load(
            fixture(name),
            &zoo(),
            &Families::bundled(),
            ParamOptions::default(),
            None,
        )
        .unwrap();
        let ids = Tensor::from_slice(&[5i64, 9, 0, 12, 7, 3]).unsqueeze(0);
        let features = |mask: Tensor| {
            let ids = ids.shallow_clone();
            let tokens = TextInput::Tokens(Tokens { ids, mask });
            loaded.model.encode_texts(&tokens, Pass::INFER).unwrap().raw
        };
        let all = features(ids.ones_like().to_kind(Kind::Bool));
        let apart = difference(&all, &features(ids.ne(0)));
        assert!(if unseen { apart < 1e-6 } else { apart > 1e-3 }, "{name}: {apart:e}");
    }
}

#[test]
fn easynlps_truncation_gives_every_long_text_the_same_features() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    let tower = serde_json::json!({
        "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
    });
    let mut config = serde_json::json!({
        "embed_dim": 8, "vision_config": tower, "text_config": tower, "tokenizer": {"type": "clip_bpe"},
    });
    config["vision_config"]["model_type"] = "clip_vision_model".into();
    config["text_config"]["model_type"] = "clip_text_model".into();
    create(&model, &config, &zoo(), 3).unwrap();
    let texts = ["a red dress".to_owned(), "blue ".repeat(90), "a cup of tea ".repeat(40)];
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let [ours, theirs] = [Truncation::KeepEnd, Truncation::EasyNlp].map(|truncation| {
        let options = OpenOptions {
            truncation,
            ..OpenOptions::default()
        };
        let pipeline = open(&model, &zoo(), &Families::bundled(), &options).unwrap();
        pipeline.embed_texts(&texts).unwrap()
    });
    let apart = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(apart(ours.row(0), theirs.row(0)) < 1e-6);
    // What they pool is the start token, which sees nothing but itself.
    assert!(apart(theirs.row(1), theirs.row(2)) < 1e-6 && apart(theirs.row(0), theirs.row(1)) > 1e-2);
    assert!(apart(ours.row(1), ours.row(2)) > 1e-2);
}
