//! Gradients let go.
#![allow(unsafe_code, reason = "calls the shim")]

use tch::Tensor;

use crate::error::{Result, TorchError};
use crate::ffi::{clip_torch_clear_gradients, outcome};

/// Lets go of the tensors' gradients, as `zero_grad(set_to_none=True)` of torch's optimizers does: their memory is free
/// while the next pass collects activations, and its gradients are taken over, not added to zeros. A tensor that no
/// gradient reaches then has none.
///
/// ```
/// use tch::{Kind, Tensor};
/// let x = Tensor::from_slice(&[1f32, 2.0]).set_requires_grad(true);
/// x.square().sum(Kind::Float).backward();
/// clip_torch::clear_gradients(&[x.shallow_clone()])?;
/// assert!(!x.grad().defined());
/// # Ok::<(), clip_torch::TorchError>(())
/// ```
pub fn clear_gradients(tensors: &[Tensor]) -> Result<()> {
    // An undefined tensor has nowhere to keep a gradient, and libtorch does not check.
    if !tensors.iter().all(Tensor::defined) {
        return Err(TorchError::Refused("the gradient of a tensor that is none".into()));
    }
    let pointers: Vec<_> = tensors.iter().map(Tensor::as_ptr).collect();
    // SAFETY: `pointers.len()` pointers to live, defined tensors, borrowed for the call; the shim catches every exception.
    // Data races are ruled out as for tch's own in-place operators: a Tensor is not Sync.
    let status = unsafe { clip_torch_clear_gradients(pointers.as_ptr().cast(), pointers.len()) };
    outcome(status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    #[test]
    fn a_gradient_let_go_does_not_come_back_and_the_next_is_whole() {
        let x = Tensor::from_slice(&[1f32, 2.0]).set_requires_grad(true);
        let backward = || (&x * 3.0).sum(Kind::Float).backward();
        backward();
        backward();
        assert_eq!(x.grad().double_value(&[1]), 6.0);
        let held = x.grad();
        clear_gradients(&[x.shallow_clone()]).unwrap();
        assert!(!x.grad().defined());
        backward();
        assert_eq!(x.grad().double_value(&[1]), 3.0);
        // Who held on to the old one still has it.
        assert_eq!(held.double_value(&[1]), 6.0);
        assert!(clear_gradients(&[Tensor::new()]).is_err());
    }
}
