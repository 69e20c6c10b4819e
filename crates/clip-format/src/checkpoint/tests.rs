//! Whole directories, opened, asked and saved.

mod hugging_face;

use std::borrow::Cow;
use std::fs;

use serde_json::json;

use super::*;
use crate::testing::Table;
use crate::{Extras, save};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/fixtures/models")
        .join(name)
}

fn open(path: &Path) -> Result<Checkpoint> {
    Checkpoint::open(path, &Families::bundled())
}

/// A copy of a fixture that a test may change.
fn copy(name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(fixture(name)).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    folder
}

fn change_json(path: &Path, change: impl Fn(&mut Value)) {
    let mut value = read_json(path).unwrap();
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

const FIXTURES: [(&str, &str); 13] = [
    ("oc_rn_tiny", "open_clip"),
    ("cn_vit_tiny", "chinese_clip"),
    ("cn_rn_tiny", "chinese_clip"),
    ("oc_vit_tiny", "open_clip"),
    ("oc_vit_tiny_quickgelu", "open_clip"),
    ("hf_vtde_bert_clipvision_tiny", "vision-text-dual-encoder"),
    ("hf_vtde_roberta_vit_tiny", "vision-text-dual-encoder"),
    ("hf_clip_tiny", "hf-clip"),
    ("hf_clip_tiny_legacy_eos2", "hf-clip"),
    ("hf_chinese_clip_tiny", "hf-chinese-clip"),
    ("hf_siglip_tiny", "siglip"),
    ("easynlp_hf_tiny", "easynlp-hf"),
    ("easynlp_hf_2022_tiny", "easynlp-hf-2022"),
];

/// The numbers of positions, which older versions of transformers saved and nothing reads.
fn is_buffer(name: &str) -> bool {
    name.ends_with("position_ids")
}

#[test]
fn fixtures_open_with_every_tensor_mapped() {
    for (name, family) in FIXTURES {
        let checkpoint = open(&fixture(name)).unwrap();
        assert_eq!(checkpoint.family(), family);
        let parts = [
            "logit_scale",
            "logit_bias",
            "image_projection",
            "text_projection",
            "image",
            "text",
        ];
        for tensor in checkpoint.weights().tensors() {
            let first = tensor.name.split('.').next().unwrap();
            assert!(parts.contains(&first), "{name}: {}", tensor.name);
            let count = tensor.name.ends_with("num_batches_tracked");
            assert_eq!(tensor.dtype.is_float(), !count, "{name}: {}", tensor.name);
        }
        let kept = |tensor: &&TensorInfo| !is_buffer(&tensor.name);
        let elements = |tensors: &[TensorInfo]| tensors.iter().filter(kept).map(TensorInfo::bytes).sum::<usize>();
        assert_eq!(
            elements(checkpoint.weights().tensors()),
            elements(checkpoint.raw_tensors()),
            "{name}"
        );
    }
}

#[test]
fn files_that_come_alone_open() {
    for (name, family, format) in [
        ("openai_jit_tiny/ViT-tiny.pt", "open_clip", Format::TorchScript),
        ("cn_vit_tiny/model.safetensors", "chinese_clip", Format::Safetensors),
        ("cn_vit_tiny/clip_cn_fp16.pt", "chinese_clip", Format::PickleZip),
        ("open_clip_custom_text_tiny/epoch_2.pt", "open_clip", Format::PickleZip),
        ("easynlp_open_clip_rn_tiny", "easynlp-open-clip", Format::PickleZip),
        (
            "easynlp_chinese_clip_rn_tiny",
            "easynlp-chinese-clip",
            Format::PickleZip,
        ),
    ] {
        let checkpoint = open(&fixture(name)).unwrap();
        assert_eq!((checkpoint.family(), checkpoint.format()), (family, format), "{name}");
        let known = ["image", "text", "image_projection", "text_projection", "logit_scale"];
        for tensor in checkpoint.weights().tensors() {
            assert!(
                known.contains(&tensor.name.split('.').next().unwrap()),
                "{name}: {}",
                tensor.name
            );
        }
    }
    // A ResNet of EasyNLP's without its config: prefix and shapes tell all of it.
    let folder = tempfile::tempdir().unwrap();
    let alone = folder.path().join("m.bin");
    fs::copy(fixture("easynlp_open_clip_rn_tiny/pytorch_model.bin"), &alone).unwrap();
    let config = open(&alone).unwrap().config().clone();
    assert_eq!(&config, open(&fixture("easynlp_open_clip_rn_tiny")).unwrap().config());
    // Its heads are none of the usual width, so that the release's name alone does not do.
    let alone = folder.path().join("clip_cn_tiny.pt");
    fs::copy(fixture("cn_vit_tiny/clip_cn_fp16.pt"), &alone).unwrap();
    let error = open(&alone).unwrap_err().to_string();
    assert!(
        error.contains("clip_cn_tiny.pt: the weights are Chinese-CLIP's, but vision.json is missing"),
        "{error}"
    );
}

/// As OFA-Sys's repositories have both forms.
#[test]
fn chinese_clip_s_own_file_opens_beside_hugging_face_s_config() {
    let folder = copy("cn_vit_tiny");
    let own = open(&folder.path().join("clip_cn_fp16.pt")).unwrap();
    let hugging_face = fixture("hf_chinese_clip_tiny");
    for name in ["config.json", "model.safetensors"] {
        fs::copy(hugging_face.join(name), folder.path().join(name)).unwrap();
    }
    let beside = open(&folder.path().join("clip_cn_fp16.pt")).unwrap();
    assert_eq!((beside.family(), beside.config()), ("chinese_clip", own.config()));
    assert_eq!(beside.files(), own.files());
    assert!(beside.unknown_tensors().is_empty());
    assert_eq!(open(folder.path()).unwrap().family(), "hf-chinese-clip");
}

#[test]
fn same_tensors_lie_in_the_mapped_file() {
    let checkpoint = open(&fixture("oc_vit_tiny")).unwrap();
    let weights = checkpoint.share_weights();
    drop(checkpoint);
    let view = weights.view("image.blocks.1.attention.qkv.weight").unwrap().unwrap();
    assert!(matches!(view.data, Cow::Borrowed(_)) && view.is_aligned());
    let view = weights.view("image_projection.weight").unwrap().unwrap();
    assert!(matches!(view.data, Cow::Owned(_)), "transposed");
}

#[test]
fn a_checkpoint_saved_in_its_own_layout_is_the_same() {
    for (name, _) in FIXTURES {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("saved");
        let families = Families::bundled();
        let checkpoint = open(&fixture(name)).unwrap();
        let transform = checkpoint.transform_config().unwrap();
        let family = families.get(checkpoint.family()).unwrap();
        let extras = Extras {
            transform: Some(&transform),
            vocabulary: &[],
        };
        save(&target, &*family, checkpoint.config(), checkpoint.weights(), extras).unwrap();
        // Saving over it again must work too: training overwrites its last checkpoint.
        save(&target, &*family, checkpoint.config(), checkpoint.weights(), extras).unwrap();

        let again = open(&target).unwrap();
        // The wrapper of a data-parallel run is no part of the layout.
        let raw = |checkpoint: &Checkpoint| Table::of(&*without_wrapper(checkpoint.file.tensors.clone()).unwrap());
        assert!(raw(&again) == raw(&checkpoint).without(is_buffer), "{name}");
        assert_eq!(again.transform_config().unwrap(), transform);
        assert_eq!(again.id().unwrap(), checkpoint.id().unwrap(), "{name}");
    }
}

#[test]
fn a_checkpoint_saved_as_native_keeps_its_identity() {
    for (name, _) in FIXTURES {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("saved");
        let checkpoint = open(&fixture(name)).unwrap();
        let transform = checkpoint.transform_config().unwrap();
        let native = Families::bundled().get("clipzoo").unwrap();
        save(
            &target,
            &*native,
            checkpoint.config(),
            checkpoint.weights(),
            Extras {
                transform: Some(&transform),
                vocabulary: &[],
            },
        )
        .unwrap();
        let again = open(&target).unwrap();
        assert_eq!(again.family(), "clipzoo");
        assert!(Table::of(again.weights()) == Table::of(checkpoint.weights()), "{name}");
        assert_eq!(again.id().unwrap(), checkpoint.id().unwrap());
    }
}

#[test]
fn open_clips_config_is_restored_as_it_was() {
    for name in ["oc_vit_tiny", "oc_vit_tiny_quickgelu", "oc_rn_tiny"] {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("saved");
        let checkpoint = open(&fixture(name)).unwrap();
        let transform = checkpoint.transform_config().unwrap();
        let family = Families::bundled().get("open_clip").unwrap();
        save(
            &target,
            &*family,
            checkpoint.config(),
            checkpoint.weights(),
            Extras {
                transform: Some(&transform),
                vocabulary: &[],
            },
        )
        .unwrap();
        let [before, after] =
            [fixture(name), target].map(|path| read_json(&path.join("open_clip_config.json")).unwrap());
        assert_eq!(after["model_cfg"], before["model_cfg"]);
        for (key, value) in before["preprocess_cfg"].as_object().unwrap() {
            assert_eq!(&after["preprocess_cfg"][key], value, "{key}");
        }
    }
}

#[test]
fn a_weights_file_may_be_named_itself() {
    let checkpoint = open(&fixture("oc_vit_tiny/open_clip_model.safetensors")).unwrap();
    assert_eq!(checkpoint.family(), "open_clip");
    let roles: Vec<Role> = checkpoint.files().iter().map(|file| file.role).collect();
    assert_eq!(roles, [Role::Weights, Role::Config]);
    assert!(checkpoint.files().iter().all(|file| file.bytes > 0));
}

#[test]
fn weights_cut_short_are_one_clear_error() {
    let folder = copy("oc_vit_tiny");
    let path = folder.path().join("open_clip_model.safetensors");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 100]).unwrap();
    let error = open(folder.path()).unwrap_err();
    assert!(error.what().starts_with(&format!(
        "the file of weights is cut short: {} bytes of {}",
        bytes.len() - 100,
        bytes.len()
    )));
    assert_eq!(error.place().file.as_deref(), Some(&*path));
}

