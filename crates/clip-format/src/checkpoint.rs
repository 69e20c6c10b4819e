//! Opening a checkpoint: weights, config, family, names; tokenizer and transform when they are asked for.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clip_core::{Error, ImageTransform, Result, Tokenizer, Truncation};
use clip_data::{ClipTransform, TransformConfig};
use serde_json::{Map, Value};

use crate::families::{Evidence, Families, Family, complete, text_positions};
use crate::json::read_json;
use crate::mapping::{Mapping, Remapped, Row};
use crate::preprocess;
use crate::source::resolve;
use crate::tensor::{TensorInfo, Weights};
use crate::weights::{Format, WeightsFile};
use crate::{identity, locate, vocabulary};

/// An opened checkpoint. Its weights stay mapped; nothing of them is read before it is asked for.
pub struct Checkpoint {
    directory: PathBuf,
    family: Arc<dyn Family>,
    /// What the family read: the config it was recognised by, and other files of the directory.
    config_files: Vec<PathBuf>,
    config: Value,
    file: WeightsFile,
    weights: Arc<Remapped<Arc<dyn Weights>>>,
}

/// How texts are cut to tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TextOptions {
    /// The most ids of a text, special tokens included; `None`: the config's number.
    pub context_length: Option<usize>,
    /// What becomes of a text of more. EasyNLP's is that of its byte pairs: it cuts word pieces as everybody does.
    pub truncation: Truncation,
}

/// What a file of a checkpoint is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Role {
    /// Tensors, or the index of shards.
    Weights,
    /// A config: the one the family was recognised by, or another that it read.
    Config,
    /// The preprocessing of pictures.
    Preprocessor,
    /// A tokenizer's vocabulary or settings.
    Vocabulary,
}

/// A file of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointFile {
    /// What it is for.
    pub role: Role,
    /// Where it is.
    pub path: PathBuf,
    /// How long it is.
    pub bytes: u64,
}

impl Checkpoint {
    /// Opens a directory or a weights file, whose config is looked for beside it, or a name on a hub, `hf:owner/name`, which
    /// [`resolve`] fetches.
    ///
    /// In a directory only the fixed names count (`open_clip_model.safetensors`, `model.safetensors`, …), the first one
    /// present. The family is the one that recognises config and names; none or several are an error that names them.
    pub fn open(path: impl AsRef<Path>, families: &Families) -> Result<Self> {
        let weights = locate::weights(&resolve(path, &mut ())?)?;
        let file = WeightsFile::open(&weights)?;
        let parent = weights.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = parent.unwrap_or(Path::new(".")).to_owned();
        let tensors = without_wrapper(file.tensors.clone())?;
        let (family, config_files, config) = recognise(&weights, file.format, &directory, tensors.tensors(), families)?;
        let mapping = family.mapping(&config)?;
        let weights = Remapped::load(&mapping, tensors).map_err(|error| error.file(&weights))?;
        Ok(Self {
            directory,
            family,
            config_files,
            config,
            file,
            weights: Arc::new(weights),
        })
    }

    /// The family's name.
    pub fn family(&self) -> &str {
        self.family.name()
    }

    /// The family to write this model in when a user asks for a layout; see [`Families::for_layout`].
    ///
    /// # Errors
    /// As there.
    pub fn layout(&self, layout: &str, families: &Families) -> Result<Arc<dyn Family>> {
        families.for_layout(layout, self.family(), &complete(self.config())?)
    }

    /// The canonical config.
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// The tensors under canonical names. What no name of the family fits stays visible under the file's own name.
    pub fn weights(&self) -> &dyn Weights {
        &*self.weights
    }

    /// The same, to be kept after the checkpoint is gone: views borrow from it.
    pub fn share_weights(&self) -> Arc<dyn Weights> {
        self.weights.clone()
    }

    /// Names of the file that no name of the family fits, or parts of a tensor whose other parts are missing.
    pub fn unknown_tensors(&self) -> &[String] {
        self.weights.unknown()
    }

