//! The program `runner`.

use std::ffi::{c_int, c_long};
use std::process::ExitCode;

/// Training allocates and frees large buffers all the time; this allocator keeps them at hand.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// mimalloc's number for the milliseconds after which freed memory goes back to the system.
const PURGE_DELAY: c_int = 15;

unsafe extern "C" {
    /// Sets an option of the allocator; part of mimalloc, which the program is linked with.
    fn mi_option_set(option: c_int, value: c_long);
}

fn main() -> ExitCode {
    // A training step asks again for what the last one freed. With the default of 10 ms the system takes the memory away
    // in between, and clearing it anew costs ResNet-50 a quarter of its time.
    // SAFETY: the option is one of the allocator's, and any number of milliseconds is allowed.
    unsafe { mi_option_set(PURGE_DELAY, 10_000) };
    runner::cli::main(stages::catalogue())
}
