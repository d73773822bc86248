//! The same life again and again, struck at another of its writes each time.

use std::{sync::atomic::Ordering, time::Duration};

use super::{Fault, Plan};
use crate::{memory::Memory, support::until};

/// No life here writes more often.
const MOST: u64 = 200;

/// A store that counts writes and strikes whoever makes one of them.
pub trait Struck: Clone {
    fn writes(&self) -> u64;

    /// True once the process is dead or was stopped.
    fn struck(&self) -> bool;
}

impl Struck for Fault<Memory> {
    fn writes(&self) -> u64 {
        self.writes.load(Ordering::SeqCst)
    }

    fn struck(&self) -> bool {
        self.is_struck()
    }
}

/// Lives with `plan` on what `begin` makes.
pub async fn at_each_write(
    plan: impl Fn(u64, bool) -> Plan,
    begin: impl Fn() -> Memory,
    life: impl AsyncFnMut(Fault<Memory>),
) -> u64 {
    each_write(async |at, after| Fault::new(begin(), plan(at, after)), life).await
}

/// Lives once with nothing struck, and then struck at each write, before and after the store did it. Ends when so many
/// writes were struck and one more is not reached: lives differ, where several edits share a write. The number of
/// writes.
pub async fn each_write<S: Struck>(
    begin: impl AsyncFn(u64, bool) -> S,
    mut life: impl AsyncFnMut(S),
) -> u64 {
    let whole = begin(u64::MAX, false).await;
    life(whole.clone()).await;
    let writes = whole.writes();
    for at in 0..MOST {
        let mut reached = false;
        for after in [false, true] {
            let store = begin(at, after).await;
            life(store.clone()).await;
            reached |= store.struck();
        }
        if at >= writes && !reached {
            return at;
        }
    }
    panic!("a life has no end");
}

pub fn death(at: u64, after: bool) -> Plan {
    Plan::Death { at, after }
}

pub fn pause(at: u64, after: bool) -> Plan {
    Plan::Pause { at, after }
}

impl Fault<Memory> {
    /// The store behind it as another process has it, which nothing happens to.
    pub fn sound(&self) -> Self {
        Self::new(self.store.clone(), Plan::Nothing)
    }

    /// True once the process is dead or was stopped.
    pub fn is_struck(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// What was stopped goes on.
    pub fn resume(&self) {
        self.resumed.store(true, Ordering::SeqCst);
    }

    pub async fn resumed(&self) {
        until("resumed", || self.resumed.load(Ordering::SeqCst)).await;
    }

    /// Runs `life` to its end, or until the death.
    pub async fn or_death(&self, life: impl Future<Output = ()>) {
        or_death(self, life).await;
    }
}

/// Runs `life` to its end, or until `store` struck whoever leads it.
pub async fn or_death(store: &impl Struck, life: impl Future<Output = ()>) {
    let death = async {
        while !store.struck() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::select! {
        () = life => {}
        () = death => {}
    }
}