#[test]
fn a_config_that_is_wrong_is_told_with_its_file() {
    let folder = copy("hf_vtde_bert_clipvision_tiny");
    let config = folder.path().join("config.json");
    change_json(&config, |config| config["model_type"] = "unheard_of".into());
    let error = open(folder.path()).unwrap_err().to_string();
    assert!(
        error.contains("config.json: `model_type` \"unheard_of\" in config.json is of no known family; known: bert"),
        "{error}"
    );
    fs::write(&config, "{").unwrap();
    assert!(
        open(folder.path())
            .unwrap_err()
            .to_string()
            .contains("config.json: is not JSON")
    );
    fs::remove_file(&config).unwrap();
    assert!(
        open(folder.path())
            .unwrap_err()
            .what()
            .starts_with("the weights are those of Hugging Face's Chinese-CLIP, or of a vision-text-dual-encoder")
    );
}

#[test]
fn weights_of_a_data_parallel_run_lose_its_prefix() {
    let folder = copy("oc_vit_tiny");
    let path = folder.path().join("open_clip_model.safetensors");
    let plain = open(folder.path()).unwrap();
    let mut wrapped = Table::new([]);
    for tensor in plain.raw_tensors() {
        wrapped.counting(&format!("module.{}", tensor.name), &tensor.shape, 0.0);
    }
    let names: Vec<String> = plain.weights().names().into_iter().map(str::to_owned).collect();
    drop(plain);
    fs::remove_file(&path).unwrap();
    crate::write_safetensors(&path, &wrapped).unwrap();
    let checkpoint = open(folder.path()).unwrap();
    let mut found = checkpoint.weights().names();
    found.sort_unstable();
    assert_eq!(found, {
        let mut names = names;
        names.sort();
        names
    });
    assert!(
        checkpoint
            .raw_tensors()
            .iter()
            .all(|tensor| tensor.name.starts_with("module."))
    );
}

