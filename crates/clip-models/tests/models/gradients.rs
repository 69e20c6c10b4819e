//! Gradients of the loss through both towers against the reference's, tensor by tensor under the names of the file.

use std::collections::BTreeMap;

use clip_format::{Checkpoint, Dtype, Remapped, TensorInfo, TensorView, Weights};

use super::*;

const MODELS: [&str; 8] = [
    "hf_vtde_bert_clipvision_tiny",
    "hf_vtde_roberta_vit_tiny",
    "hf_clip_tiny",
    "hf_clip_tiny_legacy_eos2",
    "hf_chinese_clip_tiny",
    "hf_siglip_tiny",
    "easynlp_hf_tiny",
    "easynlp_hf_2022_tiny",
];

/// What `xtask/parity/hugging_face.py` writes.
#[derive(serde::Deserialize)]
struct Expected {
    loss: f64,
    /// Norm of the gradient, and its product with sin(0.37), sin(0.74), …
    gradients: BTreeMap<String, [f64; 2]>,
}

/// Gradients as if they were weights, so that the family's mapping names them.
struct Gradients {
    infos: Vec<TensorInfo>,
    values: BTreeMap<String, Vec<f32>>,
}

impl Gradients {
    fn of(model: &DualEncoder) -> Self {
        let (mut infos, mut values) = (Vec::new(), BTreeMap::new());
        for parameter in model.parameters().iter() {
            let gradient = match parameter.tensor.grad() {
                gradient if gradient.defined() => gradient,
                _ => parameter.tensor.zeros_like(),
            };
            infos.push(TensorInfo {
                name: parameter.name.clone(),
                dtype: Dtype::F32,
                shape: gradient.size().iter().map(|&size| size as usize).collect(),
            });
            let flat = gradient.contiguous().flatten(0, -1);
            values.insert(parameter.name.clone(), Vec::try_from(flat).unwrap());
        }
        Self { infos, values }
    }
}

impl Weights for Gradients {
    fn tensors(&self) -> &[TensorInfo] {
        &self.infos
    }

    fn view(&self, name: &str) -> Result<Option<TensorView<'_>>> {
        let info = self.infos.iter().find(|info| info.name == name);
        Ok(info.map(|info| TensorView {
            dtype: info.dtype,
            shape: info.shape.clone(),
            data: self.values[name]
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect::<Vec<u8>>()
                .into(),
        }))
    }
}

fn probe(values: &[f32]) -> [f64; 2] {
    let values = || values.iter().map(|&value| f64::from(value));
    let norm = values().map(|value| value * value).sum::<f64>().sqrt();
    let along = values()
        .zip(1..)
        .map(|(value, at)| value * (0.37 * f64::from(at)).sin());
    [norm, along.sum()]
}

#[test]
fn gradients_of_the_loss_are_the_references() {
    let (zoo, families) = (zoo(), Families::bundled());
    for name in MODELS {
        let text = fs::read_to_string(fixture(name).join("gradients.json")).unwrap();
        let expected: Expected = serde_json::from_str(&text).unwrap();
        let loaded = load(fixture(name), &zoo, &families, trainable(), None).unwrap();
        let loss = Reference::read(name).loss(&loaded.model);
        let difference = (loss.double_value(&[]) - expected.loss).abs();
        assert!(difference < 1e-5, "{name}: loss {difference:e} apart");
        loss.backward();

        let checkpoint = Checkpoint::open(fixture(name), &families).unwrap();
        let mapping = families
            .get(checkpoint.family())
            .unwrap()
            .mapping(checkpoint.config())
            .unwrap();
        let gradients = Gradients::of(&loaded.model);
        let named = Remapped::save(&mapping, &gradients as &dyn Weights).unwrap();
        assert_eq!(named.names().len(), expected.gradients.len(), "{name}");
        for (tensor, [norm, along]) in &expected.gradients {
            let got = probe(&named.view(tensor).unwrap().unwrap().to_f32().unwrap());
            // Some are zero but for rounding: a bias of keys changes no softmax.
            let tolerance = 1e-4 * norm + 1e-6;
            let near = (got[0] - norm).abs() < tolerance && (got[1] - along).abs() < tolerance;
            assert!(near, "{name}: {tensor}: {got:?}, not {norm} and {along}");
        }
    }
}
