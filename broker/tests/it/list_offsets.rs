//! ListOffsets while a transaction is open: who reads what is committed is told of nothing else.

use crate::{
    client::{Client, batch},
    epochs::Writer,
    fleet::{EAST, Fleet},
};

const LATEST: i64 = -1;
const MAX_TIMESTAMP: i64 = -3;
const ALL: i8 = 0;
const COMMITTED: i8 = 1;

#[tokio::test(flavor = "multi_thread")]
async fn a_lookup_ends_where_the_readers_sight_ends() {
    let fleet = Fleet::start().await;
    let broker = fleet.broker(1, EAST).await;
    let mut client = Client::connect(broker.handle.kafka).await;
    client.create_topic("t", 1, &[]).await;
    client.produce_ok("t", 0, batch(&["plain"])).await;
    let mut writer = Writer::start(&broker).await;
    writer.produce(0, "open").await;
    let found = client.offset_seen("t", 0, MAX_TIMESTAMP, ALL).await;
    assert_eq!(found.offset, 1, "the transaction wrote the newest record");
    let newest_ms = found.timestamp;
    for (asked, seen_by_all, seen_by_careful) in
        [(LATEST, 2, 1), (newest_ms, 1, -1), (MAX_TIMESTAMP, 1, -1)]
    {
        let all = client.offset_seen("t", 0, asked, ALL).await;
        assert_eq!(all.offset, seen_by_all, "{asked}");
        let careful = client.offset_seen("t", 0, asked, COMMITTED).await;
        assert_eq!(careful.offset, seen_by_careful, "{asked}");
        assert!(careful.error_code.is_none());
    }
    writer.end(true).await;
    writer.committed(|found| found.len() == 2).await;
    let careful = client.offset_seen("t", 0, newest_ms, COMMITTED).await;
    assert_eq!((careful.offset, careful.timestamp), (1, newest_ms));
    // The marker is as new, or newer.
    let careful = client.offset_seen("t", 0, MAX_TIMESTAMP, COMMITTED).await;
    assert!(careful.offset > 0 && careful.timestamp >= newest_ms);
    broker.stop().await;
}
