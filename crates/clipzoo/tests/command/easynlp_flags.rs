//! `easynlp`: every flag does something. For each two runs differ in a named way: in a resolved setting, and where it says
//! so in the weights.

use std::collections::BTreeMap;

use super::easynlp::{set_up, train};
use super::support::{Folder, table};

/// A setting of `run/run.toml` as TOML writes it; `None` where it is not set.
fn setting(folder: &Folder, directory: &str, path: &str) -> Option<String> {
    let text = folder.text(&format!("{directory}/run/run.toml"));
    let mut value = toml::Value::Table(text.parse().unwrap());
    for key in path.split('.') {
        value = value.get(key)?.clone();
    }
    Some(value.to_string())
}

fn weights(folder: &Folder, directory: &str) -> Vec<u8> {
    folder.read(&format!("{directory}/run/last/pytorch_model.bin"))
}

/// What a flag changes: settings by name with their new values, and whether the last weights are others.
struct Row {
    words: &'static str,
    settings: &'static [(&'static str, Option<&'static str>)],
    weights: bool,
}

const fn row(words: &'static str, settings: &'static [(&'static str, Option<&'static str>)], weights: bool) -> Row {
    Row {
        words,
        settings,
        weights,
    }
}

/// Of training.
const ROWS: &[Row] = &[
    row("--learning_rate=0.01", &[("lr", Some("0.01"))], true),
    row("--epoch_num=3", &[("epochs", Some("3"))], true),
    row(
        "--epoch_num=1.5",
        &[("max_steps", Some("9")), ("epochs", Some("2"))],
        true,
    ),
    row("--random_seed=8", &[("seed", Some("8"))], true),
    row("--weight_decay=0.5", &[("weight_decay", Some("0.5"))], true),
    row("--wd 0.25", &[("weight_decay", Some("0.25"))], true),
    row("--max_grad_norm=0.001", &[("grad_clip", Some("0.001"))], true),
    row("--mn 0.002", &[("grad_clip", Some("0.002"))], true),
    row("--optimizer_type=SGD", &[("optimizer", Some("\"sgd\""))], true),
    row("--optimizer BertAdam", &[("optimizer", Some("\"bert_adam\""))], true),
    row(
        "--optimizer_type=Adam",
        &[("optimizer", Some("\"adam\"")), ("eps", Some("0.00000001"))],
        true,
    ),
    row("--warmup_proportion=0.5", &[("warmup_share", Some("0.5"))], true),
    row(
        "--micro_batch_size=4",
        &[("batch_size", Some("4")), ("micro_batch", Some("0"))],
        true,
    ),
    row("--train_batch_size 4", &[("batch_size", Some("4"))], true),
    row(
        "--gradient_accumulation_steps=2",
        &[("batch_size", Some("16")), ("micro_batch", Some("8"))],
        true,
    ),
    row("--use_amp", &[("dtype", Some("\"bf16\""))], true),
    row("--logging_steps=3", &[("log_every", Some("3"))], false),
    row(
        "--save_checkpoint_steps=4",
        &[("checkpoint_every", Some("4")), ("evaluation.every", Some("4"))],
        false,
    ),
    row("--save_all_checkpoints", &[("keep", Some("\"all\""))], false),
    row("--sequence_length=3", &[("context_length", Some("3"))], true),
    row("--data_threads=3", &[("environment.workers", Some("3"))], false),
    row(
        "--tables=other.tsv,train.tsv",
        &[
            ("data.train", Some("\"other.tsv\"")),
            ("data.valid", Some("\"train.tsv\"")),
        ],
        true,
    ),
    row(
        "--tables=named.tsv,named.tsv --skip_first_line",
        &[("data.train", Some("\"named.tsv\"")), ("data.header", Some("true"))],
        false,
    ),
    row(
        "--tables=swapped.txt --input_schema=picture:str:1,title:str:1 --first_sequence=title --second_sequence=picture",
        &[
            ("data.schema", Some("\"picture:str:1,title:str:1\"")),
            ("data.text_column", Some("\"title\"")),
            ("data.image_column", Some("\"picture\"")),
            ("data.format", Some("\"tsv\"")),
        ],
        false,
    ),
];

/// [`set_up`] with the tables that rows name, and a run without changes in `base`.
fn prepared() -> Folder {
    let folder = set_up();
    folder.write("other.tsv", table(50..98));
    folder.write("named.tsv", format!("text\timage\n{}", table(0..48)));
    let swapped: String = table(0..48)
        .lines()
        .map(|line| {
            let (text, image) = line.split_once('\t').unwrap();
            format!("{image}\t{text}\n")
        })
        .collect();
    folder.write("swapped.txt", swapped);
    train(&folder, "base", "").ok();
    folder
}

