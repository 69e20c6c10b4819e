//! `easynlp`: the three modes, the files of a checkpoint directory, resumption.

use clipzoo::clip_core::serde_json::{Value, json};
use safetensors::SafeTensors;

use super::support::{Ended, Folder, WORDS, base64, pair, parse, small_model, table};

/// The words of a training command that the tests vary.
pub(super) const TRAIN: &str = "--mode=train --tables=train.tsv,valid.tsv --input_schema=text:str:1,image:str:1 \
     --first_sequence=text --second_sequence=image --app_name=clip --worker_gpu=0 --micro_batch_size=8 \
     --learning_rate=0.003 --epoch_num=2 --random_seed=7 --logging_steps=1 --sequence_length=8";

/// The picture tower that both layouts can hold: heads of 64, QuickGELU.
fn vision() -> Value {
    json!({
        "model_type": "clip_vision_model", "image_size": 16, "patch_size": 8, "hidden_size": 64,
        "intermediate_size": 256, "num_hidden_layers": 1, "num_attention_heads": 1, "hidden_act": "quick_gelu",
    })
}

/// A small model in EasyNLP's layout `chinese_clip`.
fn chinese(folder: &Folder, name: &str) {
    let config = json!({
        "embed_dim": 8,
        "vision_config": vision(),
        "text_config": {
            "model_type": "bert", "vocab_size": WORDS.len(), "hidden_size": 16, "intermediate_size": 32,
            "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 16, "pooling": "cls",
        },
        "tokenizer": { "type": "word_piece" },
    });
    create(folder, name, &config, true);
}

/// A small model in EasyNLP's layout `open_clip`, with the vocabulary that all of them have.
fn open_clip(folder: &Folder, name: &str) {
    let config = json!({
        "embed_dim": 8,
        "vision_config": vision(),
        "text_config": {
            "model_type": "clip_text_model", "vocab_size": 49408, "hidden_size": 8, "intermediate_size": 32,
            "num_hidden_layers": 1, "num_attention_heads": 1, "max_position_embeddings": 77, "hidden_act": "quick_gelu",
            "eos_token_id": 49407, "pad_token_id": 0, "pooling": "argmax",
        },
        "context_length": 77,
        "tokenizer": { "type": "clip_bpe", "cleaning": "open_clip" },
    });
    create(folder, name, &config, false);
}

fn create(folder: &Folder, name: &str, config: &Value, vocabulary: bool) {
    let native = format!("{name}-native");
    clipzoo::create(folder.path(&native), config, &clipzoo::zoo().unwrap(), 5).unwrap();
    if vocabulary {
        folder.write(&format!("{native}/vocab.txt"), WORDS.join("\n") + "\n");
    }
    folder
        .run(&format!("convert --model {native} --to easynlp --output {name}"))
        .ok();
}

/// A folder with a model and tables.
pub(super) fn set_up() -> Folder {
    let folder = Folder::new();
    chinese(&folder, "model");
    folder.write("train.tsv", table(0..48));
    folder.write("valid.tsv", table(100..112));
    folder
}

/// Trains in a directory; what is in `more` goes before what [`TRAIN`] says.
pub(super) fn train(folder: &Folder, directory: &str, more: &str) -> Ended {
    folder.run(&format!(
        "easynlp {TRAIN} --checkpoint_dir={directory} --user_defined_parameters=pretrain_model_name_or_path=model {more}"
    ))
}

/// The plain command that a run showed last.
fn plain(ended: &Ended) -> String {
    let mut lines = ended
        .stderr
        .lines()
        .filter_map(|line| line.strip_prefix("plain command: clipzoo "));
    lines.next_back().unwrap().replace('\'', "")
}

pub(super) const EVALUATE: &str = "--mode evaluate --tables valid.tsv --input_schema text:str:1,image:str:1 --first_sequence text \
     --second_sequence image --app_name clip --sequence_length 8 --micro_batch_size 5";

