//! Files of weights whose family needs its config: what is shown of it, once its questions are answered, is the model's.

use super::super::layouts::dual_encoder;
use super::*;

/// What the questions of a shown config are answered with where the true config does not say.
fn usual(key: &str, model_type: &Value) -> Value {
    match key {
        "num_attention_heads" => 2.into(),
        "hidden_act" => "gelu".into(),
        // EasyNLP's BERT begins elsewhere than Hugging Face's RoBERTa.
        "pad_token_id" => u8::from(model_type == DUAL_ENCODER).into(),
        other => panic!("a question nobody expects: {other}"),
    }
}

/// Answers every question from the true config of a model of this type.
fn answer(shown: &mut Value, truth: &Value, model_type: &Value) {
    for (key, value) in shown.as_object_mut().unwrap() {
        let true_value = truth.get(key).unwrap_or(&Value::Null);
        match value {
            Value::Object(_) => answer(value, true_value, model_type),
            Value::String(open) if open == "?" => {
                *value = if true_value.is_null() {
                    usual(key, model_type)
                } else {
                    true_value.clone()
                };
            }
            _ => {}
        }
    }
}

/// The error for a file alone, and the config it shows, answered.
fn asked((truth, table): &(Value, Table)) -> (String, Value) {
    let message = Families::bundled()
        .recognise(&evidence(None, table.tensors()))
        .unwrap_err()
        .to_string();
    let from = message.find(": {").unwrap() + 2;
    let mut shown: Value = serde_json::from_str(&message[from..]).unwrap();
    let model_type = shown["model_type"].clone();
    answer(&mut shown, truth, &model_type);
    (message, shown)
}

/// Everything that shapes say of a model.
fn told(config: &Value) -> Vec<Value> {
    let of = |tower: &str, keys: &[&str]| keys.iter().map(|key| config[tower][*key].clone()).collect::<Vec<_>>();
    let blocks = [
        "model_type",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
    ];
    let mut told = vec![config["embed_dim"].clone(), config["context_length"].clone()];
    told.extend(of("vision_config", &blocks));
    told.extend(of("vision_config", &["image_size", "patch_size", "qkv_bias"]));
    told.extend(of("text_config", &blocks));
    told.extend(of("text_config", &["vocab_size", "max_position_embeddings"]));
    told
}

fn expect_told(name: &str, what: &str, layout: &(Value, Table)) {
    let (message, shown) = asked(layout);
    assert!(
        message.starts_with(&format!(
            "the weights are those of {what}, but config.json is missing beside them"
        )),
        "{name}: {message}"
    );
    let tensors = layout.1.tensors();
    let family = Families::bundled().recognise(&evidence(Some(&shown), tensors)).unwrap();
    assert_eq!(family.name(), name, "{shown}");
    let ours = canonical(&*family, &shown, tensors).unwrap();
    assert_eq!(
        told(&ours),
        told(&canonical(&*family, &layout.0, tensors).unwrap()),
        "{name}"
    );
}

/// The tower of pictures under its prefix twice, as before version 5.
fn wrapped((config, table): (Value, Table)) -> (Value, Table) {
    let mut out = Table::new([]);
    for tensor in table.tensors() {
        let name = match tensor.name.strip_prefix("vision_model.") {
            Some(rest) => format!("vision_model.vision_model.{rest}"),
            None => tensor.name.clone(),
        };
        out.replace(&name, &tensor.shape);
    }
    (config, out)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn every_layout_shows_what_its_shapes_tell(vision in sizes(), text in sizes()) {
        expect_told(CLIP, "Hugging Face's CLIP", &clip(vision, text));
        let chinese = "Hugging Face's Chinese-CLIP, or of a vision-text-dual-encoder of the same towers";
        expect_told(CHINESE_CLIP, chinese, &chinese_clip(vision, text));
        expect_told(SIGLIP, "Hugging Face's SigLIP", &siglip(vision, text));
        let dual = "Hugging Face's vision-text-dual-encoder";
        expect_told(DUAL_ENCODER, dual, &roberta_and_vit(vision, text));
        expect_told(DUAL_ENCODER, dual, &wrapped(dual_encoder(vision, text)));
        let easynlp = "EasyNLP's huggingface_clip";
        expect_told(EASYNLP, easynlp, &easynlp_of(vision, text, false, &[1]));
        expect_told(EASYNLP_2022, easynlp, &easynlp_of(vision, text, true, &[]));
    }
}

#[test]
fn shapes_that_tell_no_size_are_named() {
    let (_, mut table) = clip(SMALL, SMALL);
    table.replace("vision_model.embeddings.position_embedding.weight", &[4, 8]);
    let message = Families::bundled()
        .recognise(&evidence(None, table.tensors()))
        .unwrap_err()
        .to_string();
    assert_eq!(
        message,
        "the 4 rows of `vision_model.embeddings.position_embedding.weight` are no square and one more, so that they do not \
         tell the size of pictures; put the model's config.json into the same folder"
    );
}