#[test]
fn every_flag_of_training_changes_what_it_names() {
    let folder = prepared();
    let base = weights(&folder, "base");
    for (number, row) in ROWS.iter().enumerate() {
        let directory = format!("run{number}");
        train(&folder, &directory, row.words).ok();
        for (name, wanted) in row.settings {
            let (before, now) = (setting(&folder, "base", name), setting(&folder, &directory, name));
            assert_eq!(now.as_deref(), *wanted, "{}: {name}", row.words);
            // A second setting may be as it was; the first may not.
            assert!(
                before != now || *name != row.settings[0].0,
                "{}: {name} did not change",
                row.words
            );
        }
        assert_eq!(weights(&folder, &directory) != base, row.weights, "{}", row.words);
    }
}

#[test]
fn flags_about_files_and_lines_change_those() {
    let folder = prepared();
    let lines = |directory: &str| folder.lines(&format!("{directory}/run/metrics.jsonl")).len();
    train(&folder, "seldom", "--logging_steps=5").ok();
    // Twelve steps and two evaluations, or two steps and those.
    assert_eq!((lines("base"), lines("seldom")), (14, 4));
    let ended = train(&folder, "often", "--save_checkpoint_steps=4 --save_all_checkpoints");
    let evaluations = ended.stderr.matches("Evaluation at global step").count();
    ended.ok();
    assert_eq!(evaluations, 3);
    let steps = |directory: &str| {
        let names = folder.names(directory);
        names
            .into_iter()
            .filter(|name| name.starts_with("pytorch_model_step_"))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        steps("often"),
        [
            "pytorch_model_step_12.bin",
            "pytorch_model_step_4.bin",
            "pytorch_model_step_8.bin"
        ]
    );
    assert!(steps("base").is_empty());

    let mut command = folder.command(&format!("easynlp {} --checkpoint_dir=unseen", super::easynlp::TRAIN));
    command.arg("--user_defined_parameters=pretrain_model_name_or_path=model do_eval=False");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!String::from_utf8_lossy(&output.stdout).contains("r1_num"));
    assert_eq!(setting(&folder, "unseen", "data.valid"), None);
    assert_eq!(setting(&folder, "base", "data.valid").as_deref(), Some("\"valid.tsv\""));
    let model = "unseen/run/last/pytorch_model.bin";
    assert_eq!(
        folder.read("unseen/pytorch_model.bin"),
        folder.read(model),
        "without evaluations the last is the best"
    );
}

/// The value behind a flag of the plain command that a run shows.
fn shown(folder: &Folder, words: &str) -> BTreeMap<String, String> {
    let ended = folder.run(&format!("easynlp {words}"));
    let line = ended
        .stderr
        .lines()
        .find_map(|line| line.strip_prefix("plain command: clipzoo "));
    let words: Vec<&str> = line.unwrap_or_else(|| panic!("{}", ended.stderr)).split(' ').collect();
    let mut flags = BTreeMap::from([("command".to_owned(), words[0].to_owned())]);
    for pair in words.windows(2).filter(|pair| pair[0].starts_with("--")) {
        flags.insert(pair[0].to_owned(), pair[1].to_owned());
    }
    flags
}

#[test]
fn every_flag_of_the_other_modes_changes_the_command_it_stands_for() {
    let folder = set_up();
    folder.run("convert --model model --to clipzoo --output twin").ok();
    let evaluate = "--mode=evaluate --tables=valid.tsv --input_schema=text:str:1,image:str:1 --checkpoint_dir=model";
    let predict = "--mode=predict --tables=valid.tsv --input_schema=text:str:1,image:str:1 --checkpoint_dir=model \
                   --output_schema=text_feat --outputs=out.tsv";
    for (base, words, flag, wanted) in [
        (
            evaluate,
            "--mode=predict --output_schema=text_feat --outputs=o.tsv",
            "command",
            "predict",
        ),
        (evaluate, "--tables=train.tsv,train.tsv", "--table", "train.tsv"),
        (evaluate, "--checkpoint_dir=twin", "--model", "twin"),
        (evaluate, "--checkpoint_path=twin", "--model", "twin"),
        (evaluate, "--sequence_length=4", "--context-length", "4"),
        (evaluate, "--micro_batch_size=3", "--batch-size", "3"),
        (evaluate, "--worker_gpu=1", "--device", "cuda"),
        (evaluate, "--data_threads=2", "--workers", "2"),
        (evaluate, "--skip_first_line", "--header", "--batch-size"),
        (
            evaluate,
            "--input_schema=text:str:1,image:str:1,id:int:1",
            "--schema",
            "text:str:1,image:str:1,id:int:1",
        ),
        (predict, "--output_schema=image_feat", "--only", "images"),
        (predict, "--outputs=other.tsv", "--output", "other.tsv"),
        (predict, "--append_cols=text", "--append-cols", "text"),
        (
            predict,
            "--input_schema=title:str:1,image:str:1 --first_sequence=title",
            "--text-column",
            "title",
        ),
        (
            predict,
            "--output_schema=image_feat --input_schema=text:str:1,photo:str:1 --second_sequence=photo",
            "--image-column",
            "photo",
        ),
    ] {
        let (before, now) = (shown(&folder, base), shown(&folder, &format!("{base} {words}")));
        assert_eq!(now.get(flag).map(String::as_str), Some(wanted), "{words}");
        assert_ne!(before.get(flag), now.get(flag), "{words}");
    }
}