#[test]
fn a_training_leaves_easynlps_files_and_prints_its_lines() {
    let folder = set_up();
    let ended = train(&folder, "out", "--save_checkpoint_steps=5 --save_all_checkpoints");
    let said = ended.stderr.clone();
    let out = ended.ok();
    assert_eq!(
        folder.names("out"),
        [
            "config.json",
            "label_mapping.json",
            "log",
            "preprocessor_config.json",
            "pytorch_model.bin",
            "pytorch_model_step_10.bin",
            "pytorch_model_step_12.bin",
            "pytorch_model_step_5.bin",
            "run",
            "train_config.json",
            "vocab.txt"
        ]
    );
    assert_eq!(folder.read("out/vocab.txt"), folder.read("model/vocab.txt"));
    assert_eq!(
        folder.read("out/pytorch_model.bin"),
        folder.read("out/run/best/pytorch_model.bin")
    );
    let labels = parse(&folder.text("out/label_mapping.json"));
    assert_eq!(labels, json!({ "0": 0, "1": 1 }));
    let config = parse(&folder.text("out/train_config.json"));
    assert_eq!(config["model_config"]["model_type"], "chinese_clip");
    assert_eq!(
        (&config["random_seed"], &config["label_enumerate_values"]),
        (&7.into(), &"0,1".into())
    );
    let look = folder.run("inspect out --json").json();
    assert_eq!(look["family"], "easynlp-chinese-clip");

    // Three evaluations, then the end.
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 8, "{out}");
    for pair in lines[..6].chunks(2) {
        assert!(
            pair[0].starts_with("r1_num:") && pair[0].ends_with("query_num:12"),
            "{out}"
        );
        assert!(
            pair[1].starts_with("r1(%):") && pair[1].contains(" mean_recall(%):"),
            "{out}"
        );
    }
    assert!(
        lines[6].starts_with("Training Time: ") && lines[6].ends_with(", rank 0, gsteps 12"),
        "{out}"
    );
    assert!(
        lines[7].starts_with("Duration time: ") && lines[7].ends_with(" s"),
        "{out}"
    );
    for wanted in [
        "========== Initializing Tensorboard ==========",
        "========== Training Start ==========",
        "  Num of GPUs (all)       = 0",
        "  Num training examples   = 48",
        "  Num validation examples = 12",
        "  Train. batch size       = 8",
        "  Total training steps    = 12",
        "  Sequence length         = 8",
        "  Saving steps            = 5",
        "Epoch [ 0/ 2], step [1/12], lr 0.000000, ",
        "Epoch [ 1/ 2], step [12/12], lr 0.000273, ",
        "  loss      : ",
        "========== Evaluation at global step 10 ==========",
        "Saving best model to out/pytorch_model.bin...",
        "Best score: 0.",
        "Learning rate: 0.00218182",
    ] {
        let found = said.lines().any(|line| {
            // [2026-01-31 12:34:56,789 INFO] text
            line.split_once(" INFO] ")
                .is_some_and(|(time, text)| time.len() == 24 && text.starts_with(wanted))
        });
        assert!(found, "{wanted} is not in\n{said}");
    }
}

#[test]
fn the_plain_commands_do_the_same() {
    let folder = set_up();
    let ended = train(&folder, "out", "--save_checkpoint_steps=5 --optimizer=Adam");
    let shown = plain(&ended);
    ended.ok();
    folder.run(&shown.replace("out/run", "again")).ok();
    for name in ["best", "last"] {
        let file = format!("{name}/pytorch_model.bin");
        assert!(
            folder.read(&format!("out/run/{file}")) == folder.read(&format!("again/{file}")),
            "{name}"
        );
    }
    let ended = folder.run(&format!("easynlp {EVALUATE} --checkpoint_dir out"));
    let shown = plain(&ended);
    let lines: Vec<String> = ended.ok().lines().map(str::to_owned).collect();
    let figures = folder.run(&format!("{shown} --json")).json();
    let hits = |k: &str| (figures["text_to_image"][k].as_f64().unwrap() * 0.12).round();
    let wanted = format!(
        "r1_num:{} r5_num:{} r10_num:{} query_num:12",
        hits("r@1"),
        hits("r@5"),
        hits("r@10")
    );
    assert_eq!(lines[0], wanted);
    let mean: f64 = lines[1].rsplit_once(':').unwrap().1.parse().unwrap();
    assert!((mean - figures["text_to_image"]["mean_recall"].as_f64().unwrap()).abs() < 1e-9);
    assert!(lines[2].starts_with("Duration time: ") && lines.len() == 3, "{lines:?}");

    let ended = folder.run(
        "easynlp --mode=predict --tables=valid.tsv --input_schema=text:str:1,image:str:1 --first_sequence=text \
         --second_sequence=image --outputs=features.tsv --output_schema=text_feat --checkpoint_dir=out --app_name=clip",
    );
    let shown = plain(&ended);
    assert!(ended.ok().starts_with("Duration time: "));
    folder.run(&shown.replace("features.tsv", "again.tsv")).ok();
    assert_eq!(folder.text("features.tsv"), folder.text("again.tsv"));
}

