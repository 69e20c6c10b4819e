//! Whole models against the reference's inputs and outputs, through the doors that the command uses.
#![allow(clippy::unwrap_used, reason = "tests may unwrap")]

mod average;
mod gradients;
mod texts;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use clip_format::Families;
use clip_models::{Join, OpenOptions, join, load, open, register};
use clip_nn::clip_core::{Embedder, Probability, Result};
use clip_nn::layers::ProjectionConfig;
use clip_nn::tch::{self, Device, Kind, Tensor};
use clip_nn::{
    Compute, DualEncoder, Encoded, ImageInput, ModelWriter, ParamOptions, Pass, TextInput, Tokens, Zoo, unit_rows,
};
use safetensors::{Dtype, SafeTensors};

/// Directories, and files that are named themselves.
const MODELS: [&str; 17] = [
    "oc_vit_tiny",
    "oc_vit_tiny_quickgelu",
    "hf_vtde_bert_clipvision_tiny",
    "oc_rn_tiny",
    "cn_vit_tiny",
    "cn_rn_tiny",
    "openai_jit_tiny/ViT-tiny.pt",
    "open_clip_custom_text_tiny/epoch_2.pt",
    "easynlp_open_clip_rn_tiny",
    "easynlp_chinese_clip_rn_tiny",
    "hf_vtde_roberta_vit_tiny",
    "hf_clip_tiny",
    "hf_clip_tiny_legacy_eos2",
    "hf_chinese_clip_tiny",
    "hf_siglip_tiny",
    "easynlp_hf_tiny",
    "easynlp_hf_2022_tiny",
];

/// Models whose reference ran in half-precision weights, of which the plain outputs are of others.
fn outputs(model: &str) -> &'static str {
    match model {
        "cn_rn_tiny" | "cn_vit_tiny/clip_cn_fp16.pt" => "fp16ckpt_",
        _ => "",
    }
}

fn fixture(model: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/fixtures/models")
        .join(model)
}

fn zoo() -> Zoo {
    tch::set_num_threads(1);
    let mut zoo = Zoo::new();
    register(&mut zoo).unwrap();
    zoo
}

fn trainable() -> ParamOptions {
    ParamOptions {
        trainable: true,
        ..Default::default()
    }
}

/// The reference's inputs and outputs.
struct Reference {
    tensors: BTreeMap<String, Tensor>,
    prefix: &'static str,
    is_bert: bool,
}

