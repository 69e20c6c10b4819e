//! The reference's inputs and outputs of a model.

use std::collections::BTreeMap;
use std::fs;

use clip_nn::tch::{Device, Kind, Tensor};
use clip_nn::{DualEncoder, Encoded, ImageInput, Pass, TextInput, Tokens, unit_rows};
use safetensors::{Dtype, SafeTensors};

use crate::fixture;

/// Models whose reference ran in half-precision weights, of which the plain outputs are of others.
fn outputs(model: &str) -> &'static str {
    match model {
        "cn_rn_tiny" | "cn_vit_tiny/clip_cn_fp16.pt" => "fp16ckpt_",
        _ => "",
    }
}

/// The reference's inputs and outputs.
pub(crate) struct Reference {
    pub(crate) tensors: BTreeMap<String, Tensor>,
    prefix: &'static str,
    is_bert: bool,
}

impl Reference {
    pub(crate) fn read(model: &str) -> Self {
        let folder = model.split('/').next().unwrap();
        let bytes = fs::read(fixture(folder).join("io.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let tensor = |view: safetensors::tensor::TensorView<'_>| {
            let kind = match view.dtype() {
                Dtype::F32 => Kind::Float,
                Dtype::I64 => Kind::Int64,
                other => panic!("{other:?}"),
            };
            let shape: Vec<i64> = view.shape().iter().map(|&n| n as i64).collect();
            Tensor::from_data_size(view.data(), &shape, kind)
        };
        let tensors = file.tensors().into_iter();
        Self {
            tensors: tensors.map(|(name, view)| (name, tensor(view))).collect(),
            prefix: outputs(model),
            is_bert: ["cn_", "easynlp_chinese"].iter().any(|start| model.starts_with(start)),
        }
    }

    pub(crate) fn get(&self, name: &str) -> &Tensor {
        let own = self.tensors.get(&format!("{}{name}", self.prefix));
        own.unwrap_or_else(|| &self.tensors[name])
    }

    pub(crate) fn tokens(&self) -> Tokens {
        let ids = self.get("input_ids").shallow_clone();
        let mask = match (self.tensors.get("attention_mask"), self.is_bert) {
            (Some(mask), _) => mask.ne(0),
            // Chinese-CLIP and EasyNLP mask the padding.
            (None, true) => ids.ne(0),
            (None, false) => ids.ones_like().to_kind(Kind::Bool),
        };
        Tokens { ids, mask }
    }

    pub(crate) fn texts(&self, model: &DualEncoder, pass: Pass) -> Encoded {
        model.encode_texts(&TextInput::Tokens(self.tokens()), pass).unwrap()
    }

    /// The symmetric InfoNCE loss of the pairs, or SigLIP's where the model has a bias.
    pub(crate) fn loss(&self, model: &DualEncoder) -> Tensor {
        let images = unit_rows(&self.images(model, Pass::INFER).raw);
        let texts = unit_rows(&self.texts(model, Pass::INFER).raw);
        let logits = images.matmul(&texts.transpose(0, 1)) * model.logit_scale().exp();
        let count = logits.size()[0];
        match model.logit_bias() {
            Some(bias) => {
                let signs = Tensor::eye(count, (Kind::Float, Device::Cpu)) * 2 - 1;
                ((logits + bias) * signs).log_sigmoid().sum(Kind::Float) / -count
            }
            None => {
                let targets = Tensor::arange(count, (Kind::Int64, Device::Cpu));
                let back = logits.transpose(0, 1).cross_entropy_for_logits(&targets);
                (logits.cross_entropy_for_logits(&targets) + back) / 2
            }
        }
    }

    pub(crate) fn images(&self, model: &DualEncoder, pass: Pass) -> Encoded {
        let pixels = self.get("pixel_values").shallow_clone();
        model.encode_images(&ImageInput::Pixels(pixels), pass).unwrap()
    }
}
