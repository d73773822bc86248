use super::*;

fn partition(times: &[i64]) -> Partition {
    let entry = |n: i64, t: &i64| Entry {
        first_timestamp_ms: *t,
        max_timestamp_ms: *t,
        created_ms: 5_000,
        ..Entry::sample(n * 10, n * 10 + 10)
    };
    let entries: Vec<_> = (0..).zip(times).map(|(n, t)| entry(n, t)).collect();
    Partition {
        end: entries.last().map_or(0, |e| e.end),
        entries,
        ..Partition::default()
    }
}

fn configs(list: &[(&str, &str)]) -> BTreeMap<String, String> {
    list.iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

#[test]
fn a_log_start_of_an_older_home_or_above_the_bucket_is_not_taken() {
    let partition = Partition {
        region_epoch: 4,
        lineage: vec![whimbrel_fleet::EpochStart {
            epoch: 7,
            start_offset: 0,
        }],
        ..partition(&[1, 2, 3])
    };
    let said = |log_start, region_epoch, leader_epoch| Standing {
        log_start,
        region_epoch,
        leader_epoch,
    };
    for (said, is) in [
        (said(20, 4, 7), Some(20)),
        (said(20, 5, 9), Some(20)),
        (said(20, 3, 7), None),
        (said(20, 4, 6), None),
        (said(0, 4, 7), None),
        (said(30, 4, 7), Some(30)),
        (said(31, 4, 7), None),
    ] {
        assert_eq!(partition.taken(said), is, "{said:?}");
    }
}

#[test]
fn only_the_oldest_run_goes() {
    let p = partition(&[1_000, 9_000, 1_000]);
    assert_eq!(
        proposal(
            &p,
            &p.entries,
            &configs(&[("retention.ms", "5000")]),
            Some(10_000)
        ),
        Some(10)
    );
    assert_eq!(
        proposal(
            &p,
            &p.entries,
            &configs(&[("retention.ms", "-1"), ("retention.bytes", "100")]),
            Some(10_000)
        ),
        Some(20)
    );
    assert_eq!(
        proposal(
            &p,
            &p.entries,
            &configs(&[("retention.ms", "-1")]),
            Some(10_000)
        ),
        None
    );
    assert_eq!(
        proposal(
            &p,
            &p.entries,
            &configs(&[("retention.ms", "1"), ("cleanup.policy", "compact")]),
            Some(10_000)
        ),
        None
    );
}

#[test]
fn without_a_clock_only_size_counts() {
    let p = partition(&[1_000, 1_000]);
    let by_time = configs(&[("retention.ms", "1")]);
    assert_eq!(proposal(&p, &p.entries, &by_time, None), None);
    let by_size = configs(&[("retention.ms", "1"), ("retention.bytes", "100")]);
    assert_eq!(proposal(&p, &p.entries, &by_size, None), Some(10));
}

#[test]
fn records_without_a_time_count_from_their_upload() {
    assert_eq!(
        proposal(
            &partition(&[-1]),
            &partition(&[-1]).entries,
            &configs(&[("retention.ms", "5000")]),
            Some(10_000)
        ),
        None
    );
    assert_eq!(
        proposal(
            &partition(&[-1]),
            &partition(&[-1]).entries,
            &configs(&[("retention.ms", "5000")]),
            Some(10_001)
        ),
        Some(10)
    );
}
