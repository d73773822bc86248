//! Pages that say what holds name the tests that show it, and each of them is there: `docs/bad-input.md`, a test for each
//! of its rows, and the list of transactions in `docs/clients.md`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};

/// The catalogue's rows about frames, requests and records.
const ROWS: u32 = 53;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("every crate lies in a folder of the workspace")
        .to_owned()
}

/// Row -> the tests it names.
fn rows(page: &str) -> anyhow::Result<BTreeMap<u32, Vec<String>>> {
    let mut rows = BTreeMap::new();
    for line in page.lines() {
        let cells: Vec<_> = line.split(" | ").collect();
        let Some(number) = cells[0].strip_prefix("| ").and_then(|n| n.parse().ok()) else {
            continue;
        };
        ensure!(cells.len() == 4, "row {number} has {} cells", cells.len());
        let tests = cells[3].split('`').filter(|part| part.contains("::"));
        let tests: Vec<_> = tests.map(str::to_owned).collect();
        ensure!(!tests.is_empty(), "row {number} names no test");
        ensure!(rows.insert(number, tests).is_none(), "row {number} twice");
    }
    Ok(rows)
}

/// True when the file has the function, as a test.
fn has_test(root: &Path, name: &str) -> anyhow::Result<bool> {
    let (place, function) = name.rsplit_once("::").context("a module and a function")?;
    let path = if place.contains('/') {
        root.join(place)
    } else {
        root.join("broker/tests/it")
            .join(place)
            .with_extension("rs")
    };
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    if path.extension().is_some_and(|of| of == "py") {
        return Ok(function.starts_with("test_") && text.contains(&format!("\ndef {function}(")));
    }
    let Some(at) = text.find(&format!("fn {function}(")) else {
        return Ok(false);
    };
    let before = text[..at].lines().rev().take(4).collect::<String>();
    // Properties are tests of their macro's.
    Ok(before.contains("test]") || before.contains("test(") || text.contains("proptest!"))
}

#[test]
fn every_row_is_shown_by_tests_that_are_there() -> anyhow::Result<()> {
    let page = fs::read_to_string(root().join("docs/bad-input.md"))?;
    let rows = rows(&page)?;
    let numbers: BTreeSet<u32> = rows.keys().copied().collect();
    assert_eq!(numbers, (1..=ROWS).collect());
    let mut missing = Vec::new();
    for (number, tests) in rows {
        for test in tests {
            if !has_test(&root(), &test)? {
                missing.push(format!("{number}: {test}"));
            }
        }
    }
    assert_eq!(missing, [""; 0]);
    Ok(())
}

/// Each row of the section's last table with the tests that it names.
fn statements<'a>(page: &'a str, section: &str) -> anyhow::Result<Vec<(&'a str, Vec<&'a str>)>> {
    let (_, after) = page.split_once(section).context("no such section")?;
    let section = after.split("\n## ").next().unwrap_or(after);
    let tables = section.lines().filter(|line| line.starts_with("| "));
    let mut found = Vec::new();
    for cells in tables.map(|line| line.split(" | ").collect::<Vec<_>>()) {
        if let [_, _, _, shown] = cells[..]
            && !shown.starts_with("shown by")
        {
            let tests: Vec<_> = shown.split('`').filter(|t| t.contains("::")).collect();
            ensure!(!tests.is_empty(), "names no test: {}", cells[1]);
            found.push((cells[1], tests));
        }
    }
    Ok(found)
}

#[test]
fn every_statement_about_transactions_is_shown_by_tests_that_are_there() -> anyhow::Result<()> {
    let page = fs::read_to_string(root().join("docs/clients.md"))?;
    let statements = statements(&page, "## Transactions, by what the client knows")?;
    assert!(statements.len() > 10);
    for (statement, tests) in statements {
        for test in tests {
            assert!(has_test(&root(), test)?, "{statement}: {test}");
        }
    }
    Ok(())
}

#[test]
fn a_row_without_its_test_is_found() -> anyhow::Result<()> {
    let planted = "| 7 | HTTP | close | `bad_frames::no_such_test` |";
    let rows = rows(planted)?;
    assert!(!has_test(&root(), &rows[&7][0])?);
    // A function that is no test shows nothing.
    assert!(!has_test(&root(), "bad_frames::encoded_as")?);
    assert!(self::rows("| 7 | HTTP | close | by thought |").is_err());
    assert!(!has_test(
        &root(),
        "peers/tests/test_segments.py::test_none"
    )?);
    assert!(statements("## S\n| 2 | it holds | same | by thought |", "## S").is_err());
    Ok(())
}
