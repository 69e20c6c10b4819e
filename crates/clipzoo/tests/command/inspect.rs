//! `inspect` of a checkpoint, sound and unsound, and `models`.

use clipzoo::clip_core::serde_json::{Value, json};

use super::support::{Folder, parse, small_model, tensors};

/// Changes a model's config.
fn change(folder: &Folder, model: &str, change: impl Fn(&mut Value)) {
    let file = format!("{model}/config.json");
    let mut config = parse(&folder.text(&file));
    change(&mut config);
    folder.write(&file, config.to_string());
}

#[test]
fn a_sound_model_is_described() {
    let folder = Folder::new();
    small_model(&folder, "m");
    let said = folder.run("inspect m").ok();
    for wanted in [
        "family       clipzoo\n",
        "file         m/model.safetensors (",
        "image tower  clip_vision_model, ",
        "text tower   bert, ",
        "tokenizer    word pieces by BERT's rules, lower case; its own vocabulary of 16 ids; texts are cut at 16 ids\n",
        "transform    ",
        "fits         yes: every tensor is there, and no other\n",
    ] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    let said = folder.run("inspect m --json").json();
    assert_eq!((&said["fits"], &said["family"]), (&json!(true), &json!("clipzoo")));
    assert_eq!(
        (&said["missing"], &said["misshapen"], &said["unexpected"]),
        (&json!([]), &json!([]), &json!([]))
    );
    assert_eq!(said["towers"]["text"]["model_type"], "bert");
    // The towers' numbers and what stands between them are the file's.
    let numbers = |value: &Value| value.as_u64().unwrap();
    let towers = numbers(&said["towers"]["image"]["numbers"]) + numbers(&said["towers"]["text"]["numbers"]);
    assert_eq!(towers + 8 * 16 * 2 + 1, numbers(&said["numbers"]));
    assert_eq!(said["dtypes"], json!(["F32"]));
    assert!(said["tokenizer"]["does"].as_str().unwrap().contains("16 ids"));
}

#[test]
fn what_does_not_fit_is_listed_in_full() {
    let folder = Folder::new();
    small_model(&folder, "m");
    change(&folder, "m", |config| {
        config["text_config"]["num_hidden_layers"] = 3.into();
        config["vision_config"]["intermediate_size"] = 40.into();
        config["text_projection"] = json!({ "type": "linear", "bias": true });
    });
    let said = folder.run("inspect m --json").json();
    assert_eq!(said["fits"], false);
    let names = |kind: &str| -> Vec<String> {
        let list = said[kind].as_array().unwrap().iter();
        list.map(|entry| entry["name"].as_str().unwrap_or_default().to_owned())
            .collect()
    };
    // Two more blocks of twelve tensors, all of them named, and a bias.
    assert_eq!(names("missing").len(), 25);
    assert!(names("missing").contains(&"text.blocks.2.mlp.fc2.bias".to_owned()));
    assert!(names("missing").contains(&"text_projection.bias".to_owned()));
    let first = &said["misshapen"][0];
    assert_eq!(
        (&first["name"], &first["file"], &first["model"]),
        (
            &json!("image.blocks.0.mlp.fc1.weight"),
            &json!([32, 16]),
            &json!([40, 16])
        )
    );
    let text = folder.run("inspect m").ok();
    assert!(
        text.contains("fits         no: the weights are not those of the config's model\n  missing    25\n"),
        "{text}"
    );
    assert!(text.contains("    text.blocks.2.mlp.fc2.bias [16]\n"), "{text}");
    assert!(
        text.contains("image.blocks.0.mlp.fc1.weight is [32, 16] in the file, [40, 16] in the model"),
        "{text}"
    );
    // Whoever wants to use it is sent here.
    folder.write("t.txt", "red shoe\n");
    let message = folder
        .run("predict --model m --texts t.txt --output f.npy --device cpu")
        .failed();
    assert!(
        message.contains("missing (25)") && message.contains("`clipzoo inspect`"),
        "{message}"
    );
    change(&folder, "m", |config| {
        config["text_config"]["num_hidden_layers"] = 1.into();
        config["vision_config"]["intermediate_size"] = 32.into();
        config["text_projection"] = json!({ "type": "linear", "bias": false });
        config["text_config"]["pooling"] = "cls".into();
    });
    let said = folder.run("inspect m --json").json();
    assert_eq!(said["unexpected"], json!(["text.pooler.bias", "text.pooler.weight"]));
}

#[test]
fn a_model_that_cannot_be_built_says_why() {
    let folder = Folder::new();
    small_model(&folder, "m");
    change(&folder, "m", |config| {
        config["vision_config"]["model_type"] = "mine".into()
    });
    let said = folder.run("inspect m --json").json();
    assert_eq!(said["fits"], false);
    assert!(
        said["error"]
            .as_str()
            .unwrap()
            .contains("unknown image backbone `mine`")
    );
    let text = folder.run("inspect m").ok();
    assert!(
        text.contains("fits         the model cannot be built: unknown image backbone `mine`"),
        "{text}"
    );
}

#[test]
fn of_a_file_of_no_family_its_tensors_are_shown_and_the_reason() {
    let folder = Folder::new();
    folder.write("m/model.safetensors", tensors(&[("stem.weight", &[2, 3], &[0.5; 6])]));
    folder.write("m/config.json", r#"{"model_type": "mystery"}"#);
    let ended = folder.run("inspect m --tensors");
    assert!(
        ended.stdout.contains("numbers      6 in 1 tensors (F32)\n"),
        "{}",
        ended.stdout
    );
    assert!(
        ended.stdout.contains("F32   [2, 3]                 stem.weight\n"),
        "{}",
        ended.stdout
    );
    let message = ended.failed();
    assert!(
        message.contains("`model_type` \"mystery\" in config.json is of no known family"),
        "{message}"
    );
    let ended = folder.run("inspect m --json");
    let said = parse(&ended.stdout);
    assert_eq!(
        (&said["family"], &said["tensors"][0]["name"]),
        (&Value::Null, &json!("stem.weight"))
    );
    assert!(said["error"].as_str().unwrap().contains("mystery"));
    ended.failed();
    // What is no file of weights has nothing to show.
    folder.write("m/model.safetensors", "no weights");
    let ended = folder.run("inspect m");
    assert_eq!(ended.stdout, "");
    ended.failed();
}

#[test]
fn models_lists_the_layouts_with_their_marks() {
    let folder = Folder::new();
    let said = folder.run("models --json").json();
    let layouts = said["layouts"].as_array().unwrap();
    let of = |name: &str| layouts.iter().find(|layout| layout["name"] == name).unwrap();
    assert_eq!(of("easynlp-open-clip")["short_name"], "easynlp");
    assert_eq!(of("open_clip")["short_name"], "open_clip");
    assert_eq!(of("clipzoo")["mark"], "`model_type` \"clipzoo\"");
    let names: Vec<&Value> = layouts.iter().map(|layout| &layout["name"]).collect();
    assert_eq!(json!(names), said["families"]);
    let text = folder.run("models").ok();
    for layout in layouts {
        let words = ["short_name", "name", "mark"].map(|key| layout[key].as_str().unwrap());
        let line = text.lines().find(|line| line.ends_with(words[2])).unwrap();
        assert!(
            line.trim_start().starts_with(words[0]) && line.contains(words[1]),
            "{line}"
        );
    }
    assert!(text.contains("image backbones"), "{text}");
}
