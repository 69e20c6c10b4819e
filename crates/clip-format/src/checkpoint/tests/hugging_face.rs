//! Tokenizers and transforms of Hugging Face's directories, and of EasyNLP's in that style.

use clip_tokenizers::{BpeOptions, Cleaning, ClipBpe};

use super::*;

fn ids(checkpoint: &Checkpoint, context: Option<usize>, text: &str) -> Vec<u32> {
    let batch = checkpoint.tokenizer(context).unwrap().encode(&[text]).unwrap();
    batch.rows().next().unwrap().to_vec()
}

fn refusal(checkpoint: &Checkpoint, context: Option<usize>) -> String {
    checkpoint.tokenizer(context).err().unwrap().to_string()
}

/// A pipeline that stands in for the model's, which is large.
fn pipeline(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../clip-tokenizers/tests/json")
        .join(name)
}

#[test]
fn siglip_takes_the_tokenizer_that_its_own_file_describes() {
    let folder = copy("hf_siglip_tiny");
    fs::copy(pipeline("siglip.json"), folder.path().join("tokenizer.json")).unwrap();
    let checkpoint = open(folder.path()).unwrap();
    // As crates/clip-tokenizers/tests/json/cases.jsonl has it, cut at the sixteen positions of the model.
    let dress = [16, 3, 32, 27, 10, 11, 3, 36, 16, 3, 26, 7, 39, 26, 4, 1];
    assert_eq!(ids(&checkpoint, None, "A PHOTO of a  Red DRESS!"), dress);
    assert_eq!(ids(&checkpoint, Some(4), "A PHOTO of a  Red DRESS!"), [16, 3, 32, 1]);
    assert!(refusal(&checkpoint, Some(17)).contains("longer than the model's 16 positions"));
    // The vocabulary goes along, its SentencePiece form too.
    fs::write(folder.path().join("spiece.model"), "x").unwrap();
    let names: Vec<String> = checkpoint
        .vocabulary_files()
        .iter()
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    assert_eq!(names, ["tokenizer.json", "spiece.model"]);
}

#[test]
fn siglip_without_its_tokenizer_says_what_is_missing() {
    let folder = copy("hf_siglip_tiny");
    let checkpoint = open(folder.path()).unwrap();
    let error = refusal(&checkpoint, None);
    assert!(
        error.contains("the model's tokenizer is not beside it; put its tokenizer.json"),
        "{error}"
    );
    fs::write(folder.path().join("spiece.model"), "x").unwrap();
    let error = refusal(&checkpoint, None);
    assert!(
        error.contains("the model's vocabulary is in spiece.model, which alone is not read"),
        "{error}"
    );
    // 420 ids, and the fixture has 400 rows.
    fs::copy(pipeline("siglip2.json"), folder.path().join("tokenizer.json")).unwrap();
    assert!(refusal(&checkpoint, None).contains("420 tokens, 400 embeddings"));
}

#[test]
fn what_siglip_pads_with_is_the_tokenizers() {
    let folder = copy("hf_siglip_tiny");
    let pad = |folder: &Path| open(folder).unwrap().config()["text_config"]["pad_token_id"].clone();
    assert_eq!(pad(folder.path()), 1);
    let tokenizer = json!({"pad_token": "<pad>", "added_tokens_decoder": {"0": {"content": "<pad>"}}});
    let path = folder.path().join("tokenizer_config.json");
    fs::write(&path, tokenizer.to_string()).unwrap();
    assert_eq!(pad(folder.path()), 0);
    // A saved copy has it in its config as well.
    let checkpoint = open(folder.path()).unwrap();
    let listed: Vec<PathBuf> = checkpoint.files().into_iter().map(|file| file.path).collect();
    assert_eq!(listed.iter().filter(|file| **file == path).count(), 1);
    let target = folder.path().join("saved");
    let family = Families::bundled().get("siglip").unwrap();
    save(
        &target,
        &*family,
        checkpoint.config(),
        checkpoint.weights(),
        Extras::default(),
    )
    .unwrap();
    assert_eq!(pad(&target), 0);
    change_json(&path, |tokenizer| tokenizer["padding_side"] = "left".into());
    let error = refusal(&open(folder.path()).unwrap(), None);
    assert!(error.contains("one that pads on the left"), "{error}");
}

