//! What a restore would bring back, from buckets as they are found.

mod bent;
mod follower;
mod home;
mod source;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use whimbrel_fleet::{TopicPartition, cut::Cut};
use whimbrel_runtime::Clock;
use whimbrel_tiering::{
    format::Key,
    restore::{Missing, Plan, Refused, Request, Survey},
    store::Store,
};

use self::{
    follower::{Serving, empty, fill, find, wanted},
    home::{Home, LATE, OFFSETS, RECORDED, STATES, T0, T1},
};
use crate::memory::Memory;

async fn plan_of(store: &Memory, request: Request) -> Result<Plan, Refused> {
    let store = std::sync::Arc::new(store.clone());
    let survey = Survey::new(store, "east", Clock::system(), |_| ());
    survey.plan(&request).await
}

async fn plan(store: &Memory) -> Result<Plan, Refused> {
    plan_of(store, Request::default()).await
}

/// Where the plan's logs end.
fn ends(plan: &Plan) -> BTreeMap<TopicPartition, i64> {
    let all = plan.topics.iter().flat_map(|topic| {
        let of_topic = topic.partitions.iter();
        of_topic.map(|p| (TopicPartition::new(topic.id, p.partition), p.end))
    });
    all.collect()
}

fn is_cut(ends: &BTreeMap<TopicPartition, i64>, cut: &Cut) -> bool {
    ends.iter()
        .all(|(at, end)| cut.ends.get(at).map_or(0, |end| end.offset) == *end)
}

/// Below the plan's ends each transaction is whole or absent, but for those that the plan lists as open.
fn check_transactions(home: &Home, plan: &Plan) {
    let ends = ends(plan);
    let open: BTreeMap<_, _> = plan
        .state
        .as_ref()
        .unwrap()
        .open
        .iter()
        .map(|open| (usize::try_from(open.producer_id).unwrap(), open.commits))
        .collect();
    let mut found: BTreeMap<(usize, usize), usize> = BTreeMap::new();
    for at in [T0, T1, OFFSETS] {
        let below = home.logs[&at]
            .batches
            .iter()
            .filter(|b| b.next <= ends[&at]);
        for batch in below {
            if let Some(txn) = batch.txn {
                *found.entry(txn).or_default() += 1;
            }
        }
    }
    for ((producer, number), parts) in found {
        let newest = !home.logs[&T0]
            .batches
            .iter()
            .any(|b| b.next <= ends[&T0] && b.txn == Some((producer, number + 1)));
        let is_open = newest && open.contains_key(&producer);
        assert!(
            parts == 3 || is_open,
            "{parts} of {producer}:{number}; {open:?}"
        );
        // What was decided to commit has all its parts.
        assert!(!is_open || !open[&producer] || parts == 3);
    }
}

#[tokio::test]
async fn a_whole_bucket_comes_back_at_its_newest_cut_and_nothing_is_written() {
    let home = Home::busy().await;
    let before = contents(&home.store).await;
    let plan = plan(&home.store).await.unwrap();
    assert!(plan.whole, "{:?}", plan.missing);
    assert!(is_cut(&ends(&plan), home.cuts.last().unwrap()));
    check_transactions(&home, &plan);
    let state = plan.state.unwrap();
    assert_eq!((state.groups, state.positions), (3, 3));
    assert_eq!((state.transactional_ids, state.open_transactions), (3, 0));
    assert_eq!(state.positions_ahead, 0);
    let group = &plan.groups[0];
    assert_eq!(group.newer_cut, None);
    assert_eq!(group.cut.as_ref().unwrap().partitions, 4);
    // The view's were 4.
    let epochs: BTreeSet<_> = plan
        .topics
        .iter()
        .flat_map(|t| &t.partitions)
        .map(|p| (p.leader_epoch.found, p.leader_epoch.begins))
        .collect();
    assert_eq!(epochs, [(4, 1_004)].into());
    assert_eq!((plan.totals.partitions, plan.totals.objects), (4, 4));
    assert_eq!(contents(&home.store).await, before);
}

#[tokio::test]
async fn a_plan_goes_back_to_the_cut_of_that_time_and_knows_what_was_open() {
    let home = Home::busy().await;
    let mut opens = 0;
    for cut in &home.cuts {
        for ms in [cut.taken_ms, cut.taken_ms + 5] {
            let request = Request {
                to_ms: Some(ms),
                ..Request::default()
            };
            let plan = plan_of(&home.store, request).await.unwrap();
            assert!(plan.whole, "{:?}", plan.missing);
            assert!(is_cut(&ends(&plan), cut));
            check_transactions(&home, &plan);
            opens += plan.state.unwrap().open_transactions;
        }
    }
    assert!(
        home.cuts.len() > 3 && opens > 0,
        "{} cuts, {opens}",
        home.cuts.len()
    );
    let quick = Request {
        quick: true,
        ..Request::default()
    };
    assert_eq!(plan_of(&home.store, quick).await.unwrap().state, None);
    let before = home.cuts[0].taken_ms - 1;
    let request = |to_ms| Request {
        to_ms: Some(to_ms),
        quick: true,
        ..Request::default()
    };
    let refused = plan_of(&home.store, request(before)).await.unwrap_err();
    assert!(
        refused.code() == "WB-333" && refused.to_string().contains("oldest cut"),
        "{refused}"
    );
    let refused = plan_of(&home.store, request(1)).await.unwrap_err();
    assert_eq!(refused.code(), "WB-332", "{refused}");
}

