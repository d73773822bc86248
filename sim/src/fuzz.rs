//! Damaged and invented input for decoders, from one seed.
//!
//! The first byte of an input chooses the decoder ([`targets`]), the rest is what it reads. Nothing here counts covered code:
//! an input whose outcome (the error and the field it is in) was not seen before is kept and built upon, which is coverage as
//! far as the decoders tell. An input fails when its decoder panics, holds more than its budget, or says something wrong
//! about itself; it is then made as small as it can be.
//!
//! The memory is counted by [`Counting`], which the program has to make its allocator.

mod counting;
mod mutation;
mod random;
mod schema;
pub mod targets;

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash, Hasher},
    panic::{AssertUnwindSafe, catch_unwind},
};

pub use counting::Counting;
pub use random::Random;
pub use targets::Target;

/// Inputs kept per decoder: what is found late replaces something.
const MOST_KEPT: usize = 1_000;
/// Longest input that is kept.
const LONGEST: usize = 64 << 10;
/// Tries to make a failing input smaller.
const SHRINKS: usize = 3_000;

/// What went wrong, and with what.
#[derive(Debug)]
pub struct Failure {
    pub target: &'static str,
    pub what: Fault,
    /// The whole input, first byte included.
    pub input: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It panicked, with these words.
    Panic(String),
    /// It held so many bytes, of so many allowed.
    Memory { held: usize, budget: usize },
    /// It contradicts itself.
    Wrong(String),
}

impl Fault {
    /// Whether it is the same fault in a smaller input.
    fn is_like(&self, other: &Fault) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

#[derive(Debug)]
pub struct Fuzzer {
    targets: Vec<Target>,
    random: Random,
    kept: Vec<Vec<Vec<u8>>>,
    seen: HashSet<u64>,
    pub inputs: u64,
}

impl Fuzzer {
    /// At most 256 targets, which is what a byte can choose from.
    #[must_use]
    pub fn new(targets: Vec<Target>, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let kept = targets
            .iter()
            .map(|target| (0..8).map(|_| (target.seed)(&mut random)).collect())
            .collect();
        Self {
            targets,
            random,
            kept,
            seen: HashSet::new(),
            inputs: 0,
        }
    }

    /// Outcomes seen so far.
    #[must_use]
    pub fn outcomes(&self) -> usize {
        self.seen.len()
    }

    /// One more input.
    ///
    /// # Errors
    /// What it broke, with the smallest input found that breaks it.
    pub fn step(&mut self) -> Result<(), Failure> {
        let chosen = self.random.below(self.targets.len());
        let target = self.targets[chosen];
        if !self.random.one_in(target.rarity) {
            return Ok(());
        }
        let mut body = if self.random.one_in(6) {
            (target.seed)(&mut self.random)
        } else {
            self.random.pick(&self.kept[chosen]).clone()
        };
        if !self.random.one_in(20) {
            let other = self.random.pick(&self.kept[chosen]).clone();
            mutation::mutate(&mut body, &other, &mut self.random);
        }
        if !self.random.one_in(4) {
            (target.mend)(&mut body);
        }
        self.inputs += 1;
        match execute(&target, &body) {
            Ok(outcome) => {
                self.keep(chosen, &outcome, body);
                Ok(())
            }
            Err(what) => Err(shrink(&target, chosen, what, body)),
        }
    }

    fn keep(&mut self, chosen: usize, outcome: &str, body: Vec<u8>) {
        let mut hasher = DefaultHasher::new();
        // Numbers are the input's, not the decoder's.
        let words = outcome.bytes().filter(|byte| !byte.is_ascii_digit());
        (chosen, words.collect::<Vec<_>>()).hash(&mut hasher);
        if body.len() > LONGEST || !self.seen.insert(hasher.finish()) {
            return;
        }
        let kept = &mut self.kept[chosen];
        if kept.len() < MOST_KEPT {
            kept.push(body);
        } else {
            let at = self.random.below(MOST_KEPT);
            kept[at] = body;
        }
    }

    /// Runs an input as it was printed.
    ///
    /// # Errors
    /// What it breaks.
    pub fn replay(&self, input: &[u8]) -> Result<String, Failure> {
        let Some((&first, body)) = input.split_first() else {
            return Ok("nothing".to_owned());
        };
        let target = self.targets[usize::from(first) % self.targets.len()];
        execute(&target, body).map_err(|what| Failure {
            target: target.name,
            what,
            input: input.to_vec(),
        })
    }
}

/// What the decoder says to it.
fn execute(target: &Target, body: &[u8]) -> Result<String, Fault> {
    let budget = (target.budget)(body.len());
    counting::begin(body);
    let ran = catch_unwind(AssertUnwindSafe(|| (target.run)(body)));
    let held = counting::end();
    let outcome = match ran {
        Ok(said) => said.map_err(Fault::Wrong)?,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
            return Err(Fault::Panic(text.unwrap_or_default()));
        }
    };
    if held > budget {
        return Err(Fault::Memory { held, budget });
    }
    Ok(outcome)
}

/// Cuts pieces out and puts zeros in for as long as it fails in the same way.
fn shrink(target: &Target, chosen: usize, mut what: Fault, mut body: Vec<u8>) -> Failure {
    let mut tries = 0;
    let mut piece = body.len();
    while piece > 0 && tries < SHRINKS {
        let mut at = 0;
        while at < body.len() && tries < SHRINKS {
            let end = body.len().min(at + piece);
            let cut = [&body[..at], &body[end..]].concat();
            let mut blank = body.clone();
            blank[at..end].fill(0);
            let smaller = [cut, blank].into_iter().find_map(|smaller| {
                tries += 1;
                let fault = execute(target, &smaller).err()?;
                (fault.is_like(&what) && smaller != body).then_some((smaller, fault))
            });
            match smaller {
                Some((smaller, fault)) if smaller.len() < body.len() => {
                    (body, what) = (smaller, fault);
                }
                Some((smaller, fault)) => {
                    (body, what) = (smaller, fault);
                    at = end;
                }
                None => at = end,
            }
        }
        piece /= 2;
    }
    let first = u8::try_from(chosen).unwrap_or(0);
    Failure {
        target: target.name,
        what,
        input: [&[first], &body[..]].concat(),
    }
}
