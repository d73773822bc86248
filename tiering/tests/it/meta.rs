//! What describes the fleet in the bucket: it follows the view, survives every death and every pause, and is not
//! believed when somebody else wrote it.

mod kept;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use uuid::Uuid;
use whimbrel_fleet::{
    FailoverGroup, GroupName, LeaderEpoch, Partition, Region, Topic, TopicId, View,
    acl::{Acl, Operation, Pattern, PatternType, Permission, ResourceType},
    credential::{Credential, CredentialChange, Mechanism, Secret},
    quota::{Entity, Quota, Rate, Who},
};
use whimbrel_runtime::{Clock, random};
use whimbrel_tiering::{
    format::{Keys, MetaName},
    meta::{
        Context, Document, Fleet, Head, Keeper, Kept, MAX_HEAD_BYTES, MetaError, read_document,
        read_head,
    },
    ops::Ops,
    root::Stamp,
    store::Store,
};

use crate::{
    fault::{Fault, at_each_write, death, pause},
    memory::Memory,
    support::until,
};

/// A fleet with so many topics.
pub fn view(topics: u64) -> View {
    let mut view = View {
        version: topics + 1,
        fleet_id: "fleet-1".into(),
        producer_ids: 1_000_000,
        ..View::default()
    };
    let east = Region {
        name: "east".into(),
        lost: false,
    };
    view.regions.insert("east".into(), east);
    let group = FailoverGroup::new(GroupName::default_group(), "east".into());
    view.groups.insert(group.name.clone(), group);
    for n in 0..topics {
        let name = format!("topic-{n}");
        let partition = Partition {
            leader_epoch: LeaderEpoch(3),
            ..Partition::default()
        };
        let topic = Topic {
            name: name.clone(),
            id: TopicId::from_u128(n.into()),
            group: GroupName::default_group(),
            partitions: vec![partition; 2],
            configs: [("retention.ms".to_owned(), "5".to_owned())].into(),
            replication_factor: 1,
            internal: false,
        };
        view.topics.insert(name, topic);
    }
    view
}

/// What every later version has to read.
pub fn golden() -> (Document, Head) {
    let mut view = view(2);
    view.note_deleted(TopicId::from_u128(77));
    view.credentials.apply(CredentialChange {
        user: "ann".into(),
        mechanism: Mechanism::ScramSha256,
        credential: Some(Credential {
            salt: Secret(vec![0xab; 16]),
            stored_key: Secret(vec![0xcd; 32]),
            server_key: Secret(vec![0xef; 32]),
            iterations: 4_096,
        }),
    });
    view.acls.insert(Acl {
        on: Pattern {
            resource: ResourceType::Topic,
            pattern: PatternType::Prefixed,
            name: "topic-".into(),
        },
        principal: "User:ann".into(),
        host: "*".into(),
        operation: Operation::Read,
        permission: Permission::Allow,
    });
    let entity = Entity {
        user: Some(Who::Named("ann".into())),
        ..Entity::default()
    };
    view.quotas.push(Quota {
        entity,
        limits: [("producer_byte_rate".to_owned(), Rate(1024.5))].into(),
    });
    view.configs
        .of_brokers
        .insert("log.retention.ms".into(), "7".into());
    let document = Document {
        fleet_id: "fleet-1".into(),
        region: "east".into(),
        writer_epoch: 3,
        sequence: 12,
        written_ms: 1_760_000_000_000,
        view_version: view.version,
        fleet: Fleet::of(&view),
    };
    let name = |sequence| MetaName {
        writer_epoch: 3,
        sequence,
        random: 0xabcd_ef01,
    };
    let kept = |sequence| Kept {
        name: name(sequence),
        written_ms: 1_760_000_000_000,
        view_version: 3,
        length: 999,
        crc32c: 0x1234_5678,
    };
    let head = Head {
        stamp: Stamp {
            incarnation: Uuid::from_u128(0x1c),
            epoch: 3,
            sequence: 12,
            nonce: Uuid::from_u128(0x2d),
        },
        fleet_id: "fleet-1".into(),
        region: "east".into(),
        written_ms: 1_760_000_000_000,
        documents: vec![kept(11), kept(12)],
    };
    (document, head)
}

fn context(store: Arc<dyn Store>) -> Context {
    let clock = Clock::system();
    Context {
        store,
        keys: Keys::new("east"),
        fleet_id: "fleet-1".into(),
        region: "east".into(),
        incarnation: random::uuid(),
        ops: Ops::new(clock.clone()),
        clock,
        window: Duration::from_secs(3_600),
        grace: Duration::ZERO,
    }
}

fn now_ms() -> i64 {
    Clock::system().wall_ms()
}

