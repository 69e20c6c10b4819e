//! `--help` and `--version`, and words the command does not know.

use super::support::Folder;

const COMMANDS: [&str; 19] = [
    "train",
    "evaluate",
    "predict",
    "classify",
    "compare",
    "tokenize",
    "preprocess",
    "concepts",
    "import",
    "split",
    "dedup",
    "inspect",
    "convert",
    "average",
    "calibrate",
    "models",
    "easynlp",
    "completions",
    "man",
];

#[test]
fn every_command_explains_itself_with_an_example() {
    let folder = Folder::new();
    let all = folder.run("--help").ok();
    for command in COMMANDS {
        assert!(all.contains(&format!("  {command} ")), "{all}");
        let help = folder.run(&format!("{command} --help")).ok();
        assert!(help.contains("Example"), "{command}: {help}");
        assert!(help.contains(&format!("  clipzoo {command} ")), "{command}: {help}");
    }
}

#[test]
fn no_command_is_missing_in_the_list_above() {
    let help = Folder::new().run("--help").ok();
    let listed = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let names: Vec<&str> = listed
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    assert_eq!(names, COMMANDS);
}

#[test]
fn the_version_is_the_packages() {
    let version = Folder::new().run("--version").ok();
    assert_eq!(version.trim(), concat!("clipzoo ", env!("CARGO_PKG_VERSION")));
}

#[test]
fn unknown_words_are_wrong_usage() {
    let folder = Folder::new();
    for line in [
        "",
        "pedict",
        "predict --modle m",
        "evaluate",
        "predict --model m --output o.npy --device tpu --texts t.txt",
    ] {
        let message = folder.run(line).refused();
        assert!(!message.is_empty(), "{line}");
    }
    assert!(folder.run("pedict").refused().contains("predict"));
    assert_eq!(folder.names(""), [""; 0]);
}