    /// How texts are prepared and cut into tokens, in words.
    ///
    /// # Errors
    /// The config does not say, or says what is not supported.
    pub fn tokenizer_rule(&self) -> Result<String> {
        vocabulary::describe(&self.directory, &self.config).map_err(|error| error.file(&self.directory))
    }

    /// The tensors under the file's own names.
    pub fn raw_tensors(&self) -> &[TensorInfo] {
        self.file.tensors.tensors()
    }

    /// The checkpoint with some fields of a tower's config (`vision_config` or `text_config`) changed: another picture
    /// size for a convolutional tower, another pooling. The weights must fit all the same, and the transform follows.
    ///
    /// # Errors
    /// There is no such tower, or its config has no such field.
    pub fn with_tower(mut self, tower: &str, fields: &Map<String, Value>) -> Result<Self> {
        if fields.is_empty() {
            return Ok(self);
        }
        let Some(config) = self.config.get_mut(tower).and_then(Value::as_object_mut) else {
            return Err(Error::invalid(format!("the checkpoint has no `{tower}`")).file(&self.directory));
        };
        for (name, value) in fields {
            if !config.contains_key(name) {
                let known = config.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
                let error = Error::invalid(format!("the tower's config has no field `{name}`; it has: {known}"));
                return Err(error.file(&self.directory));
            }
            config.insert(name.clone(), value.clone());
        }
        Ok(self)
    }

    /// The format of the weights.
    pub fn format(&self) -> Format {
        self.file.format
    }

    /// The folder of the files.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The tokenizer, its texts cut at `context_length` ids or at the config's own; an error if the vocabulary does not
    /// fit the weights.
    pub fn tokenizer(&self, context_length: Option<usize>) -> Result<Arc<dyn Tokenizer>> {
        self.tokenizer_with(TextOptions {
            context_length,
            ..TextOptions::default()
        })
    }

    /// The tokenizer that cuts texts as told; an error if the vocabulary does not fit the weights.
    pub fn tokenizer_with(&self, options: TextOptions) -> Result<Arc<dyn Tokenizer>> {
        let text = self.config.get("text_config").filter(|text| text.is_object());
        let text = text.ok_or_else(|| Error::invalid("the model has no text tower").file(&self.directory))?;
        let number = |value: Option<&Value>| {
            value
                .and_then(Value::as_u64)
                .and_then(|value| usize::try_from(value).ok())
        };
        let positions = text_positions(text);
        let context = options
            .context_length
            .or_else(|| number(self.config.get("context_length")))
            .or(positions)
            .unwrap_or(77);
        if let Some(positions) = positions
            && context > positions
        {
            return Err(Error::invalid(format!(
                "a context of {context} ids is longer than the model's {positions} positions"
            ))
            .file(&self.directory)
            .remedy(format!("pass --context-length {positions} or less")));
        }
        let rows = self.embedding_rows().or_else(|| number(text.get("vocab_size")));
        let rows = rows.ok_or_else(|| Error::invalid("the text tower does not say how many tokens it knows"))?;
        vocabulary::tokenizer(&self.directory, &self.config, (context, options.truncation), rows)
            .map_err(|error| error.file(&self.directory))
    }

    /// What the transform does.
    pub fn transform_config(&self) -> Result<TransformConfig> {
        preprocess::transform(&self.directory, &*self.family, &self.config).map_err(|error| error.file(&self.directory))
    }

    /// The transform of pictures to the model's pixels.
    pub fn transform(&self) -> Result<Arc<dyn ImageTransform>> {
        Ok(Arc::new(ClipTransform::new(self.transform_config()?)?))
    }

    /// SHA-256 over weights, config and transform; reads all weights. The same for the same model in any layout.
    pub fn id(&self) -> Result<String> {
        let has_images = self.config.get("vision_config").is_some_and(Value::is_object);
        let transform = if has_images {
            self.transform()?.describe()
        } else {
            String::new()
        };
        identity::identity(self.weights(), &self.config, &transform)
    }