#[test]
fn an_unexpected_tensor_stays_visible() {
    let folder = copy("oc_vit_tiny");
    let path = folder.path().join("open_clip_model.safetensors");
    let mut table = Table::of(&*WeightsFile::open(&path).unwrap().tensors);
    table.push("visual.something_new", vec![2], &[1.0, 2.0]);
    crate::write_safetensors(&path, &table).unwrap();
    let checkpoint = open(folder.path()).unwrap();
    assert!(checkpoint.weights().names().contains(&"visual.something_new"));
}

#[test]
fn the_vocabulary_is_judged_when_it_is_asked_for() {
    let checkpoint = open(&fixture("oc_vit_tiny")).unwrap();
    let error = checkpoint.tokenizer(None).err().unwrap().to_string();
    assert!(
        error.contains("the bundled one does not fit the weights: 49408 tokens, 400 embeddings"),
        "{error}"
    );
    let checkpoint = open(&fixture("hf_vtde_bert_clipvision_tiny")).unwrap();
    let error = checkpoint.tokenizer(None).err().unwrap().to_string();
    assert!(error.contains("21128 tokens, 400 embeddings"), "{error}");
}

fn pieces() -> String {
    let special = [
        "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "Red", "dress", "##es",
    ];
    special.iter().map(|piece| format!("{piece}\n")).collect()
}