#[test]
fn clip_s_texts_are_not_repaired() {
    // One merge: 512 bytes, it, start and end.
    let folder = copy("hf_clip_tiny");
    fs::write(folder.path().join("merges.txt"), "#version: 0.2\na m").unwrap();
    fs::write(folder.path().join("vocab.json"), "{}").unwrap();
    let checkpoint = open(folder.path()).unwrap();
    assert!(refusal(&checkpoint, None).contains("515 tokens, 400 embeddings"));
    let wider = folder.path().join("model.safetensors");
    let mut table = Table::of(&*WeightsFile::open(&wider).unwrap().tensors);
    drop(checkpoint);
    table = table.without(|name| name == "text_model.embeddings.token_embedding.weight");
    table.counting("text_model.embeddings.token_embedding.weight", &[515, 32], 0.0);
    fs::remove_file(&wider).unwrap();
    crate::write_safetensors(&wider, &table).unwrap();
    change_json(&folder.path().join("config.json"), |config| {
        config["text_config"]["vocab_size"] = 515.into()
    });
    let checkpoint = open(folder.path()).unwrap();
    let of = |cleaning| {
        let options = BpeOptions {
            context_length: 77,
            cleaning,
            ..BpeOptions::default()
        };
        let tokenizer = ClipBpe::open(folder.path().join("merges.txt"), options).unwrap();
        let batch = tokenizer.encode(&["Ham &amp; Eggs"]).unwrap();
        batch.rows().next().unwrap().to_vec()
    };
    let got = ids(&checkpoint, None, "Ham &amp; Eggs");
    assert_eq!(got, of(Cleaning::HuggingFace));
    assert_ne!(got, of(Cleaning::OpenClip));
    assert_eq!(checkpoint.tokenizer(None).unwrap().context_length(), 77);
}

#[test]
fn names_of_special_tokens_in_a_title_are_those_tokens() {
    for (name, last) in [
        ("easynlp_hf_tiny", 19),
        ("easynlp_hf_2022_tiny", 19),
        ("hf_chinese_clip_tiny", 52),
    ] {
        let folder = copy(name);
        fs::write(folder.path().join("vocab.txt"), pieces()).unwrap();
        let checkpoint = open(folder.path()).unwrap();
        assert_eq!(
            ids(&checkpoint, None, "[CLS] Red [UNK]dresses[SEP]"),
            [2, 2, 5, 1, 7, 8, 3, 3],
            "{name}"
        );
        // Cut with the end token in its place.
        assert_eq!(ids(&checkpoint, Some(4), "red red red red red"), [2, 5, 5, 3]);
        assert_eq!(ids(&checkpoint, None, &"red ".repeat(60)).len(), last);
    }
}

