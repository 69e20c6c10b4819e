//! The family table: one file a family, nothing privileged.
//!
//! A family says how to recognise a layout, how its config becomes canonical and back, and how its tensor names map.
//! It says so without reading weights and without a model: whoever adds one writes one file that implements
//! [`Family`] and registers it.

mod asked;
mod bare;
mod bert;
mod chinese_clip;
mod easynlp;
mod efficientnet;
mod flat;
mod hugging_face;
mod native;
mod open_clip;
mod resnet;
mod towers;

pub(crate) use native::complete;

use std::sync::Arc;

use clip_core::{Error, Registry, Result};
use clip_data::TransformConfig;
use serde_json::Value;

use crate::mapping::Mapping;
use crate::tensor::TensorInfo;
use crate::weights::Format;
pub(crate) use towers::{no_image_tower, text_positions};

/// What a family may look at to recognise a checkpoint and to read its config: small files and names, no data.
pub struct Evidence<'a> {
    /// The config beside the weights: the file's name and its content.
    pub config: Option<(&'a str, &'a Value)>,
    /// The tensors under the names of the file.
    pub tensors: &'a [TensorInfo],
    /// The name of the weights file: some releases are known by it.
    pub file: &'a str,
    /// The format of the weights file.
    pub format: Format,
    /// Other JSON files of the directory, read when asked for; `None` if a file is not there.
    pub beside: &'a dyn Fn(&str) -> Result<Option<Value>>,
}

impl<'a> Evidence<'a> {
    /// The config's content.
    pub fn config(&self) -> Option<&'a Value> {
        self.config.map(|(_, config)| config)
    }

    /// The config, for a family that is recognised by it.
    pub(crate) fn required_config(&self) -> Result<(&'a str, &'a Value)> {
        self.config.ok_or_else(|| {
            Error::invalid("the config is missing").remedy("put the model's config.json beside its weights")
        })
    }

    /// The config's `model_type`.
    pub fn model_type(&self) -> Option<&'a str> {
        self.config()?.get("model_type")?.as_str()
    }

    /// The shape of a tensor of the file.
    pub fn shape(&self, name: &str) -> Option<&'a [usize]> {
        self.tensors
            .iter()
            .find(|tensor| tensor.name == name)
            .map(|tensor| tensor.shape.as_slice())
    }
}

/// The files of a layout, apart from vocabularies.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    /// The name of the weights file. Its ending says the container, as [`write_weights`](crate::write_weights) has it.
    pub weights: &'static str,
    /// JSON files: their names, which may have a folder, and contents.
    pub files: Vec<(&'static str, Value)>,
}

/// A checkpoint layout.
pub trait Family: Send + Sync {
    /// The family's name, as `inspect` shows it and `convert` takes it.
    fn name(&self) -> &'static str;

    /// What users call the layout, where that is another word than the name: `hf`, `easynlp`. Families may share it, and
    /// `convert` takes the one of them that can express the model.
    fn short_name(&self) -> &'static str {
        self.name()
    }

    /// What the family is recognised by, for messages: ``model_type `bert` ``.
    fn mark(&self) -> &'static str;

    /// Whether a checkpoint is of this family. Exactly one family may say yes.
    fn recognises(&self, evidence: &Evidence<'_>) -> bool;

    /// For weights without a config whose names are this family's, while it needs one: the error that asks for it and shows
    /// what of it names and shapes tell. A family that reads such a file, or that no names tell, leaves this as it is.
    fn asks(&self, _evidence: &Evidence<'_>) -> Option<Error> {
        None
    }

    /// The config in canonical shape, missing fields filled in with the reference's defaults; an error names what is
    /// not supported.
    fn canonical(&self, evidence: &Evidence<'_>) -> Result<Value>;

    /// How tensor names map, for a canonical config.
    fn mapping(&self, config: &Value) -> Result<Mapping>;

    /// The layout's files for a canonical config and its transform; an error names what the layout cannot express.
    fn restore(&self, config: &Value, transform: Option<&TransformConfig>) -> Result<Layout>;

    /// The transform of a checkpoint that brings none.
    fn default_transform(&self, config: &Value) -> Result<TransformConfig>;

    /// The form in which the layout's readers look for a vocabulary.
    fn vocabulary(&self) -> VocabularyForm {
        VocabularyForm::AsItIs
    }
}

/// The files that a vocabulary is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum VocabularyForm {
    /// What the model has, if anything.
    #[default]
    AsItIs,
    /// What Hugging Face's library reads: `vocab.json` and `merges.txt`, or `vocab.txt` with one word piece a line, unless
    /// the model has such files or a `tokenizer.json` already. A bundled vocabulary is written out.
    HuggingFace,
    /// One file `vocab.txt`: merges packed with gzip, or one word piece a line. A bundled vocabulary is written out.
    VocabTxt,
}

