//! What one input's decoding holds, counted by the allocator of the thread that does it.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    io::Write,
};

/// Beyond this there is no answer any more: the input is printed and the process ends.
const HARD: isize = 1 << 30;
/// So much of an input is printed by an allocator that cannot go on.
const PRINTED: usize = 4 << 10;

/// The system's allocator, with a count.
#[derive(Debug)]
pub struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
    static INPUT: Cell<(*const u8, usize)> = const { Cell::new((std::ptr::null(), 0)) };
}

fn count(change: isize) {
    let held = HELD.get().saturating_add(change);
    HELD.set(held);
    PEAK.set(PEAK.get().max(held));
    if held > HARD && !INPUT.get().0.is_null() {
        give_up(change);
    }
}

fn signed(bytes: usize) -> isize {
    isize::try_from(bytes).unwrap_or(isize::MAX)
}

/// From now on `input` is being decoded; it outlives [`end`].
pub fn begin(input: &[u8]) {
    HELD.set(0);
    PEAK.set(0);
    INPUT.set((input.as_ptr(), input.len()));
}

/// The most that was held since [`begin`].
pub fn end() -> usize {
    INPUT.set((std::ptr::null(), 0));
    usize::try_from(PEAK.get()).unwrap_or(0)
}

#[expect(
    unsafe_code,
    reason = "the input is reached while there is no memory to copy it to"
)]
fn give_up(asked: isize) {
    let (start, length) = INPUT.replace((std::ptr::null(), 0));
    // SAFETY: set by `begin` from a slice that lives until `end`, which takes it away.
    let input = unsafe { std::slice::from_raw_parts(start, length.min(PRINTED)) };
    let mut out = std::io::stderr();
    let _ = write!(
        out,
        "decoding asks for {asked} more bytes; without its first byte the input begins "
    );
    for byte in input {
        let _ = write!(out, "{byte:02x}");
    }
    let _ = writeln!(out);
    std::process::abort();
}

#[expect(unsafe_code, reason = "only an allocator sees what decoding allocates")]
// SAFETY: every call is handed on to the system's allocator unchanged; counting does not touch the memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(signed(layout.size()));
        // SAFETY: the caller's promise about the layout is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-signed(layout.size()));
        // SAFETY: the caller's promise about pointer and layout is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}
