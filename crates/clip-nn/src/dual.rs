//! Two towers, their projections, the temperature and an optional bias. Knows no backbone by name.

use clip_core::{Error, ModelInfo, Probability, Result};
use serde::Deserialize;
use serde_json::Value;
use tch::{Kind, Tensor};

use crate::layers::{Projection, ProjectionConfig};
use crate::{ImageEncoder, Init, ModelShape, Parameters, Params, Pass, Role, TextEncoder, Tokens, Zoo, door};

/// The fields of a canonical config that concern the pair; each tower reads its own table.
#[derive(Debug, Clone, Deserialize)]
struct DualConfig {
    embed_dim: i64,
    #[serde(default)]
    image_projection: ProjectionConfig,
    #[serde(default)]
    text_projection: ProjectionConfig,
    /// ln(1 / 0.07), as CLIP starts.
    #[serde(default = "initial_scale")]
    logit_scale_init: f64,
    #[serde(default)]
    logit_bias: bool,
    #[serde(default = "softmax")]
    probability: Probability,
    /// Shorter than the tower's own where the config says so.
    context_length: Option<i64>,
    vision_config: Value,
    text_config: Value,
    #[serde(default)]
    tokenizer: PadConfig,
}

/// What of the tokenizer's table concerns the tower.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct PadConfig {
    /// Whether the pad token's id is masked wherever it stands, in the middle of a text as well.
    pad_is_unseen: bool,
}

fn initial_scale() -> f64 {
    (1f64 / 0.07).ln()
}

fn softmax() -> Probability {
    Probability::Softmax
}

/// What an image tower is given.
#[derive(Debug)]
pub enum ImageInput {
    /// Pixels `[batch, 3, height, width]`, f32.
    Pixels(Tensor),
    /// Pooled features `[batch, width]` that the (locked) tower gave before.
    Pooled(Tensor),
}

/// What a text tower is given.
#[derive(Debug)]
pub enum TextInput {
    /// Token ids.
    Tokens(Tokens),
    /// Pooled features `[batch, width]` that the (locked) tower gave before.
    Pooled(Tensor),
}

/// What a tower and its projection give.
#[derive(Debug)]
pub struct Encoded {
    /// Projected, un-normalised features `[batch, dim]`, f32.
    pub raw: Tensor,
    /// The tower's pooled features `[batch, width]`.
    pub pooled: Tensor,
    /// A feature a token, where [`Pass::tokens`] asked for it.
    pub tokens: Option<Tensor>,
}

/// An image tower and a text tower in one space. Shapes are checked here, at the door; layers trust them.
pub struct DualEncoder {
    image: Box<dyn ImageEncoder>,
    text: Box<dyn TextEncoder>,
    image_projection: Projection,
    text_projection: Projection,
    logit_scale: Tensor,
    logit_bias: Option<Tensor>,
    parameters: Parameters,
    config: Value,
    dim: i64,
    context_length: i64,
    probability: Probability,
    pad_is_unseen: bool,
}

/// Rows of unit length, `[batch, dim]`; in the graph.
pub fn unit_rows(raw: &Tensor) -> Tensor {
    raw / raw
        .square()
        .sum_dim_intlist(-1, true, Kind::Float)
        .sqrt()
        .clamp_min(1e-12)
}

/// The same tokens, of which none is looked at that has the id of padding.
fn without_padding(tokens: &Tokens, pad: i64) -> Tokens {
    Tokens {
        ids: tokens.ids.shallow_clone(),
        mask: tokens.mask.logical_and(&tokens.ids.ne(pad)),
    }
}

impl DualEncoder {
    /// Builds a canonical config's model from the zoo's parts and the cursor's weights; one error lists all that does
    /// not fit.
    pub fn build(config: &Value, zoo: &Zoo, params: Params) -> Result<Self> {
        let fields: DualConfig = serde_json::from_value(config.clone())
            .map_err(|error| Error::invalid(format!("config of the model: {error}")).source(error))?;
        if fields.embed_dim < 1 {
            return Err(Error::invalid(format!(
                "config of the model: embed_dim is {}",
                fields.embed_dim
            )));
        }
        let model = door(|| -> Result<Self> {
            let image = zoo.build_image(&fields.vision_config, &params.tower("image"))?;
            let text = zoo.build_text(&fields.text_config, &params.tower("text"))?;
            let dim = fields.embed_dim;
            let project = |name: &str, config, width| Projection::new(config, width, dim, &params.at(name));
            let image_projection = project("image_projection", &fields.image_projection, image.width())?;
            let text_projection = project("text_projection", &fields.text_projection, text.width())?;
            let scale = Init::Constant(fields.logit_scale_init);
            let logit_scale = params.tensor("logit_scale", &[], Role::Scale, scale);
            let logit_bias = fields
                .logit_bias
                .then(|| params.tensor("logit_bias", &[], Role::Scale, Init::Constant(-10.0)));
            let context_length = fields.context_length.unwrap_or(i64::MAX).min(text.context_length());
            let (config, probability) = (config.clone(), fields.probability);
            let pad_is_unseen = fields.tokenizer.pad_is_unseen;
            let parameters = params.finish()?;
            Ok(Self {
                image,
                text,
                image_projection,
                text_projection,
                logit_scale,
                logit_bias,
                parameters,
                config,
                dim,
                context_length,
                probability,
                pad_is_unseen,
            })
        })??;
        Ok(model)
    }

