//! Rules of the house that neither compiler nor linter knows. They look at every file that git tracks, and all findings are shown at once.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, bail};

/// "Hardly one over 500": a file beyond it holds more than one idea. Rust files are held to it by sim's tests.
const MOST_LINES: usize = 500;

/// Words that must not stand in the tree, and why. Written in halves, or this file would be its own first finding.
const FORBIDDEN: [(&str, &str); 8] = [
    (concat!("TO", "DO"), "a plan belongs into the tracker"),
    (
        concat!("FIX", "ME"),
        "a known fault belongs into the tracker",
    ),
    (
        concat!("XX", "X:"),
        "a known fault belongs into the tracker",
    ),
    (concat!("/wo", "rk/"), "a path of one machine"),
    (concat!("/ro", "ot/."), "a path of one machine"),
    (concat!("/ho", "me/"), "a path of one machine"),
    (
        concat!("repo.", "maven"),
        "a registry's host: parts are fetched by package name",
    ),
    (
        concat!("proxy.", "golang"),
        "a registry's host: parts are fetched by package name",
    ),
];

/// Written by tools or data, not by us.
const NOT_OURS: [&str; 4] = ["Cargo.lock", "LICENSE", "examples/", "benches/history/"];

pub fn run() -> anyhow::Result<()> {
    let listed = Command::new("git")
        .args(["ls-files", "-z"])
        .output()
        .context("git ls-files")?;
    anyhow::ensure!(listed.status.success(), "git ls-files: {}", listed.status);
    let names = String::from_utf8(listed.stdout).context("a file name that is not UTF-8")?;
    let mut findings = Vec::new();
    let mut files = 0;
    for name in names
        .split_terminator('\0')
        .filter(|name| !NOT_OURS.iter().any(|prefix| name.starts_with(prefix)))
    {
        // Removed in the work tree, not yet in the index; binary files are not text to look at.
        let Ok(text) = fs::read_to_string(name) else {
            continue;
        };
        files += 1;
        findings.extend(look_at(name, &text));
    }
    report(files, &findings)
}

#[expect(
    clippy::print_stdout,
    reason = "the findings are what this program is for"
)]
fn report(files: usize, findings: &[String]) -> anyhow::Result<()> {
    for finding in findings {
        println!("{finding}");
    }
    if !findings.is_empty() {
        bail!("{} findings in {files} files", findings.len());
    }
    println!("tidy: {files} files, nothing to say");
    Ok(())
}

/// Everything that is wrong with one file, as `path:line: what`.
fn look_at(name: &str, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    let path = Path::new(name);
    let lines = text.lines().count();
    if ["py", "sh"]
        .iter()
        .any(|ours| path.extension().is_some_and(|e| e == *ours))
        && lines > MOST_LINES
    {
        findings.push(format!(
            "{name}: {lines} lines, more than {MOST_LINES}; it has more than one idea"
        ));
    }
    if path.file_name().is_some_and(|file| file == "mod.rs") {
        findings.push(format!(
            "{name}: modules are foo.rs beside foo/, not mod.rs"
        ));
    }
    for (number, line) in text.lines().enumerate() {
        for (word, why) in FORBIDDEN {
            if line.contains(word) {
                findings.push(format!("{name}:{}: `{word}`: {why}", number + 1));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clean_file_has_no_findings() {
        assert_eq!(look_at("a.rs", "fn main() {}\n"), Vec::<String>::new());
    }

    #[test]
    fn each_planted_violation_is_found() {
        for (word, _) in FORBIDDEN {
            assert_eq!(
                look_at("a.md", &format!("first\nsecond {word}tmp\n")).len(),
                1,
                "{word}"
            );
        }
        assert_eq!(look_at("a.py", &"\n".repeat(MOST_LINES + 1)).len(), 1);
        assert_eq!(look_at("a/mod.rs", "").len(), 1);
    }
}
