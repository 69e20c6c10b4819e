//! Conversions there and back, to the bit; what cannot be converted; what is said about it.

use std::fs;
use std::path::{Path, PathBuf};

use clip_tokenizers::VocabularyContents;
use serde_json::{Value, json};

use super::*;
use crate::families::tests::easynlp::{TEXT, VISION, chinese_clip_of, open_clip_of};
use crate::mapping::Mapping;
use crate::testing::Table;
use crate::{Evidence, Layout, write_weights};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/fixtures/models")
        .join(name)
}

fn written(folder: &Path, (config, table): &(Value, Table)) -> PathBuf {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    write_weights(&folder.join("pytorch_model.bin"), table).unwrap();
    folder.to_owned()
}

/// EasyNLP's English and Chinese layouts, with the vocabularies that come with them.
fn easynlp(folder: &Path) -> [PathBuf; 2] {
    let english = written(
        &folder.join("english"),
        &open_clip_of(VISION, TEXT, "open_clip.", 49408),
    );
    let merges = VocabularyContents::bundled_merges().unwrap().packed_merges().unwrap();
    fs::write(english.join("vocab.txt"), merges).unwrap();
    let chinese = written(&folder.join("chinese"), &chinese_clip_of(VISION, TEXT, "chinese_clip."));
    let pieces = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nred\ndress\n";
    fs::write(chinese.join("vocab.txt"), pieces).unwrap();
    [english, chinese]
}

fn open(path: &Path) -> Checkpoint {
    Checkpoint::open(path, &Families::bundled()).unwrap()
}

fn to(path: &Path, layout: &str, dtype: Option<Dtype>, target: &Path) -> Result<Converted> {
    convert(&open(path), layout, dtype, target, &Families::bundled())
}

/// A file's tensors under its own names, sorted.
fn raw(path: &Path) -> Table {
    let file = locate_weights(path);
    Table::of(&*crate::WeightsFile::open(&file).unwrap().tensors)
}

/// The tensors that the family has a use for, under canonical names.
fn kept(path: &Path) -> Table {
    Table::of(open(path).weights())
}

fn locate_weights(path: &Path) -> PathBuf {
    crate::locate::weights(path).unwrap()
}

#[test]
fn there_and_back_is_the_same_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let [_, chinese] = easynlp(folder.path());
    // So few tokens that every number counted up to is one of f16.
    let english = written(
        &folder.path().join("small"),
        &open_clip_of(VISION, TEXT, "open_clip.", 20),
    );
    let fixtures: [(&str, &[&str], &str); 11] = [
        ("oc_vit_tiny", &["clipzoo", "hf"], "open_clip"),
        ("oc_vit_tiny_quickgelu", &["clipzoo", "hf"], "open_clip"),
        ("oc_rn_tiny", &["clipzoo"], "open_clip"),
        ("hf_clip_tiny", &["clipzoo", "open_clip"], "hf"),
        ("hf_chinese_clip_tiny", &["clipzoo"], "hf"),
        ("hf_siglip_tiny", &["clipzoo"], "hf"),
        ("hf_vtde_bert_clipvision_tiny", &["clipzoo"], "hf"),
        ("hf_vtde_roberta_vit_tiny", &["clipzoo"], "hf"),
        ("cn_vit_tiny", &["clipzoo", "hf"], "chinese_clip"),
        ("cn_rn_tiny", &["clipzoo"], "chinese_clip"),
        ("easynlp_hf_tiny", &["clipzoo"], "easynlp"),
    ];
    let mut ways: Vec<(PathBuf, &[&str], &str)> = vec![
        (english, &["clipzoo", "open_clip"], "easynlp"),
        (chinese, &["clipzoo"], "easynlp"),
    ];
    ways.extend(fixtures.map(|(name, layouts, back)| (fixture(name), layouts, back)));
    let mut count = 0;
    for (model, layouts, back) in &ways {
        for dtype in [None, Some(Dtype::F16), Some(Dtype::BF16)] {
            // The starting point: the model in its own layout, in each type.
            let start = folder.path().join(format!("start{count}"));
            to(model, back, dtype, &start).unwrap();
            if dtype.is_none() {
                assert_eq!(kept(&start), kept(model), "{}", model.display());
            }
            for layout in layouts.iter() {
                count += 1;
                let (there, again) = (
                    folder.path().join(format!("there{count}")),
                    folder.path().join(format!("again{count}")),
                );
                let converted = to(&start, layout, None, &there).unwrap();
                assert_eq!(converted.tensors, open(&there).raw_tensors());
                to(&there, back, None, &again).unwrap();
                assert_eq!(raw(&again), raw(&start), "{} by {layout}", model.display());
                if *layout == "clipzoo" {
                    assert_eq!(open(&again).config(), open(&start).config());
                    assert_eq!(open(&again).id().unwrap(), open(&start).id().unwrap());
                }
            }
        }
    }
}

