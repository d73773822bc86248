//! The crates' edges: who may use whom, read from the manifests. The table is that of `docs/architecture.md`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use anyhow::Context;
use serde::Deserialize;

/// A crate's folder, its package name, and what of ours it may use.
const CRATES: &[(&str, &str, &[&str])] = &[
    (
        "cli",
        "whimbrel",
        &[
            "dev",
            "chaos",
            "broker",
            "mirror",
            "tiering",
            "controller",
            "client",
            "log",
            "wire",
            "fleet",
            "rpc",
            "runtime",
        ],
    ),
    (
        "dev",
        "whimbrel-dev",
        &[
            "broker",
            "mirror",
            "tiering",
            "controller",
            "client",
            "fleet",
            "rpc",
            "runtime",
        ],
    ),
    (
        "chaos",
        "whimbrel-chaos",
        &["dev", "client", "wire", "fleet", "rpc", "runtime"],
    ),
    (
        "broker",
        "whimbrel-broker",
        &["log", "wire", "fleet", "rpc", "runtime"],
    ),
    (
        "mirror",
        "whimbrel-mirror",
        &["client", "log", "wire", "fleet", "rpc", "runtime"],
    ),
    (
        "tiering",
        "whimbrel-tiering",
        &["client", "log", "wire", "fleet", "rpc", "runtime"],
    ),
    (
        "controller",
        "whimbrel-controller",
        &["fleet", "rpc", "runtime"],
    ),
    ("lib/rpc", "whimbrel-rpc", &["fleet", "runtime"]),
    ("lib/client", "whimbrel-client", &["wire", "runtime"]),
    ("lib/log", "whimbrel-log", &["wire"]),
    ("lib/fleet", "whimbrel-fleet", &[]),
    ("lib/wire", "whimbrel-wire", &[]),
    ("lib/runtime", "whimbrel-runtime", &[]),
];

/// Not shipped; they may use everything.
const TOOLS: &[(&str, &str)] = &[("sim", "whimbrel-sim"), ("xtask", "xtask")];

/// Folders that hold no crate.
const OTHERS: &[&str] = &["docs", "examples", "region-configs", "runbooks", "peers"];

#[derive(Deserialize)]
struct Manifest {
    package: Package,
    #[serde(default)]
    dependencies: BTreeMap<String, toml::Value>,
    #[serde(default, rename = "build-dependencies")]
    build_dependencies: BTreeMap<String, toml::Value>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
}

#[derive(Deserialize)]
struct Root {
    workspace: Workspace,
}

#[derive(Deserialize)]
struct Workspace {
    members: BTreeSet<String>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("every crate lies in a folder of the workspace")
        .to_owned()
}

fn read<T: for<'de> Deserialize<'de>>(path: &Path) -> anyhow::Result<T> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    toml::from_str(&text).with_context(|| path.display().to_string())
}

fn manifest(folder: &str) -> anyhow::Result<Manifest> {
    read(&root().join(folder).join("Cargo.toml"))
}

/// Everything that a crate is built with.
fn used(manifest: &Manifest) -> impl Iterator<Item = &String> {
    manifest
        .dependencies
        .keys()
        .chain(manifest.build_dependencies.keys())
}

#[test]
fn every_crate_uses_only_what_stands_below_it() -> anyhow::Result<()> {
    let mut wrong = Vec::new();
    for (folder, name, allowed) in CRATES {
        let manifest = manifest(folder)?;
        assert_eq!(manifest.package.name, *name, "{folder}");
        for uses in used(&manifest) {
            let ours = uses
                .strip_prefix("whimbrel-")
                .is_some_and(|u| !allowed.contains(&u));
            if ours || TOOLS.iter().any(|(_, tool)| uses == tool) {
                wrong.push(format!("{folder} -> {uses}"));
            }
        }
    }
    assert_eq!(
        wrong, [""; 0],
        "edges that docs/architecture.md does not have"
    );
    Ok(())
}

#[test]
fn the_table_has_no_circle() {
    let mut below: BTreeSet<&str> = BTreeSet::new();
    let mut left: Vec<_> = CRATES
        .iter()
        .map(|(_, name, uses)| (name.strip_prefix("whimbrel-").unwrap_or("cli"), *uses))
        .collect();
    while !left.is_empty() {
        let before = left.len();
        left.retain(|(name, uses)| {
            let stands_on_what_is_there = uses.iter().all(|u| below.contains(u));
            if stands_on_what_is_there {
                below.insert(name);
            }
            !stands_on_what_is_there
        });
        assert!(left.len() < before, "a circle among {left:?}");
    }
}

#[test]
fn no_crate_is_unknown_and_none_is_missing() -> anyhow::Result<()> {
    let workspace: Root = read(&root().join("Cargo.toml"))?;
    let known = CRATES
        .iter()
        .map(|(folder, ..)| *folder)
        .chain(TOOLS.iter().map(|(folder, _)| *folder));
    assert_eq!(
        workspace.workspace.members,
        known.map(str::to_owned).collect()
    );
    for (folder, name) in TOOLS {
        assert_eq!(manifest(folder)?.package.name, *name, "{folder}");
    }
    Ok(())
}

#[test]
fn the_map_names_every_folder_and_these_edges() -> anyhow::Result<()> {
    let map = std::fs::read_to_string(root().join("docs/architecture.md"))?;
    let crates = CRATES.iter().map(|(folder, ..)| *folder);
    for folder in crates
        .chain(TOOLS.iter().map(|(folder, _)| *folder))
        .chain(OTHERS.iter().copied())
    {
        assert!(root().join(folder).is_dir(), "{folder} is not there");
        assert!(
            map.contains(&format!("`{folder}/`")),
            "docs/architecture.md does not name `{folder}/`"
        );
    }
    // The map sums up the longest two rows.
    for (folder, _, allowed) in CRATES
        .iter()
        .filter(|(folder, ..)| !matches!(*folder, "cli" | "dev"))
    {
        let row = map
            .lines()
            .find(|line| line.starts_with(&format!("| `{folder}/`")))
            .with_context(|| format!("no row of {folder}"))?;
        let says = row
            .trim_end_matches(['|', ' '])
            .rsplit('|')
            .next()
            .unwrap_or_default();
        let names: Vec<&str> = says
            .split(',')
            .map(str::trim)
            .filter(|n| *n != "-")
            .collect();
        assert_eq!(
            names, *allowed,
            "the row of {folder} in docs/architecture.md"
        );
    }
    Ok(())
}
