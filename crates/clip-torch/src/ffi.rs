//! The C surface of `cpp/shim.cpp`.
#![allow(unsafe_code, reason = "declares and calls C++")]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;

use tch::Tensor;
use torch_sys::C_tensor;

use crate::error::{Result, TorchError};

unsafe extern "C" {
    fn clip_torch_message() -> *const c_char;

    fn clip_torch_version() -> *const c_char;

    pub(crate) fn clip_torch_fused_adamw(
        parameters: *const *const C_tensor,
        gradients: *const *const C_tensor,
        averages: *const *const C_tensor,
        squares: *const *const C_tensor,
        steps: *const *const C_tensor,
        count: usize,
        lr: f64,
        beta1: f64,
        beta2: f64,
        weight_decay: f64,
        eps: f64,
    ) -> c_int;

    pub(crate) fn clip_torch_clear_gradients(tensors: *const *const C_tensor, count: usize) -> c_int;

    pub(crate) fn clip_torch_has_products(quantised: c_int) -> c_int;

    pub(crate) fn clip_torch_pack(weight: *const C_tensor, result: *mut *mut C_tensor) -> c_int;

    pub(crate) fn clip_torch_packed_linear(
        x: *const C_tensor,
        weight: *const C_tensor,
        bias: *const C_tensor,
        other: *const C_tensor,
        post: c_int,
        result: *mut *mut C_tensor,
    ) -> c_int;

    pub(crate) fn clip_torch_range(x: *const C_tensor, least: *mut f64, greatest: *mut f64) -> c_int;

    pub(crate) fn clip_torch_quantise(
        x: *const C_tensor,
        factors: *const C_tensor,
        scale: f64,
        zero: i64,
        result: *mut *mut C_tensor,
    ) -> c_int;

    pub(crate) fn clip_torch_pack_quantised(weight: *const C_tensor, result: *mut *mut C_tensor) -> c_int;

    pub(crate) fn clip_torch_quantised_linear(
        x: *const C_tensor,
        scale: f64,
        zero: i64,
        weight: *const C_tensor,
        weight_scales: *const C_tensor,
        weight_zeros: *const C_tensor,
        bias: *const C_tensor,
        other: *const C_tensor,
        output_scale: f64,
        output_zero: i64,
        kind: c_int,
        post: c_int,
        result: *mut *mut C_tensor,
    ) -> c_int;

    pub(crate) fn clip_torch_over(
        data: *mut c_void,
        shape: *const i64,
        dimensions: usize,
        kind: c_int,
        owner: *mut c_void,
        drop: unsafe extern "C" fn(*mut c_void),
        result: *mut *mut C_tensor,
    ) -> c_int;
}

/// The version of libtorch that this crate was compiled against, as `2.9.1`.
pub fn version() -> String {
    // SAFETY: a literal of the shim's, with a terminating zero.
    let version = unsafe { CStr::from_ptr(clip_torch_version()) };
    version.to_string_lossy().into_owned()
}

/// The tensor that a call of the shim's makes.
///
/// # Safety
///
/// `call` stores a handle made with `new`, and gives up ownership, whenever it returns 0.
pub(crate) unsafe fn made(call: impl FnOnce(*mut *mut C_tensor) -> c_int) -> Result<Tensor> {
    let mut result = ptr::null_mut();
    outcome(call(&mut result))?;
    // SAFETY: the caller's promise.
    Ok(unsafe { Tensor::from_ptr(result) })
}

/// The handle of a tensor that may be none.
pub(crate) fn pointer(tensor: Option<&Tensor>) -> *const C_tensor {
    tensor.map_or(ptr::null(), Tensor::as_ptr)
}

/// The outcome of a call, given its status.
pub(crate) fn outcome(status: c_int) -> Result<()> {
    if status == 0 {
        return Ok(());
    }
    // SAFETY: the message is a string with a terminating zero, owned by the shim for this thread until its next call.
    let message = unsafe { CStr::from_ptr(clip_torch_message()) }.to_string_lossy();
    Err(TorchError::Thrown(
        message.lines().next().unwrap_or_default().trim().to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_version_is_a_version() {
        let version = super::version();
        let mut numbers = version.split(['.', '+']).take(2);
        assert!(numbers.all(|number| number.parse::<u32>().is_ok()), "{version}");
    }
}
