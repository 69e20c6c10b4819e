//! Where a model's loaded tensors come from.

use std::fmt;
use std::sync::Arc;

use clip_core::Result;
use tch::Tensor;

/// Where loaded tensors come from.
pub trait WeightSource {
    /// The names there are.
    fn names(&self) -> Vec<String>;

    /// The tensor of a name, `None` where there is none. Its type and device are the caller's to choose.
    fn tensor(&self, name: &str) -> Result<Option<Tensor>>;

    /// Lets go of the memory that the tensors' values take until they are read again, where that can be done. A layer calls
    /// it when it has made its own copy.
    fn release(&self) -> Option<Release> {
        None
    }
}

/// How the memory behind loaded tensors is let go of.
#[derive(Clone)]
pub struct Release(Arc<dyn Fn() + Send + Sync>);

impl Release {
    /// By a function that may be called at any time.
    pub fn new(release: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(release))
    }

    pub(crate) fn call(&self) {
        (self.0)();
    }
}

impl fmt::Debug for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Release")
    }
}