    /// Pictures to features.
    pub fn encode_images(&self, input: &ImageInput, pass: Pass) -> Result<Encoded> {
        let [height, width] = self.image.image_size();
        let checked = match input {
            ImageInput::Pixels(x) => expect("pixels", x, &[None, Some(3), Some(height), Some(width)]),
            ImageInput::Pooled(x) => expect("pooled image features", x, &[None, Some(self.image.width())]),
        };
        checked?;
        door(|| {
            let (pooled, tokens) = match input {
                ImageInput::Pixels(pixels) => {
                    let output = self.image.forward(pixels, pass);
                    (output.pooled, output.tokens)
                }
                ImageInput::Pooled(pooled) => (pooled.shallow_clone(), None),
            };
            Encoded {
                raw: self.image_projection.forward(&pooled, pass),
                pooled,
                tokens,
            }
        })
    }

    /// Texts to features.
    pub fn encode_texts(&self, input: &TextInput, pass: Pass) -> Result<Encoded> {
        match input {
            TextInput::Tokens(tokens) => self.check_tokens(tokens)?,
            TextInput::Pooled(x) => expect("pooled text features", x, &[None, Some(self.text.width())])?,
        }
        door(|| {
            let (pooled, tokens) = match input {
                TextInput::Tokens(tokens) => {
                    let output = if self.pad_is_unseen {
                        self.text.forward(&without_padding(tokens, self.text.pad_id()), pass)
                    } else {
                        self.text.forward(tokens, pass)
                    };
                    (output.pooled, output.tokens)
                }
                TextInput::Pooled(pooled) => (pooled.shallow_clone(), None),
            };
            Encoded {
                raw: self.text_projection.forward(&pooled, pass),
                pooled,
                tokens,
            }
        })
    }

    fn check_tokens(&self, tokens: &Tokens) -> Result<()> {
        expect("token ids", &tokens.ids, &[None, None])?;
        expect(
            "the token mask",
            &tokens.mask,
            &[Some(tokens.ids.size()[0]), Some(tokens.ids.size()[1])],
        )?;
        let length = tokens.ids.size()[1];
        if length == 0 || length > self.text.context_length() {
            return Err(Error::invalid(format!(
                "texts of {length} tokens, where the text tower takes 1 to {}",
                self.text.context_length()
            )));
        }
        if tokens.ids.numel() == 0 {
            return Ok(());
        }
        // One look at the ids: an id past the vocabulary would read past the embedding table.
        let (least, most) = door(|| (tokens.ids.min().int64_value(&[]), tokens.ids.max().int64_value(&[])))?;
        if least < 0 || most >= self.text.vocabulary() {
            let bad = if least < 0 { least } else { most };
            return Err(Error::invalid(format!(
                "token id {bad}, where the text tower knows 0 to {}",
                self.text.vocabulary() - 1
            ))
            .remedy("use the tokenizer that belongs to the weights"));
        }
        Ok(())
    }

    /// The parameters, in building order.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The canonical config it was built from.
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// The temperature as it is learnt: the logarithm of what cosines are multiplied by. Scalar.
    pub fn logit_scale(&self) -> &Tensor {
        &self.logit_scale
    }

    /// The bias, where the model has one. Scalar.
    pub fn logit_bias(&self) -> Option<&Tensor> {
        self.logit_bias.as_ref()
    }

    /// The image tower.
    pub fn image(&self) -> &dyn ImageEncoder {
        &*self.image
    }

    /// The text tower.
    pub fn text(&self) -> &dyn TextEncoder {
        &*self.text
    }

    /// The image tower's projection.
    pub fn image_projection(&self) -> &Projection {
        &self.image_projection
    }

    /// The text tower's projection.
    pub fn text_projection(&self) -> &Projection {
        &self.text_projection
    }

    /// Sizes, for objectives.
    pub fn shape(&self) -> ModelShape {
        ModelShape {
            dim: self.dim,
            image_width: self.image.width(),
            text_width: self.text.width(),
            vocabulary: self.text.vocabulary(),
        }
    }

    /// What there is to know without running it.
    pub fn info(&self) -> ModelInfo {
        let [height, width] = self.image.image_size();
        ModelInfo {
            dim: self.dim as usize,
            logit_scale: self.logit_scale.detach().exp().double_value(&[]) as f32,
            logit_bias: self.logit_bias.as_ref().map(|bias| bias.double_value(&[]) as f32),
            probability: self.probability,
            context_length: self.context_length as usize,
            image_size: [height as usize, width as usize],
        }
    }
}

/// Checks a tensor's shape; `None` is any size.
fn expect(what: &str, tensor: &Tensor, shape: &[Option<i64>]) -> Result<()> {
    let size = tensor.size();
    let fits = size.len() == shape.len()
        && size
            .iter()
            .zip(shape)
            .all(|(n, want)| want.is_none_or(|want| *n == want));
    if fits {
        return Ok(());
    }
    let wanted: Vec<String> = shape
        .iter()
        .map(|n| n.map_or("any".into(), |n| n.to_string()))
        .collect();
    Err(Error::invalid(format!(
        "{what} of shape {size:?}, where the model takes [{}]",
        wanted.join(", ")
    )))
}
