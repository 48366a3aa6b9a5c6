//! Foreign bytes are decoded by code that may panic on them: here a panic becomes that file's error.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::Once;

/// A panic that was caught.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it breaks the decoder: {message}")]
pub struct Panicked {
    /// What the panic said, on one line, and where.
    pub message: String,
}

thread_local! {
    /// How many guarded calls this thread is in.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
    /// Where the last panic in one of them was.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Calls `decode` and gives what it returns, or the panic that ended it, of which nothing is printed. It must run on this
/// thread alone: what it lets other threads do is not silenced.
///
/// # Errors
/// When it panics. What it changed is then in an unknown state and should be dropped.
pub fn guarded<T>(decode: impl FnOnce() -> T) -> Result<T, Panicked> {
    silence();
    DEPTH.with(|depth| depth.set(depth.get() + 1));
    let result = panic::catch_unwind(AssertUnwindSafe(decode));
    DEPTH.with(|depth| depth.set(depth.get() - 1));
    result.map_err(|payload| {
        let place = PLACE.with(|place| place.take());
        let what = message(&*payload);
        Panicked {
            message: match place {
                Some(place) => format!("{what} ({place})"),
                None => what,
            },
        }
    })
}

/// What a panic said, on one line.
pub fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("it gave no reason");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Has panics outside of guarded calls told by `tell`, and by nothing that was set before. `std::panic::set_hook` alone
/// would have it tell those within them too.
pub fn set_hook(tell: impl Fn(&PanicHookInfo<'_>) + Send + Sync + 'static) {
    panic::set_hook(Box::new(move |info| {
        if DEPTH.try_with(Cell::get).unwrap_or(0) == 0 {
            return tell(info);
        }
        // The file alone: where the source was built says nothing to a user.
        let place = info.location().map(|location| {
            let file = location.file().rsplit(['/', '\\']).next();
            format!("{}:{}", file.unwrap_or_default(), location.line())
        });
        let _ = PLACE.try_with(|last| last.replace(place));
    }));
}

/// Makes the panic hook of the process pass over guarded threads, once.
fn silence() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| set_hook(panic::take_hook()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_of_one_line_and_others_pass() {
        assert_eq!(guarded(|| 1), Ok(1));
        let error = guarded(|| panic!("no\n {}", "more")).unwrap_err();
        assert!(error.message.starts_with("no more (guard.rs:"), "{error}");
        let inner = guarded(|| guarded(|| panic!("inner")).is_err());
        assert_eq!(inner, Ok(true));
        let outside = panic::catch_unwind(|| panic::resume_unwind(Box::new(3)));
        assert_eq!(message(&*outside.unwrap_err()), "it gave no reason");
    }
}
