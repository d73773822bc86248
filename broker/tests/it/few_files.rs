//! Hundreds of partitions within few open files: files are opened on use, and the oldest are closed for others. A limit on open files is a
//! process's own, so a child of this test runs the broker.

use std::process::Command;

use whimbrel_wire::ErrorCode;

use crate::{
    client::{Client, batch},
    fleet::{EAST, Fleet, eventually},
};

const TOPIC: &str = "many";
const PARTITIONS: i32 = 400;
/// Of these the broker's logs take half; the rest is the fleet's, the test's and the runtime's.
const OPEN_FILES: u32 = 256;

#[test]
fn hundreds_of_partitions_are_served_and_recovered_within_a_few_open_files() {
    let limited = format!("ulimit -n {OPEN_FILES} && exec \"$0\" \"$@\"");
    let child = Command::new("sh")
        .args(["-c", &limited])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "few_files::child", "--ignored", "--nocapture"])
        .output()
        .unwrap();
    assert!(
        child.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&child.stdout),
        String::from_utf8_lossy(&child.stderr)
    );
}

/// Not a test of its own: the child's part.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "run as a child by the test beside it"]
async fn child() {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let limited = |line: &str| {
        line.starts_with("Max open files") && line.contains(&format!(" {OPEN_FILES} "))
    };
    assert!(limits.lines().any(limited), "{limits}");
    let fleet = Fleet::start().await;
    let broker = fleet.broker(1, EAST).await;
    let mut client = Client::connect(broker.handle.kafka).await;
    let created = client.create_topic(TOPIC, PARTITIONS, &[]).await;
    assert_eq!(created, ErrorCode::NONE);
    write_to_all(&mut client, "first", 0).await;
    read_all(&mut client, &["first"]).await;
    broker.kill().await;

    let broker = fleet.broker(1, EAST).await;
    let mut client = Client::connect(broker.handle.kafka).await;
    write_to_all(&mut client, "second", 1).await;
    read_all(&mut client, &["first", "second"]).await;
    broker.stop().await;

    let broker = fleet.broker(1, EAST).await;
    let mut client = Client::connect(broker.handle.kafka).await;
    write_to_all(&mut client, "third", 2).await;
    read_all(&mut client, &["first", "second", "third"]).await;
    assert_eq!(broker.failure(), None);
    broker.stop().await;
}

async fn write_to_all(client: &mut Client, value: &str, offset: i64) {
    for partition in 0..PARTITIONS {
        let at = client.produce_ok(TOPIC, partition, batch(&[value])).await;
        assert_eq!(at, offset, "partition {partition}");
    }
}

async fn read_all(client: &mut Client, values: &[&str]) {
    for partition in 0..PARTITIONS {
        eventually("the records", async || {
            (client.consume(TOPIC, partition, 0).await == values).then_some(())
        })
        .await;
    }
}
