//! LoRA: a product of two thin matrices learns beside a matrix that keeps its values.

use std::ops::Range;

use tch::{Kind, Tensor};

/// Which linear layers of the towers get an adapter, and of which size (Hu et al., 2021).
///
/// With adapters a tower's own weights are locked, all of them; projections, temperature and bias stay as trainable as
/// they were.
#[derive(Debug, Clone, PartialEq)]
pub struct Lora {
    /// Rows of `A` and columns of `B`, at least 1.
    pub rank: i64,
    /// The product is multiplied by `alpha / rank`.
    pub alpha: f64,
    /// The layers, by the last part of their name: `qkv` for `image.blocks.0.attention.qkv.weight`.
    pub targets: Vec<String>,
}

/// What is added to `x Wᵀ`: `scale · (x Aᵀ) Bᵀ` with `A` `[rank, input]`, `B` `[output, rank]`. `B` starts at zero, so
/// that the model starts as it was.
#[derive(Debug)]
pub(crate) struct Adapter {
    pub(crate) a: Tensor,
    pub(crate) b: Tensor,
    pub(crate) scale: f64,
}

impl Adapter {
    /// The same tensors once more.
    pub(crate) fn share(&self) -> Self {
        Self {
            a: self.a.shallow_clone(),
            b: self.b.shallow_clone(),
            scale: self.scale,
        }
    }

    /// `[.., input] -> [.., output]`, or the outputs of `rows` alone, f32. Computes in the type of `x`.
    pub(crate) fn forward(&self, x: &Tensor, rows: Option<&Range<i64>>) -> Tensor {
        let b = match rows {
            Some(rows) => self.b.narrow(0, rows.start, rows.end - rows.start),
            None => self.b.shallow_clone(),
        };
        let inner = x.linear(&self.a.to_kind(x.kind()), None::<&Tensor>) * self.scale;
        inner.linear(&b.to_kind(x.kind()), None::<&Tensor>).to_kind(Kind::Float)
    }

