//! Checks that no other tool makes, on every file of the repository.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::workspace::Workspace;

/// A file of code is aimed at this many lines …
const AIMED_LINES: usize = 400;
/// … and refused beyond this many: it holds more than one subject.
const MOST_LINES: usize = 600;

/// Files that are one flat table, which no cut would make clearer.
const FLAT_TABLES: &[&str] = &[];

/// Where `unsafe` may stand: the crate around C++, and files of these names.
const UNSAFE_CRATE: &str = "crates/clip-torch/";
const UNSAFE_FILES: [&str; 3] = ["map.rs", "simd.rs", "gemm.rs"];

/// How many lines above an unsafe block its SAFETY comment may begin.
const SAFETY_REACH: usize = 12;

/// Names that say nothing about what a file holds.
const EMPTY_NAMES: [&str; 5] = ["utils.rs", "util.rs", "common.rs", "helpers.rs", "base.rs"];

/// Folders that are not ours to judge: what cargo or git writes, and inputs kept byte for byte.
const SKIPPED: [&str; 4] = ["target", ".git", "node_modules", "tests/fixtures"];

/// The kinds of text whose lines may not end in a space.
const TEXTS: [&str; 9] = ["rs", "toml", "md", "sh", "py", "yml", "html", "css", "js"];

/// Checks every file and names every fault at once.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let mut files = Vec::new();
    walk(workspace.root(), Path::new(""), &mut files)?;
    files.sort();
    let mut report = Report::default();
    for path in &files {
        let name = path.to_string_lossy().replace('\\', "/");
        let bytes = fs::read(workspace.root().join(path)).with_context(|| format!("cannot read {name}"))?;
        if let Ok(text) = String::from_utf8(bytes) {
            judge(&name, &text, &mut report);
        }
    }
    for long in &report.long {
        println!("longer than the {AIMED_LINES} lines aimed at: {long}");
    }
    if !report.faults.is_empty() {
        bail!("untidy:\n  {}", report.faults.join("\n  "));
    }
    println!("{} files are tidy", files.len());
    Ok(())
}

#[derive(Default)]
struct Report {
    faults: Vec<String>,
    long: Vec<String>,
}

fn walk(root: &Path, folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let here = root.join(folder);
    for entry in fs::read_dir(&here).with_context(|| format!("cannot read the folder {}", here.display()))? {
        let entry = entry?;
        let path = folder.join(entry.file_name());
        if SKIPPED.iter().any(|skipped| path.ends_with(skipped)) {
            continue;
        }
        // A link is judged where it leads, if that is in the repository.
        let kind = entry.file_type()?;
        if kind.is_dir() {
            walk(root, &path, files)?;
        } else if kind.is_file() {
            files.push(path);
        }
    }
    Ok(())
}

fn judge(name: &str, text: &str, report: &mut Report) {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    if TEXTS.contains(&extension) {
        spaces(name, text, report);
    }
    match extension {
        "rs" => {
            module(name, text, report);
            unsafe_code(name, text, report);
        }
        "toml" if name.ends_with("/Cargo.toml") => versions(name, text, report),
        "md" => machine_paths(name, text, report),
        _ => {}
    }
}

impl Report {
    fn fault(&mut self, name: &str, line: usize, what: &str) {
        self.faults.push(format!("{name}:{}: {what}", line + 1));
    }
}

fn spaces(name: &str, text: &str, report: &mut Report) {
    for (line, content) in text.lines().enumerate() {
        if content.ends_with([' ', '\t']) {
            report.fault(name, line, "the line ends in a space");
        }
    }
    if !text.is_empty() && !text.ends_with('\n') {
        report.fault(name, text.lines().count() - 1, "the last line has no end");
    }
}

fn module(name: &str, text: &str, report: &mut Report) {
    if !text.starts_with("//!") {
        report.fault(name, 0, "a file begins with `//!` and says what it holds");
    }
    let lines = text.lines().count();
    if lines > MOST_LINES && !FLAT_TABLES.contains(&name) {
        report.fault(
            name,
            lines - 1,
            &format!("more than {MOST_LINES} lines: one subject a file"),
        );
    } else if lines > AIMED_LINES && !FLAT_TABLES.contains(&name) {
        report.long.push(format!("{name} ({lines})"));
    }
    let file = name.rsplit('/').next().unwrap_or(name);
    if EMPTY_NAMES.contains(&file) {
        report.fault(name, 0, "a file is named after what it holds");
    }
}

/// The workspace denies `unsafe`, so a file that holds it must also allow it: that is what can be found without doubt.
fn unsafe_code(name: &str, text: &str, report: &mut Report) {
    let file = name.rsplit('/').next().unwrap_or(name);
    let allowed = name.starts_with(UNSAFE_CRATE) || UNSAFE_FILES.contains(&file);
    let lines: Vec<&str> = text.lines().collect();
    for (line, content) in lines.iter().enumerate() {
        let code = content.split("//").next().unwrap_or_default();
        let quoted = code.contains(['"', '`']);
        let allows = ["allow(unsafe_code", "expect(unsafe_code"]
            .iter()
            .any(|attribute| code.contains(attribute));
        if allows && !quoted_before(code, "(unsafe_code") && !allowed {
            report.fault(
                name,
                line,
                &format!("unsafe code belongs in clip-torch or in {}", UNSAFE_FILES.join(", ")),
            );
        }
        let block = code.contains("unsafe {") || code.contains("unsafe impl");
        if block && !quoted {
            let above = &lines[line.saturating_sub(SAFETY_REACH)..=line];
            if !above.iter().any(|content| content.contains("SAFETY")) {
                report.fault(name, line, "an unsafe block says in a SAFETY comment why it is sound");
            }
        }
    }
}

