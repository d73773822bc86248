//! The configurations in `region-configs/` are right, each and together.

use std::path::{Path, PathBuf};

use crate::whimbrel::{run, stderr};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .join("region-configs")
}

#[test]
fn every_file_passes_config_check() {
    let mut checked = Vec::new();
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "toml") {
            let output = run(&["config", "check", path.to_str().unwrap()]);
            assert!(
                output.status.success(),
                "{}:\n{}",
                path.display(),
                stderr(&output)
            );
            checked.push(path.file_name().unwrap().to_str().unwrap().to_owned());
        }
    }
    checked.sort();
    for name in ["east.toml", "west.toml", "witness.toml"] {
        assert!(checked.iter().any(|c| c == name), "{name} is not there");
    }
}

#[test]
fn the_voters_agree_on_the_fleet() {
    let table = |name: &str| -> toml::Table {
        let text = std::fs::read_to_string(folder().join(name)).unwrap();
        toml::from_str(&text).unwrap()
    };
    let sites = ["east.toml", "west.toml", "witness.toml"].map(table);
    for site in &sites[1..] {
        for key in ["voters", "bootstrap", "lease-ms"] {
            assert_eq!(
                site["controller"][key], sites[0]["controller"][key],
                "{key}"
            );
        }
    }
    let mut ids: Vec<_> = sites
        .iter()
        .map(|s| s["controller"]["voter-id"].as_integer())
        .collect();
    ids.sort();
    assert_eq!(ids, [Some(1), Some(2), Some(3)]);
    for site in &sites[..2] {
        assert_eq!(site["tiering"]["broker"], site["broker"]["rpc-listen"]);
        assert_eq!(site["broker"]["tiering"], site["tiering"]["rpc-listen"]);
        assert_eq!(site["broker"]["data-dir"], site["tiering"]["data-dir"]);
        assert_eq!(site["broker"]["node-id"], site["tiering"]["node-id"]);
    }
}
