//! A backbone in a crate of your own: ConvNeXt (Liu et al., "A ConvNet for the 2020s", 2022), in one file.
//!
//! # What a backbone is
//!
//! A backbone turns pixels `[batch, 3, height, width]` into one feature a picture, `[batch, width]`. What is around it
//! (projection, temperature, training, files, the command) knows it by a name alone, the `model_type` of its config. So
//! there are three things to write, and they are the three parts of this file:
//!
//! 1. **The config**: the fields that tell one ConvNeXt from another.
//! 2. **How it is made**: [`ImageBackbone::build`] checks the config and takes each weight by its name.
//! 3. **What it does**: [`ImageEncoder::forward`], plain arithmetic on tensors.
//!
//! Then `zoo.image::<ConvNext>()?` makes it known; `main.rs` is the whole command with it. A text backbone is written the
//! same way, with `TextBackbone` and `TextEncoder`.
//!
//! # The architecture
//!
//! ```text
//! x = norm(conv 4x4, stride 4 (pixels))                                          the stem
//! a stage:  x = conv 2x2, stride 2 (norm(x))                                     but the first: half the size
//!           x = x + gamma · project(gelu(expand(norm(depthwise 7x7 (x)))))       for each of its blocks
//! pooled = norm(mean of x over all places)
//! ```
//!
//! Every norm is a LayerNorm over channels; `expand` makes four channels of one, `project` takes them back, both a place
//! at a time; `gamma` is one factor a channel that starts close to zero. Left out: stochastic depth.
//!
//! # A model to start from
//!
//! To start from nothing, `clipzoo::create` writes a model's folder from its config; `tests/shapes.rs` does it, and then
//! trains. Weights that you have are written likewise: a `model.safetensors` with the names that `build` asks for, behind
//! `image.`, and the same config beside it, as `config.json` with `"model_type": "clipzoo"` at its top. A folder of the
//! image tower alone needs nothing of the text: `clipzoo train --image-tower … --text-tower …` joins two such towers. If
//! names are missing, too many or of a wrong shape, one error lists them all.

use clip_nn::clip_core::{Error, Result};
use clip_nn::layers::{Activation, LayerNorm, Linear};
use clip_nn::serde::{Deserialize, Serialize};
use clip_nn::tch::{Kind, Tensor};
use clip_nn::{ImageBackbone, ImageEncoder, Init, Params, Pass, Role, TowerOutput};

// ---------------------------------------------------------------------------------------------------------------------
// 1. The config
// ---------------------------------------------------------------------------------------------------------------------

/// The fields of a `vision_config` whose `model_type` is `convnext_example`.
///
/// It is read from JSON and written back, so it derives both serde traits; `crate = "clip_nn::serde"` spares you a
/// dependency on serde of your own. `default` lets a config leave fields out. Name the picture's side `image_size`: what
/// prepares the pictures reads it there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(crate = "clip_nn::serde", default)]
pub struct ConvNextConfig {
    /// Height and width of the pixels.
    pub image_size: i64,
    /// Blocks of each stage.
    pub depths: Vec<u32>,
    /// Channels of each stage.
    pub dims: Vec<i64>,
    /// What every `gamma` starts from. 1e-6 in the paper, for long training of deep stacks.
    pub layer_scale_init: f64,
}

impl Default for ConvNextConfig {
    /// A tiny one, which trains on a CPU. The paper's ConvNeXt-T has depths 3, 3, 9, 3 and dims 96, 192, 384, 768.
    fn default() -> Self {
        Self {
            image_size: 64,
            depths: vec![1, 1, 2, 1],
            dims: vec![16, 32, 64, 128],
            layer_scale_init: 1e-6,
        }
    }
}

impl ConvNextConfig {
    /// A config comes from a file, so nonsense in it must become an error that names the field and says what is right,
    /// never a panic inside libtorch or a request for all memory there is.
    fn check(&self) -> Result<()> {
        let stages = self.depths.len();
        if !(1..=8).contains(&stages) || self.dims.len() != stages {
            return wrong(
                format!("{stages} depths and {} dims", self.dims.len()),
                "give one of each for each stage, 1 to 8",
            );
        }
        if let Some(depth) = self.depths.iter().find(|depth| !(1..=256).contains(*depth)) {
            return wrong(format!("a depth of {depth}"), "a stage has 1 to 256 blocks");
        }
        if let Some(dim) = self.dims.iter().find(|dim| !(1..=1 << 13).contains(*dim)) {
            return wrong(format!("{dim} in dims"), "a stage has 1 to 8192 channels");
        }
        let least = STEM << (stages - 1);
        if !(least..=1 << 13).contains(&self.image_size) {
            return wrong(
                format!("image_size is {}", self.image_size),
                &format!("{stages} stages take {least} to 8192"),
            );
        }
        if !self.layer_scale_init.is_finite() {
            return wrong(
                format!("layer_scale_init is {}", self.layer_scale_init),
                "give a number",
            );
        }
        Ok(())
    }
}

