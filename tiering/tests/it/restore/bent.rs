//! Buckets that lack something, or that cannot be believed.

use bytes::Bytes;
use whimbrel_runtime::Clock;
use whimbrel_tiering::{
    format::{Key, Keys, shard_of},
    restore::{Request, Survey},
    root::Root,
    store::Store,
};

use super::{
    Draw, check_transactions, contents, ends,
    home::{Home, SHARDS, T0, T1},
    is_cut, plan, plan_of, replace,
};
use crate::fault::{Fault, Mood, Plan as Faults};

#[tokio::test]
async fn what_is_lost_of_a_bucket_is_named_by_range() {
    let home = Home::busy().await;
    let keys = Keys::new("east");
    let root = &home.roots[usize::from(shard_of(T1, SHARDS))];
    let entry = root.partitions[&T1].entries[0];
    let key = entry.key(&keys, root.shard, T1);
    let sound = contents(&home.store).await.remove(&key).unwrap();
    let cut = home.cuts.last().unwrap();
    for bent in [None, Some(sound.slice(1..)), Some(Bytes::new())] {
        let store = home.store.branch();
        store.delete(&key).await.unwrap();
        if let Some(bytes) = bent {
            store.put_if_absent(&key, bytes).await.unwrap();
        }
        // Unasked it goes back to where the log had no record, and says to what that is due.
        let back = plan(&store).await.unwrap();
        let lost = back.groups[0].lost_cut.clone().unwrap();
        assert!(!back.whole && back.missing.is_empty());
        assert_eq!((lost.taken_ms, lost.lacks.as_str()), (cut.taken_ms, "t-1"));
        let request = Request {
            newest_cut: true,
            ..Request::default()
        };
        let plan = plan_of(&store, request).await.unwrap();
        assert!(!plan.whole && is_cut(&ends(&plan), cut));
        let [missing] = &plan.missing[..] else {
            panic!("{:?}", plan.missing)
        };
        let range = (missing.from_offset, missing.to_offset);
        assert_eq!((missing.code, range), ("WB-316", (0, cut.ends[&T1].offset)));
        assert_eq!((missing.topic.as_str(), missing.partition), ("t", 1));
        check_transactions(&home, &plan);
    }
    let store = home.store.branch();
    let case = keys.quarantined(&key);
    store.put_if_absent(&case, Bytes::from("{}")).await.unwrap();
    let plan = plan(&store).await.unwrap();
    assert!(
        plan.missing[0].what.contains("quarantined"),
        "{:?}",
        plan.missing
    );
}

#[tokio::test]
async fn what_cannot_be_believed_has_a_code() {
    let home = Home::busy().await;
    let keys = Keys::new("east");
    let (root, head) = (keys.root(0), keys.meta_head());
    let all = contents(&home.store).await;
    let doc = all
        .keys()
        .find(|key| keys.parse_meta(key).is_some())
        .unwrap();
    let flipped = |key: &Key| {
        let mut bytes = all[key].to_vec();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        Some(Bytes::from(bytes))
    };
    let other_shard = all[&keys.root(1)].clone();
    let other_fleet = String::from_utf8(all[&keys.marker()].to_vec()).unwrap();
    let cases = [
        (&root, None, "WB-334"),
        (&root, flipped(&root), "WB-334"),
        (&root, Some(other_shard), "WB-334"),
        (&root, Some(vec![0; 2 << 20].into()), "WB-334"),
        (&head, None, "WB-330"),
        (&head, flipped(&head), "WB-331"),
        (&head, Some(vec![0; 1 << 20].into()), "WB-331"),
        (doc, None, "WB-331"),
        (doc, flipped(doc), "WB-331"),
        (&keys.marker(), None, "WB-301"),
        (&keys.marker(), Some("{".into()), "WB-303"),
        (&keys.marker(), Some(vec![b' '; 1 << 20].into()), "WB-303"),
        (
            &keys.marker(),
            Some(other_fleet.replace("fleet-1", "fleet-2").into()),
            "WB-331",
        ),
        (
            &keys.marker(),
            Some(other_fleet.replace("east", "west").into()),
            "WB-303",
        ),
        (
            &keys.marker(),
            Some(other_fleet.replace("\"shards\": 2", "\"shards\": 3").into()),
            "WB-334",
        ),
    ];
    for (key, bytes, code) in cases {
        let store = home.store.branch();
        store.delete(key).await.unwrap();
        if let Some(bytes) = bytes {
            store.put_if_absent(key, bytes).await.unwrap();
        }
        let refused = plan(&store).await.unwrap_err();
        assert_eq!(refused.code(), code, "{key}: {refused}");
        assert!(!refused.is_unreachable());
    }
}