#[tokio::test]
async fn what_went_up_after_the_newest_cut_or_did_not_go_up_decides_the_cut() {
    let mut home = Home::busy().await;
    let whole = home.cuts.last().unwrap().clone();
    for round in 0..20 {
        home.step(round % 3);
    }
    home.settle();
    home.cut();
    // The cut is up, and one log is not.
    for at in [RECORDED, T0, OFFSETS, STATES] {
        home.upload(at, usize::MAX, true).await;
    }
    let first = plan(&home.store).await.unwrap();
    assert!(first.whole && is_cut(&ends(&first), &whole));
    let newer = first.groups[0].newer_cut.clone().unwrap();
    assert_eq!((newer.taken_ms, newer.lacks.as_str()), (home.now_ms, "t-1"));
    home.upload(T1, usize::MAX, true).await;
    let second = plan(&home.store).await.unwrap();
    assert!(second.whole && is_cut(&ends(&second), home.cuts.last().unwrap()));
    assert_eq!(second.groups[0].newer_cut, None);
}

#[tokio::test]
async fn a_topic_made_after_the_last_description_is_told() {
    let mut home = Home::busy().await;
    home.make_late_topic();
    home.step(0);
    home.settle();
    home.cut();
    home.upload_all().await;
    let told = plan(&home.store).await.unwrap();
    let late: Vec<_> = told
        .missing
        .iter()
        .map(|m| (m.code, m.topic.as_str()))
        .collect();
    assert_eq!(late, [("WB-331", "late")]);
    home.describe().await;
    let told = plan(&home.store).await.unwrap();
    assert!(told.whole, "{:?}", told.missing);
    assert!(ends(&told)[&LATE] > 0);
}

async fn contents(store: &Memory) -> BTreeMap<Key, Bytes> {
    let mut all = BTreeMap::new();
    for listed in store.list("v1/").await.unwrap() {
        let found = store.get(&listed.key, u64::MAX).await.unwrap();
        all.insert(listed.key, found.bytes);
    }
    all
}

async fn replace(store: &Memory, key: &Key, bytes: Bytes) {
    store.delete(key).await.unwrap();
    store.put_if_absent(key, bytes).await.unwrap();
}

struct Draw(u64);

impl Draw {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % n as u64).unwrap()
    }
}

/// A copy goes on while the home does: object after object in any order, each as it is then.
#[tokio::test]
async fn a_bucket_that_was_copied_while_it_was_written_comes_back_at_a_cut_that_is_whole() {
    let (mut behind, mut spilled) = (0, 0);
    for seed in [7, 99, 1_234, 55_555, 987_654, 3, 31, 314, 3_141, 31_415] {
        let mut draw = Draw(seed);
        let mut home = Home::busy().await;
        home.describe().await;
        let copy = Memory::default();
        let mut left: Vec<_> = contents(&home.store).await.into_keys().collect();
        let mut seen: BTreeSet<_> = left.iter().cloned().collect();
        while !left.is_empty() {
            for _ in 0..draw.below(8) {
                home.step(draw.below(3));
            }
            home.cut();
            let all: Vec<_> = home.logs.keys().copied().collect();
            let (at, most) = (all[draw.below(all.len())], 1 + draw.below(30));
            home.upload(at, most, draw.below(2) == 0).await;
            if draw.below(20) == 0 {
                home.spill(u16::try_from(draw.below(2)).unwrap()).await;
            }
            if draw.below(9) == 0 && home.logs.len() == 5 {
                home.make_late_topic();
                home.describe().await;
            }
            // A listing that goes on meanwhile comes by some of what is new. Without a part that a root names there may be
            // no cut left.
            for key in contents(&home.store).await.into_keys() {
                let is_part = key.as_str().contains("/root-part/");
                if seen.insert(key.clone()) && (draw.below(3) > 0 || is_part) {
                    left.push(key);
                }
            }
            let key = left.swap_remove(draw.below(left.len()));
            // It may have been deleted meanwhile.
            if let Ok(found) = home.store.get(&key, u64::MAX).await {
                replace(&copy, &key, found.bytes).await;
            }
        }
        let found = find(&copy, None).await;
        let plan = &found.plan;
        let cut = home.cuts.iter().find(|cut| is_cut(&ends(plan), cut));
        // The description of a topic that was made meanwhile may not have been copied, and what is missing in the middle of
        // a log is missing at every cut.
        let is_known = |m: &Missing| {
            let undescribed = (m.code, &*m.topic) == ("WB-331", "late");
            undescribed || (m.code == "WB-316" && m.what.ends_with("is not there"))
        };
        assert!(
            plan.missing.iter().all(is_known) && cut.is_some(),
            "seed {seed}: {:?}",
            plan.missing
        );
        check_transactions(&home, plan);
        let serving = Serving::begin(&copy, &found).await;
        let mut copies = empty();
        fill(&serving, &mut copies, &found).await;
        assert!(copies == wanted(&home, &found), "seed {seed}");
        spilled += home
            .roots
            .iter()
            .filter(|root| root.runs().count() > 0)
            .count();
        let group = &plan.groups[0];
        let all_there = group.lost_cut.is_none() && plan.missing.is_empty();
        assert_eq!(plan.whole, all_there);
        behind += usize::from(group.lost_cut.is_some() || group.newer_cut.is_some());
        // The home's own bucket, at the same moment.
        let own = plan_of(&home.store, Request::default()).await.unwrap();
        assert!(own.whole, "seed {seed}: {:?}", own.missing);
        check_transactions(&home, &own);
    }
    assert!(
        behind > 0 && spilled > 0,
        "{behind} were torn, {spilled} roots spilled"
    );
}
