//! A single image tower: EfficientNet-lite0, as `efficientnet_lite_pytorch` saves it. Its file has no config; it is
//! known by its names and shapes.

use clip_core::Result;
use clip_data::TransformConfig;
use serde_json::{Value, json};

use super::towers::{EFFICIENTNET_LITE0, cannot, image_size, model_type, required_tower, tower};
use super::{Evidence, Family, Layout};
use crate::fields::Fields;
use crate::mapping::{Mapping, Row};

const NAME: &str = EFFICIENTNET_LITE0;

/// `model_type` `efficientnet_lite0`, or the bare file.
pub(crate) struct EfficientNetLite0;

impl Family for EfficientNetLite0 {
    fn name(&self) -> &'static str {
        NAME
    }

    fn mark(&self) -> &'static str {
        "`model_type` \"efficientnet_lite0\", or a bare file with its tensors"
    }

    fn recognises(&self, evidence: &Evidence<'_>) -> bool {
        match evidence.config {
            Some(_) => evidence.model_type() == Some(NAME),
            // lite1 and larger have more blocks; B0 has squeeze-and-excitation, which the lite models lack.
            None => {
                evidence.shape("_conv_stem.weight") == Some(&[32, 3, 3, 3])
                    && evidence.shape("_blocks.15._project_conv.weight") == Some(&[320, 1152, 1, 1])
                    && evidence.shape("_conv_head.weight") == Some(&[1280, 320, 1, 1])
                    && evidence.tensors.iter().all(|tensor| !tensor.name.contains("._se_"))
            }
        }
    }

    fn canonical(&self, evidence: &Evidence<'_>) -> Result<Value> {
        let (mut size, mut pooled) = (224, json!([]));
        if let Some((file, config)) = evidence.config {
            size = Fields::new(config, file)?.size("image_size", 224)?;
            pooled = config.get("pooled_blocks").cloned().unwrap_or(pooled);
        }
        let tower = json!({"model_type": NAME, "image_size": size, "pooled_blocks": pooled});
        Ok(json!({"model_type": "clipzoo", "vision_config": tower}))
    }

    fn mapping(&self, _config: &Value) -> Result<Mapping> {
        const ROWS: &[Row] = &[
            Row::Drop { file: "_fc.{p}" },
            Row::Drop {
                file: "{*}.num_batches_tracked",
            },
            Row::Same {
                file: "{*}",
                model: "{*}",
            },
        ];
        Mapping::new().under("", "image.", ROWS)
    }

    fn restore(&self, config: &Value, transform: Option<&TransformConfig>) -> Result<Layout> {
        required_tower(config, "vision_config", NAME)?;
        if tower(config, "text_config").is_some() || model_type(config, "vision_config") != Some(NAME) {
            return Err(cannot(NAME, "anything but a single EfficientNet-lite0 tower"));
        }
        if transform.is_some_and(|transform| self.default_transform(config).ok().as_ref() != Some(transform)) {
            return Err(cannot(NAME, "another transform than its own"));
        }
        let pooled = config["vision_config"]
            .get("pooled_blocks")
            .cloned()
            .unwrap_or_else(|| json!([]));
        let own = json!({"model_type": NAME, "image_size": image_size(config)?, "pooled_blocks": pooled});
        Ok(Layout {
            weights: "model.safetensors",
            files: vec![("config.json", own)],
        })
    }

    /// TensorFlow's preprocessing of the lite models: `(x - 127) / 128`.
    fn default_transform(&self, config: &Value) -> Result<TransformConfig> {
        let plain = TransformConfig::open_clip(image_size(config)?);
        Ok(TransformConfig {
            mean: [127.0 / 255.0; 3],
            std: [128.0 / 255.0; 3],
            ..plain
        })
    }
}
