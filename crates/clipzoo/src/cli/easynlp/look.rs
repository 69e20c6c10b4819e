//! What of a model decides how EasyNLP would have used it.

use clip_core::serde_json::Value;
use clip_format::Checkpoint;

use super::settings::{SEQUENCE_LENGTH, Settings};
use crate::cli::Cli;
use crate::cli::args::{located, note};
use crate::cli::failure::Outcome;

/// A look at a model before it is opened.
#[derive(Debug)]
pub(super) struct Look {
    /// The layout that EasyNLP reads and the model can be written in.
    pub(super) layout: String,
    /// Whether the model is in it already.
    pub(super) in_layout: bool,
    /// Whether texts become byte pairs, whose number the config fixes.
    pub(super) byte_pairs: bool,
    /// Whether EasyNLP trains all of the model but its picture tower.
    pub(super) fixed_picture_tower: bool,
    /// The canonical config.
    pub(super) config: Value,
}

impl Look {
    /// Looks at the model of a run, and says where `--sequence_length` does not count.
    pub(super) fn at(cli: &Cli, settings: &Settings) -> Outcome<Self> {
        let checkpoint = Checkpoint::open(located(&settings.model)?, &cli.families)?;
        let config = checkpoint.config().clone();
        let kind = config.pointer("/text_config/model_type").and_then(Value::as_str);
        let byte_pairs = !kind.is_some_and(|kind| kind.starts_with("bert") || kind.starts_with("roberta"));
        let own = checkpoint.family();
        let look = Self {
            layout: checkpoint.layout("easynlp", &cli.families).map(|family| family.name().to_owned())?,
            in_layout: own.starts_with("easynlp"),
            byte_pairs,
            fixed_picture_tower: own.starts_with("easynlp-hf"),
            config,
        };
        look.speak(settings);
        Ok(look)
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
