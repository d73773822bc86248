//! Logs on real directories.

mod basics;
mod disk;
mod model;
mod recovery;
mod support;
mod truncation;
