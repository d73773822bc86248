//! Command blocks of a page, and how their output is compared.

use std::path::{Path, PathBuf};

/// One command with what is to be found in its output.
#[derive(Debug, PartialEq, Eq)]
pub struct Block {
    pub command: String,
    pub exit: i32,
    pub expected: Vec<String>,
}

pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .join("runbooks")
}

/// All pages but the index.
pub fn pages() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder()).unwrap();
    let mut pages: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| !path.ends_with("README.md"))
        .collect();
    pages.sort();
    pages
}

/// The commands of all `console` blocks, in order.
pub fn of(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if line.starts_with("```") {
            inside = line == "```console";
        } else if let Some(command) = line.strip_prefix("$ ").filter(|_| inside) {
            let (command, exit) = match command.split_once(" # exits ") {
                Some((command, exit)) => (command, exit.trim().parse().unwrap()),
                None => (command, 0),
            };
            blocks.push(Block {
                command: command.to_owned(),
                exit,
                expected: Vec::new(),
            });
        } else if inside && let Some(block) = blocks.last_mut() {
            block.expected.push(line.to_owned());
        }
    }
    blocks
}

/// The first expected line that is not found, in order, in the output. Runs of blanks count as one, `...` stands
/// for anything within a line, and lines between are passed over.
pub fn missing<'a>(expected: &'a [String], output: &str) -> Option<&'a str> {
    let mut lines = output.lines();
    expected
        .iter()
        .find(|wanted| !lines.any(|line| fits(wanted, line)))
        .map(String::as_str)
}

fn blanks(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn fits(wanted: &str, line: &str) -> bool {
    let line = blanks(line);
    let mut rest = line.as_str();
    for part in wanted.split("...").map(blanks) {
        match rest.find(&part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[test]
fn a_page_is_taken_apart() {
    let page = "text\n```console\n$ a b # exits 10\nx...y\n$ c\n```\n$ not a command\n```sh\n$ nor this\n```\n";
    let block = |command: &str, exit, expected: &[&str]| Block {
        command: command.to_owned(),
        exit,
        expected: expected.iter().map(ToString::to_string).collect(),
    };
    assert_eq!(of(page), [block("a b", 10, &["x...y"]), block("c", 0, &[])]);
}

#[test]
fn output_is_looked_through_in_order() {
    let expected = ["a...c".to_owned(), "d".to_owned()];
    assert_eq!(missing(&expected, "x\na  b   c\ny\nd"), None);
    assert_eq!(missing(&expected, "d\na b c"), Some("d"));
    assert_eq!(missing(&expected, "c b a\nd"), Some("a...c"));
}