#[test]
fn a_vocabulary_beside_the_weights_is_used() {
    let folder = copy("hf_vtde_bert_clipvision_tiny");
    fs::write(folder.path().join("vocab.txt"), pieces()).unwrap();
    let ids = |checkpoint: &Checkpoint, context| {
        let tokenizer = checkpoint.tokenizer(context).unwrap();
        let batch = tokenizer.encode(&["Red dresses"]).unwrap();
        (batch.rows().next().unwrap().to_vec(), tokenizer.context_length())
    };
    let checkpoint = open(folder.path()).unwrap();
    assert_eq!(ids(&checkpoint, None), (vec![2, 5, 7, 8, 3], 52));
    assert_eq!(ids(&checkpoint, Some(4)), (vec![2, 5, 7, 3], 4));
    fs::write(
        folder.path().join("tokenizer_config.json"),
        r#"{"do_lower_case": false}"#,
    )
    .unwrap();
    assert_eq!(ids(&checkpoint, None).0, [2, 6, 7, 8, 3]);
    assert_eq!(checkpoint.vocabulary_files().len(), 2);
    let error = checkpoint.tokenizer(Some(65)).err().unwrap().to_string();
    assert!(
        error.contains("a context of 65 ids is longer than the model's 64 positions"),
        "{error}"
    );
    // A byte-pair list is no WordPiece vocabulary.
    fs::write(
        folder.path().join("vocab.txt"),
        "#version: 0.2\ni n\nt h\na n\nr e\na r\ne r\n",
    )
    .unwrap();
    assert!(
        checkpoint
            .tokenizer(None)
            .err()
            .unwrap()
            .to_string()
            .contains("vocab.txt")
    );
}

#[test]
fn vocabularies_are_saved_along() {
    let folder = copy("hf_vtde_bert_clipvision_tiny");
    fs::write(folder.path().join("vocab.txt"), pieces()).unwrap();
    let checkpoint = open(folder.path()).unwrap();
    let target = folder.path().join("saved");
    let native = Families::bundled().get("clipzoo").unwrap();
    let vocabulary = checkpoint.vocabulary_files();
    save(
        &target,
        &*native,
        checkpoint.config(),
        checkpoint.weights(),
        Extras {
            transform: None,
            vocabulary: &vocabulary,
        },
    )
    .unwrap();
    let again = open(&target).unwrap();
    assert_eq!(again.tokenizer(None).unwrap().vocabulary().size, 9);
    let strange = [folder.path().join("config.json")];
    let extras = Extras {
        transform: None,
        vocabulary: &strange,
    };
    let error = save(&target, &*native, checkpoint.config(), checkpoint.weights(), extras)
        .unwrap_err()
        .to_string();
    assert!(error.contains("is no vocabulary file"), "{error}");
    assert!(open(&target).is_ok(), "the old one stays when saving fails");
}

