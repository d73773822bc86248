//! The `whimbrel` executable that is tested.

use std::{path::PathBuf, process::Command};

/// `WHIMBREL_BIN`, or what cargo put beside this test; built when it is not there yet.
pub fn whimbrel() -> PathBuf {
    if let Some(named) = std::env::var_os("WHIMBREL_BIN") {
        let path = PathBuf::from(named);
        assert!(
            path.exists(),
            "WHIMBREL_BIN names {}, which does not exist",
            path.display()
        );
        return path;
    }
    let test = std::env::current_exe().unwrap();
    let path = test
        .parent()
        .and_then(|deps| deps.parent())
        .unwrap()
        .join("whimbrel");
    if !path.exists() {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built = Command::new(cargo)
            .args(["build", "--quiet", "-p", "whimbrel"])
            .status()
            .unwrap();
        assert!(
            built.success() && path.exists(),
            "{} is missing: run `cargo build -p whimbrel`, or name one with WHIMBREL_BIN",
            path.display()
        );
    }
    path
}
