//! Rewriting a checkpoint in another family's layout, tensor by tensor.

use std::path::{Path, PathBuf};

use clip_core::{Error, Result};
use clip_data::{ConfigForm, TransformConfig};
use serde_json::Value;

use crate::cast::Cast;
use crate::checkpoint::{Checkpoint, CheckpointFile};
use crate::families::{Families, Family, complete};
use crate::save::{Extras, StagedDirectory, write_model};
use crate::tensor::{Dtype, TensorInfo, Weights};

/// How many names a message lists.
const LISTED: usize = 8;

/// What [`convert`] wrote.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Converted {
    /// The family whose layout was written.
    pub family: String,
    /// The files, where they lie now.
    pub files: Vec<CheckpointFile>,
    /// The tensors under the new layout's names.
    pub tensors: Vec<TensorInfo>,
    /// What the layout's readers do differently, each a sentence: with texts, with pictures.
    pub notes: Vec<String>,
}

/// Writes a checkpoint in a layout of `families`: one of their names, or a short name that several share
/// ([`Families::for_layout`]). Floating-point tensors become `dtype` where one is given and keep their type else.
///
/// No more than a tensor is held at a time: it is read where it lies in the mapped file and written on. The directory
/// must be new or empty; it appears whole or not at all. What was written is opened again before it appears, and must be
/// the same model.
///
/// ```no_run
/// use clip_format::{Checkpoint, Families, convert};
/// let families = Families::bundled();
/// let checkpoint = Checkpoint::open("my-model", &families)?;
/// let written = convert(&checkpoint, "easynlp", None, "my-model-easynlp".as_ref(), &families)?;
/// println!("{} tensors as {}", written.tensors.len(), written.family);
/// # Ok::<(), clip_core::Error>(())
/// ```
///
/// # Errors
/// No layout is called so, or none of that name can express the model (the message says why); the checkpoint holds tensors
/// that its own family does not know; a number is beyond `dtype`; a file cannot be read or written.
pub fn convert(
    checkpoint: &Checkpoint,
    layout: &str,
    dtype: Option<Dtype>,
    directory: &Path,
    families: &Families,
) -> Result<Converted> {
    refuse_used(directory)?;
    if let Some(dtype) = dtype.filter(|dtype| !matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16)) {
        return Err(Error::invalid(format!("weights cannot be converted to {dtype}")));
    }
    refuse_unknown(checkpoint)?;
    let full = complete(checkpoint.config())?;
    let family = checkpoint.layout(layout, families)?;
    // In its own layout a config stays as it is.
    let config = if family.name() == checkpoint.family() {
        checkpoint.config()
    } else {
        &full
    };
    let mut notes = Vec::new();
    let transform = if config.get("vision_config").is_some_and(|vision| vision.is_object()) {
        expressible(&*family, config, checkpoint.transform_config()?, &mut notes)
    } else {
        None
    };
    let weights = Cast::new(checkpoint.share_weights(), dtype);
    let staged = StagedDirectory::beside(directory)?;
    let extras = Extras {
        transform: transform.as_ref(),
        vocabulary: &checkpoint.vocabulary_files(),
    };
    write_model(staged.path(), &*family, config, &weights, extras)?;
    let again = reopened(staged.path(), &*family, &weights, families)?;
    texts(checkpoint, &again, &mut notes);
    let files = again
        .files()
        .into_iter()
        .map(|file| moved(file, staged.path(), directory));
    let converted = Converted {
        family: family.name().to_owned(),
        files: files.collect(),
        tensors: again.raw_tensors().to_vec(),
        notes,
    };
    // The mapping of the new file ends before the file is renamed, which some systems ask for.
    drop(again);
    staged.commit()?;
    Ok(converted)
}

/// Refuses a directory that holds anything.
fn refuse_used(directory: &Path) -> Result<()> {
    let held = match std::fs::read_dir(directory) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        Err(error) => return Err(Error::io("write to", directory, error)),
    };
    if !held {
        return Ok(());
    }
    Err(Error::invalid("the directory is not empty")
        .file(directory)
        .remedy("name a new or an empty directory"))
}

