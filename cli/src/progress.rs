//! The tour's progress: a bar on a terminal, plain lines elsewhere.

use std::io::{IsTerminal, Write};

use indicatif::{ProgressBar, ProgressStyle};
use whimbrel_dev::tour::Progress;

/// Everything goes to stderr; stdout belongs to the report.
pub struct Terminal {
    bar: Option<ProgressBar>,
    tty: bool,
    step: String,
}

impl Terminal {
    pub fn new() -> Self {
        let tty = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self {
            bar: None,
            tty,
            step: String::new(),
        }
    }

    fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| write_line(text)),
            None => write_line(text),
        }
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
        if self.tty {
            let bar = ProgressBar::new(0);
            if let Ok(style) =
                ProgressStyle::with_template("  {spinner} {wide_bar} {pos}/{len} {elapsed}")
            {
                bar.set_style(style);
            }
            bar.enable_steady_tick(std::time::Duration::from_millis(100));
            self.bar = Some(bar);
        }
    }

    fn advance(&mut self, done: u64, of: u64) {
        if let Some(bar) = &self.bar {
            bar.set_length(of);
            bar.set_position(done);
        }
    }

    fn fact(&mut self, text: &str) {
        self.say(&format!("  {text}"));
    }

    fn done(&mut self, ok: bool, seconds: f64) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        write_line(&format!(
            "  {} in {seconds:.1} s",
            if ok { "done" } else { "FAILED" }
        ));
    }
}
