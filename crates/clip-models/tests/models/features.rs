//! Features and logits against the reference's, and what must not change them.

use super::*;

#[test]
fn features_and_logits_are_the_references() {
    let (zoo, families) = (zoo(), Families::bundled());
    let _guard = tch::no_grad_guard();
    for name in MODELS {
        let reference = Reference::read(name);
        let pipeline = open(fixture(name), &zoo, &families, &OpenOptions::default()).unwrap();
        let model = pipeline.model();
        let (images, texts) = (
            reference.images(model, Pass::INFER).raw,
            reference.texts(model, Pass::INFER).raw,
        );
        for (raw, want) in [(&images, "image_features"), (&texts, "text_features")] {
            let want = reference.get(want);
            assert_near(raw, want, 1e-5 * want.abs().max().double_value(&[]).max(1.0));
        }
        let (images, texts) = (unit_rows(&images), unit_rows(&texts));
        assert_near(&images, reference.get("image_features_norm"), 1e-6);
        assert_near(&texts, reference.get("text_features_norm"), 1e-6);
        let scale = f64::from(pipeline.info().logit_scale);
        assert!((scale - reference.get("logit_scale_exp").double_value(&[0])).abs() < 1e-4);
        let bias = f64::from(pipeline.info().logit_bias.unwrap_or(0.0));
        let logits = images.matmul(&texts.transpose(0, 1)) * scale + bias;
        assert_near(&logits, reference.get("logits_per_image"), 1e-4);
    }
}

#[test]
fn bf16_is_near_and_its_inputs_stay_f32() {
    let _guard = tch::no_grad_guard();
    for name in MODELS {
        let reference = Reference::read(name);
        let loaded = opened(name, ParamOptions::default());
        let pass = Pass {
            compute: Compute::Bf16,
            ..Pass::INFER
        };
        for (raw, want) in [
            (reference.images(&loaded.model, pass).raw, "image_features_norm"),
            (reference.texts(&loaded.model, pass).raw, "text_features_norm"),
        ] {
            assert_eq!(raw.kind(), Kind::Float);
            let cosine = (unit_rows(&raw) * reference.get(want)).sum_dim_intlist(-1, false, Kind::Float);
            assert!(cosine.min().double_value(&[]) > 0.999, "{name}");
        }
    }
}

#[test]
fn asking_for_tokens_changes_no_feature() {
    for name in MODELS {
        let reference = Reference::read(name);
        let loaded = opened(name, trainable());
        let pass = Pass {
            tokens: true,
            ..Pass::INFER
        };
        for (one, all) in [
            (
                reference.images(&loaded.model, Pass::INFER),
                reference.images(&loaded.model, pass),
            ),
            (
                reference.texts(&loaded.model, Pass::INFER),
                reference.texts(&loaded.model, pass),
            ),
        ] {
            assert_same(&one.raw, &all.raw);
            assert!(one.tokens.is_none());
            let tokens = all.tokens.unwrap();
            assert_eq!(tokens.size()[0], 5);
            assert_eq!(tokens.size()[2], all.pooled.size()[1]);
        }
    }
}

#[test]
fn padding_changes_no_feature() {
    let _guard = tch::no_grad_guard();
    for name in MODELS {
        let reference = Reference::read(name);
        let loaded = opened(name, ParamOptions::default());
        let together = reference.texts(&loaded.model, Pass::INFER).raw;
        let Tokens { ids, mask } = reference.tokens();
        for row in 0..ids.size()[0] {
            // Alone and without its padding.
            let padding = loaded.model.text().pad_id();
            let tokens = match reference.tensors.get("attention_mask") {
                Some(mask) => mask.get(row).ne(0),
                None => ids.get(row).ne(padding),
            };
            let length = tokens.nonzero().max().int64_value(&[]) + 1;
            let cut = |tensor: &Tensor| tensor.narrow(0, row, 1).narrow(1, 0, length);
            let tokens = Tokens {
                ids: cut(&ids),
                mask: cut(&mask),
            };
            let alone = loaded
                .model
                .encode_texts(&TextInput::Tokens(tokens), Pass::INFER)
                .unwrap();
            assert_same(&alone.raw, &together.narrow(0, row, 1));
        }
    }
}

#[test]
fn half_precision_checkpoints_give_their_own_numbers() {
    let name = "cn_vit_tiny/clip_cn_fp16.pt";
    let _guard = tch::no_grad_guard();
    let reference = Reference::read(name);
    let pipeline = open(fixture(name), &zoo(), &Families::bundled(), &OpenOptions::default()).unwrap();
    let images = reference.images(pipeline.model(), Pass::INFER).raw;
    let texts = reference.texts(pipeline.model(), Pass::INFER).raw;
    assert_near(&images, reference.get("image_features"), 1e-5);
    assert_near(&texts, reference.get("text_features"), 1e-5);
    let wide = Reference::read("cn_vit_tiny");
    assert!(
        difference(&images, wide.get("image_features")) > 1e-4,
        "the two files differ"
    );
}