#[test]
fn the_type_is_the_files_own_or_the_one_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let model = fixture("oc_vit_tiny");
    let types = |path: &Path| {
        let mut types: Vec<Dtype> = open(path).raw_tensors().iter().map(|tensor| tensor.dtype).collect();
        types.dedup();
        types
    };
    let [half, kept, wide] = ["half", "kept", "wide"].map(|name| folder.path().join(name));
    to(&model, "clipzoo", Some(Dtype::F16), &half).unwrap();
    to(&half, "open_clip", None, &kept).unwrap();
    to(&kept, "clipzoo", Some(Dtype::F32), &wide).unwrap();
    assert_eq!(
        [types(&half), types(&kept), types(&wide)],
        [[Dtype::F16], [Dtype::F16], [Dtype::F32]]
    );
    let error = to(&model, "clipzoo", Some(Dtype::I8), &folder.path().join("x")).unwrap_err();
    assert!(error.to_string().contains("cannot be converted to I8"), "{error}");
}

#[test]
fn files_are_those_of_the_layout_and_lie_where_it_was_asked() {
    let folder = tempfile::tempdir().unwrap();
    let [english, chinese] = easynlp(folder.path());
    let names = |path: &Path, layout: &str, target: &str| {
        let target = folder.path().join(target);
        let converted = to(path, layout, None, &target).unwrap();
        let listed: Vec<PathBuf> = converted.files.iter().map(|file| file.path.clone()).collect();
        assert!(listed.iter().all(|path| path.is_file()), "{listed:?}");
        let mut names: Vec<String> = fs::read_dir(target)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        assert_eq!(names.len(), listed.len(), "{names:?}, {listed:?}");
        (converted.family, names)
    };
    let own = |family: &str, names: &[&str]| {
        (
            family.to_owned(),
            names.iter().map(|name| name.to_string()).collect::<Vec<_>>(),
        )
    };
    assert_eq!(
        names(&english, "open_clip", "a"),
        own(
            "open_clip",
            &["open_clip_config.json", "open_clip_model.safetensors", "vocab.txt"]
        )
    );
    let english_again = folder.path().join("a");
    assert_eq!(
        names(&english_again, "easynlp", "b"),
        own(
            "easynlp-open-clip",
            // How OpenCLIP prepares pictures: EasyNLP, which does it in its own way, passes over it.
            &[
                "config.json",
                "preprocessor_config.json",
                "pytorch_model.bin",
                "vocab.txt"
            ]
        )
    );
    // The vocabulary of the first is that of the last, to the byte.
    let vocabulary = |path: &Path| fs::read(path.join("vocab.txt")).unwrap();
    assert!(vocabulary(&folder.path().join("b")) == vocabulary(&english));
    assert_eq!(
        names(&chinese, "easynlp-chinese-clip", "c"),
        own(
            "easynlp-chinese-clip",
            &["config.json", "pytorch_model.bin", "vocab.txt"]
        )
    );
    // Without a vocabulary of its own the model is used with the bundled one, which EasyNLP does not have.
    fs::remove_file(english_again.join("vocab.txt")).unwrap();
    assert!(
        names(&english_again, "easynlp", "d")
            .1
            .contains(&"vocab.txt".to_owned())
    );
    assert!(vocabulary(&folder.path().join("d")).starts_with(&[0x1f, 0x8b]));
    assert!(open(&folder.path().join("d")).tokenizer(None).is_ok());
}

