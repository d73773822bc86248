//! The decoders, each with examples of what it reads, a way to make checksums fit again, and what it may hold.

mod bucket;
mod directory;
mod kafka;
mod processes;

use super::Random;

/// What a decoder says: how it ended, or how it contradicts itself.
pub type Said = Result<String, String>;

#[derive(Clone, Copy)]
pub struct Target {
    pub name: &'static str,
    /// Decodes an input.
    pub run: fn(&[u8]) -> Said,
    /// Something that can be decoded.
    pub seed: fn(&mut Random) -> Vec<u8>,
    /// Makes lengths and checksums fit, so that damage comes past them.
    pub mend: fn(&mut [u8]),
    /// Most bytes that decoding an input of this length may hold.
    pub budget: fn(usize) -> usize,
    /// Run for one in so many of its turns: those that take long.
    pub rarity: usize,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// All of them. New ones go to the end: inputs that were printed once keep their first byte.
#[must_use]
pub fn all() -> Vec<Target> {
    [
        &kafka::TARGETS[..],
        &processes::TARGETS,
        &directory::TARGETS,
        &bucket::TARGETS,
    ]
    .concat()
}

/// For decoders whose values are not much larger than their bytes.
const fn small(length: usize) -> usize {
    (64 << 10) + 48 * length
}

fn nothing(_: &mut [u8]) {}

/// The outcome of a decoder whose error is told.
fn outcome<T, E: std::fmt::Display>(decoded: &Result<T, E>) -> String {
    match decoded {
        Ok(_) => "read".to_owned(),
        Err(error) => error.to_string(),
    }
}

/// `Err` unless what was read, written and read again is the same.
fn same<T: PartialEq, E: std::fmt::Display>(value: &T, again: &Result<T, E>) -> Said {
    match again {
        Ok(again) if again == value => Ok("read and written".to_owned()),
        Ok(_) => Err("what was written reads as something else".to_owned()),
        Err(error) => Err(format!("what was written cannot be read: {error}")),
    }
}
