//! `efficientnet_lite0`: a small convolutional picture tower (Tan and Le, 2019; the lite form has neither squeeze-and-excite
//! nor swish).
//!
//! ```text
//! x = relu6(bn(stem(pixels)))        x = blocks(x)        pooled = mean over places of relu6(bn(head(x)))
//! ```
//!
//! It needs a twelfth of the work of ViT-B/32 (0.4 against 4.4 GMAC a picture of 224 pixels), so it is the picture tower to
//! start from where there is no accelerator. Tensor names are those of its public weights. Statistics of the norms stay
//! frozen; stochastic depth is left out. Earlier blocks' means may stand before the head's: `pooled_blocks`.

use clip_nn::clip_core::{Error, Result};
use clip_nn::layers::{Activation, ConvNorm, ConvShape, Padding};
use clip_nn::tch::{Device, Kind, Tensor};
use clip_nn::{ImageBackbone, ImageEncoder, Params, Pass, TowerOutput};
use serde::{Deserialize, Serialize};

use crate::sizes;

/// The fields of a canonical `vision_config`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EfficientNetLiteConfig {
    /// Height and width of the pixels.
    pub image_size: i64,
    /// Channels of the head.
    pub width: i64,
    /// Blocks (0 to 15, ascending) whose outputs, averaged over places, stand before the head's in the pooled features.
    /// What a picture shows is told by the head; how it is drawn, by which parts, is better told by earlier blocks.
    pub pooled_blocks: Vec<usize>,
}

impl Default for EfficientNetLiteConfig {
    fn default() -> Self {
        Self {
            image_size: 224,
            width: 1280,
            pooled_blocks: Vec::new(),
        }
    }
}

/// TensorFlow's eps, not PyTorch's.
const EPS: f64 = 1e-3;

/// Channels that the stem gives.
const STEM: i64 = 32;

/// Blocks of one kind: how many, kernel, stride of the first, expansion, channels. The table of EfficientNet-B0.
const STAGES: [(u32, i64, i64, i64, i64); 7] = [
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
];

/// The convolution and the norm of these names.
fn conv_norm(params: &Params, [conv, norm]: [&str; 2], shape: ConvShape) -> ConvNorm {
    ConvNorm::new(&params.at(conv), &params.at(norm), shape, EPS)
}

/// Convolution, norm and activation.
fn bent(layer: &ConvNorm, x: &Tensor, pass: Pass) -> Tensor {
    Activation::Relu6.forward(&layer.forward(x, pass))
}

/// Widen, look around a channel at a time, narrow; added to what came in where shapes agree (MobileNetV2's block).
#[derive(Debug)]
struct Block {
    expand: Option<ConvNorm>,
    depthwise: ConvNorm,
    project: ConvNorm,
    residual: bool,
}

/// What tells the blocks apart.
struct BlockShape {
    input: i64,
    output: i64,
    kernel: i64,
    stride: i64,
    expansion: i64,
}

impl Block {
    fn new(params: &Params, shape: &BlockShape) -> Self {
        let wide = shape.input * shape.expansion;
        let point = |input, output| ConvShape {
            input,
            output,
            kernel: 1,
            stride: 1,
            groups: 1,
            padding: Padding::Same,
        };
        let depthwise = ConvShape {
            input: wide,
            output: wide,
            kernel: shape.kernel,
            stride: shape.stride,
            groups: wide,
            padding: Padding::Same,
        };
        Self {
            expand: (shape.expansion != 1)
                .then(|| conv_norm(params, ["_expand_conv", "_bn0"], point(shape.input, wide))),
            depthwise: conv_norm(params, ["_depthwise_conv", "_bn1"], depthwise),
            project: conv_norm(params, ["_project_conv", "_bn2"], point(wide, shape.output)),
            residual: shape.stride == 1 && shape.input == shape.output,
        }
    }

    fn forward(&self, x: &Tensor, pass: Pass) -> Tensor {
        let wide = match &self.expand {
            Some(expand) => bent(expand, x, pass),
            None => x.shallow_clone(),
        };
        let narrow = self.project.forward(&bent(&self.depthwise, &wide, pass), pass);
        if self.residual { narrow + x } else { narrow }
    }
}

/// The tower.
#[derive(Debug)]
pub struct EfficientNetLite {
    stem: ConvNorm,
    blocks: Vec<Block>,
    head: ConvNorm,
    pooled_width: i64,
    config: EfficientNetLiteConfig,
}