/// The known families.
///
/// ```
/// let families = clip_format::Families::bundled();
/// assert!(families.names().any(|name| name == "open_clip"));
/// ```
#[derive(Debug, Clone)]
pub struct Families {
    known: Registry<Arc<dyn Family>>,
}

impl std::fmt::Debug for dyn Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Family({})", self.name())
    }
}

impl Families {
    /// An empty table.
    pub fn new() -> Self {
        Self {
            known: Registry::new("family"),
        }
    }

    /// The families of this crate.
    pub fn bundled() -> Self {
        let mut families = Self::new();
        let bundled: [Arc<dyn Family>; 14] = [
            Arc::new(bert::Bert),
            Arc::new(chinese_clip::ChineseClip),
            Arc::new(easynlp::ChineseClip),
            Arc::new(easynlp::OpenClip),
            Arc::new(easynlp::TwoTowers::NOW),
            Arc::new(easynlp::TwoTowers::OF_2022),
            Arc::new(efficientnet::EfficientNetLite0),
            Arc::new(hugging_face::ChineseClip),
            Arc::new(hugging_face::Clip),
            Arc::new(hugging_face::DualEncoder),
            Arc::new(hugging_face::Siglip),
            Arc::new(native::Native),
            Arc::new(open_clip::OpenClip),
            Arc::new(open_clip::Siglip),
        ];
        for family in bundled {
            // Names of the bundled families differ, which a test checks.
            let _ = families.known.register(family.name(), family);
        }
        families
    }

    /// Adds a family; a second one of the same name is an error.
    pub fn register(&mut self, family: impl Family + 'static) -> Result<&mut Self> {
        self.known.register(family.name(), Arc::new(family))?;
        Ok(self)
    }

    /// The family of a name.
    pub fn get(&self, name: &str) -> Result<Arc<dyn Family>> {
        self.known.get(name).cloned()
    }

