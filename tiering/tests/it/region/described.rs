//! What describes the fleet in the bucket, bent, exchanged, cut short or taken away while daemons run and between their
//! starts: it is named, the newest is written again, uploads go on, and nothing is deleted, however short the grace is.

use std::{collections::BTreeSet, fs, path::PathBuf};

use serde_json::Value;
use whimbrel_tiering::meta::Document;

use super::*;

const CODE: &str = "WB-322";

impl Region {
    /// Deletes at once what it may delete.
    fn hasty() -> Self {
        Self {
            grace: Span::millis(1),
            ..Self::new()
        }
    }

    fn meta(&self) -> PathBuf {
        self.world.path("bucket/v1/east/meta")
    }

    fn head(&self) -> Option<Head> {
        Head::decode(&fs::read(self.meta().join("head")).ok()?).ok()
    }

    /// The fleet has so many topics from now on.
    fn has(&self, topics: u64) {
        self.change(|view| {
            let daemons = std::mem::take(&mut view.daemons);
            *view = View {
                daemons,
                ..crate::meta::view(topics)
            };
        });
    }

    /// The newest document is of the fleet with so many topics, and can be read.
    async fn described(&self, topics: u64) -> Head {
        let newest = || {
            let head = self.head()?;
            let name = head.newest()?.name;
            let path = self
                .world
                .path("bucket")
                .join(Keys::new("east").meta(&name).as_str());
            let document = Document::decode(&fs::read(path).ok()?).ok()?;
            (document.fleet.topics.len() as u64 == topics).then_some(head)
        };
        until("the fleet as it is", || newest().is_some()).await;
        newest().unwrap()
    }

    /// A region that has described its fleet three times.
    async fn of_three(&self) -> (Node, Head) {
        self.has(1);
        let node = self.start(1).await;
        for topics in 1..=3 {
            self.has(topics);
            self.described(topics).await;
        }
        let head = self.described(3).await;
        (node, head)
    }

    fn document(&self, head: &Head, n: usize) -> PathBuf {
        let key = Keys::new("east").meta(&head.documents[n].name);
        self.world.path("bucket").join(key.as_str())
    }

    fn files(&self) -> BTreeSet<PathBuf> {
        let files = fs::read_dir(self.meta()).unwrap();
        files.map(|file| file.unwrap().path()).collect()
    }
}

/// Codes and objects of what is wrong with the description.
fn problems(report: &Value) -> BTreeSet<String> {
    let all = report["problems"].as_array().unwrap().iter();
    let meta = all.filter(|p| p["code"] == CODE);
    meta.map(|p| p.to_string()).collect()
}

fn says(problems: &BTreeSet<String>, path: &Path) -> bool {
    let name = path.file_name().unwrap().to_str().unwrap();
    problems.iter().any(|problem| problem.contains(name))
}

/// Uploads of a partition that nobody has had yet go on.
async fn still_uploads(region: &Region, node: &Node, partition: i32) {
    let log = region.log(node, partition, 1);
    let end = log.end();
    node.broker.lead(log);
    until("uploaded all the same", || {
        node.broker.verified(partition) == end
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_that_are_exchanged_or_cut_short_are_named_and_the_newest_comes_again() {
    for what in ["cut", "exchanged", "empty", "gone", "older cut"] {
        let region = Region::hasty();
        let (node, head) = region.of_three().await;
        let victim = region.document(&head, if what == "older cut" { 0 } else { 2 });
        let (sound, other) = (
            fs::read(&victim).unwrap(),
            fs::read(region.document(&head, 1)).unwrap(),
        );
        match what {
            "exchanged" => fs::write(&victim, other).unwrap(),
            "empty" => fs::write(&victim, "").unwrap(),
            "gone" => fs::remove_file(&victim).unwrap(),
            _ => fs::write(&victim, &sound[..sound.len() / 2]).unwrap(),
        }
        let before = region.files();
        let found = problems(&node.verify().await);
        assert!(
            found.len() == 1 && says(&found, &victim),
            "{what}: {found:?}"
        );
        node.stop().await;
        let node = region.start(1).await;
        // Nothing has changed: where the newest can be read it is not written again.
        if what == "older cut" {
            region.has(4);
            region.described(4).await;
        } else {
            let again = region.described(3).await;
            assert!(again.stamp.sequence > head.stamp.sequence, "{what}");
        }
        still_uploads(&region, &node, 0).await;
        let found = problems(&node.verify().await);
        assert!(
            found.len() == 1 && says(&found, &victim),
            "{what}: {found:?}"
        );
        node.stop().await;
        assert!(region.files().is_superset(&before), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_cannot_be_believed_is_left_alone_until_it_is_sound_again() {
    let region = Region::hasty();
    let (node, head) = region.of_three().await;
    let (at_head, document) = (region.meta().join("head"), region.document(&head, 2));
    let sound = fs::read(&at_head).unwrap();
    node.stop().await;
    let mut foreign = head.clone();
    foreign.fleet_id = "fleet-2".into();
    let bent = |n: usize| {
        let mut bent = sound.clone();
        bent[n] ^= 1;
        bent
    };
    for (n, bytes) in [
        sound[..sound.len() - 1].to_vec(),
        Vec::new(),
        bent(30),
        fs::read(&document).unwrap(),
        foreign.encode(),
    ]
    .into_iter()
    .enumerate()
    {
        fs::write(&at_head, &bytes).unwrap();
        let before = region.files();
        let node = region.start(1).await;
        region.has(4 + n as u64);
        let mut told = Value::Null;
        for _ in 0..600 {
            told = node.status().await["meta"].clone();
            if told.to_string().contains(CODE) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(told.to_string().contains(CODE), "{n}: {told}");
        still_uploads(&region, &node, i32::try_from(n).unwrap()).await;
        assert!(!problems(&node.verify().await).is_empty(), "{n}");
        node.stop().await;
        assert_eq!(fs::read(&at_head).unwrap(), bytes, "{n}");
        assert_eq!(region.files(), before, "{n}");
    }
    fs::write(&at_head, &sound).unwrap();
    let node = region.start(1).await;
    region.described(8).await;
    assert!(problems(&node.verify().await).is_empty());
    node.stop().await;
}

/// From a backup, or from an older version that the bucket kept: what it does not name is newer, not garbage.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_went_back_costs_no_document() {
    let region = Region::hasty();
    region.has(1);
    let node = region.start(1).await;
    region.described(1).await;
    let older = fs::read(region.meta().join("head")).unwrap();
    for topics in 2..=5 {
        region.has(topics);
        region.described(topics).await;
    }
    node.stop().await;
    let before = region.files();
    let named = region.head().unwrap().documents;
    assert_eq!(named.len(), 5);
    fs::write(region.meta().join("head"), older).unwrap();
    let node = region.start(1).await;
    region.has(6);
    let head = region.described(6).await;
    for topics in 7..10 {
        region.has(topics);
        region.described(topics).await;
    }
    assert!(
        region.files().is_superset(&before),
        "documents were deleted"
    );
    assert!(named.iter().all(|kept| head.names(&kept.name)));
    assert!(problems(&node.verify().await).is_empty());
    node.stop().await;
}
