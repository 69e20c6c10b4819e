//! Finds a checkpoint's files: by a fixed list of names, never by guessing.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clip_core::{Error, Result};

use crate::source::{SCHEME, is_name_without_scheme};

/// Weights files, in the order they are taken: an index before a single file, safetensors before pickle.
pub(crate) const WEIGHTS: [&str; 6] = [
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
    "model.safetensors.index.json",
    "model.safetensors",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
];

const OPEN_CLIP_CONFIG: &str = "open_clip_config.json";
const CONFIG: &str = "config.json";

/// The weights file that a path names: the file itself, or the first of the fixed names in a directory.
pub(crate) fn weights(path: &Path) -> Result<PathBuf> {
    let meta = std::fs::metadata(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound if is_name_without_scheme(path) => Error::not_found("there is no such file or folder")
            .file(path)
            .remedy(format!(
                "check the path; a model on a hub is named {SCHEME}{}",
                path.display()
            )),
        _ => Error::io("open the model", path, error),
    })?;
    if !meta.is_dir() {
        return Ok(path.to_owned());
    }
    let names = list(path)?;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let is_file = |name: &&str| path.join(name).is_file();
    let files: Vec<&str> = names.into_iter().filter(is_file).collect();
    choose(&files)
        .map(|name| path.join(name))
        .map_err(|error| a_run(path).unwrap_or(error).file(path))
}

/// The error for the folder of a training run, or of one of its checkpoints, which hold models and are none.
fn a_run(path: &Path) -> Option<Error> {
    let models = |names: &[&str]| -> Vec<String> {
        let paths = names.iter().map(|name| path.join(name));
        paths
            .filter(|path| path.is_dir())
            .map(|path| path.display().to_string())
            .collect()
    };
    if path.join("run.toml").is_file() {
        let error = Error::invalid("this is a training run, not a model");
        return Some(match models(&["best", "last"]).as_slice() {
            [] => error.remedy("it has written no model yet: go on with `clipzoo train --resume`"),
            models => error.remedy(format!(
                "name the model in it, {}; `clipzoo inspect RUN --queue` shows its feature queue",
                models.join(" or ")
            )),
        });
    }
    let model = models(&["model"]).pop().filter(|_| path.join("state.json").is_file())?;
    Some(
        Error::invalid("this is a checkpoint that a run goes on from, not a model")
            .remedy(format!("name the model in it, {model}")),
    )
}

/// Of the names of a directory's files the one to open: the first of the fixed names, or the only one of Chinese-CLIP's.
pub(crate) fn choose<'n>(names: &[&'n str]) -> Result<&'n str> {
    let there = |wanted: &&str| names.iter().find(|name| *name == wanted).copied();
    if let Some(found) = WEIGHTS.iter().find_map(there) {
        return Ok(found);
    }
    let endings = [".safetensors", ".bin", ".pt", ".pth", ".ckpt"];
    let mut candidates: Vec<&str> = names
        .iter()
        .copied()
        .filter(|name| !name.contains('/') && endings.iter().any(|ending| name.ends_with(ending)))
        .collect();
    candidates.sort_unstable();
    let mut chinese = candidates.iter().filter(|name| is_chinese_clip(name));
    if let (Some(only), None) = (chinese.next(), chinese.next()) {
        return Ok(only);
    }
    Err(match candidates.as_slice() {
        [] => Error::not_found("the directory holds no weights")
            .remedy(format!("looked for {}, clip_cn_*.pt", WEIGHTS.join(", "))),
        _ => Error::invalid(format!(
            "no weights file has one of the known names; there are {}",
            candidates.join(", ")
        ))
        .remedy("name the file itself"),
    })
}

/// The names in a directory.
fn list(directory: &Path) -> Result<Vec<String>> {
    let io = |error| Error::io("list", directory, error);
    let entries = std::fs::read_dir(directory).map_err(io)?;
    entries
        .map(|entry| Ok(entry.map_err(io)?.file_name().to_string_lossy().into_owned()))
        .collect()
}

/// What may stand beside the weights and is read when a model is opened, whatever its family: small files.
#[cfg(feature = "hub")]
pub(crate) fn companions() -> impl Iterator<Item = &'static str> {
    // Chinese-CLIP's own towers, and how a text tower of sentence-transformers pools.
    let configs = [
        CONFIG,
        OPEN_CLIP_CONFIG,
        "vision.json",
        "text.json",
        "1_Pooling/config.json",
    ];
    configs
        .into_iter()
        .chain(crate::preprocess::NAMES)
        .chain(crate::vocabulary::names())
}

/// How Chinese-CLIP calls its files of weights.
pub(crate) fn is_chinese_clip(name: &str) -> bool {
    name.starts_with("clip_cn_") && name.ends_with(".pt")
}

/// Whether a file of this name in a directory is taken for its weights or its config.
pub(crate) fn is_known(name: &str) -> bool {
    WEIGHTS.contains(&name) || [OPEN_CLIP_CONFIG, CONFIG].contains(&name) || is_chinese_clip(name)
}

/// The names a config may have beside a weights file, the likelier first. OpenCLIP's weights on the hub stand beside
/// Hugging Face's, each with its own config. So do Chinese-CLIP's own, whose configs have other names.
pub(crate) fn config_names(weights: &Path) -> &'static [&'static str] {
    let name = weights.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let hugging_face = WEIGHTS[2..].contains(&name);
    if hugging_face {
        &[CONFIG, OPEN_CLIP_CONFIG]
    } else if is_chinese_clip(name) {
        &[]
    } else {
        &[OPEN_CLIP_CONFIG, CONFIG]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        names
            .iter()
            .for_each(|name| std::fs::write(folder.path().join(name), "x").unwrap());
        folder
    }

    fn found(names: &[&str]) -> Result<String> {
        let folder = directory(names);
        weights(folder.path()).map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
    }

    #[test]
    fn the_first_of_the_fixed_names_wins() {
        assert_eq!(
            found(&["pytorch_model.bin", "model.safetensors", "io.safetensors"]).unwrap(),
            "model.safetensors"
        );
        assert_eq!(
            found(&["model.safetensors", "open_clip_pytorch_model.bin"]).unwrap(),
            "open_clip_pytorch_model.bin"
        );
        assert_eq!(
            found(&["model.safetensors", "model.safetensors.index.json"]).unwrap(),
            "model.safetensors.index.json"
        );
        assert_eq!(
            found(&["clip_cn_vit-b-16.pt", "epoch.pt"]).unwrap(),
            "clip_cn_vit-b-16.pt"
        );
    }

    #[test]
    fn other_names_are_listed_not_guessed() {
        let error = |names: &[&str]| found(names).unwrap_err().what().to_owned();
        assert_eq!(
            error(&["b.pt", "a.safetensors", "README.md"]),
            "no weights file has one of the known names; there are a.safetensors, b.pt"
        );
        assert_eq!(
            error(&["clip_cn_a.pt", "clip_cn_b.pt"]),
            "no weights file has one of the known names; there are clip_cn_a.pt, clip_cn_b.pt"
        );
        assert_eq!(error(&["README.md"]), "the directory holds no weights");
        let gone = weights(Path::new("no/such/model")).unwrap_err();
        assert_eq!(gone.kind(), clip_core::Kind::NotFound);
    }
}