#[test]
fn a_run_goes_on_from_a_kept_step_to_the_bit() {
    let folder = set_up();
    train(&folder, "whole", "--save_checkpoint_steps=5 --save_all_checkpoints").ok();
    let same = |directory: &str| {
        for name in ["pytorch_model.bin", "run/last/pytorch_model.bin"] {
            let (one, other) = (
                folder.read(&format!("whole/{name}")),
                folder.read(&format!("{directory}/{name}")),
            );
            assert!(one == other, "{directory}/{name} differs");
        }
    };
    // A branch of the run, in another directory.
    let more = "--save_checkpoint_steps=5 --save_all_checkpoints --resume_from_checkpoint=whole/pytorch_model_step_5";
    let ended = train(&folder, "branch", more);
    assert!(
        ended.stderr.contains("the run goes on after step 5"),
        "{}",
        ended.stderr
    );
    assert!(
        ended
            .stderr
            .contains("cp -r whole/run/checkpoints/step_5 branch/run/checkpoints/step_5"),
        "{}",
        ended.stderr
    );
    assert!(ended.ok().contains("gsteps 12"));
    same("branch");
    // As if it had been killed behind step 10: there it goes on in its own directory.
    std::fs::remove_dir_all(folder.path("branch/run/checkpoints/step_12")).unwrap();
    let more = "--save_checkpoint_steps=5 --save_all_checkpoints --resume_from_checkpoint branch/pytorch_model";
    let ended = train(&folder, "branch", more);
    assert!(
        ended.stderr.contains("the run goes on after step 10"),
        "{}",
        ended.stderr
    );
    ended.ok();
    same("branch");
    let ended = train(&folder, "branch", more);
    assert!(ended.stderr.contains("the run is finished"), "{}", ended.stderr);
    ended.ok();
    for (directory, from, wanted) in [
        (
            "branch",
            "whole/pytorch_model_step_7",
            "no checkpoint of that step was kept",
        ),
        (
            "branch",
            "branch/pytorch_model_step_5",
            "the run has gone on after that step",
        ),
        (
            "other",
            "model/pytorch_model",
            "what EasyNLP writes is not enough to go on with",
        ),
        ("other", "whole/config.json", "this names no checkpoint"),
        (
            "branch",
            "whole/pytorch_model",
            "branch/pytorch_model.bin is there already",
        ),
    ] {
        let message = train(&folder, directory, &format!("--resume_from_checkpoint={from}")).misused();
        assert!(message.contains(wanted), "{message}");
    }
}

#[test]
fn a_model_of_another_layout_is_rewritten_for_easynlp() {
    let folder = set_up();
    let more = "--user_defined_parameters=pretrain_model_name_or_path=model-native --save_checkpoint_steps=9 --save_all_checkpoints";
    let ended = train(&folder, "out", more);
    assert!(
        ended
            .stderr
            .contains("convert --model out/run/best --to easynlp-chinese-clip"),
        "{}",
        ended.stderr
    );
    ended.ok();
    train(&folder, "own", "--save_checkpoint_steps=9 --save_all_checkpoints").ok();
    assert_eq!(folder.names("out"), folder.names("own"));
    for name in ["vocab.txt", "config.json"] {
        assert_eq!(folder.text(&format!("out/{name}")), folder.text(&format!("own/{name}")));
    }
    // The tensors are the same; the files may have them in another order.
    for directory in ["out", "own"] {
        folder
            .run(&format!(
                "convert --model {directory} --to clipzoo --output {directory}-back"
            ))
            .ok();
    }
    let tensors = ["out", "own"].map(|name| folder.read(&format!("{name}-back/model.safetensors")));
    let parsed = [0, 1].map(|at| SafeTensors::deserialize(&tensors[at]).unwrap());
    for (name, tensor) in parsed[0].tensors() {
        assert!(tensor.data() == parsed[1].tensor(&name).unwrap().data(), "{name}");
    }
    assert!(folder.names("out").iter().all(|name| !name.starts_with('.')));
    // One that no layout of EasyNLP's can hold is refused before anything is written.
    small_model(&folder, "wide");
    let more = "--user_defined_parameters=pretrain_model_name_or_path=wide";
    let message = train(&folder, "no", more).failed();
    assert!(
        message.contains("easynlp") && message.contains("cannot express"),
        "{message}"
    );
    assert!(!folder.path("no").exists());
}

