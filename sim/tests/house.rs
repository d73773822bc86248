//! House rules that a reader of the tree counts on: a file holds one idea, so none is long, and a module's file
//! has the module's name.

use std::path::{Path, PathBuf};

const MOST_LINES: usize = 500;
/// What is not ours or not kept.
const PASSED_OVER: &[&str] = &["target", ".git", "whimbrel-dev"];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let (name, path) = (entry.file_name(), entry.path());
        if entry.file_type()?.is_dir() {
            if !PASSED_OVER.iter().any(|p| name == *p) {
                sources(&path, found)?;
            }
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

#[test]
fn source_files_are_short_and_named_after_their_module() -> std::io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut found = Vec::new();
    sources(root, &mut found)?;
    assert!(found.len() > 100, "the sources are elsewhere");
    let mut wrong = Vec::new();
    for path in found {
        let name = path.strip_prefix(root).unwrap_or(&path).display();
        let lines = std::fs::read_to_string(&path)?.lines().count();
        if lines > MOST_LINES {
            wrong.push(format!("{name}: {lines} lines, more than {MOST_LINES}"));
        }
        if path.file_name().is_some_and(|n| n == "mod.rs") {
            wrong.push(format!("{name}: foo.rs stands beside foo/"));
        }
    }
    assert_eq!(wrong, [""; 0]);
    Ok(())
}