#[test]
fn why_a_layout_cannot_express_a_model_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let error = |model: &str, layout: &str| {
        let target = folder.path().join("x");
        let error = to(&fixture(model), layout, None, &target).unwrap_err();
        assert!(!target.exists());
        error.to_string()
    };
    assert_eq!(
        error("oc_vit_tiny", "easynlp"),
        "no layout called `easynlp` can express the model: the layout `easynlp-chinese-clip` cannot express \
         `vision_config.hidden_act` \"gelu\", only \"quick_gelu\"; the layout `easynlp-hf` cannot express the tower \
         `clip_text_model`; the layout `easynlp-open-clip` cannot express `vision_config.hidden_act` \"gelu\", only \
         \"quick_gelu\"; save it as `clipzoo`"
    );
    assert_eq!(
        error("hf_vtde_bert_clipvision_tiny", "open_clip"),
        "no layout called `open_clip` can express the model: the layout `open_clip` cannot express the tower `bert`; the \
         layout `open_clip-siglip` cannot express the tower `clip_vision_model`; save it as `clipzoo`"
    );
    let message = error("oc_vit_tiny", "onnx");
    assert!(
        message.starts_with("no layout is called `onnx`; known: ")
            && message.contains("chinese_clip, clipzoo, easynlp, "),
        "{message}"
    );
}

#[test]
fn a_directory_in_use_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.json"), "{}").unwrap();
    let error = to(&fixture("oc_vit_tiny"), "clipzoo", None, folder.path()).unwrap_err();
    assert!(error.to_string().contains("is not empty"), "{error}");
    assert_eq!(fs::read_to_string(folder.path().join("config.json")).unwrap(), "{}");
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    to(&fixture("oc_vit_tiny"), "clipzoo", None, &empty).unwrap();
    assert_eq!(open(&empty).family(), "clipzoo");
}

#[test]
fn tensors_that_nobody_knows_are_not_lost_in_silence() {
    let folder = tempfile::tempdir().unwrap();
    let (config, mut table) = open_clip_of(VISION, TEXT, "open_clip.", 20);
    table.push("open_clip.visual.adapter", vec![1], &[1.0]);
    table.push("other", vec![1], &[1.0]);
    let model = written(&folder.path().join("m"), &(config, table));
    let error = to(&model, "clipzoo", None, &folder.path().join("x"))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("no place in its layout `easynlp-open-clip`: `open_clip.visual.adapter`, `other`"),
        "{error}"
    );
}

#[test]
fn what_goes_wrong_on_the_way_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let (config, mut table) = open_clip_of(VISION, TEXT, "open_clip.", 20);
    table.push("open_clip.logit_scale", vec![], &[1e6]);
    let model = written(&folder.path().join("m"), &(config, table));
    let target = folder.path().join("x");
    let error = to(&model, "clipzoo", Some(Dtype::F16), &target)
        .unwrap_err()
        .to_string();
    assert!(error.contains("tensor `logit_scale` holds 1000000"), "{error}");
    let left: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["m"]);
}

#[test]
fn what_readers_of_the_layout_do_differently_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let [english, _] = easynlp(folder.path());
    let as_open_clip = folder.path().join("a");
    let pictures = "pictures are prepared by the layout's own rule now: OpenCLIP's preprocess_cfg has no word for a crop \
                    that does not round half to even";
    assert_eq!(
        to(&english, "open_clip", None, &as_open_clip).unwrap().notes,
        [pictures]
    );
    assert_eq!(
        open(&as_open_clip).transform_config().unwrap(),
        TransformConfig::open_clip(4)
    );
    // OpenCLIP has no vocabulary for a model of another size.
    let (config, table) = open_clip_of(VISION, TEXT, "open_clip.", 20);
    let small = written(&folder.path().join("small"), &(config, table));
    let notes = to(&small, "open_clip", None, &folder.path().join("b")).unwrap().notes;
    assert_eq!(
        notes[1..],
        ["the model has no vocabulary, and the bundled one does not fit it"]
    );
    // A tokenizer that keeps capitals is told by a file that EasyNLP never reads.
    let [_, chinese] = easynlp(&folder.path().join("again"));
    fs::write(chinese.join("tokenizer_config.json"), r#"{"do_lower_case": false}"#).unwrap();
    let notes = to(&chinese, "easynlp", None, &folder.path().join("c")).unwrap().notes;
    assert_eq!(
        notes,
        [
            "texts were cut into tokens as follows: word pieces by BERT's rules, case kept, nothing looks at a literal pad token; \
             the new layout's readers do so: word pieces by BERT's rules, lower case, nothing looks at a literal pad token; some \
             texts may get other ids"
        ]
    );
}

