//! Where bytes from elsewhere meet libraries that may panic over them. What comes out is an error, and the rest of the
//! program goes on.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    /// How many guards this thread is inside of.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// Does what may panic over damaged bytes, and hands the panic's message back if it did. Nothing is printed.
///
/// # Errors
/// The message of the panic.
pub fn guarded<T>(decode: impl FnOnce() -> T) -> Result<T, String> {
    silence();
    DEPTH.with(|depth| depth.set(depth.get() + 1));
    let result = catch_unwind(AssertUnwindSafe(decode));
    DEPTH.with(|depth| depth.set(depth.get() - 1));
    result.map_err(|panic| message(panic.as_ref()))
}

/// A panic inside a guard is an error of the caller's; the default message on standard error would stand beside it.
fn silence() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let default = take_hook();
        set_hook(Box::new(move |info| {
            if DEPTH.with(Cell::get) == 0 {
                default(info);
            } else {
                tracing::debug!("panic while decoding: {info}");
            }
        }));
    });
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("it cannot be decoded")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error() {
        assert_eq!(guarded(|| 1), Ok(1));
        let empty: Vec<u8> = Vec::new();
        let found = guarded(|| empty[std::hint::black_box(3)]);
        assert!(found.unwrap_err().contains("index out of bounds"));
        assert_eq!(guarded(|| -> u8 { panic!("told") }), Err("told".to_owned()));
        assert_eq!(DEPTH.with(Cell::get), 0);
    }
}
