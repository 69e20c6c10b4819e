//! Terms of a loss whose gradient was made by hand.

use tch::{Kind, Tensor};

/// A term of value `value` whose `backward()` adds `g` to the gradient of `x`, for each `(x, g)` of equal shapes.
///
/// libtorch's custom autograd functions have no Rust binding; the surrogate `(x · g).sum()` has exactly the gradient
/// `g`, and its value is taken off again. Tiled losses enter the graph by this.
///
/// ```
/// use clip_nn::{tch::{Device, Kind, Tensor}, with_gradient};
/// let x = Tensor::zeros([2], (Kind::Float, Device::Cpu)).set_requires_grad(true);
/// let term = with_gradient(&Tensor::from(5f32), &[(&x, &Tensor::from_slice(&[3f32, 4.0]))]);
/// term.backward();
/// assert_eq!(term.double_value(&[]), 5.0);
/// assert_eq!(x.grad().double_value(&[1]), 4.0);
/// ```
pub fn with_gradient(value: &Tensor, gradients: &[(&Tensor, &Tensor)]) -> Tensor {
    let mut term = value.detach();
    for (x, gradient) in gradients {
        // A dot product makes no matrix of the features' size, as a product and its sum would.
        let gradient = gradient.detach().to_kind(x.kind()).flatten(0, -1);
        let surrogate = x.flatten(0, -1).dot(&gradient).to_kind(Kind::Float);
        // Adding and taking off the same number is exact where it is finite, so the value stays what it was.
        // Not in place: `term` still shares its memory with `value`.
        term = (&surrogate - surrogate.detach()) + term;
    }
    term
}