/// Whether what we look for stands inside a string.
fn quoted_before(code: &str, what: &str) -> bool {
    code.split(what)
        .next()
        .is_some_and(|before| before.matches('"').count() % 2 == 1)
}

/// Versions live in the root's manifest alone. A workspace of its own stands for a stranger's crate and has its own.
fn versions(name: &str, text: &str, report: &mut Report) {
    let manifest: toml::Table = match text.parse() {
        Ok(manifest) => manifest,
        Err(error) => return report.fault(name, 0, &error.to_string()),
    };
    if manifest.contains_key("workspace") {
        return;
    }
    for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
        let target = manifest
            .get("target")
            .and_then(toml::Value::as_table)
            .into_iter()
            .flatten();
        let tables = target
            .filter_map(|(_, table)| table.get(kind))
            .chain(manifest.get(kind));
        for (import, value) in tables.filter_map(toml::Value::as_table).flatten() {
            if value.is_str() || value.get("version").is_some() {
                let line = text
                    .lines()
                    .position(|line| line.starts_with(import.as_str()))
                    .unwrap_or(0);
                report.fault(
                    name,
                    line,
                    &format!("the version of {import} belongs in the root's Cargo.toml"),
                );
            }
        }
    }
}

/// A path that exists on one machine only helps nobody else.
fn machine_paths(name: &str, text: &str, report: &mut Report) {
    let is_word = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    for (line, content) in text.lines().enumerate() {
        for folder in ["/tmp/", "/work/", "/root/", "/home/", "/Users/"] {
            for (at, _) in content.match_indices(folder) {
                let before = content[..at].chars().next_back();
                let after = content[at + folder.len()..].chars().next();
                // Inside a longer path or an address it is something else.
                if !before.is_some_and(|c| is_word(c) || c == '}') && after.is_some_and(is_word) {
                    report.fault(name, line, &format!("a path of one machine: {folder}…"));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(name: &str, text: &str) -> Vec<String> {
        let mut report = Report::default();
        judge(name, text, &mut report);
        report.faults
    }

    #[test]
    fn a_tidy_file_has_no_faults() {
        let text = "//! What it holds.\n\n// SAFETY: the pointer was checked.\nlet x = unsafe { *p };\n";
        assert_eq!(faults("crates/clip-torch/src/x.rs", text), Vec::<String>::new());
        assert_eq!(
            faults("crates/clip-index/src/simd.rs", "//! x\n#![allow(unsafe_code)]\n"),
            Vec::<String>::new()
        );
        let manifest = "[dependencies]\na.workspace = true\nb = { path = \"../b\" }\n";
        assert_eq!(faults("crates/a/Cargo.toml", manifest), Vec::<String>::new());
    }

    #[test]
    fn each_fault_is_found_with_its_line() {
        for (name, text, expected) in [
            ("a.rs", "fn main() {}\n", "a.rs:1: a file begins"),
            ("a.rs", "//! x\nlet a = 1; \n", "a.rs:2: the line ends in a space"),
            ("a.rs", "//! x\nlet a = 1;", "a.rs:2: the last line has no end"),
            ("src/utils.rs", "//! x\n", "src/utils.rs:1: a file is named"),
            ("a.rs", "//! x\n#![allow(unsafe_code)]\n", "a.rs:2: unsafe code belongs"),
            (
                "a/map.rs",
                "//! x\nlet a = unsafe { b() };\n",
                "a/map.rs:2: an unsafe block says",
            ),
            (
                "a/Cargo.toml",
                "[dependencies]\nserde = \"1\"\n",
                "a/Cargo.toml:2: the version of serde",
            ),
            (
                "a/Cargo.toml",
                "[target.'cfg(unix)'.dev-dependencies]\nlibc = { version = \"0\" }\n",
                "a/Cargo.toml:2: the version",
            ),
            ("a.md", "x\nsee `/tmp/x`\n", "a.md:2: a path of one machine"),
        ] {
            let found = faults(name, text);
            assert!(
                found.len() == 1 && found[0].starts_with(expected),
                "{expected}: {found:?}"
            );
        }
    }

    #[test]
    fn length_is_warned_of_and_then_refused() {
        let lines = |count| format!("//! x\n{}", "//\n".repeat(count - 1));
        let mut report = Report::default();
        judge("a.rs", &lines(AIMED_LINES), &mut report);
        assert!(report.long.is_empty() && report.faults.is_empty());
        judge("a.rs", &lines(MOST_LINES), &mut report);
        assert!(report.long == ["a.rs (600)"] && report.faults.is_empty());
        judge("a.rs", &lines(MOST_LINES + 1), &mut report);
        assert_eq!(report.faults.len(), 1);
    }

    #[test]
    fn addresses_and_folders_of_a_project_are_no_machine_paths() {
        for text in [
            "https://x.org/home/a\n",
            "crates/work/src\n",
            "${ROOT}/work/x\n",
            "`/tmp`\n",
        ] {
            assert_eq!(faults("a.md", text), Vec::<String>::new(), "{text}");
        }
    }
}