/// A stranger's layout: our names backwards, everything else as ours.
struct Backwards;

impl Family for Backwards {
    fn name(&self) -> &'static str {
        "backwards-1"
    }

    fn short_name(&self) -> &'static str {
        "backwards"
    }

    fn mark(&self) -> &'static str {
        "`model_type` \"backwards\""
    }

    fn recognises(&self, evidence: &Evidence<'_>) -> bool {
        evidence.model_type() == Some("backwards")
    }

    fn canonical(&self, evidence: &Evidence<'_>) -> Result<Value> {
        let mut config = evidence.config().cloned().unwrap_or(Value::Null);
        config["model_type"] = json!("clipzoo");
        Ok(config)
    }

    fn mapping(&self, _config: &Value) -> Result<Mapping> {
        const ALL: &[crate::Row] = &[crate::Row::Same {
            file: "{*}",
            model: "{*}",
        }];
        Mapping::new().under("mine.", "", ALL)
    }

    fn restore(&self, config: &Value, _transform: Option<&TransformConfig>) -> Result<Layout> {
        let mut config = config.clone();
        config["model_type"] = json!("backwards");
        Ok(Layout {
            weights: "pytorch_model.bin",
            files: vec![("config.json", config)],
        })
    }

    fn default_transform(&self, config: &Value) -> Result<TransformConfig> {
        let side = config["vision_config"]["image_size"].as_u64().unwrap_or(224);
        Ok(TransformConfig::open_clip(side as usize))
    }
}

#[test]
fn a_strangers_layout_is_a_target_too() {
    let mut families = Families::bundled();
    families.register(Backwards).unwrap();
    assert!(families.layouts().contains(&"backwards") && families.layouts().contains(&"backwards-1"));
    let folder = tempfile::tempdir().unwrap();
    for (at, layout) in ["backwards", "backwards-1"].into_iter().enumerate() {
        let model = Checkpoint::open(fixture("oc_vit_tiny"), &families).unwrap();
        let target = folder.path().join(at.to_string());
        let converted = convert(&model, layout, None, &target, &families).unwrap();
        assert_eq!(converted.family, "backwards-1");
        assert!(converted.tensors.iter().all(|tensor| tensor.name.starts_with("mine.")));
    }
    // Two of one short name that both can: the model's own goes first, else a name is asked for.
    struct Twin;
    impl Family for Twin {
        fn name(&self) -> &'static str {
            "twin"
        }
        fn short_name(&self) -> &'static str {
            "backwards"
        }
        fn mark(&self) -> &'static str {
            ""
        }
        fn recognises(&self, _: &Evidence<'_>) -> bool {
            false
        }
        fn canonical(&self, evidence: &Evidence<'_>) -> Result<Value> {
            Backwards.canonical(evidence)
        }
        fn mapping(&self, config: &Value) -> Result<Mapping> {
            Backwards.mapping(config)
        }
        fn restore(&self, config: &Value, transform: Option<&TransformConfig>) -> Result<Layout> {
            Backwards.restore(config, transform)
        }
        fn default_transform(&self, config: &Value) -> Result<TransformConfig> {
            Backwards.default_transform(config)
        }
    }
    families.register(Twin).unwrap();
    let model = Checkpoint::open(fixture("oc_vit_tiny"), &families).unwrap();
    let error = convert(&model, "backwards", None, &folder.path().join("x"), &families).unwrap_err();
    assert_eq!(
        error.to_string(),
        "several layouts called `backwards` can express the model; name one of them: backwards-1, twin"
    );
    let own = Checkpoint::open(folder.path().join("0"), &families).unwrap();
    let converted = convert(&own, "backwards", None, &folder.path().join("y"), &families).unwrap();
    assert_eq!(converted.family, "backwards-1");
    // A layout that is not read as what wrote it is found out before anything appears.
    let error = convert(&model, "twin", None, &folder.path().join("z"), &families)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("the layout `twin` did not keep the model: it is read as `backwards-1`"),
        "{error}"
    );
    assert!(!folder.path().join("z").exists());
}