impl ImageBackbone for EfficientNetLite {
    const MODEL_TYPES: &'static [&'static str] = &["efficientnet_lite0"];

    type Config = EfficientNetLiteConfig;

    fn build(config: EfficientNetLiteConfig, params: &Params) -> Result<Self> {
        let fields = [("image_size", config.image_size), ("width", config.width)];
        sizes::positive(Self::MODEL_TYPES[0], &fields)?;
        let blocks: i64 = STAGES.iter().map(|stage| i64::from(stage.0)).sum();
        let pooled = &config.pooled_blocks;
        if !pooled.is_sorted_by(|a, b| a < b) || pooled.last().is_some_and(|&last| last as i64 >= blocks) {
            return Err(
                Error::invalid(format!("pooled_blocks of the picture tower is {pooled:?}"))
                    .remedy(format!("name blocks from 0 to {}, each once, in order", blocks - 1)),
            );
        }
        let stem = ConvShape {
            input: 3,
            output: STEM,
            kernel: 3,
            stride: 2,
            groups: 1,
            padding: Padding::Same,
        };
        let stem = conv_norm(&params.layer(0), ["_conv_stem", "_bn0"], stem);
        let mut blocks = Vec::new();
        let mut input = STEM;
        let mut pooled_width = config.width;
        for (repeats, kernel, stride, expansion, output) in STAGES {
            for repeat in 0..repeats {
                let i = blocks.len() as u32;
                let shape = BlockShape {
                    input,
                    output,
                    kernel,
                    stride: if repeat == 0 { stride } else { 1 },
                    expansion,
                };
                blocks.push(Block::new(&params.at("_blocks").at(i).layer(i + 1), &shape));
                if config.pooled_blocks.contains(&(i as usize)) {
                    pooled_width += output;
                }
                input = output;
            }
        }
        let head = ConvShape {
            input,
            output: config.width,
            kernel: 1,
            stride: 1,
            groups: 1,
            padding: Padding::Same,
        };
        let head = conv_norm(params, ["_conv_head", "_bn1"], head);
        Ok(Self {
            stem,
            blocks,
            head,
            pooled_width,
            config,
        })
    }
}

impl ImageEncoder for EfficientNetLite {
    fn width(&self) -> i64 {
        self.pooled_width
    }

    fn image_size(&self) -> [i64; 2] {
        [self.config.image_size; 2]
    }

    fn has_batch_statistics(&self) -> bool {
        true
    }

    fn forward(&self, pixels: &Tensor, pass: Pass) -> TowerOutput {
        let batch = pixels.size()[0];
        if pass.train || batch < 2 || pixels.device() != Device::Cpu {
            return self.run(pixels, pass);
        }
        // Feature maps of one picture fit a cache; those of a batch are new pages of memory at every layer. Twice as
        // fast, and the peak does not grow with the batch.
        let outputs = (0..batch).map(|i| self.run(&pixels.narrow(0, i, 1), pass));
        let (pooled, tokens): (Vec<_>, Vec<_>) = outputs.map(|output| (output.pooled, output.tokens)).unzip();
        let tokens: Option<Vec<Tensor>> = tokens.into_iter().collect();
        TowerOutput {
            pooled: Tensor::cat(&pooled, 0),
            tokens: tokens.map(|tokens| Tensor::cat(&tokens, 0)),
        }
    }
}

