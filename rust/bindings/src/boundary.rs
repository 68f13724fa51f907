//! The one door: detaches from the interpreter, and turns a panic into an error.

use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::Python;

use crate::error::Failure;

/// Run work of the core without the GIL.
pub(crate) fn cross<T: Send>(
    py: Python<'_>,
    work: impl FnOnce() -> Result<T, Failure> + Send,
) -> Result<T, Failure> {
    py.detach(|| catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(told(&*panic))))
}

fn told(panic: &(dyn std::any::Any + Send)) -> Failure {
    let text = panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".to_owned());
    Failure::Panic(text)
}