    /// What tells these weights from others without reading them all: SHA-256 over names, shapes and pieces of every tensor
    /// of the file. Another layout of the same model has another one.
    pub fn fingerprint(&self) -> Result<String> {
        identity::fingerprint(&*self.file.tensors)
    }

    /// The vocabulary's files, for copying along when the model is saved; none if it uses a bundled one.
    pub fn vocabulary_files(&self) -> Vec<PathBuf> {
        vocabulary::files(&self.directory)
    }

    /// The checkpoint's files.
    pub fn files(&self) -> Vec<CheckpointFile> {
        let weights = self.file.files.iter().map(|path| (Role::Weights, path.clone()));
        let vocabulary = self.vocabulary_files();
        // A tokenizer's settings may have been read for the config; they are listed once.
        let config = self.config_files.iter().filter(|path| !vocabulary.contains(path));
        let config = config.map(|path| (Role::Config, path.clone()));
        // One that is malformed is told when pictures are asked for.
        let preprocessor = preprocess::file(&self.directory).ok().flatten();
        let preprocessor = preprocessor.into_iter().map(|(path, _)| (Role::Preprocessor, path));
        let vocabulary = vocabulary.iter().map(|path| (Role::Vocabulary, path.clone()));
        let all = weights.chain(config).chain(preprocessor).chain(vocabulary);
        let size = |path: &Path| std::fs::metadata(path).map_or(0, |meta| meta.len());
        all.map(|(role, path)| CheckpointFile {
            role,
            bytes: size(&path),
            path,
        })
        .collect()
    }

    /// Rows of the table of token embeddings, by the names of the towers known here.
    fn embedding_rows(&self) -> Option<usize> {
        let names = ["text.token_embedding.weight", "text.embeddings.word.weight"];
        let table = self
            .weights
            .tensors()
            .iter()
            .find(|tensor| names.contains(&tensor.name.as_str()));
        table.and_then(|table| table.shape.first().copied())
    }
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpoint")
            .field("family", &self.family())
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

/// Takes off the `module.` that a data-parallel run puts before every name.
fn without_wrapper(tensors: Arc<dyn Weights>) -> Result<Arc<dyn Weights>> {
    const WRAPPED: &[Row] = &[Row::Same {
        file: "module.{*}",
        model: "{*}",
    }];
    if tensors
        .tensors()
        .iter()
        .any(|tensor| !tensor.name.starts_with("module."))
    {
        return Ok(tensors);
    }
    Ok(Arc::new(Remapped::load(
        &Mapping::new().under("", "", WRAPPED)?,
        tensors,
    )?))
}

/// The family, the files it read and the canonical config.
fn recognise(
    weights: &Path,
    format: Format,
    directory: &Path,
    tensors: &[TensorInfo],
    families: &Families,
) -> Result<(Arc<dyn Family>, Vec<PathBuf>, Value)> {
    let found = locate::config_names(weights)
        .iter()
        .map(|&name| (name, directory.join(name)));
    let found = found
        .filter(|(_, path)| path.is_file())
        .map(|(name, path)| Ok((name, read_json(&path)?, path)))
        .next();
    let found = found.transpose()?;
    let read = RefCell::new(BTreeSet::new());
    let beside = |name: &str| {
        let path = directory.join(name);
        if !path.is_file() {
            return Ok(None);
        }
        let value = read_json(&path)?;
        read.borrow_mut().insert(path);
        Ok(Some(value))
    };
    let config = found.as_ref().map(|(name, config, _)| (*name, config));
    let evidence = Evidence {
        config,
        tensors,
        file: weights.file_name().and_then(|name| name.to_str()).unwrap_or_default(),
        format,
        beside: &beside,
    };
    let at = found.as_ref().map_or(weights, |(_, _, path)| path);
    let family = families.recognise(&evidence).map_err(|error| error.file(at))?;
    let canonical = family.canonical(&evidence).map_err(|error| error.file(at))?;
    let files = found.iter().map(|(_, _, path)| path.clone()).chain(read.take());
    Ok((family, files.collect(), canonical))
}

#[cfg(test)]
mod tests;
