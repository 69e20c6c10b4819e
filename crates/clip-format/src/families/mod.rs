//! The family table: one file a family, nothing privileged.
//!
//! A family says how to recognise a layout, how its config becomes canonical and back, and how its tensor names map.
//! It says so without reading weights and without a model: whoever adds one writes one file that implements
//! [`Family`] and registers it.

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

use std::sync::Arc;

use clip_core::{Error, Registry, Result};
use clip_data::TransformConfig;
use serde_json::Value;

use crate::mapping::Mapping;
use crate::tensor::TensorInfo;
use crate::weights::Format;
pub(crate) use towers::text_positions;

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
    /// The name of the weights file.
    pub weights: &'static str,
    /// JSON files: their names, which may have a folder, and contents.
    pub files: Vec<(&'static str, Value)>,
}

/// A checkpoint layout.
pub trait Family: Send + Sync {
    /// The family's name, as `inspect` shows it and `convert` takes it.
    fn name(&self) -> &'static str;

    /// What the family is recognised by, for messages: ``model_type `bert` ``.
    fn mark(&self) -> &'static str;

    /// Whether a checkpoint is of this family. Exactly one family may say yes.
    fn recognises(&self, evidence: &Evidence<'_>) -> bool;

    /// The config in canonical shape, missing fields filled in with the reference's defaults; an error names what is
    /// not supported.
    fn canonical(&self, evidence: &Evidence<'_>) -> Result<Value>;

    /// How tensor names map, for a canonical config.
    fn mapping(&self, config: &Value) -> Result<Mapping>;

    /// The layout's files for a canonical config and its transform; an error names what the layout cannot express.
    fn restore(&self, config: &Value, transform: Option<&TransformConfig>) -> Result<Layout>;

    /// The transform of a checkpoint that brings none.
    fn default_transform(&self, config: &Value) -> Result<TransformConfig>;
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
        let bundled: [Arc<dyn Family>; 13] = [
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
        let Some((file, config)) = evidence.config else {
            if let Some(asked) = bare::hugging_face_clip(evidence) {
                return asked;
            }
            return Error::invalid("there is no config beside the weights, and their names fit no family")
                .remedy(format!("add open_clip_config.json or config.json; known: {known}"));
        };
        let what = match config.get("model_type") {
            Some(model_type) => format!("`model_type` {model_type} in {file} is of no known family"),
            None => format!("{file} fits no known family"),
        };
        Error::invalid(what).remedy(format!("known: {known}"))
    }
}

impl Default for Families {
    fn default() -> Self {
        Self::bundled()
    }
}

#[cfg(test)]
mod tests;