impl Reference {
    fn read(model: &str) -> Self {
        let folder = model.split('/').next().unwrap();
        let bytes = fs::read(fixture(folder).join("io.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let tensor = |view: safetensors::tensor::TensorView<'_>| {
            let kind = match view.dtype() {
                Dtype::F32 => Kind::Float,
                Dtype::I64 => Kind::Int64,
                other => panic!("{other:?}"),
            };
            let shape: Vec<i64> = view.shape().iter().map(|&n| n as i64).collect();
            Tensor::from_data_size(view.data(), &shape, kind)
        };
        let tensors = file.tensors().into_iter();
        Self {
            tensors: tensors.map(|(name, view)| (name, tensor(view))).collect(),
            prefix: outputs(model),
            is_bert: ["cn_", "easynlp_chinese"].iter().any(|start| model.starts_with(start)),
        }
    }

    fn get(&self, name: &str) -> &Tensor {
        let own = self.tensors.get(&format!("{}{name}", self.prefix));
        own.unwrap_or_else(|| &self.tensors[name])
    }

    fn tokens(&self) -> Tokens {
        let ids = self.get("input_ids").shallow_clone();
        let mask = match (self.tensors.get("attention_mask"), self.is_bert) {
            (Some(mask), _) => mask.ne(0),
            // Chinese-CLIP and EasyNLP mask the padding.
            (None, true) => ids.ne(0),
            (None, false) => ids.ones_like().to_kind(Kind::Bool),
        };
        Tokens { ids, mask }
    }

    fn texts(&self, model: &DualEncoder, pass: Pass) -> Encoded {
        model.encode_texts(&TextInput::Tokens(self.tokens()), pass).unwrap()
    }

    /// The symmetric InfoNCE loss of the pairs, or SigLIP's where the model has a bias.
    fn loss(&self, model: &DualEncoder) -> Tensor {
        let images = unit_rows(&self.images(model, Pass::INFER).raw);
        let texts = unit_rows(&self.texts(model, Pass::INFER).raw);
        let logits = images.matmul(&texts.transpose(0, 1)) * model.logit_scale().exp();
        let count = logits.size()[0];
        match model.logit_bias() {
            Some(bias) => {
                let signs = Tensor::eye(count, (Kind::Float, Device::Cpu)) * 2 - 1;
                ((logits + bias) * signs).log_sigmoid().sum(Kind::Float) / -count
            }
            None => {
                let targets = Tensor::arange(count, (Kind::Int64, Device::Cpu));
                let back = logits.transpose(0, 1).cross_entropy_for_logits(&targets);
                (logits.cross_entropy_for_logits(&targets) + back) / 2
            }
        }
    }

    fn images(&self, model: &DualEncoder, pass: Pass) -> Encoded {
        let pixels = self.get("pixel_values").shallow_clone();
        model.encode_images(&ImageInput::Pixels(pixels), pass).unwrap()
    }
}

fn difference(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    (a - b).abs().max().double_value(&[])
}

#[track_caller]
fn assert_near(a: &Tensor, b: &Tensor, tolerance: f64) {
    let difference = difference(a, b);
    assert!(difference <= tolerance, "{difference:e} apart");
}

/// Equal up to rounding, which differs with the layout of memory and the shape of a product.
#[track_caller]
fn assert_same(a: &Tensor, b: &Tensor) {
    assert_near(a, b, 1e-6 * b.abs().max().double_value(&[]).max(1.0));
}

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
    let (zoo, families) = (zoo(), Families::bundled());
    let _guard = tch::no_grad_guard();
    for name in MODELS {
        let reference = Reference::read(name);
        let loaded = load(fixture(name), &zoo, &families, ParamOptions::default(), None).unwrap();
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
    let (zoo, families) = (zoo(), Families::bundled());
    for name in MODELS {
        let reference = Reference::read(name);
        let loaded = load(fixture(name), &zoo, &families, trainable(), None).unwrap();
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
    let (zoo, families) = (zoo(), Families::bundled());
    let _guard = tch::no_grad_guard();
    for name in MODELS {
        let reference = Reference::read(name);
        let loaded = load(fixture(name), &zoo, &families, ParamOptions::default(), None).unwrap();
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
fn gradients_reach_every_parameter_that_features_depend_on() {
    let (zoo, families) = (zoo(), Families::bundled());
    for name in MODELS {
        let reference = Reference::read(name);
        let loaded = load(fixture(name), &zoo, &families, trainable(), None).unwrap();
        let model = &loaded.model;
        reference.loss(model).backward();
        for parameter in model.parameters().trainable() {
            let gradient = parameter.tensor.grad();
            assert!(gradient.defined(), "{name}: {}", parameter.name);
            let size = gradient.abs().max().double_value(&[]);
            assert!(size.is_finite() && size > 0.0, "{name}: {} {size}", parameter.name);
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

#[test]
fn gradients_of_info_nce_through_a_resnet_are_the_references() {
    let name = "easynlp_open_clip_rn_tiny";
    let reference = Reference::read(name);
    let loaded = load(fixture(name), &zoo(), &Families::bundled(), trainable(), None).unwrap();
    let model = &loaded.model;
    // As in training: the statistics stay frozen all the same.
    let images = unit_rows(&reference.images(model, Pass::TRAIN).raw);
    let texts = unit_rows(&reference.texts(model, Pass::TRAIN).raw);
    let logits = images.matmul(&texts.transpose(0, 1)) * model.logit_scale().exp();
    let targets = Tensor::arange(5, (Kind::Int64, Device::Cpu));
    let loss = logits.cross_entropy_for_logits(&targets) + logits.transpose(0, 1).cross_entropy_for_logits(&targets);
    (loss / 2.0).backward();
    let mut compared = 0;
    for parameter in model.parameters().trainable() {
        let Some(want) = reference.tensors.get(&format!("gradient {}", parameter.name)) else {
            continue;
        };
        let got = parameter.tensor.grad();
        let size = want.abs().max().double_value(&[]);
        assert_near(&got.view(want.size().as_slice()), want, 1e-4 * size);
        compared += 1;
    }
    assert_eq!(compared, 9);
}

#[test]
fn dropout_follows_the_seed_in_training() {
    let loaded = load(fixture(MODELS[2]), &zoo(), &Families::bundled(), trainable(), None).unwrap();
    let reference = Reference::read(MODELS[2]);
    let draw = |seed| {
        tch::manual_seed(seed);
        reference.texts(&loaded.model, Pass::TRAIN).raw
    };
    assert_eq!(draw(1), draw(1));
    assert!(difference(&draw(1), &draw(2)) > 1e-3);
    // The picture tower has none.
    let images = |pass| reference.images(&loaded.model, pass).raw;
    assert_eq!(images(Pass::TRAIN), images(Pass::INFER));
}

#[test]
fn what_is_saved_opens_to_the_same_features() {
    let (zoo, families) = (zoo(), Families::bundled());
    for name in MODELS {
        let loaded = load(fixture(name), &zoo, &families, trainable(), None).unwrap();
        {
            let _guard = tch::no_grad_guard();
            for parameter in loaded.model.parameters().trainable() {
                let mut tensor = parameter.tensor.shallow_clone();
                tensor.copy_(&(&tensor * 0.9));
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("saved");
        loaded.writer.save(&loaded.model, &at).unwrap();
        let again = load(&at, &zoo, &families, ParamOptions::default(), None).unwrap();
        assert_eq!(again.writer.family(), loaded.writer.family());
        let reference = Reference::read(name);
        let (before, after) = (
            reference.texts(&loaded.model, Pass::INFER).raw,
            reference.texts(&again.model, Pass::INFER).raw,
        );
        assert_same(&before, &after);
        assert!(difference(&before, reference.get("text_features")) > 1e-3);
        let (before, after) = (
            reference.images(&loaded.model, Pass::INFER).raw,
            reference.images(&again.model, Pass::INFER).raw,
        );
        assert_same(&before, &after);
    }
}

#[test]
fn towers_of_two_checkpoints_are_joined_and_saved() -> Result<()> {
    let (zoo, families) = (zoo(), Families::bundled());
    let mlp = ProjectionConfig::Mlp {
        hidden: 24,
        dropout: 0.1,
        standardise: true,
    };
    let how = Join {
        embed_dim: 20,
        image_projection: mlp.clone(),
        text_projection: mlp,
        logit_bias: true,
        context_length: Some(30),
        image: Default::default(),
        text: Default::default(),
    };
    let (image, text) = (fixture("oc_vit_tiny"), fixture("hf_vtde_bert_clipvision_tiny"));
    let joined = join(&image, &text, &how, &zoo, &families, trainable())?;
    let statistics = (
        Tensor::ones([48], (Kind::Float, Device::Cpu)),
        Tensor::full([48], 2.0, (Kind::Float, Device::Cpu)),
    );
    joined
        .model
        .image_projection()
        .set_statistics(&statistics.0, &statistics.1)?;
    assert_eq!(joined.model.info().context_length, 30);

    let (images, texts) = (
        Reference::read("oc_vit_tiny"),
        Reference::read("hf_vtde_bert_clipvision_tiny"),
    );
    // The towers are the ones named: their pooled features are those of the models they come from.
    let own = load(&text, &zoo, &families, ParamOptions::default(), None)?;
    assert_same(
        &texts.texts(&joined.model, Pass::INFER).pooled,
        &texts.texts(&own.model, Pass::INFER).pooled,
    );
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("joined");
    fs::create_dir(&at).unwrap();
    joined.writer.write(&joined.model, &at)?;
    let again = open(&at, &zoo, &families, &OpenOptions::default())?;
    assert_eq!(again.info().context_length, 30);
    let info = again.info();
    assert_eq!((info.logit_bias, info.probability), (Some(-10.0), Probability::Sigmoid));
    assert!((info.logit_scale - 10.0).abs() < 1e-5);
    assert_same(
        &images.images(&joined.model, Pass::INFER).raw,
        &images.images(again.model(), Pass::INFER).raw,
    );
    assert_same(
        &texts.texts(&joined.model, Pass::INFER).raw,
        &texts.texts(again.model(), Pass::INFER).raw,
    );
    Ok(())
}

#[test]
fn what_does_not_fit_is_an_error_that_says_so() {
    let (zoo, families) = (zoo(), Families::bundled());
    let folder = tempfile::tempdir().unwrap();
    let copy = |from: &str, to: &str| fs::copy(fixture("oc_vit_tiny").join(from), folder.path().join(to)).unwrap();
    copy("open_clip_model.safetensors", "open_clip_model.safetensors");
    let config = fs::read_to_string(fixture("oc_vit_tiny").join("open_clip_config.json")).unwrap();
    let attempt = |from: &str, to: &str| {
        assert!(config.contains(from));
        fs::write(
            folder.path().join("open_clip_config.json"),
            config.replacen(from, to, 1),
        )
        .unwrap();
        match open(folder.path(), &zoo, &families, &OpenOptions::default()) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        }
    };
    assert_eq!(attempt("\"layers\": 2", "\"layers\": 2"), "");
    let deeper = attempt("\"layers\": 2", "\"layers\": 3");
    assert!(
        deeper.contains("missing (12): image.blocks.2.norm1.weight [48]"),
        "{deeper}"
    );
    let shallower = attempt("\"layers\": 2", "\"layers\": 1");
    assert!(shallower.contains("unexpected (12): "), "{shallower}");
    let finer = attempt("\"patch_size\": 16", "\"patch_size\": 8");
    assert!(
        finer.contains("image.patch_embedding.weight is [48, 3, 16, 16] in the file, [48, 3, 8, 8] in the model"),
        "{finer}"
    );
}

/// The tensors of a fixture in another type, in a file whose data begins `shift` bytes behind a multiple of 8.
fn rewrite(model: &str, kind: Kind, shift: usize, at: &Path) {
    let name = match kind {
        Kind::Half => "F16",
        Kind::BFloat16 => "BF16",
        _ => "F32",
    };
    let bytes = fs::read(fixture(model).join("open_clip_model.safetensors")).unwrap();
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (tensor, view) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
        let values = Tensor::from_data_size(view.data(), &[view.data().len() as i64 / 4], Kind::Float).to_kind(kind);
        let from = data.len();
        data.resize(from + values.numel() * kind.elt_size_in_bytes(), 0);
        values.copy_data_u8(&mut data[from..], values.numel());
        let entry = serde_json::json!({"dtype": name, "shape": view.shape(), "data_offsets": [from, data.len()]});
        header.insert(tensor, entry);
    }
    let mut header = serde_json::to_string(&header).unwrap();
    while header.len() % 8 != shift {
        header.push(' ');
    }
    let file = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat();
    fs::write(at.join("open_clip_model.safetensors"), file).unwrap();
    let config = "open_clip_config.json";
    fs::copy(fixture(model).join(config), at.join(config)).unwrap();
}

#[test]
fn half_precision_and_unaligned_files_are_read() {
    let (zoo, families) = (zoo(), Families::bundled());
    let _guard = tch::no_grad_guard();
    let reference = Reference::read(MODELS[0]);
    let cases = [
        (Kind::Float, 0, 1e-5),
        (Kind::Float, 1, 1e-5),
        (Kind::Half, 1, 5e-3),
        (Kind::BFloat16, 0, 5e-2),
    ];
    for (kind, shift, tolerance) in cases {
        let folder = tempfile::tempdir().unwrap();
        rewrite(MODELS[0], kind, shift, folder.path());
        let pipeline = open(folder.path(), &zoo, &families, &OpenOptions::default()).unwrap();
        for parameter in pipeline.model().parameters().iter() {
            assert_eq!(parameter.tensor.kind(), Kind::Float);
        }
        let texts = unit_rows(&reference.texts(pipeline.model(), Pass::INFER).raw);
        assert_near(&texts, reference.get("text_features_norm"), tolerance);
        let images = unit_rows(&reference.images(pipeline.model(), Pass::INFER).raw);
        assert_near(&images, reference.get("image_features_norm"), tolerance);
    }
}
