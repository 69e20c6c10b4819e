//! Clipping of gradients by their common norm.

use clip_core::Result;
use clip_nn::door;
use clip_nn::tch::{Kind, Tensor};

/// The L2 norm of all gradients together; then scales them by `limit / (norm + 1e-6)` where that is below 1, as
/// `torch.nn.utils.clip_grad_norm_` does. A `limit` of 0 only measures. A norm that is not finite leaves the gradients as
/// they are: the caller skips the step.
pub fn clip_gradients(gradients: &[Tensor], limit: f64) -> Result<f64> {
    door(|| {
        if gradients.is_empty() {
            return 0.0;
        }
        let _guard = clip_nn::tch::no_grad_guard();
        let norms: Vec<Tensor> = gradients
            .iter()
            .map(|gradient| gradient.norm().to_kind(Kind::Float))
            .collect();
        let norm = Tensor::stack(&norms, 0).norm().double_value(&[]);
        let factor = limit / (norm + 1e-6);
        if limit > 0.0 && norm.is_finite() && factor < 1.0 {
            for gradient in gradients {
                let _ = gradient.shallow_clone().g_mul_scalar_(factor);
            }
        }
        norm
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(tensor: &Tensor) -> Vec<f32> {
        Vec::try_from(tensor).unwrap()
    }

    #[test]
    fn the_norm_is_over_all_tensors_together() {
        let gradients = [Tensor::from_slice(&[3f32, 0.0]), Tensor::from_slice(&[4f32])];
        assert_eq!(clip_gradients(&gradients, 0.0).unwrap(), 5.0);
        assert_eq!(values(&gradients[0]), [3.0, 0.0]);
        assert_eq!(clip_gradients(&gradients, 10.0).unwrap(), 5.0);
        assert_eq!(values(&gradients[1]), [4.0]);
        assert_eq!(clip_gradients(&gradients, 1.0).unwrap(), 5.0);
        assert!((values(&gradients[0])[0] - 0.6).abs() < 1e-6);
        assert!((values(&gradients[1])[0] - 0.8).abs() < 1e-6);
    }

    #[test]
    fn what_is_not_finite_is_left_alone() {
        let gradients = [Tensor::from_slice(&[f32::INFINITY, 1.0]), Tensor::from_slice(&[2f32])];
        assert!(!clip_gradients(&gradients, 1.0).unwrap().is_finite());
        assert_eq!(values(&gradients[1]), [2.0]);
        assert_eq!(clip_gradients(&[], 1.0).unwrap(), 0.0);
    }
}