#[test]
fn features_stand_in_a_line_a_row_with_the_columns_asked_for() {
    let folder = set_up();
    let texts: String = (0..9).map(|row| format!("{}\n", pair(row).0)).collect();
    let images: String = (0..9).map(|row| format!("{}\n", base64(&pair(row).1))).collect();
    folder.write("texts.tsv", texts);
    folder.write("images.txt", &images);
    let predict = |rest: &str| {
        folder.run(&format!(
            "easynlp --mode=predict --app_name=clip --checkpoint_dir=model --sequence_length=8 --micro_batch_size=4 {rest}"
        ))
    };
    predict(
        "--tables=texts.tsv --input_schema=text:str:1 --first_sequence=text --outputs=t.tsv --output_schema=text_feat",
    )
    .ok();
    predict("--tables=images.txt --input_schema=picture:str:1 --second_sequence=picture --outputs=i --output_schema=image_feat").ok();
    // As EasyNLP's own scripts have it.
    predict("--tables=images.txt --input_schema=image:str:1 --first_sequence=image --outputs=j.tsv --output_schema=image_feat").ok();
    assert_eq!(folder.text("i"), folder.text("j.tsv"));
    for name in ["t.tsv", "i"] {
        let text = folder.text(name);
        assert_eq!(text.lines().count(), 9);
        for line in text.lines() {
            let numbers: Vec<f32> = line.split('\t').map(|cell| cell.parse().unwrap()).collect();
            assert_eq!(numbers.len(), 8);
            assert!((numbers.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5);
        }
    }
    // Both columns are there, and one is asked for; the other goes along as it stands.
    let rest = "--tables=train.tsv --input_schema=text:str:1,image:str:1 --first_sequence=text --second_sequence=image";
    predict(&format!(
        "{rest} --output_schema=text_feat --append_cols=image,text --outputs=both.tsv"
    ))
    .ok();
    let (both, table) = (folder.text("both.tsv"), folder.text("train.tsv"));
    for (line, row) in both.lines().zip(table.lines()) {
        let cells: Vec<&str> = line.split('\t').collect();
        let (text, image) = row.split_once('\t').unwrap();
        assert_eq!(cells[8..], [image, text]);
    }
    // The same numbers, but for sums in another order where a batch has other rows.
    let features = |line: &str| -> Vec<f32> { line.split('\t').take(8).map(|cell| cell.parse().unwrap()).collect() };
    let alone = folder.text("t.tsv");
    assert!(both.lines().count() >= alone.lines().count());
    for (line, alone) in both.lines().zip(alone.lines()) {
        let pairs = features(line).into_iter().zip(features(alone));
        assert!(pairs.clone().all(|(x, y)| (x - y).abs() < 1e-6), "{line}");
    }
}

#[test]
fn texts_of_byte_pairs_keep_the_length_of_their_config() {
    let folder = set_up();
    open_clip(&folder, "english");
    let line = format!("easynlp {EVALUATE} --checkpoint_dir english");
    let with = folder.run(&line);
    assert!(
        with.stderr
            .contains("--sequence_length=8 does not count for this model: its texts have the 77 tokens of its config"),
        "{}",
        with.stderr
    );
    assert!(!plain(&with).contains("--context-length"));
    let without = folder.run(&line.replace("--sequence_length 8", ""));
    assert!(
        without.stderr.contains("--sequence_length=16 does not count"),
        "{}",
        without.stderr
    );
    let full = folder.run(&line.replace("--sequence_length 8", "--sequence_length 77"));
    assert!(!full.stderr.contains("does not count"), "{}", full.stderr);
    let first = |ended: Ended| ended.ok().lines().next().unwrap().to_owned();
    let lines = [with, without, full].map(first);
    assert!(lines.iter().all(|line| *line == lines[0]), "{lines:?}");
    // The vocabulary is merges in gzip, and is copied as it is.
    let more = "--user_defined_parameters=pretrain_model_name_or_path=english --epoch_num=1";
    train(&folder, "out", more).ok();
    assert_eq!(folder.read("out/vocab.txt"), folder.read("english/vocab.txt"));
    assert_eq!(folder.read("out/vocab.txt")[..2], [0x1f, 0x8b]);
}
