//! Ctrl-C: whole files or none, and a word on how to go on.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::support::{Folder, SCHEMA, small_model, table};

/// Starts a command and waits until `begun` holds.
fn start(folder: &Folder, line: &str, begun: impl Fn() -> bool) -> Child {
    let mut child = folder
        .command(line)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let waited = Instant::now();
    while !begun() {
        assert!(child.try_wait().unwrap().is_none(), "{line}: it ended before it began");
        assert!(waited.elapsed() < Duration::from_secs(60), "{line}: it does not begin");
        sleep(Duration::from_millis(5));
    }
    child
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill")
        .args([name, &child.id().to_string()])
        .status()
        .unwrap();
    assert!(sent.success());
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn an_output_that_is_under_way_leaves_whole_parts_or_nothing() {
    let folder = Folder::new();
    small_model(&folder, "model");
    folder.write("texts.txt", "red shoe 1\n".repeat(400_000));
    let before = folder.names("");
    for (name, number) in [("-INT", 2), ("-TERM", 15)] {
        let line = "predict --model model --texts texts.txt --device cpu --threads 1 --output features.npy";
        let parts = || match folder.path("features.npy.parts").is_dir() {
            true => folder.names("features.npy.parts"),
            false => Vec::new(),
        };
        let under_way = |name: &String| name.ends_with(".partial");
        let child = start(&folder, line, || {
            parts().iter().filter(|name| under_way(name)).count() > 1
        });
        signal(&child, name);
        let output = child.wait_with_output().unwrap();
        // As a process that nobody taught to listen, so that a shell's loop ends too.
        assert_eq!(output.status.signal(), Some(number));
        let said = stderr(&output);
        assert!(said.contains("interrupted: ") && said.contains("--resume"), "{said}");
        // Nothing is hidden anywhere; what is finished is in its folder.
        assert!(!parts().iter().any(under_way), "{:?}", parts());
        fs::remove_dir_all(folder.path("features.npy.parts")).unwrap();
        assert_eq!(folder.names(""), before);
    }
}

#[test]
fn training_stops_behind_a_step_and_goes_on_to_the_bit() {
    let folder = Folder::new();
    small_model(&folder, "model");
    folder.write("train.tsv", table(0..48));
    let line = |output: &str| {
        format!(
            "train --model model --train train.tsv {SCHEMA} --output {output} --batch-size 8 --lr 0.003 --seed 7 --threads 1 \
             --device cpu --epochs 40"
        )
    };
    folder.run(&line("whole")).ok();
    let started = || std::fs::read(folder.path("run/metrics.jsonl")).is_ok_and(|lines| !lines.is_empty());
    let child = start(&folder, &line("run"), started);
    signal(&child, "-INT");
    let output = child.wait_with_output().unwrap();
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.contains("stopping behind this step"), "{said}");
    assert!(said.contains("go on with `clipzoo train --resume`"), "{said}");
    let steps = folder.lines("run/metrics.jsonl").len();
    assert!((1..240).contains(&steps), "{steps}");
    folder.run(&format!("{} --resume", line("run"))).ok();
    for file in ["metrics.jsonl", "last/model.safetensors"] {
        let name = |run: &str| format!("{run}/{file}");
        assert!(
            folder.read(&name("run")) == folder.read(&name("whole")),
            "{file} after step {steps}"
        );
    }
}

#[test]
fn shells_and_man_learn_every_command() {
    let folder = Folder::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = folder.run(&format!("completions {shell}")).ok();
        assert!(
            script.contains("evaluate") && script.contains("text-features"),
            "{shell}"
        );
    }
    assert!(folder.run("completions tcsh").refused().contains("bash"));
    folder.run("man --output pages").ok();
    let pages = folder.names("pages");
    assert!(
        pages.contains(&"clipzoo.1".to_owned()) && pages.contains(&"clipzoo-train.1".to_owned()),
        "{pages:?}"
    );
    let page = folder.text("pages/clipzoo-predict.1");
    assert!(
        page.starts_with(".ie") && page.contains("clipzoo\\-predict") && page.contains("\\-\\-output"),
        "{page}"
    );
    assert!(folder.run("man").ok().contains("clipzoo\\-predict(1)"));
}
