//! OpenCLIP's weights without their config: what shapes say, and what of the rest is known by convention.
//!
//! OpenAI's releases are known by their format (TorchScript) or by three facts that stand among the tensors; all of them
//! are QuickGELU with heads of 64. Anybody else's weights have the same names and tell neither.

use clip_core::{Error, Result};
use serde_json::{Value, json};

use super::super::Evidence;
use super::super::asked::OPEN;
use super::super::bare::{ClipText, Shapes, Vision, usual_heads};
use super::LOGIT_BIAS;
use super::siglip::timm_names;
use super::write::mlp_ratio;
use crate::weights::Format;

/// The places the text tower may have.
const PREFIXES: [&str; 2] = ["", "text."];
/// Facts that OpenAI's archives carry as tensors.
const FACTS: [&str; 3] = ["input_resolution", "context_length", "vocab_size"];

/// Whether the names are OpenAI's.
pub(super) fn fits(evidence: &Evidence<'_>) -> bool {
    let has = |name: &str| evidence.shape(name).is_some();
    has("visual.conv1.weight")
        && PREFIXES
            .iter()
            .any(|prefix| has(&format!("{prefix}token_embedding.weight")))
}

/// The config, or an error that shows it with the open questions.
pub(super) fn config(evidence: &Evidence<'_>) -> Result<Value> {
    let shapes = Shapes::of(evidence, "");
    let mut config = inferred(&shapes).map_err(|error| error.remedy(ASK))?;
    let is_openai = evidence.format == Format::TorchScript || FACTS.iter().all(|fact| shapes.has(fact));
    if is_openai && answer_as_openai(&mut config) {
        return Ok(config);
    }
    let model = &mut config["model_cfg"];
    model["quick_gelu"] = OPEN.into();
    model["vision_cfg"]["head_width"] = OPEN.into();
    model["text_cfg"]["heads"] = OPEN.into();
    Err(Error::invalid(
        "the weights are OpenCLIP's, but open_clip_config.json is missing beside them; nothing in weights tells GELU from \
         QuickGELU, nor how wide heads of attention are",
    )
    .remedy(format!(
        "{ASK}; what the weights tell of it, with `quick_gelu` true or false, `head_width` (mostly 64) and `heads` (mostly a \
         64th of `width`) to fill in: {config}"
    )))
}

/// The error for SigLIP's weights without their config; nothing for other names.
pub(super) fn ask_for_siglip(evidence: &Evidence<'_>) -> Option<Error> {
    let shapes = Shapes::of(evidence, "");
    if evidence.config.is_some() || !shapes.has("visual.trunk.attn_pool.latent") {
        return None;
    }
    Some(match siglip(&shapes) {
        Ok((config, names)) => Error::invalid(
            "the weights are those of OpenCLIP's SigLIP, but open_clip_config.json is missing beside them; nothing in weights \
             tells GELU from its approximation by tanh, nor how many heads of attention there are",
        )
        .remedy(format!(
            "{ASK}; what the weights tell of it, with \"{OPEN}\" to fill in (`timm_model_name`: {}; `approximate`: tanh or \
             none): {config}",
            if names.is_empty() { "none that is known has these sizes".to_owned() } else { names.join(" or ") },
        )),
        Err(error) => error.remedy(ASK),
    })
}

/// The config with questions, and the picture towers of timm that have its sizes.
fn siglip(shapes: &Shapes<'_>) -> Result<(Value, Vec<&'static str>)> {
    let patches = "visual.trunk.patch_embed.proj.weight";
    let (width, patch) = (shapes.side(patches, 0)?, shapes.side(patches, 3)?);
    let side = shapes.grid("visual.trunk.pos_embed", 1, 0)?.saturating_mul(patch);
    let (layers, hidden) = shapes.blocks(("visual.trunk.blocks.", ".mlp.fc1.weight"))?;
    let names = timm_names([patch, side], [width, hidden, layers]);
    let mut text = text_cfg(shapes.clip_text("text.")?);
    for (key, value) in [
        ("heads", OPEN.into()),
        ("act_kwargs", json!({"approximate": OPEN})),
        ("no_causal_mask", true.into()),
        ("pool_type", "last".into()),
        ("proj_bias", shapes.has("text.text_projection.bias").into()),
    ] {
        text[key] = value;
    }
    let mut model = json!({
        "embed_dim": width,
        "custom_text": true,
        "vision_cfg": {
            "image_size": side, "timm_model_name": OPEN, "timm_model_pretrained": false, "timm_pool": "map", "timm_proj": "none",
        },
        "text_cfg": text,
    });
    if let [name] = names[..] {
        model["vision_cfg"]["timm_model_name"] = name.into();
    }
    if shapes.has("logit_bias") {
        model["init_logit_bias"] = LOGIT_BIAS.into();
    }
    Ok((json!({"model_cfg": model}), names))
}

const ASK: &str = "put the model's open_clip_config.json into the same folder";

/// Fills in what all of OpenAI's models have; false where their heads cannot be 64 wide.
fn answer_as_openai(config: &mut Value) -> bool {
    let model = &mut config["model_cfg"];
    let heads = |width: &Value| {
        let width = width.as_u64().and_then(|width| usize::try_from(width).ok())?;
        usual_heads(width, "").ok()
    };
    let vision = &model["vision_cfg"];
    let is_resnet = vision["layers"].is_array();
    let (Some(text_heads), true) = (
        heads(&model["text_cfg"]["width"]),
        is_resnet || heads(&vision["width"]).is_some(),
    ) else {
        return false;
    };
    model["text_cfg"]["heads"] = text_heads.into();
    model["quick_gelu"] = true.into();
    true
}

/// The config without activation and heads.
fn inferred(shapes: &Shapes<'_>) -> Result<Value> {
    let custom_text = shapes.has("text.token_embedding.weight");
    let prefix = PREFIXES[usize::from(custom_text)];
    let bias = shapes.has(&format!("{prefix}text_projection.bias"));
    let embed_dim = if bias {
        shapes.side(&format!("{prefix}text_projection.weight"), 0)?
    } else {
        shapes.side(&format!("{prefix}text_projection"), 1)?
    };
    let mut model = json!({
        "embed_dim": embed_dim,
        "vision_cfg": vision_cfg(shapes.vision()?),
        "text_cfg": text_cfg(shapes.clip_text(prefix)?),
    });
    if bias {
        model["text_cfg"]["proj_bias"] = true.into();
    }
    if custom_text {
        model["custom_text"] = true.into();
    }
    if shapes.has("logit_bias") {
        model["init_logit_bias"] = LOGIT_BIAS.into();
    }
    Ok(json!({"model_cfg": model}))
}

fn vision_cfg(vision: Vision) -> Value {
    match vision {
        Vision::Transformer {
            width,
            layers,
            patch,
            image_size,
            hidden,
        } => {
            let own = json!({"image_size": image_size, "patch_size": patch, "width": width, "layers": layers});
            with_ratio(own, width, hidden)
        }
        Vision::ResNet {
            width,
            layers,
            image_size,
        } => json!({"image_size": image_size, "layers": layers, "width": width, "patch_size": null}),
    }
}

fn text_cfg(text: ClipText) -> Value {
    let own = json!({
        "context_length": text.context, "vocab_size": text.vocabulary, "width": text.width, "layers": text.layers,
    });
    with_ratio(own, text.width, text.hidden)
}

fn with_ratio(mut own: Value, width: usize, hidden: usize) -> Value {
    if let Some(ratio) = mlp_ratio(width, hidden) {
        own["mlp_ratio"] = ratio.into();
    }
    own
}
