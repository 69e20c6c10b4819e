//! Flags of `train` about what of a model is trained, how its rate goes, and what a batch holds.

use clip_core::serde_json;
use clip_train::{Algorithm, RunConfig};

/// Each overrides the file's value.
#[derive(clap::Args)]
#[command(next_help_heading = "Tuning")]
pub(super) struct TuningFlags {
    /// What makes changes of gradients: adamw, adam, bert_adam, sgd [default: adamw]
    #[arg(long, value_name = "NAME", value_parser = algorithm)]
    optimizer: Option<Algorithm>,
    /// The share of all steps over which the rate goes up, rounded down, in the place of --warmup-steps
    #[arg(
        long,
        value_name = "SHARE",
        allow_negative_numbers = true,
        conflicts_with = "warmup_steps"
    )]
    warmup_share: Option<f64>,
    /// The last steps, over which a constant rate goes down to 0
    #[arg(long, value_name = "N")]
    cooldown_steps: Option<u64>,
    /// The embeddings and so many first blocks of the image tower keep their weights
    #[arg(long, value_name = "N")]
    lock_image_layers: Option<u32>,
    /// The embeddings and so many first blocks of the text tower keep their weights
    #[arg(long, value_name = "N")]
    lock_text_layers: Option<u32>,
    /// A block's share of the rate of the block above it; 1 for the same rate everywhere
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    layer_decay: Option<f64>,
    /// The share of a picture's patches that training leaves out
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    patch_dropout: Option<f64>,
    /// The decay of the weights' moving average, which is then evaluated and written; 0 for none
    #[arg(long, value_name = "DECAY", allow_negative_numbers = true)]
    ema: Option<f64>,
    /// Whole batches come from one value of this column (a category: hard negatives)
    #[arg(long, value_name = "COLUMN")]
    batch_by: Option<String>,
    /// The share of batches that do [default: 0.5]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    batch_by_share: Option<f64>,
}

impl TuningFlags {
    pub(super) fn over(&mut self, config: &mut RunConfig) {
        let flag = |setting: &mut f64, flag: Option<f64>| *setting = flag.unwrap_or(*setting);
        config.optimizer = self.optimizer.unwrap_or(config.optimizer);
        if self.warmup_share.is_some() {
            (config.warmup_steps, config.warmup_share) = (0, self.warmup_share);
        }
        flag(&mut config.layer_decay, self.layer_decay);
        flag(&mut config.patch_dropout, self.patch_dropout);
        flag(&mut config.ema, self.ema);
        flag(&mut config.batch_by_share, self.batch_by_share);
        config.cooldown_steps = self.cooldown_steps.unwrap_or(config.cooldown_steps);
        let layers = &mut config.lock_layers;
        layers.image = self.lock_image_layers.unwrap_or(layers.image);
        layers.text = self.lock_text_layers.unwrap_or(layers.text);
        if let Some(column) = self.batch_by.take() {
            config.batch_by = Some(column);
        }
    }
}

/// `--optimizer`, in the words of run.toml.
fn algorithm(text: &str) -> Result<Algorithm, String> {
    serde_json::from_value(text.into()).map_err(|_| "use adamw, adam, bert_adam or sgd".to_owned())
}
