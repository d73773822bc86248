//! What stays below `meta/`, whatever the head came to and whatever the clock says.

use super::*;

/// A head that is gone is made again, above whatever wrote the documents. Those that are not what they say stay out of
/// it, and in the bucket: nobody here knows what they are to somebody else.
#[tokio::test]
async fn a_lost_head_is_made_again_from_the_documents() {
    let store = Memory::default();
    live(&memory(&store)).await.unwrap();
    let before = head(&store).await;
    let keys = Keys::new("east");
    store.delete(&keys.meta_head()).await.unwrap();
    let ours = keys.meta(&before.documents[0].name);
    let ours = store.get(&ours, u64::MAX).await.unwrap().bytes;
    let of = |fleet: &str, region: &str| {
        let document = Document {
            fleet_id: fleet.into(),
            region: region.into(),
            writer_epoch: 1,
            sequence: 99,
            ..Document::default()
        };
        document.encode().unwrap()
    };
    // The format stands behind the magic.
    let mut later = ours.to_vec();
    later[9] += 1;
    let mut bent = ours.to_vec();
    *bent.last_mut().unwrap() ^= 1;
    let mut strange = Vec::new();
    for (n, bytes) in [
        of("fleet-2", "east"),
        of("fleet-1", "west"),
        ours.to_vec(),
        later,
        bent,
        ours[..40].to_vec(),
        Vec::new(),
    ]
    .into_iter()
    .enumerate()
    {
        let name = MetaName {
            writer_epoch: 1,
            sequence: 99,
            random: n as u64,
        };
        let key = keys.meta(&name);
        let put = store.put_if_absent(&key, Bytes::from(bytes)).await;
        put.unwrap();
        strange.push(name);
    }
    let mut keeper = Keeper::claim(memory(&store)).await.unwrap();
    assert_eq!(keeper.head().documents, before.documents);
    assert!(keeper.head().stamp.epoch > before.stamp.epoch + 900);
    check_beside(&store, &view(3), &strange).await;
    let kept = keeper.keep(&Fleet::of(&view(4)), 5, Some(now_ms())).await;
    assert!(kept.unwrap());
    check_beside(&store, &view(4), &strange).await;
    // Nor does the next one delete them, who did not make the head.
    drop(Keeper::claim(memory(&store)).await.unwrap());
    check_beside(&store, &view(4), &strange).await;
}

/// By a clock that is a year ahead nearly all documents are too old, unless it is known that it may be.
#[tokio::test]
async fn a_clock_in_doubt_drops_no_document() {
    const HOUR: Duration = Duration::from_secs(3_600);
    let (store, clock) = (Memory::default(), Clock::manual());
    let context = Context {
        clock: clock.clone(),
        window: 168 * HOUR,
        grace: HOUR,
        ..memory(&store)
    };
    let mut keeper = Keeper::claim(context.clone()).await.unwrap();
    let mut topics = 0;
    for _ in 0..50 {
        clock.advance(HOUR);
        topics += 1;
        let fleet = Fleet::of(&view(topics));
        let believed = Some(clock.wall_ms());
        assert!(keeper.keep(&fleet, topics + 1, believed).await.unwrap());
    }
    assert_eq!(keeper.head().documents.len(), 50);
    clock.advance(365 * 24 * HOUR);
    topics += 1;
    let fleet = Fleet::of(&view(topics));
    assert!(keeper.keep(&fleet, topics + 1, None).await.unwrap());
    assert_eq!(keeper.head().documents.len(), 51);
    check(&store, &view(topics)).await;
    // Where it is believed they go: off the head at once, out of the bucket after the grace.
    let all = keeper.head().documents.clone();
    topics += 1;
    let fleet = Fleet::of(&view(topics));
    let believed = Some(clock.wall_ms());
    assert!(keeper.keep(&fleet, topics + 1, believed).await.unwrap());
    let head = keeper.head().clone();
    assert!(head.documents.len() < 20, "{}", head.documents.len());
    let dropped = all.iter().map(|kept| kept.name);
    let dropped: Vec<_> = dropped.filter(|name| !head.names(name)).collect();
    keeper.tidy().await;
    check_beside(&store, &view(topics), &dropped).await;
    clock.advance(HOUR);
    keeper.tidy().await;
    check(&store, &view(topics)).await;
}
