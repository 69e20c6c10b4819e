//! Zeroes a share of the values in training, and scales the rest up.

use tch::Tensor;

use crate::Pass;

/// Dropout (Srivastava et al., 2014). Draws from libtorch's generator, which the trainer seeds before each pass.
#[derive(Debug, Clone, Copy)]
pub struct Dropout {
    share: f64,
}

impl Dropout {
    /// Zeroes this share of the values, 0 to 1.
    pub fn new(share: f64) -> Self {
        Self { share }
    }

    /// The share in this pass: none outside training.
    pub fn share(self, pass: Pass) -> f64 {
        if pass.train { self.share } else { 0.0 }
    }

    /// Any shape; the same values outside training.
    pub fn forward(self, x: &Tensor, pass: Pass) -> Tensor {
        match self.share(pass) {
            0.0 => x.shallow_clone(),
            share => x.dropout(share, true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn only_in_training_and_by_the_seed() {
        let x = Tensor::ones([1000], (Kind::Float, Device::Cpu));
        let dropout = Dropout::new(0.25);
        assert_eq!(dropout.forward(&x, Pass::INFER), x);
        let draw = |seed| {
            tch::manual_seed(seed);
            dropout.forward(&x, Pass::TRAIN)
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        let kept = draw(1).ne(0.0).sum(Kind::Float).double_value(&[]);
        assert!((700.0..800.0).contains(&kept), "{kept}");
        assert!((draw(1).max().double_value(&[]) - 1.0 / 0.75).abs() < 1e-6);
    }
}
