//! What the broker takes on a peer's word, in two measures. The largest single piece that any thread but a test's own
//! has asked for shows whatever else runs in this process. What is held in all can only be told where nothing else runs:
//! such a test is run again by itself, in a process of its own ([`is_apart`]), and counts there.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::process::Command;
use std::ptr;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};

/// No request is longer than 32 MiB, answers are made of slices, and no batch is opened beyond 64 MiB and the
/// byte that shows it to be too long.
const MOST: usize = (64 << 20) + 1;

/// A process that counts goes no further than this: a test that fails must not take the machine with it.
const CAP: isize = 2 << 30;

/// Set in the process of a test that runs by itself.
const APART: &str = "WHIMBREL_TEST_APART";

struct Watching;

static LARGEST: AtomicUsize = AtomicUsize::new(0);
static HELD: AtomicIsize = AtomicIsize::new(0);
static PEAK: AtomicIsize = AtomicIsize::new(0);
static MOST_HELD: AtomicIsize = AtomicIsize::new(isize::MAX);

thread_local! {
    static EXEMPT: Cell<bool> = const { Cell::new(false) };
}

/// False where there shall be no more.
fn take(layout: Layout) -> bool {
    if EXEMPT.get() {
        return true;
    }
    LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
    let size = layout.size().cast_signed();
    let held = HELD.fetch_add(size, Ordering::Relaxed) + size;
    PEAK.fetch_max(held, Ordering::Relaxed);
    held <= MOST_HELD.load(Ordering::Relaxed)
}

fn give_back(layout: Layout) {
    if !EXEMPT.get() {
        HELD.fetch_sub(layout.size().cast_signed(), Ordering::Relaxed);
    }
}

#[expect(unsafe_code, reason = "only an allocator sees what is asked for")]
// SAFETY: every call is handed on to the system's allocator unchanged; watching does not touch the memory.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !take(layout) {
            return ptr::null_mut();
        }
        // SAFETY: the caller's promise about the layout is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if !take(layout) {
            return ptr::null_mut();
        }
        // SAFETY: the caller's promise about the layout is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        give_back(layout);
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

/// False in a run of all tests, once the named one has passed in a process of its own; true in that process.
#[track_caller]
pub fn is_apart(test: &str) -> bool {
    if std::env::var_os(APART).is_some() {
        MOST_HELD.store(CAP, Ordering::Relaxed);
        return true;
    }
    let run = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(APART, "1")
        .output()
        .unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&run.stdout),
        String::from_utf8_lossy(&run.stderr),
    );
    assert!(run.status.success(), "{}\n{out}\n{err}", run.status);
    assert!(out.contains("1 passed"), "there is no test {test}");
    false
}

/// What is held from here on, beyond what is held now.
pub struct Held {
    before: isize,
}

pub fn watch() -> Held {
    let before = HELD.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    Held { before }
}

impl Held {
    #[track_caller]
    pub fn assert_at_most(&self, most: usize, what: &str) {
        let peak = PEAK.load(Ordering::Relaxed) - self.before;
        assert!(
            peak <= most.cast_signed(),
            "{what}: {peak} bytes held, {most} are enough"
        );
    }
}