/// Every object with bits flipped, cut short, gone, or another in its place: a plan or a refusal, and never a whole plan
/// that is not at a cut.
#[tokio::test]
async fn hostile_bytes_give_a_plan_or_a_refusal() {
    let home = Home::busy().await;
    let all = contents(&home.store).await;
    let mut draw = Draw(4_711);
    let (mut plans, mut refusals) = (0, 0);
    for (key, sound) in &all {
        for round in 0..24 {
            let store = home.store.branch();
            let bytes = match round % 4 {
                0 | 1 => {
                    let mut bytes = sound.to_vec();
                    let place = draw.below(bytes.len());
                    bytes[place] ^= 1 << draw.below(8);
                    Bytes::from(bytes)
                }
                2 => sound.slice(..draw.below(sound.len())),
                _ => all.values().nth(draw.below(all.len())).unwrap().clone(),
            };
            replace(&store, key, bytes).await;
            match plan(&store).await {
                Ok(plan) => {
                    plans += 1;
                    let at_a_cut = home.cuts.iter().any(|cut| is_cut(&ends(&plan), cut));
                    assert!(at_a_cut, "{key}, round {round}");
                }
                Err(refused) => {
                    refusals += 1;
                    assert!(refused.code().starts_with("WB-3"), "{key}: {refused}");
                    assert!(!refused.is_unreachable(), "{key}: {refused}");
                }
            }
        }
    }
    assert!(
        plans > 20 && refusals > 20,
        "{plans} plans, {refusals} refusals"
    );
}

#[tokio::test]
async fn a_part_of_a_root_that_is_gone_is_a_range_that_is_lost() {
    let mut home = Home::new().await;
    for round in 0..60 {
        home.step(round % 3);
        if round % 10 == 9 {
            home.settle();
            home.upload_all().await;
        }
    }
    home.settle();
    home.cut();
    home.upload_all().await;
    let shard = shard_of(T0, SHARDS);
    let root: &mut Root = &mut home.roots[usize::from(shard)];
    let spilled = root.spill(1, 0x77).unwrap();
    root.stamp.sequence += 1;
    let part = home.keys.root_part(&spilled.name);
    home.put_root(shard).await;
    home.store
        .put_if_absent(&part, spilled.bytes.into())
        .await
        .unwrap();
    let whole = plan(&home.store).await.unwrap();
    assert!(whole.whole, "{:?}", whole.missing);
    assert!(whole.totals.objects > 8);
    home.store.delete(&part).await.unwrap();
    let lost = plan(&home.store).await.unwrap();
    assert!(is_cut(&ends(&lost), home.cuts.last().unwrap()));
    let first = lost
        .missing
        .iter()
        .find(|m| (m.topic.as_str(), m.partition) == ("t", 0));
    let first = first.unwrap();
    assert_eq!(first.from_offset, 0);
    assert!(first.what.contains("root-part"), "{}", first.what);
}

#[tokio::test]
async fn a_store_that_is_away_is_unreachable_and_one_that_stutters_is_asked_again() {
    let home = Home::busy().await;
    let sound = plan(&home.store).await.unwrap();
    let mood = std::sync::Arc::new(parking_lot::Mutex::new(Mood::Refuses));
    let away = Fault::new(home.store.clone(), Faults::Mood(mood));
    let survey = Survey::new(std::sync::Arc::new(away), "east", Clock::system(), |_| ());
    let refused = survey.plan(&Request::default()).await.unwrap_err();
    assert!(
        refused.is_unreachable() && refused.code() == "WB-301",
        "{refused}"
    );
    let mut same = 0;
    for seed in 1..13 {
        let stutters = Fault::seeded(home.store.clone(), seed);
        let survey = Survey::new(
            std::sync::Arc::new(stutters),
            "east",
            Clock::system(),
            |_| (),
        );
        // Two bent answers in a row are taken for damage, and five failures for an absence: told, never passed over.
        match survey.plan(&Request::default()).await {
            Ok(plan) if plan.whole && plan.remarks.is_empty() => {
                assert_eq!(plan.hash, sound.hash);
                same += 1;
            }
            Ok(plan) => assert!(plan.hash != sound.hash),
            Err(refused) => assert!(refused.code().starts_with("WB-3")),
        }
    }
    assert!(same > 0);
}
