//! Training: gradients of the loss through both towers against the reference's, tensor by tensor under the names of the
//! file; what they reach; dropout.

use std::collections::BTreeMap;

use clip_format::{Checkpoint, Dtype, Remapped, TensorInfo, TensorView, Weights};

use super::*;

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
    let families = Families::bundled();
    let mut compared = 0;
    for name in MODELS {
        let Ok(text) = fs::read_to_string(fixture(name).join("gradients.json")) else {
            continue;
        };
        compared += 1;
        let expected: Expected = serde_json::from_str(&text).unwrap();
        let loaded = opened(name, trainable());
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
    assert_eq!(compared, 8);
}

#[test]
fn gradients_reach_every_parameter_that_features_depend_on() {
    for name in MODELS {
        let reference = Reference::read(name);
        let loaded = opened(name, trainable());
        let model = &loaded.model;
        reference.loss(model).backward();
        for parameter in model.parameters().trainable() {
            let gradient = parameter.tensor.grad();
            assert!(gradient.defined(), "{name}: {}", parameter.name);
            let size = gradient.abs().max().double_value(&[]);
            assert!(size.is_finite() && size > 0.0, "{name}: {} {size}", parameter.name);
        }
    }
}

#[test]
fn gradients_of_info_nce_through_a_resnet_are_the_references() {
    let name = "easynlp_open_clip_rn_tiny";
    let reference = Reference::read(name);
    let loaded = opened(name, trainable());
    let model = &loaded.model;
    // As in training: the statistics stay frozen all the same.
    let images = unit_rows(&reference.images(model, Pass::TRAIN).raw);
    let texts = unit_rows(&reference.texts(model, Pass::TRAIN).raw);
    let logits = images.matmul(&texts.transpose(0, 1)) * model.logit_scale().exp();
    let targets = Tensor::arange(5, (Kind::Int64, Device::Cpu));
    let loss = logits.cross_entropy_for_logits(&targets) + logits.transpose(0, 1).cross_entropy_for_logits(&targets);
    (loss / 2.0).backward();
    let mut compared = 0;
    for parameter in model.parameters().trainable() {
        let Some(want) = reference.tensors.get(&format!("gradient {}", parameter.name)) else {
            continue;
        };
        let got = parameter.tensor.grad();
        let size = want.abs().max().double_value(&[]);
        assert_near(&got.view(want.size().as_slice()), want, 1e-4 * size);
        compared += 1;
    }
    assert_eq!(compared, 9);
}

#[test]
fn dropout_follows_the_seed_in_training() {
    let loaded = opened(MODELS[2], trainable());
    let reference = Reference::read(MODELS[2]);
    let draw = |seed| {
        tch::manual_seed(seed);
        reference.texts(&loaded.model, Pass::TRAIN).raw
    };
    assert_eq!(draw(1), draw(1));
    assert!(difference(&draw(1), &draw(2)) > 1e-3);
    // The picture tower has none.
    let images = |pass| reference.images(&loaded.model, pass).raw;
    assert_eq!(images(Pass::TRAIN), images(Pass::INFER));
}
