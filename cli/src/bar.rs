//! Progress bars: on a terminal whose user did not ask for plain text, hidden elsewhere. All go to stderr.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar that shows itself, as the template of `indicatif` has it; hidden where bars are not wanted
/// (`NO_COLOR`, see no-color.org).
pub fn new(total: u64, template: &str) -> ProgressBar {
    if !is_shown() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(total);
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

/// Where it is not, lines tell of the progress.
pub fn is_shown() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}