pub fn memory(store: &Memory) -> Context {
    context(Arc::new(store.clone()))
}

async fn head(store: &Memory) -> Head {
    let context = memory(store);
    let found = read_head(store, &context.keys, context.whose()).await;
    found.unwrap().unwrap().0
}

/// The head names what is there and nothing else, and the newest document says what `view` does.
async fn check(store: &Memory, view: &View) {
    check_beside(store, view, &[]).await;
}

/// The same beside documents that nobody may delete.
async fn check_beside(store: &Memory, view: &View, strange: &[MetaName]) {
    let (context, head) = (memory(store), head(store).await);
    for kept in &head.documents {
        let read = read_document(store, &context.keys, context.whose(), kept).await;
        let document = read.unwrap();
        assert_eq!(document.view_version, kept.view_version);
        if Some(kept) == head.newest() {
            assert_eq!(document.fleet, Fleet::of(view));
        }
    }
    let there = store.list(&context.keys.meta_prefix()).await.unwrap();
    let there: Vec<_> = there
        .iter()
        .filter_map(|listed| context.keys.parse_meta(&listed.key))
        .collect();
    let mut named: Vec<_> = head.documents.iter().map(|kept| kept.name).collect();
    named.extend(strange);
    named.sort_unstable();
    let mut sorted = there;
    sorted.sort_unstable();
    assert_eq!(sorted, named);
}