    /// The weight that does without the adapter what `weight` does with it: `W + scale · B A`, without a graph. Where
    /// `B` is zero, `W` to the bit.
    pub(crate) fn merged(&self, weight: &Tensor) -> Tensor {
        let _guard = tch::no_grad_guard();
        if self.b.count_nonzero(None::<i64>).int64_value(&[]) == 0 {
            return weight.detach();
        }
        weight + self.b.matmul(&self.a) * self.scale
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::Linear;
    use crate::layers::testing::wave;
    use crate::{Compute, Fresh, Init, ParamOptions, Parameters, Params, Pass, Role};
    use tch::Device;

    const RANK: i64 = 2;

    /// A linear layer `[5] -> [6]` called `qkv` in a tower, and one called `head` outside of it.
    fn build(targets: &[&str]) -> clip_core::Result<(Linear, Linear, Parameters)> {
        let options = ParamOptions {
            fresh: Fresh::Everything,
            trainable: true,
            lora: Some(Lora {
                rank: RANK,
                alpha: 3.0,
                targets: targets.iter().map(|&target| target.to_owned()).collect(),
            }),
            ..ParamOptions::default()
        };
        let params = Params::new(None, options);
        let tower = params.tower("image").at("blocks").at(0);
        let layer = Linear::new(&tower.at("qkv"), [5, 6], Init::Normal(0.5));
        let head = Linear::new(&params.at("qkv"), [6, 3], Init::Normal(0.5));
        Ok((layer, head, params.finish()?))
    }

    fn set_b(parameters: &Parameters) {
        let _guard = tch::no_grad_guard();
        let b = parameters
            .iter()
            .find(|parameter| parameter.name.ends_with("lora_b"))
            .unwrap();
        b.tensor.shallow_clone().copy_(&wave(0.7, &[6, RANK]));
    }

    fn rows(tensor: &Tensor) -> Vec<Vec<f64>> {
        Vec::try_from(tensor.detach().to_kind(Kind::Double)).unwrap()
    }

    #[test]
    fn a_towers_weights_are_locked_and_its_targets_adapted() {
        let (_, _, parameters) = build(&["qkv"]).unwrap();
        let trained: Vec<&str> = parameters.trainable().map(|p| p.name.as_str()).collect();
        let adapters = ["image.blocks.0.qkv.lora_a", "image.blocks.0.qkv.lora_b"];
        assert_eq!(trained, [&adapters[..], &["qkv.weight", "qkv.bias"]].concat());
        let all: Vec<Role> = parameters.iter().map(|p| p.role).collect();
        assert_eq!(all.iter().filter(|role| **role == Role::Adapter).count(), 2);
        assert_eq!(parameters.count(), (5 + 1) * 6 + (6 + 1) * 3);
        let exported: Vec<&str> = parameters.exported().map(|(name, _)| name).collect();
        assert_eq!(
            exported,
            [
                "image.blocks.0.qkv.weight",
                "image.blocks.0.qkv.bias",
                "qkv.weight",
                "qkv.bias"
            ]
        );
    }

    #[test]
    fn it_adds_the_scaled_product() {
        let (layer, _, parameters) = build(&["qkv"]).unwrap();
        let x = wave(0.3, &[2, 5]);
        let before = layer.forward(&x, Pass::INFER);
        let find = |name: &str| &parameters.iter().find(|p| p.name.ends_with(name)).unwrap().tensor;
        assert_eq!(
            before,
            x.linear(find("blocks.0.qkv.weight"), Some(find("blocks.0.qkv.bias")))
        );
        set_b(&parameters);
        let got = rows(&layer.forward(&x, Pass::INFER));
        let (a, b, x64, before) = (rows(find("lora_a")), rows(find("lora_b")), rows(&x), rows(&before));
        for (row, output) in (0..2).flat_map(|row| (0..6).map(move |output| (row, output))) {
            let inner = |r: usize| (0..5).map(|i| x64[row][i] * a[r][i]).sum::<f64>();
            let added = 1.5 * (0..RANK as usize).map(|r| inner(r) * b[output][r]).sum::<f64>();
            assert!(added.abs() > 1e-3, "{added}");
            assert!((got[row][output] - before[row][output] - added).abs() < 1e-6);
        }
        let part = layer.forward_rows(&x, 2..5, Pass::INFER);
        let whole = layer.forward(&x, Pass::INFER).narrow(1, 2, 3);
        assert!((part - whole).abs().max().double_value(&[]) < 1e-6);
    }

    #[test]
    fn what_is_exported_does_without_it() {
        let (layer, _, parameters) = build(&["qkv"]).unwrap();
        let weight = |parameters: &Parameters| parameters.exported().next().unwrap().1.copy();
        let base = parameters.iter().next().unwrap().tensor.detach();
        assert_eq!(weight(&parameters), base);
        set_b(&parameters);
        let x = wave(0.3, &[2, 5]);
        let bias = parameters.iter().find(|p| p.name.ends_with("bias")).unwrap();
        let plain = x.linear(&weight(&parameters), Some(&bias.tensor));
        assert!((plain - layer.forward(&x, Pass::INFER)).abs().max().double_value(&[]) < 1e-6);
        assert_ne!(weight(&parameters), base);
        assert_eq!(parameters.without_adapters(|| weight(&parameters)), base);
        assert_ne!(weight(&parameters), base);
    }

    #[test]
    fn gradients_reach_both_matrices_in_either_type() {
        let (layer, _, parameters) = build(&["qkv"]).unwrap();
        set_b(&parameters);
        let gradients = |compute| {
            let pass = Pass { compute, ..Pass::TRAIN };
            let trained: Vec<&crate::Parameter> = parameters.trainable().take(2).collect();
            trained.iter().for_each(|p| p.tensor.shallow_clone().zero_grad());
            let y = layer.forward(&wave(0.3, &[2, 5]), pass);
            assert_eq!(y.kind(), Kind::Float);
            y.square().sum(Kind::Float).backward();
            let flat: Vec<Tensor> = trained.iter().map(|p| p.tensor.grad().flatten(0, -1)).collect();
            assert!(
                flat.iter()
                    .all(|gradient| gradient.abs().max().double_value(&[]) > 1e-3)
            );
            Tensor::cat(&flat, 0)
        };
        let (whole, half) = (gradients(Compute::F32), gradients(Compute::Bf16));
        let cosine = whole.dot(&half) / (whole.norm() * half.norm());
        assert!(cosine.double_value(&[]) > 0.999, "{cosine}");
        assert!(!parameters.iter().next().unwrap().tensor.grad().defined());
        assert_eq!(half.device(), Device::Cpu);
    }

    #[test]
    fn an_unknown_target_lists_the_known() {
        let error = build(&["qkv", "query"]).unwrap_err().to_string();
        assert!(error.contains("`query`") && error.ends_with("known: qkv"), "{error}");
    }
}
