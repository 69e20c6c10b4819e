//! What of a model decides how EasyNLP would have used it.

use std::fs;

use clip_core::Result;
use clip_core::serde_json::{Value, from_str};
use clip_format::{Checkpoint, Families};

use super::settings::{SEQUENCE_LENGTH, Settings};
use crate::cli::Cli;
use crate::cli::args::{located, note};
use crate::cli::failure::Outcome;

/// A look at a model before it is opened.
pub(super) struct Look {
    /// Whether texts become byte pairs, whose number the config fixes.
    pub(super) byte_pairs: bool,
    /// Whether EasyNLP trains all of the model but its picture tower.
    pub(super) fixed_picture_tower: bool,
    /// The canonical config.
    config: Value,
    checkpoint: Checkpoint,
}

impl Look {
    /// Looks at the model of a run, and says where `--sequence_length` does not count.
    pub(super) fn at(cli: &Cli, settings: &Settings) -> Outcome<Self> {
        let checkpoint = Checkpoint::open(located(&settings.model)?, &cli.families)?;
        let config = checkpoint.config().clone();
        let kind = config.pointer("/text_config/model_type").and_then(Value::as_str);
        let byte_pairs = !kind.is_some_and(|kind| kind.starts_with("bert") || kind.starts_with("roberta"));
        let look = Self {
            byte_pairs,
            fixed_picture_tower: checkpoint.family().starts_with("easynlp-hf"),
            config,
            checkpoint,
        };
        look.speak(settings);
        Ok(look)
    }

    /// The layout of EasyNLP's that the model has to be rewritten in for EasyNLP to read it; `None` where it is in one.
    ///
    /// # Errors
    /// No such layout can express the model.
    pub(super) fn layout(&self, families: &Families) -> Result<Option<String>> {
        if self.checkpoint.family() == "easynlp-hf-2022" {
            note("the model is in EasyNLP's layout of 2022 and stays in it, which EasyNLP itself no longer reads");
        }
        if self.checkpoint.family().starts_with("easynlp") {
            return Ok(None);
        }
        let family = self.checkpoint.layout("easynlp", families)?;
        Ok(Some(family.name().to_owned()))
    }

    /// The model's config as its own directory has it, or the canonical one.
    pub(super) fn own_config(&self) -> Value {
        let text = fs::read_to_string(self.checkpoint.directory().join("config.json"));
        let own = text.ok().and_then(|text| from_str(&text).ok());
        own.unwrap_or_else(|| self.config.clone())
    }

    fn speak(&self, settings: &Settings) {
        let given = settings.sequence_length.unwrap_or(SEQUENCE_LENGTH);
        let own = self.config.get("context_length").and_then(Value::as_u64);
        if let (true, Some(own)) = (self.byte_pairs, own.filter(|own| *own != given as u64)) {
            note(&format!(
                "--sequence_length={given} does not count for this model: its texts have the {own} tokens of its config"
            ));
        }
    }
}