#[test]
fn robertas_texts_are_shorter_than_its_positions() {
    let folder = copy("easynlp_hf_tiny");
    fs::write(folder.path().join("vocab.txt"), pieces()).unwrap();
    let checkpoint = open(folder.path()).unwrap();
    assert_eq!(ids(&checkpoint, Some(19), &"red ".repeat(60)).len(), 19);
    let error = refusal(&checkpoint, Some(20));
    assert!(
        error.contains("a context of 20 ids is longer than the model's 19 positions"),
        "{error}"
    );
    // Positions behind a padding id of 1.
    let checkpoint = open(&fixture("hf_vtde_roberta_vit_tiny")).unwrap();
    assert!(refusal(&checkpoint, Some(65)).contains("longer than the model's 64 positions"));
    // Its tokenizer may be of several kinds; a list of merges alone does not say which.
    let folder = copy("hf_vtde_roberta_vit_tiny");
    fs::write(folder.path().join("merges.txt"), "#version: 0.2\na m\n").unwrap();
    let error = refusal(&open(folder.path()).unwrap(), None);
    assert!(
        error.contains("the model's vocabulary is in merges.txt, which alone is not read"),
        "{error}"
    );
    fs::copy(pipeline("roberta.json"), folder.path().join("tokenizer.json")).unwrap();
    assert_eq!(
        ids(&open(folder.path()).unwrap(), None, "dress</s>red"),
        [0, 72, 287, 87, 2, 275, 2]
    );
    fs::remove_file(folder.path().join("tokenizer.json")).unwrap();
    fs::write(folder.path().join("vocab.txt"), pieces()).unwrap();
    assert_eq!(ids(&open(folder.path()).unwrap(), None, "Red"), [2, 5, 3]);
}

#[test]
fn what_transformers_writes_since_its_version_5_is_read() {
    // One file for both modalities, and no vocabulary but in the tokenizer.json.
    let folder = copy("hf_siglip_tiny");
    let write = |name: &str, value: Value| fs::write(folder.path().join(name), value.to_string()).unwrap();
    write(
        "preprocessor_config.json",
        json!({"image_processor_type": "SiglipImageProcessor", "size": 32}),
    );
    write("processor_config.json", json!({"processor_class": "SiglipProcessor"}));
    let checkpoint = open(folder.path()).unwrap();
    let preprocessor = |checkpoint: &Checkpoint| {
        let files = checkpoint.files();
        let file = files.iter().find(|file| file.role == Role::Preprocessor).unwrap();
        file.path.file_name().unwrap().to_string_lossy().into_owned()
    };
    assert_eq!(preprocessor(&checkpoint), "preprocessor_config.json");
    let pictures = json!({
        "image_processor_type": "SiglipImageProcessor", "size": {"height": 32, "width": 32}, "image_mean": [0.25, 0.25, 0.25],
    });
    write("processor_config.json", json!({"image_processor": pictures}));
    assert_eq!(preprocessor(&checkpoint), "processor_config.json");
    assert_eq!(checkpoint.transform_config().unwrap().mean, [0.25; 3]);
    write(
        "processor_config.json",
        json!({"image_processor": {"image_processor_type": "DetrImageProcessor"}}),
    );
    let error = checkpoint.transform_config().unwrap_err().to_string();
    assert!(error.contains("/processor_config.json: "), "{error}");
    fs::copy(pipeline("siglip2.json"), folder.path().join("tokenizer.json")).unwrap();
    write(
        "tokenizer_config.json",
        json!({"pad_token": "<pad>", "eos_token": "<eos>"}),
    );
    assert_eq!(open(folder.path()).unwrap().config()["text_config"]["pad_token_id"], 0);
}

#[test]
fn a_preprocessor_beside_the_weights_counts() {
    for name in [
        "hf_clip_tiny",
        "hf_chinese_clip_tiny",
        "hf_siglip_tiny",
        "hf_vtde_roberta_vit_tiny",
        "easynlp_hf_tiny",
    ] {
        let folder = copy(name);
        let checkpoint = open(folder.path()).unwrap();
        let plain = checkpoint.transform_config().unwrap();
        let side = plain.size[0];
        // As SigLIP 2's: bilinear.
        let own = json!({
            "image_processor_type": "SiglipImageProcessor", "size": {"height": side, "width": side}, "resample": 2,
        });
        fs::write(folder.path().join("preprocessor_config.json"), own.to_string()).unwrap();
        let transform = checkpoint.transform_config().unwrap();
        assert_eq!(
            (transform.filter, transform.resize, transform.mean),
            (
                clip_data::Filter::Bilinear,
                clip_data::Resize::Squash([side, side]),
                [0.5; 3]
            ),
            "{name}"
        );
    }
}
