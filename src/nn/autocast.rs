//! What matrix products are computed in while a network runs, apart from what its weights and activations are kept in: on the
//! CPU, mixed precision as PyTorch's autocast does it.

use std::cell::Cell;

pub use cpu_kernels::matrix::Compute;

thread_local! {
    static COMPUTE: Cell<Compute> = const { Cell::new(Compute::Float32) };
}

/// Runs `f` with the matrix products that this thread asks for on the CPU in `compute`; their backward passes are in the same,
/// whenever they come. Convolutions, attention, norms and the loss from the logits on stay in float32, and so does all else.
pub fn autocast<T>(compute: Compute, f: impl FnOnce() -> T) -> T {
    /// Puts back what was, should `f` panic too.
    struct Before(Compute);

    impl Drop for Before {
        fn drop(&mut self) {
            COMPUTE.set(self.0);
        }
    }

    let _before = Before(COMPUTE.replace(compute));
    f()
}

/// What this thread's products are computed in.
pub(super) fn current() -> Compute {
    COMPUTE.get()
}
