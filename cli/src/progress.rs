//! The tour's progress: a bar on a terminal, plain lines elsewhere.

use std::{io::Write, time::Duration};

use indicatif::ProgressBar;
use whimbrel_dev::tour::Progress;

use crate::bar;

/// Everything goes to stderr; stdout belongs to the report.
pub struct Terminal {
    bar: ProgressBar,
    step: String,
}

impl Terminal {
    pub fn new() -> Self {
        Self {
            bar: ProgressBar::hidden(),
            step: String::new(),
        }
    }

    fn say(&self, text: &str) {
        self.bar.suspend(|| write_line(text));
    }
}

fn write_line(text: &str) {
    // Nothing is left to tell it to if stderr is closed.
    let _closed = writeln!(std::io::stderr().lock(), "{text}");
}

impl Progress for Terminal {
    fn step(&mut self, name: &str) {
        name.clone_into(&mut self.step);
        self.say(name);
        self.bar = bar::new(0, "  {spinner} {wide_bar} {pos}/{len} {elapsed}");
        self.bar.enable_steady_tick(Duration::from_millis(100));
    }

    fn advance(&mut self, done: u64, of: u64) {
        self.bar.set_length(of);
        self.bar.set_position(done);
    }

    fn fact(&mut self, text: &str) {
        self.say(&format!("  {text}"));
    }

    fn done(&mut self, ok: bool, seconds: f64) {
        self.bar.finish_and_clear();
        write_line(&format!(
            "  {} in {seconds:.1} s",
            if ok { "done" } else { "FAILED" }
        ));
    }
}