fn wrong(what: String, remedy: &str) -> Result<()> {
    Err(Error::invalid(format!("config of `{}`: {what}", ConvNext::MODEL_TYPES[0])).remedy(remedy))
}

// ---------------------------------------------------------------------------------------------------------------------
// 2. How it is made
// ---------------------------------------------------------------------------------------------------------------------

/// Side of the stem's patches, in pixels.
const STEM: i64 = 4;

/// How many channels `expand` makes of one.
const EXPANSION: i64 = 4;

/// Eps of every norm.
const EPS: f64 = 1e-6;

/// How matrices and kernels start.
const INIT: Init = Init::Normal(0.02);

/// A convolution with bias, over `[batch, height, width, channels]`.
///
/// `clip_nn::layers` has what most backbones share (`Linear`, `LayerNorm`, attention, …). What it lacks you write as
/// here: take the tensors, keep them, compute with them.
#[derive(Debug)]
struct Convolution {
    weight: Tensor,
    bias: Tensor,
    stride: i64,
    padding: i64,
    groups: i64,
}

impl Convolution {
    /// Windows of a side that do not overlap: `[batch, h, w, input] -> [batch, h / side, w / side, output]`.
    fn patches(params: &Params, [input, output]: [i64; 2], side: i64) -> Self {
        Self {
            weight: params.tensor("weight", &[output, input, side, side], Role::Weight, INIT),
            bias: params.tensor("bias", &[output], Role::Bias, Init::Constant(0.0)),
            stride: side,
            padding: 0,
            groups: 1,
        }
    }

    /// A 7x7 window around each place, each channel by itself: the size stays.
    fn depthwise(params: &Params, channels: i64) -> Self {
        Self {
            weight: params.tensor("weight", &[channels, 1, 7, 7], Role::Weight, INIT),
            bias: params.tensor("bias", &[channels], Role::Bias, Init::Constant(0.0)),
            stride: 1,
            padding: 3,
            groups: channels,
        }
    }

    /// Multiplies in the pass's type (f32 or bf16) and gives f32, as `clip_nn::layers::Linear` does.
    fn forward(&self, x: &Tensor, pass: Pass) -> Tensor {
        let (stride, padding) = ([self.stride; 2], [self.padding; 2]);
        let (weight, bias) = (
            self.weight.to_kind(pass.compute.kind()),
            self.bias.to_kind(pass.compute.kind()),
        );
        x.permute([0, 3, 1, 2])
            .to_kind(pass.compute.kind())
            .conv2d(&weight, Some(&bias), stride, padding, [1, 1], self.groups)
            .to_kind(Kind::Float)
            .permute([0, 2, 3, 1])
    }
}

/// One block.
#[derive(Debug)]
struct Block {
    depthwise: Convolution,
    norm: LayerNorm,
    expand: Linear,
    project: Linear,
    gamma: Tensor,
}

impl Block {
    fn new(params: &Params, channels: i64, layer_scale_init: f64) -> Self {
        let wide = EXPANSION * channels;
        Self {
            depthwise: Convolution::depthwise(&params.at("dwconv"), channels),
            norm: LayerNorm::new(&params.at("norm"), channels, EPS),
            expand: Linear::new(&params.at("pwconv1"), [channels, wide], INIT),
            project: Linear::new(&params.at("pwconv2"), [wide, channels], INIT),
            // The role decides whether weight decay takes hold of a tensor: not of a scale, which would only shrink.
            gamma: params.tensor("gamma", &[channels], Role::Norm, Init::Constant(layer_scale_init)),
        }
    }

    fn forward(&self, x: &Tensor, pass: Pass) -> Tensor {
        let y = self.norm.forward(&self.depthwise.forward(x, pass));
        let y = Activation::Gelu.forward(&self.expand.forward(&y, pass));
        x + self.project.forward(&y, pass) * &self.gamma
    }
}

/// What comes before a stage's blocks.
#[derive(Debug)]
enum Entry {
    /// Before the first: patches of pixels, then a norm.
    Stem(Convolution, LayerNorm),
    /// Before any other: a norm, then a quarter of the places.
    Downsample(LayerNorm, Convolution),
}

impl Entry {
    fn forward(&self, x: &Tensor, pass: Pass) -> Tensor {
        match self {
            Self::Stem(patches, norm) => norm.forward(&patches.forward(x, pass)),
            Self::Downsample(norm, patches) => patches.forward(&norm.forward(x), pass),
        }
    }
}

