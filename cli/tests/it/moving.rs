//! `tier move` as it is typed: plan, order, an end in the middle, a second start, what is left behind.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::Value;

use crate::{
    fleet::Fleet,
    whimbrel::{stderr, stdout},
};

const DEADLINE: Duration = Duration::from_secs(120);

impl Fleet {
    /// With a daemon whose bucket is open.
    fn with_bucket() -> Self {
        let fleet = Self::start(DEADLINE);
        std::fs::create_dir(fleet.path("new")).unwrap();
        let url = fleet.url("new");
        fleet.wait("the bucket to be open", || {
            fleet.run(&["tier", "move", &url]).status.success()
        });
        fleet
    }

    fn url(&self, name: &str) -> String {
        format!("file://{}", self.path(name).display())
    }

    #[track_caller]
    fn json(&self, arguments: &[&str], exit: i32) -> Value {
        let mut arguments = arguments.to_vec();
        arguments.extend(["-o", "json"]);
        let output = self.run(&arguments);
        let (said, told) = (stderr(&output), stdout(&output));
        assert_eq!(output.status.code(), Some(exit), "{said}{told}");
        serde_json::from_str(&told).unwrap()
    }
}

fn tombstones(bucket: &Path) -> usize {
    let roots = walk(bucket).into_iter().filter(|path| {
        let of_roots = path.parent().and_then(Path::file_name) == Some("root".as_ref());
        of_roots && std::fs::read(path).unwrap().starts_with(b"WBMOVED1")
    });
    roots.count()
}

fn walk(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.path().is_dir() {
            true => found.extend(walk(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found
}

/// As Ctrl-C does.
fn interrupt(child: &Child) {
    let pid = child.id().to_string();
    let sent = Command::new("kill").args(["-INT", &pid]).status();
    assert!(sent.unwrap().success());
}

#[test]
fn a_move_is_planned_applied_interrupted_and_gone_on_with_and_the_old_place_emptied() {
    let fleet = Fleet::with_bucket();
    let (url, bucket) = (fleet.url("new"), fleet.path("fleet").join("bucket"));
    let plan = fleet.run(&["tier", "move", &url]);
    let said = stdout(&plan);
    let last = said.lines().last().unwrap();
    assert!(
        last.starts_with("NOTHING CHANGED. Apply with: whimbrel tier move"),
        "{said}"
    );
    assert_eq!(walk(&fleet.path("new")).len(), 0);
    let refused = fleet.run(&["tier", "move", &url, "--apply", "--plan", "another"]);
    assert_eq!(refused.status.code(), Some(11), "{}", stderr(&refused));
    let nothing = fleet.run(&["tier", "move", "--cancel"]);
    assert_eq!(nothing.status.code(), Some(11), "{}", stderr(&nothing));
    let nothing = fleet.run(&["tier", "move", "--delete-old"]);
    assert_eq!(nothing.status.code(), Some(11), "{}", stderr(&nothing));

    // What was ordered goes on without whoever typed it.
    let hash = fleet.json(&["tier", "move", &url], 0)["hash"].clone();
    let apply = [
        "tier",
        "move",
        &url,
        "--apply",
        "--plan",
        hash.as_str().unwrap(),
    ];
    let mut first = fleet
        .typed(&apply)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let order = bucket.join("v1/east/move/order.json");
    fleet.wait("it is ordered", || order.exists());
    interrupt(&first);
    first.wait().unwrap();
    let done = fleet.json(&apply, 0);
    assert_eq!(
        (&done["done"], &done["changed"]),
        (&true.into(), &true.into()),
        "{done}"
    );
    assert_eq!(tombstones(&bucket), 16);
    let status = fleet.run(&["tier", "status"]);
    assert!(stdout(&status).contains("WB-340"), "{}", stdout(&status));
    let late = fleet.run(&["tier", "move", "--cancel"]);
    let said = stderr(&late);
    assert_eq!(late.status.code(), Some(11), "{said}");
    assert!(said.contains("move back"), "{said}");

    let plan = fleet.json(&["tier", "move", "--delete-old"], 0);
    assert_eq!(plan["applied"], false, "{plan}");
    let kept = walk(&bucket).len();
    let emptied = fleet.json(&["tier", "move", "--delete-old", "--apply"], 0);
    assert_eq!(emptied["applied"], true, "{emptied}");
    assert!(walk(&bucket).len() < kept);
    assert_eq!(tombstones(&bucket), 16);
    let verified = fleet.run(&["tier", "verify"]);
    assert!(
        verified.status.success(),
        "{}{}",
        stdout(&verified),
        stderr(&verified)
    );
}
