//! Models by their names on a hub: every command that takes a model takes one. The hub is a server of the test's own.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use clipzoo::clip_core::serde_json::json;

use super::support::{Ended, Folder, SCHEMA, small_model, table};

const COMMIT: &str = "89abcdef0123456789abcdef0123456789abcdef";

/// Serves the files of a folder as the model `shop/small`; gives the address and what is asked.
fn hub(model: PathBuf) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = asked.clone();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let mut lines = BufReader::new(&connection).lines().map_while(Result::ok);
            let path = lines.next().unwrap().split(' ').nth(1).unwrap().to_owned();
            lines.take_while(|line| !line.is_empty()).for_each(drop);
            log.lock().unwrap().push(path.clone());
            let names = || {
                std::fs::read_dir(&model)
                    .unwrap()
                    .map(|entry| entry.unwrap().file_name())
            };
            let file = path
                .strip_prefix("/shop/small/resolve/")
                .and_then(|rest| rest.split_once('/'));
            let body = if path == "/api/models/shop/small/revision/main" {
                let files: Vec<_> = names().map(|name| json!({"rfilename": name.to_str()})).collect();
                Some(json!({"sha": COMMIT, "siblings": files}).to_string().into_bytes())
            } else {
                file.and_then(|(_, name)| std::fs::read(model.join(name)).ok())
            };
            let (status, code) = match (&body, path.contains("shop/small")) {
                (Some(_), _) => ("200 OK", ""),
                (None, true) => ("404 Not Found", "X-Error-Code: RevisionNotFound\r\n"),
                (None, false) => ("401 Unauthorized", "X-Error-Code: RepoNotFound\r\n"),
            };
            let body = body.unwrap_or_default();
            let tag = path
                .bytes()
                .fold(7u64, |sum, byte| sum.wrapping_mul(31) + u64::from(byte));
            let head = format!(
                "HTTP/1.1 {status}\r\n{code}ETag: \"{tag:x}\"\r\nX-Repo-Commit: {COMMIT}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            let _ = connection
                .write_all(head.as_bytes())
                .and_then(|()| connection.write_all(&body));
        }
    });
    (address, asked)
}

/// Runs a command with a hub at an address and a cache of the folder's own.
fn run(folder: &Folder, address: &str, offline: bool, line: &str) -> Ended {
    let mut command = folder.command(line);
    command.env("HF_ENDPOINT", address).env("HF_HOME", folder.path("home"));
    for other in [
        "HF_TOKEN",
        "HF_HUB_CACHE",
        "HF_HUB_OFFLINE",
        "SSL_CERT_FILE",
        "http_proxy",
        "all_proxy",
    ] {
        command.env_remove(other);
    }
    if offline {
        command.env("HF_HUB_OFFLINE", "1");
    }
    Ended::of(line, command.output().unwrap())
}

#[test]
fn every_command_that_takes_a_model_takes_a_name() {
    let folder = Folder::new();
    small_model(&folder, "shared");
    let (address, asked) = hub(folder.path("shared"));
    folder.write("t.txt", "red shoe\nblue bag 3\n");
    folder.write("t.tsv", table(0..12));
    folder.write("a.png", super::support::png(20, [9, 8, 7]));
    let cpu = "--device cpu --threads 1";
    let lines = |model: &str, to: &str| {
        [
            format!("tokenize --model {model} --texts t.txt --output {to}.ids.jsonl"),
            format!("preprocess --model {model} a.png --output {to}.pixels.safetensors"),
            format!("predict --model {model} --texts t.txt --output {to}.npy {cpu}"),
            format!("evaluate --model {model} --table t.tsv {SCHEMA} --json {cpu}"),
            format!("inspect {model} --json"),
            format!("convert --model {model} --to clipzoo --output {to}.converted"),
            format!("average {model} {model} --output {to}.averaged"),
            format!(
                "train --model {model} --train t.tsv {SCHEMA} --output {to}.run --epochs 1 --batch-size 6 --average-init 0.5 {cpu}"
            ),
            format!(
                "train --image-tower {model} --text-tower {model} --train t.tsv {SCHEMA} --output {to}.joined --epochs 1 --batch-size 6 {cpu}"
            ),
        ]
    };
    for (by_name, by_path) in lines("hf:shop/small", "name").iter().zip(&lines("shared", "path")) {
        run(&folder, &address, false, by_name).ok();
        folder.run(by_path).ok();
    }
    for file in [
        "ids.jsonl",
        "pixels.safetensors",
        "npy",
        "converted/model.safetensors",
        "converted/vocab.txt",
        "averaged/model.safetensors",
        "run/best/model.safetensors",
        "run/averaged/model.safetensors",
    ] {
        let of = |way: &str| folder.read(&format!("{way}.{file}"));
        assert!(of("name") == of("path"), "{file}");
    }
    let settings: toml::Table = folder.text("name.run/run.toml").parse().unwrap();
    assert_eq!(settings["model"].as_str(), Some("hf:shop/small"));
    // Each file came once, however many commands wanted it.
    let asked = asked.lock().unwrap();
    let weights = asked.iter().filter(|path| path.ends_with("/model.safetensors"));
    assert_eq!(weights.count(), 1, "{asked:?}");
}

#[test]
fn offline_the_cache_counts_and_names_that_are_none_are_told() {
    let folder = Folder::new();
    small_model(&folder, "shared");
    let (address, asked) = hub(folder.path("shared"));
    folder.write("t.txt", "red shoe\n");
    let tokenize = |model: &str| format!("tokenize --model {model} --texts t.txt --output ids.jsonl");
    let first = run(&folder, &address, true, &tokenize("hf:shop/small")).failed();
    assert!(
        first.starts_with("hf:shop/small: HF_HUB_OFFLINE is set, and the cache"),
        "{first}"
    );
    assert!(asked.lock().unwrap().is_empty());
    run(&folder, &address, false, &tokenize("hf:shop/small")).ok();
    asked.lock().unwrap().clear();
    run(&folder, &address, true, &tokenize("hf:shop/small")).ok();
    assert!(asked.lock().unwrap().is_empty());
    // Nobody listens at that port.
    let gone = run(&folder, "http://127.0.0.1:9", false, &tokenize("hf:shop/small"));
    assert!(gone.stderr.contains("taking the copy in the cache"), "{}", gone.stderr);
    gone.ok();
    for (model, wanted) in [
        (
            "hf:shop/smell",
            "has no model shop/smell, or it is private; check the name",
        ),
        ("hf:shop/small@v9", "the model shop/small has no revision `v9`"),
        (
            "hf:shop",
            "hf:shop: is no name of a model on a hub; name it hf:owner/name",
        ),
    ] {
        let message = run(&folder, &address, false, &tokenize(model)).failed();
        assert!(message.contains(wanted), "{message}");
    }
    let message = run(&folder, "mirror.local", false, &tokenize("hf:shop/small")).failed();
    assert!(message.contains("HF_ENDPOINT is \"mirror.local\""), "{message}");
}