/// Refuses tensors whose meaning nobody knows: left out they would be lost, kept they would be in nobody's layout.
fn refuse_unknown(checkpoint: &Checkpoint) -> Result<()> {
    let unknown = checkpoint.unknown_tensors();
    if unknown.is_empty() {
        return Ok(());
    }
    let more = unknown.len().saturating_sub(LISTED);
    let listed = unknown[..unknown.len() - more].join("`, `");
    let rest = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    let family = checkpoint.family();
    Err(Error::invalid(format!(
        "the checkpoint holds tensors that have no place in its layout `{family}`: `{listed}`{rest}"
    ))
    .file(checkpoint.directory())
    .remedy("check that the config beside the weights is theirs"))
}

/// What the checkpoint does to pictures, or the nearest to it that the layout has words for; `None` where the layout has
/// none and its own rule counts. What is not kept goes to `notes`.
fn expressible(
    family: &dyn Family,
    config: &Value,
    exact: TransformConfig,
    notes: &mut Vec<String>,
) -> Option<TransformConfig> {
    let Err(error) = family.restore(config, Some(&exact)) else {
        return Some(exact);
    };
    notes.push(format!(
        "pictures are prepared by the layout's own rule now: {}",
        error.what()
    ));
    let near = [ConfigForm::OpenClip, ConfigForm::HuggingFace].map(|form| exact.nearest(form));
    let mut near = near.into_iter();
    near.find(|near| family.restore(config, Some(near)).is_ok())
}

/// Opens what was written; it must be of the family that wrote it and hold the same tensors.
fn reopened(directory: &Path, family: &dyn Family, wanted: &dyn Weights, families: &Families) -> Result<Checkpoint> {
    let name = family.name();
    let fault = |what: String| Error::internal(format!("the layout `{name}` did not keep the model: {what}"));
    let again = Checkpoint::open(directory, families).map_err(|error| fault(error.what().to_owned()))?;
    if again.family() != name {
        return Err(fault(format!("it is read as `{}`", again.family())));
    }
    let sorted = |tensors: &[TensorInfo]| {
        let mut tensors = tensors.to_vec();
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        tensors
    };
    let (wanted, found) = (sorted(wanted.tensors()), sorted(again.weights().tensors()));
    let differs = |(a, b): &(&TensorInfo, &TensorInfo)| a != b;
    if let Some((one, other)) = wanted.iter().zip(&found).find(differs) {
        let shown = |info: &TensorInfo| format!("`{}` {} {:?}", info.name, info.dtype, info.shape);
        return Err(fault(format!("{} became {}", shown(one), shown(other))));
    }
    if wanted.len() != found.len() {
        return Err(fault(format!("{} tensors became {}", wanted.len(), found.len())));
    }
    Ok(again)
}

/// What readers of the new layout do differently with texts.
fn texts(before: &Checkpoint, after: &Checkpoint, notes: &mut Vec<String>) {
    if let (Ok(one), Ok(other)) = (before.tokenizer_rule(), after.tokenizer_rule())
        && one != other
    {
        notes.push(format!(
            "texts were cut into tokens as follows: {one}; the new layout's readers do so: {other}; some texts may get other ids"
        ));
    }
    let context = |checkpoint: &Checkpoint| checkpoint.config().get("context_length").cloned();
    if let (Some(one), Some(other)) = (context(before), context(after))
        && one != other
    {
        notes.push(format!("texts are cut at {other} tokens now, at {one} before"));
    }
    if after.vocabulary_files().is_empty() && before.tokenizer_rule().is_ok() && before.tokenizer(None).is_err() {
        notes.push("the model has no vocabulary, and the bundled one does not fit it".to_owned());
    }
}

fn moved(file: CheckpointFile, from: &Path, to: &Path) -> CheckpointFile {
    let path = file
        .path
        .strip_prefix(from)
        .map_or_else(|_| PathBuf::from(&file.path), |rest| to.join(rest));
    CheckpointFile { path, ..file }
}

#[cfg(test)]
mod tests;