    /// The names, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.known.names()
    }

    /// The families, in alphabetical order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &dyn Family> {
        self.known.iter().map(|(_, family)| &**family)
    }

    /// What [`for_layout`](Self::for_layout) takes: short names first, then the families' own names.
    pub fn layouts(&self) -> Vec<&'static str> {
        let mut short: Vec<&str> = self.iter().map(Family::short_name).collect();
        short.sort_unstable();
        short.dedup();
        let names = self.iter().map(Family::name).filter(|name| !short.contains(name));
        let names: Vec<&str> = names.collect();
        [short, names].concat()
    }

    /// The family to write a model in when a user asks for a layout: by a family's own name, or by the short name that
    /// several share, of which the one that can express the model is taken. `own` is the model's family, which goes first.
    /// How pictures are prepared does not decide.
    ///
    /// # Errors
    /// Nothing is called so; no family of that name can express the model (the message says why, for each); several can.
    pub fn for_layout(&self, layout: &str, own: &str, config: &Value) -> Result<Arc<dyn Family>> {
        let called = |family: &dyn Family| family.name() == layout || family.short_name() == layout;
        let candidates = self.known.iter().filter(|(_, family)| called(&***family));
        let tried: Vec<_> = candidates
            .map(|(name, family)| (name, family, family.restore(config, None).err()))
            .collect();
        let mut able = tried.iter().filter(|(_, _, error)| error.is_none());
        let by_name = |wanted: &str| {
            let mut found = able.clone().filter(|(name, ..)| *name == wanted);
            found.next().map(|(_, family, _)| (*family).clone())
        };
        if let Some(family) = by_name(own).or_else(|| by_name(layout)) {
            return Ok(family);
        }
        match (able.next(), able.next(), tried.as_slice()) {
            (Some((_, family, _)), None, _) => Ok((*family).clone()),
            (Some((first, ..)), Some((second, ..)), _) => {
                let rest: String = able.map(|(name, ..)| format!(", {name}")).collect();
                Err(
                    Error::invalid(format!("several layouts called `{layout}` can express the model"))
                        .remedy(format!("name one of them: {first}, {second}{rest}")),
                )
            }
            (None, _, []) => Err(Error::not_found(format!("no layout is called `{layout}`"))
                .remedy(format!("known: {}", self.layouts().join(", ")))),
            (None, _, [(_, _, Some(error))]) => Err(error.clone()),
            (None, _, tried) => Err(none_can(layout, tried.iter().filter_map(|(.., error)| error.as_ref()))),
        }
    }

    /// The one family that recognises a checkpoint; none or several are an error that names them.
    pub fn recognise(&self, evidence: &Evidence<'_>) -> Result<Arc<dyn Family>> {
        let mut found = self.known.iter().filter(|(_, family)| family.recognises(evidence));
        match (found.next(), found.next()) {
            (Some((_, family)), None) => Ok(family.clone()),
            (Some((first, _)), Some((second, _))) => {
                let rest: String = found.map(|(name, _)| format!(", {name}")).collect();
                Err(
                    Error::invalid(format!("the checkpoint fits several families: {first}, {second}{rest}"))
                        .remedy("take out the keys of the config that belong to another layout"),
                )
            }
            (None, _) => Err(self.unknown(evidence)),
        }
    }

    /// The family to save a model in: the one it came from if that can express it, else the project's own.
    pub fn for_saving(
        &self,
        preferred: &str,
        config: &Value,
        transform: Option<&TransformConfig>,
    ) -> Result<Arc<dyn Family>> {
        let family = self.get(preferred)?;
        if family.restore(config, transform).is_ok() {
            Ok(family)
        } else {
            self.get(native::NAME)
        }
    }

    fn unknown(&self, evidence: &Evidence<'_>) -> Error {
        let Some((file, config)) = evidence.config else {
            return self
                .iter()
                .find_map(|family| family.asks(evidence))
                .unwrap_or_else(|| bare::of_no_family(evidence));
        };
        let marks: Vec<String> = self
            .known
            .iter()
            .map(|(name, family)| format!("{name} ({})", family.mark()))
            .collect();
        let known = if marks.is_empty() {
            "none".to_owned()
        } else {
            marks.join(", ")
        };
        let what = match config.get("model_type") {
            Some(model_type) => format!("`model_type` {model_type} in {file} is of no known family"),
            None => format!("{file} fits no known family"),
        };
        Error::invalid(what).remedy(format!("known: {known}"))
    }
}

/// Why none of several families can express a model, each reason in the family's own words.
fn none_can<'e>(layout: &str, errors: impl Iterator<Item = &'e Error>) -> Error {
    let reasons: Vec<&str> = errors.map(Error::what).collect();
    Error::invalid(format!(
        "no layout called `{layout}` can express the model: {}",
        reasons.join("; ")
    ))
    .remedy("save it as `clipzoo`")
}

impl Default for Families {
    fn default() -> Self {
        Self::bundled()
    }
}

#[cfg(test)]
pub(crate) mod tests;