impl EfficientNetLite {
    fn run(&self, pixels: &Tensor, pass: Pass) -> TowerOutput {
        let over_places = |x: &Tensor| x.mean_dim([2i64, 3].as_slice(), false, Kind::Float);
        // Channels last in memory, which convolutions keep: twice as fast on a CPU.
        let pixels = pixels.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2]);
        let mut x = bent(&self.stem, &pixels, pass);
        let mut pooled = Vec::new();
        for (i, block) in self.blocks.iter().enumerate() {
            x = block.forward(&x, pass);
            if self.config.pooled_blocks.contains(&i) {
                pooled.push(over_places(&x));
            }
        }
        let head = bent(&self.head, &x, pass);
        pooled.push(over_places(&head));
        let places = head.flatten(2, 3);
        TowerOutput {
            pooled: Tensor::cat(&pooled, 1),
            tokens: pass
                .tokens
                .then(|| places.transpose(1, 2).to_kind(Kind::Float).contiguous()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clip_nn::tch;
    use clip_nn::{Fresh, ParamOptions, Role};

    // Weights and pixels are sines, as below; the goldens are those of timm 1.0.31, an implementation of its own:
    // model = timm.create_model("tf_efficientnet_lite0", num_classes=0).eval(), its state filled in building order,
    // print(model(wave(0.3, 2, 3, size, size))[1, :8])
    // Larger weights would make the network chaotic, smaller ones deaf to its input: rows differ by 3e-3 here, and a
    // change of 1e-6 in the pixels by 2e-6.
    const SIZE_33: [f32; 8] = [0.0, 0.11436716, 0.058051154, 0.0, 0.047606036, 0.1498128, 0.0, 0.0];
    const SIZE_64: [f32; 8] = [0.0, 0.115322694, 0.061798096, 0.0, 0.04853541, 0.15020818, 0.0, 0.0];

    fn wave(k: f64, shape: &[i64]) -> Tensor {
        let count: i64 = shape.iter().product();
        let steps = Tensor::arange_start(1, 1 + count, (Kind::Float, Device::Cpu));
        (steps * k).sin().view(shape)
    }

    fn tower() -> EfficientNetLite {
        tch::set_num_threads(1);
        let options = ParamOptions {
            fresh: Fresh::Everything,
            ..Default::default()
        };
        let params = Params::new(None, options);
        let tower = EfficientNetLite::build(EfficientNetLiteConfig::default(), &params).unwrap();
        let parameters = params.finish().unwrap();
        let _guard = tch::no_grad_guard();
        for (i, parameter) in parameters.iter().enumerate() {
            let shape = parameter.tensor.size();
            let wave = wave(0.1 + 0.07 * i as f64, &shape);
            let value = match parameter.role {
                Role::Weight => wave * 2.0 * (2.0 / shape[1..].iter().product::<i64>() as f64).sqrt(),
                _ if parameter.name.ends_with("running_var") => wave * 0.5 + 1.0,
                _ if parameter.name.ends_with("weight") => wave * 0.2 + 1.0,
                _ => wave * 0.1,
            };
            parameter.tensor.shallow_clone().copy_(&value);
        }
        tower
    }

    #[test]
    fn agrees_with_timm_at_odd_and_even_sizes() {
        let tower = tower();
        let _guard = tch::no_grad_guard();
        for (size, expected) in [(33, SIZE_33), (64, SIZE_64)] {
            let pixels = wave(0.3, &[2, 3, size, size]);
            let pass = Pass {
                tokens: true,
                ..Pass::INFER
            };
            let output = tower.forward(&pixels, pass);
            let places = (size + 31) / 32 * ((size + 31) / 32);
            assert_eq!(output.tokens.unwrap().size(), [2, places, 1280]);
            let together = tower.forward(&pixels, Pass::TRAIN).pooled;
            let difference = (&output.pooled - together).abs().max().double_value(&[]);
            assert!(difference < 1e-5, "{difference}");
            assert_eq!(output.pooled.size(), [2, 1280]);
            let values = Vec::<f32>::try_from(output.pooled.get(1).narrow(0, 0, 8)).unwrap();
            for (value, expected) in values.iter().zip(expected) {
                assert!((value - expected).abs() < 2e-5, "{size}: {values:?}");
            }
        }
    }

    #[test]
    fn earlier_blocks_stand_before_the_head() {
        let options = || ParamOptions {
            fresh: Fresh::Everything,
            ..Default::default()
        };
        let build = |pooled_blocks: Vec<usize>| {
            let config = EfficientNetLiteConfig {
                pooled_blocks,
                ..Default::default()
            };
            EfficientNetLite::build(config, &Params::new(None, options()))
        };
        let tower = build(vec![10, 15]).unwrap();
        assert_eq!(tower.width(), 112 + 320 + 1280);
        let _guard = tch::no_grad_guard();
        let pixels = wave(0.3, &[2, 3, 33, 33]);
        let pooled = tower.forward(&pixels, Pass::INFER).pooled;
        assert_eq!(pooled.size(), [2, tower.width()]);
        let head = build(vec![]).unwrap().forward(&pixels, Pass::INFER).pooled;
        assert!(pooled.narrow(1, 432, 1280).equal(&head));
        assert!(build(vec![15, 10]).is_err() && build(vec![16]).is_err());
    }

    #[test]
    fn names_are_those_of_the_public_weights() {
        let params = Params::new(
            None,
            ParamOptions {
                fresh: Fresh::Everything,
                ..Default::default()
            },
        );
        let _ = EfficientNetLite::build(EfficientNetLiteConfig::default(), &params).unwrap();
        let parameters = params.finish().unwrap();
        let names: Vec<&str> = parameters.iter().map(|parameter| parameter.name.as_str()).collect();
        assert_eq!(names.len(), 245);
        for name in [
            "_conv_stem.weight",
            "_bn0.running_var",
            "_blocks.0._depthwise_conv.weight",
            "_blocks.15._bn2.bias",
        ] {
            assert!(names.contains(&name), "{name}");
        }
        assert!(!names.contains(&"_blocks.0._expand_conv.weight"));
        let last = parameters
            .iter()
            .find(|parameter| parameter.name == "_blocks.15._project_conv.weight");
        assert_eq!(last.unwrap().layer, Some(16));
    }
}