/// Blocks of one size.
#[derive(Debug)]
struct Stage {
    entry: Entry,
    blocks: Vec<Block>,
}

/// The tower.
#[derive(Debug)]
pub struct ConvNext {
    stages: Vec<Stage>,
    norm: LayerNorm,
    width: i64,
    image_size: i64,
}

impl ImageBackbone for ConvNext {
    /// Choose a name that nobody else registers: a second one of the same name is an error.
    const MODEL_TYPES: &'static [&'static str] = &["convnext_example"];

    type Config = ConvNextConfig;

    /// `params` is a cursor over names. `at` goes one name deeper; `tensor` hands out the loaded tensor of a name, or a
    /// fresh one where the model starts from nothing, and never fails: what is missing is reported once, when the whole
    /// model is built. Ask for each name once. The names here are those of the paper's own code.
    ///
    /// `layer` notes a depth for rates and locks that depend on it: 0 for what the pixels meet first, then `i + 1` for
    /// block `i`. What stands between blocks goes with the block that follows.
    fn build(config: ConvNextConfig, params: &Params) -> Result<Self> {
        config.check()?;
        let mut stages = Vec::new();
        let mut channels = 3;
        let mut layer = 0;
        for (i, (&depth, &dim)) in config.depths.iter().zip(&config.dims).enumerate() {
            let at = params.at("downsample_layers").at(i);
            let entry = if i == 0 {
                let at = at.layer(0);
                Entry::Stem(
                    Convolution::patches(&at.at(0), [channels, dim], STEM),
                    LayerNorm::new(&at.at(1), dim, EPS),
                )
            } else {
                let at = at.layer(layer + 1);
                Entry::Downsample(
                    LayerNorm::new(&at.at(0), channels, EPS),
                    Convolution::patches(&at.at(1), [channels, dim], 2),
                )
            };
            let mut blocks = Vec::new();
            for j in 0..depth {
                layer += 1;
                let at = params.at("stages").at(i).at(j).layer(layer);
                blocks.push(Block::new(&at, dim, config.layer_scale_init));
            }
            stages.push(Stage { entry, blocks });
            channels = dim;
        }
        Ok(Self {
            stages,
            norm: LayerNorm::new(&params.at("norm"), channels, EPS),
            width: channels,
            image_size: config.image_size,
        })
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// 3. What it does
// ---------------------------------------------------------------------------------------------------------------------

impl ImageEncoder for ConvNext {
    fn width(&self) -> i64 {
        self.width
    }

    fn image_size(&self) -> [i64; 2] {
        [self.image_size; 2]
    }

    /// The pixels' shape was checked before, and a panic of libtorch becomes an error outside; so this is arithmetic and
    /// nothing else. A tower whose norms keep statistics of batches would also say so by `has_batch_statistics`.
    fn forward(&self, pixels: &Tensor, pass: Pass) -> TowerOutput {
        // Channels last all the way: norms and matrices work on them, and libtorch convolves that layout as it is.
        let mut x = pixels.permute([0, 2, 3, 1]);
        for stage in &self.stages {
            x = stage.entry.forward(&x, pass);
            for block in &stage.blocks {
                x = block.forward(&x, pass);
            }
        }
        let places = x.flatten(1, 2);
        let mean = places.mean_dim([1i64].as_slice(), false, Kind::Float);
        TowerOutput {
            pooled: self.norm.forward(&mean),
            // Some objectives look at places; they are asked for, as nobody else needs them.
            tokens: pass.tokens.then(|| self.norm.forward(&places)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clip_nn::tch::{self, Device};
    use clip_nn::{Compute, Fresh, ParamOptions, Parameters};

    // Weights and pixels are sines, as below; the goldens are those of timm 1.0.31, an implementation of its own:
    // model = timm.models.convnext.ConvNeXt(depths=(1, 1, 2, 1), dims=(16, 32, 64, 128), num_classes=0).eval(),
    // its weights filled in our order, print(model(wave(0.3, 2, 3, size, size))[1, :8])
    const SIZE_64: [f32; 8] = [
        -0.90678, -0.405845, -1.315391, -0.142826, -0.807434, -0.493508, -0.030919, -0.678326,
    ];
    const SIZE_75: [f32; 8] = [
        -0.960988, -0.068294, -1.353741, -0.176166, -0.568366, -0.447956, -0.099877, -0.50023,
    ];

    fn wave(k: f64, shape: &[i64]) -> Tensor {
        let count: i64 = shape.iter().product();
        let steps = Tensor::arange_start(1, 1 + count, (Kind::Float, Device::Cpu));
        (steps * k).sin().view(shape)
    }

    fn built(config: ConvNextConfig) -> Result<(ConvNext, Parameters)> {
        tch::set_num_threads(1);
        let options = ParamOptions {
            fresh: Fresh::Everything,
            trainable: true,
            ..Default::default()
        };
        let params = Params::new(None, options);
        let tower = ConvNext::build(config, &params)?;
        let parameters = params.finish()?;
        let _guard = tch::no_grad_guard();
        for (i, parameter) in parameters.iter().enumerate() {
            let shape = parameter.tensor.size();
            let wave = wave(0.1 + 0.07 * i as f64, &shape);
            let is_scale = parameter.name.ends_with("weight") || parameter.name.ends_with("gamma");
            let value = match parameter.role {
                Role::Weight => wave * 4.0 * (2.0 / shape[1..].iter().product::<i64>() as f64).sqrt(),
                Role::Norm if is_scale => wave * 0.2 + 1.0,
                _ => wave * 0.1,
            };
            parameter.tensor.shallow_clone().copy_(&value);
        }
        Ok((tower, parameters))
    }

    #[test]
    fn agrees_with_timm_also_where_patches_leave_a_rest() {
        let (tower, _) = built(ConvNextConfig::default()).unwrap();
        let _guard = tch::no_grad_guard();
        for (size, expected) in [(64, SIZE_64), (75, SIZE_75)] {
            let output = tower.forward(&wave(0.3, &[2, 3, size, size]), Pass::INFER);
            assert_eq!(output.pooled.size(), [2, 128]);
            let values = Vec::<f32>::try_from(output.pooled.get(1).narrow(0, 0, 8)).unwrap();
            for (value, expected) in values.iter().zip(expected) {
                assert!((value - expected).abs() < 1e-4, "{size}: {values:?}");
            }
        }
    }

    #[test]
    fn bf16_is_near_and_places_come_when_asked_for() {
        let (tower, _) = built(ConvNextConfig::default()).unwrap();
        let _guard = tch::no_grad_guard();
        let pixels = wave(0.3, &[2, 3, 64, 64]);
        let full = tower.forward(&pixels, Pass::INFER);
        assert!(full.tokens.is_none());
        let pass = Pass {
            compute: Compute::Bf16,
            tokens: true,
            ..Pass::INFER
        };
        let low = tower.forward(&pixels, pass);
        assert_eq!(low.tokens.unwrap().size(), [2, 4, 128]);
        assert_eq!(low.pooled.kind(), Kind::Float);
        // timm under PyTorch's autocast is off by 0.1024 with these weights, which are far larger than trained ones.
        let share = (low.pooled - &full.pooled).norm() / full.pooled.norm();
        let share = share.double_value(&[]);
        assert!((share - 0.1024).abs() < 0.03, "{share}");
    }

    #[test]
    fn every_weight_learns() {
        let (tower, parameters) = built(ConvNextConfig::default()).unwrap();
        let pooled = tower.forward(&wave(0.3, &[2, 3, 64, 64]), Pass::TRAIN).pooled;
        (&pooled * wave(0.7, &[2, 128])).sum(Kind::Float).backward();
        assert_eq!(parameters.iter().count(), 63);
        for parameter in parameters.iter() {
            let reached = parameter.tensor.grad().abs().max().double_value(&[]);
            assert!(reached > 0.0, "{}", parameter.name);
        }
    }

    #[test]
    fn names_and_layers_are_as_documented() {
        let (_, parameters) = built(ConvNextConfig::default()).unwrap();
        for (name, role, layer) in [
            ("downsample_layers.0.0.weight", Role::Weight, Some(0)),
            ("downsample_layers.2.0.bias", Role::Norm, Some(3)),
            ("stages.0.0.gamma", Role::Norm, Some(1)),
            ("stages.2.1.pwconv2.bias", Role::Bias, Some(4)),
            // What follows the last block has no depth: it learns at the full rate.
            ("norm.weight", Role::Norm, None),
        ] {
            let parameter = parameters.iter().find(|parameter| parameter.name == name).unwrap();
            assert_eq!((parameter.role, parameter.layer), (role, layer), "{name}");
        }
    }

    #[test]
    fn a_config_that_makes_no_sense_is_an_error() {
        type Spoil = fn(&mut ConvNextConfig);
        let cases: [(Spoil, &str); 5] = [
            (|config| config.dims = vec![8], "4 depths and 1 dims"),
            (|config| config.depths[1] = 0, "a depth of 0"),
            (|config| config.dims[0] = -3, "-3 in dims"),
            (
                |config| config.image_size = 31,
                "image_size is 31; 4 stages take 32 to 8192",
            ),
            (|config| config.layer_scale_init = f64::NAN, "layer_scale_init is NaN"),
        ];
        for (spoil, expected) in cases {
            let mut config = ConvNextConfig::default();
            spoil(&mut config);
            let message = built(config).err().unwrap().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
}
