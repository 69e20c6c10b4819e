//! The door between libtorch's panics and our errors.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use clip_core::{Error, Result};

thread_local! {
    static INSIDE: Cell<u32> = const { Cell::new(0) };
}

/// Runs tensor code, in which operators panic on libtorch's errors, and turns a panic into an [`Error`]: its first line,
/// [`Kind::Internal`](clip_core::Kind::Internal); out of memory is [`Kind::Exhausted`](clip_core::Kind::Exhausted) with
/// a remedy. `catch_unwind` does not silence the panic hook: a program calls [`quiet`] once.
pub fn door<T>(run: impl FnOnce() -> T) -> Result<T> {
    INSIDE.set(INSIDE.get() + 1);
    let outcome = panic::catch_unwind(AssertUnwindSafe(run));
    INSIDE.set(INSIDE.get() - 1);
    outcome.map_err(Error::from_panic)
}

/// Keeps the panic hook silent inside [`door`], where the message becomes an error, and as it is elsewhere.
/// For programs; calling it again changes nothing.
pub fn quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if INSIDE.get() == 0 {
                before(info);
            }
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind, Tensor};

    #[test]
    fn a_libtorch_error_is_its_first_line() {
        let a = Tensor::zeros([2, 3], (Kind::Float, Device::Cpu));
        let error = door(|| a.matmul(&a)).unwrap_err();
        assert_eq!(error.kind(), clip_core::Kind::Internal);
        assert!(
            error.what().contains("mat1 and mat2 shapes cannot be multiplied"),
            "{error}"
        );
        assert!(!error.what().contains('\n'));
    }

    #[test]
    fn too_much_memory_is_exhausted() {
        let error = door(|| Tensor::zeros([1 << 45], (Kind::Float, Device::Cpu))).unwrap_err();
        assert_eq!(error.kind(), clip_core::Kind::Exhausted, "{error}");
    }
}