/// A claim and some changes; what goes wrong is tried again until it is done, or another daemon has taken over.
async fn live(context: &Context) -> Result<(), MetaError> {
    let mut keeper = loop {
        match Keeper::claim(context.clone()).await {
            Ok(keeper) => break keeper,
            Err(MetaError::Store(_)) => {}
            Err(error) => return Err(error),
        }
    };
    for topics in 1..4 {
        let view = view(topics);
        loop {
            match keeper
                .keep(&Fleet::of(&view), view.version, Some(now_ms()))
                .await
            {
                Ok(_) => break,
                // Another life before us knew more already.
                Err(MetaError::Older { .. }) => break,
                Err(MetaError::Store(_) | MetaError::Damaged(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn documents_follow_the_fleet_and_only_changes_are_written() {
    let store = Memory::default();
    live(&memory(&store)).await.unwrap();
    check(&store, &view(3)).await;
    let before = head(&store).await;
    assert_eq!((before.stamp.epoch, before.documents.len()), (1, 3));
    // A later start claims, and has nothing to say.
    let mut keeper = Keeper::claim(memory(&store)).await.unwrap();
    let mut same = view(3);
    same.version += 5;
    assert!(
        !keeper
            .keep(&Fleet::of(&same), same.version, Some(now_ms()))
            .await
            .unwrap()
    );
    let after = head(&store).await;
    assert_eq!(after.stamp.epoch, 2);
    assert_eq!(after.documents, before.documents);
    // A view from before what the bucket has is of controllers that lost something.
    let refused = keeper.keep(&Fleet::of(&view(1)), 1, None).await;
    assert!(
        matches!(refused, Err(MetaError::Older { .. })),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_death_at_any_write_loses_and_leaks_nothing() {
    let writes = at_each_write(death, Memory::default, async |fault| {
        let first = context(Arc::new(fault.clone()));
        let life = async { live(&first).await.unwrap() };
        fault.or_death(life).await;
        live(&memory(&fault.store)).await.unwrap();
        check(&fault.store, &view(3)).await;
    })
    .await;
    assert!(writes > 6, "only {writes} writes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_fails_and_lies_delays_but_never_bends() {
    for seed in [5, 41, 977, 31_337] {
        let store = Memory::default();
        let lying = context(Arc::new(Fault::seeded(store.clone(), seed)));
        // A bent answer may look like a head of somebody else's; the next claim reads it again.
        while live(&lying).await.is_err() {}
        live(&memory(&store)).await.unwrap();
        check(&store, &view(3)).await;
    }
}

/// A writer is stopped at every write it ever makes; another one takes over; the first goes on.
#[expect(
    clippy::disallowed_methods,
    reason = "what is stopped is no task of anybody's"
)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_was_stopped_and_replaced_changes_nothing() {
    let writes = at_each_write(pause, Memory::default, async |fault| {
        let context = context(Arc::new(fault.clone()));
        let first = tokio::spawn(async move { live(&context).await });
        until("stopped, or done", || {
            fault.is_struck() || first.is_finished()
        })
        .await;
        if !fault.is_struck() {
            first.await.unwrap().unwrap();
            return;
        }
        let store = &fault.store;
        live(&memory(store)).await.unwrap();
        let before = head(store).await;
        fault.resume();
        let ended = first.await.unwrap();
        let now = head(store).await;
        if now.stamp.nonce == before.stamp.nonce {
            assert!(
                matches!(&ended, Err(MetaError::Fenced { .. } | MetaError::WentBack)),
                "{:?}: {ended:?}",
                fault.plan
            );
        } else {
            // It was stopped before its claim, which came after the other's.
            assert!(now.stamp.epoch > before.stamp.epoch);
        }
        // What it wrote too late is named by nobody, and goes.
        live(&memory(store)).await.unwrap();
        check(store, &view(3)).await;
    })
    .await;
    assert!(writes > 6, "only {writes} writes");
}

async fn replace_head(store: &Memory, change: impl FnOnce(&mut Head)) {
    let mut head = head(store).await;
    change(&mut head);
    put_head(store, head.encode()).await;
}

async fn put_head(store: &Memory, bytes: Vec<u8>) {
    let key = Keys::new("east").meta_head();
    store.delete(&key).await.unwrap();
    store.put_if_absent(&key, Bytes::from(bytes)).await.unwrap();
}

#[tokio::test]
async fn a_head_that_cannot_be_ours_is_left_alone() {
    let store = Memory::default();
    live(&memory(&store)).await.unwrap();
    let sound = head(&store).await.encode();
    let mut bent = sound.clone();
    bent[30] ^= 1;
    let huge = vec![0; usize::try_from(MAX_HEAD_BYTES).unwrap() + 1];
    for damaged in [bent, huge, Vec::new(), sound[..40].to_vec()] {
        put_head(&store, damaged.clone()).await;
        let refused = Keeper::claim(memory(&store)).await.unwrap_err();
        assert!(matches!(refused, MetaError::Damaged(_)), "{refused}");
        let key = Keys::new("east").meta_head();
        let there = store.get(&key, u64::MAX).await.unwrap().bytes;
        assert_eq!(there, damaged);
    }
    for (fleet, region) in [("fleet-2", "east"), ("fleet-1", "west")] {
        put_head(&store, sound.clone()).await;
        replace_head(&store, |head| {
            head.fleet_id = fleet.into();
            head.region = region.into();
        })
        .await;
        let refused = Keeper::claim(memory(&store)).await.unwrap_err();
        assert!(matches!(refused, MetaError::Foreign { .. }), "{refused}");
    }
    put_head(&store, sound).await;
    replace_head(&store, |head| head.stamp.epoch = u64::MAX).await;
    let refused = Keeper::claim(memory(&store)).await.unwrap_err();
    assert!(matches!(refused, MetaError::Damaged(_)), "{refused}");
}

#[tokio::test]
async fn an_epoch_above_ours_fences_us() {
    let store = Memory::default();
    let mut keeper = Keeper::claim(memory(&store)).await.unwrap();
    replace_head(&store, |head| {
        head.stamp.epoch = 9;
        head.stamp.nonce = Uuid::from_u128(1);
    })
    .await;
    let fenced = keeper.keep(&Fleet::of(&view(1)), 2, None).await;
    assert!(
        matches!(fenced, Err(MetaError::Fenced { epoch: 9 })),
        "{fenced:?}"
    );
}

#[tokio::test]
async fn a_document_that_is_not_what_the_head_says_is_refused() {
    let store = Memory::default();
    live(&memory(&store)).await.unwrap();
    let (context, head) = (memory(&store), head(&store).await);
    let newest = *head.newest().unwrap();
    let key = context.keys.meta(&newest.name);
    let sound = store.get(&key, u64::MAX).await.unwrap().bytes;
    let mut bent = sound.to_vec();
    let last = bent.len() - 1;
    bent[last] ^= 1;
    let other = context.keys.meta(&head.documents[0].name);
    let other = store.get(&other, u64::MAX).await.unwrap().bytes;
    for bytes in [Bytes::from(bent), sound.slice(..40), other] {
        store.delete(&key).await.unwrap();
        store.put_if_absent(&key, bytes).await.unwrap();
        let read = read_document(&store, &context.keys, context.whose(), &newest).await;
        assert!(matches!(read, Err(MetaError::Damaged(_))), "{read:?}");
    }
    // Whoever claims next writes the newest one again.
    let mut keeper = Keeper::claim(memory(&store)).await.unwrap();
    assert!(keeper.keep(&Fleet::of(&view(3)), 4, None).await.unwrap());
    let claims_a_gigabyte = Kept {
        length: 1 << 30,
        ..newest
    };
    let read = read_document(&store, &context.keys, context.whose(), &claims_a_gigabyte).await;
    assert!(matches!(read, Err(MetaError::Damaged(_))), "{read:?}");
}
