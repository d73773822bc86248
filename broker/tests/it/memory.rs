//! The largest single piece of memory that any thread but a test's own has asked for: what the broker takes
//! on a peer's word shows here, whatever else runs in this process at the same time.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// No request is longer than 32 MiB, answers are made of slices, and no batch is opened beyond 64 MiB and the
/// byte that shows it to be too long.
const MOST: usize = (64 << 20) + 1;

struct Watching;

static LARGEST: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static EXEMPT: Cell<bool> = const { Cell::new(false) };
}

fn watch(layout: Layout) {
    if !EXEMPT.get() {
        LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
    }
}

#[expect(unsafe_code, reason = "only an allocator sees what is asked for")]
// SAFETY: every call is handed on to the system's allocator unchanged; watching does not touch the memory.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        watch(layout);
        // SAFETY: the caller's promise about the layout is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        watch(layout);
        // SAFETY: the caller's promise about the layout is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise about pointer and layout is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watching = Watching;

/// What this test's own thread makes up is not the broker's doing.
pub fn exempt_this_thread() {
    EXEMPT.set(true);
}

#[track_caller]
pub fn assert_bounded() {
    let largest = LARGEST.load(Ordering::Relaxed);
    assert!(largest <= MOST, "one allocation of {largest} bytes");
}