#[test]
fn the_transform_comes_from_the_checkpoints_own_files() {
    let open_clip = open(&fixture("oc_vit_tiny")).unwrap().transform_config().unwrap();
    assert_eq!(open_clip, TransformConfig::open_clip(64));

    let folder = copy("hf_vtde_bert_clipvision_tiny");
    let checkpoint = open(folder.path()).unwrap();
    let plain = checkpoint.transform_config().unwrap();
    assert_eq!((plain.size, plain.order), ([32, 32], clip_data::Order::RgbFirst));
    let path = folder.path().join("preprocessor_config.json");
    let own = json!({"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 40}, "crop_size": 32, "image_mean": [0.5, 0.5, 0.5]});
    fs::write(&path, own.to_string()).unwrap();
    assert_eq!(checkpoint.transform_config().unwrap().mean, [0.5; 3]);
    change_json(&path, |own| own["crop_size"] = 48.into());
    let error = checkpoint.transform_config().unwrap_err().to_string();
    assert!(
        error.contains("makes pictures of 48 x 48, but the model takes 32 x 32"),
        "{error}"
    );
    assert_eq!(
        checkpoint
            .files()
            .iter()
            .filter(|file| file.role == Role::Preprocessor)
            .count(),
        1
    );
}

#[test]
fn an_open_clip_config_without_preprocessing_takes_the_defaults() {
    let folder = copy("oc_vit_tiny");
    change_json(&folder.path().join("open_clip_config.json"), |config| {
        config.as_object_mut().unwrap().remove("preprocess_cfg");
    });
    assert_eq!(
        open(folder.path()).unwrap().transform_config().unwrap(),
        TransformConfig::open_clip(64)
    );
}

#[test]
fn a_foreign_family_is_opened_like_a_bundled_one() {
    struct Mine;
    impl Family for Mine {
        fn name(&self) -> &'static str {
            "mine"
        }
        fn mark(&self) -> &'static str {
            "the key `mine`"
        }
        fn recognises(&self, evidence: &Evidence<'_>) -> bool {
            evidence.config().is_some_and(|config| config.get("mine").is_some())
        }
        fn canonical(&self, _evidence: &Evidence<'_>) -> Result<Value> {
            Ok(json!({"vision_config": {"model_type": "mine", "image_size": 32}}))
        }
        fn mapping(&self, _config: &Value) -> Result<crate::Mapping> {
            crate::Mapping::new().under(
                "w.",
                "image.",
                &[crate::Row::Transpose {
                    file: "{*}",
                    model: "{*}",
                }],
            )
        }
        fn restore(&self, _config: &Value, _transform: Option<&TransformConfig>) -> Result<crate::Layout> {
            Ok(crate::Layout {
                weights: "model.safetensors",
                files: vec![("config.json", json!({"mine": 1}))],
            })
        }
        fn default_transform(&self, _config: &Value) -> Result<TransformConfig> {
            Ok(TransformConfig::open_clip(32))
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("m");
    let weights = Table::new([("image.a", vec![1, 2], vec![1.0, 2.0])]);
    save(&target, &Mine, &json!({}), &weights, Extras::default()).unwrap();
    let mut families = Families::bundled();
    families.register(Mine).unwrap();
    let checkpoint = Checkpoint::open(&target, &families).unwrap();
    assert_eq!(checkpoint.raw_tensors()[0].shape, [2, 1]);
    assert_eq!(Table::of(checkpoint.weights()), weights);
    assert_eq!(checkpoint.transform().unwrap().size(), [32, 32]);
    assert!(
        checkpoint
            .tokenizer(None)
            .err()
            .unwrap()
            .to_string()
            .contains("no text tower")
    );
}
