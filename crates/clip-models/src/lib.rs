//! The ModelZoo: one backbone a file; opens and saves a model.
//!
//! A checkpoint's family brings config and names to their canonical shape (`clip-format`); here the zoo builds each tower
//! by its `model_type`, and what was built is written back the same way. Nothing is privileged: [`register`] uses the
//! methods that anybody's backbone uses.

mod average;
mod bert;
mod calibration;
mod check;
mod clip_text;
mod clip_vision;
mod create;
mod efficientnet_lite;
mod map;
mod modified_resnet;
mod open;
mod preparation;
mod roberta;
mod save;
mod siglip_text;
mod siglip_vision;
mod sizes;
mod source;
mod vit;

pub use average::Average;
pub use bert::{Bert, BertConfig, BertPooling};
pub use calibration::{CALIBRATION_FILE, KeptCalibration, LEAST_COSINE, Nearness, Sample, calibrate, fastest};
pub use check::check;
pub use clip_text::{ClipPooling, ClipText, ClipTextConfig};
pub use clip_vision::{ClipVision, ClipVisionConfig};
pub use create::create;
pub use efficientnet_lite::{EfficientNetLite, EfficientNetLiteConfig};
pub use modified_resnet::{ModifiedResNet, ModifiedResNetConfig};
pub use open::{Join, Loaded, OpenOptions, join, load, open};
pub use preparation::CheckpointPreparation;
pub use roberta::{Roberta, RobertaConfig};
pub use save::CheckpointWriter;
pub use siglip_text::{SiglipText, SiglipTextConfig};
pub use siglip_vision::{SiglipVision, SiglipVisionConfig};
pub use vit::{Vit, VitConfig, VitPooling};

use clip_nn::Zoo;
use clip_nn::clip_core::Result;

/// Adds our backbones to a zoo, by the methods that anybody's parts use.
///
/// ```
/// let mut zoo = clip_nn::Zoo::new();
/// clip_models::register(&mut zoo)?;
/// assert!(zoo.text_backbones().any(|name| name == "bert"));
/// # Ok::<(), clip_nn::clip_core::Error>(())
/// ```
pub fn register(zoo: &mut Zoo) -> Result<()> {
    zoo.image::<ClipVision>()?
        .image::<EfficientNetLite>()?
        .image::<ModifiedResNet>()?
        .image::<SiglipVision>()?
        .image::<Vit>()?;
    zoo.text::<ClipText>()?
        .text::<Bert>()?
        .text::<Roberta>()?
        .text::<SiglipText>()?;
    Ok(())
}
