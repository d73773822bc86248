//! `WB-3xx`: what an operator of the tiering daemon may have to act on.

use whimbrel_runtime::Code;

const fn code(
    code: &'static str,
    title: &'static str,
    cause: &'static str,
    fix: &'static str,
) -> Code {
    Code {
        code,
        title,
        cause,
        fix,
    }
}

pub const CODES: &[Code] = &[
    code(
        "WB-300",
        "the tiering configuration is wrong",
        "One or more settings of the [tiering] table cannot be used; all of them are named.",
        "Correct them; `whimbrel config check` proves the file without starting anything.",
    ),
    code(
        "WB-301",
        "the bucket cannot be used",
        "The bucket is not there, the credentials are refused or missing, or the folder does not exist.",
        "Create the bucket or folder, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for an account that may GET, PUT, LIST and DELETE in it.",
    ),
    code(
        "WB-302",
        "the store refuses or ignores conditional writes",
        "The start-up probe found that If-None-Match or If-Match is not honoured. Without them two daemons could overwrite each other's roots.",
        "Use a store that honours conditional writes (S3, MinIO since 2024, a local folder), or update it.",
    ),
    code(
        "WB-303",
        "the bucket belongs to another fleet or format",
        "The marker v1/<region>/whimbrel.json names another fleet, region or format.",
        "Point this region at its own bucket or prefix. Never remove the marker: the data beside it is somebody's.",
    ),
    code(
        "WB-304",
        "the store does not return what was written",
        "The start-up probe read back different bytes or a wrong checksum.",
        "Do not use this store; look for a proxy or cache in between.",
    ),
    code(
        "WB-305",
        "an address cannot be bound",
        "The port is taken, or the address is not of this machine.",
        "Choose another rpc-listen or admin-listen.",
    ),
    code(
        "WB-306",
        "a listener would be open to the network",
        "rpc-listen or admin-listen is not on loopback, and neither has TLS or authentication.",
        "Bind to 127.0.0.1, or set insecure-bind = true if the network is trusted.",
    ),
    code(
        "WB-307",
        "the fleet's id is not known",
        "No controller answered with the fleet's id, which has to be compared with the bucket's marker first.",
        "Start the controllers, or set fleet-id.",
    ),
    code(
        "WB-308",
        "the cache folder cannot be used",
        "It cannot be created or read.",
        "Check cache-dir and its permissions.",
    ),
    code(
        "WB-310",
        "this daemon was fenced",
        "Another tiering daemon of this region has claimed the shards in a later epoch. This one has stopped and will commit and delete nothing.",
        "Nothing, if it was meant. If two daemons are configured for one region, stop one of them.",
    ),
    code(
        "WB-311",
        "two daemons with one identity",
        "A root carries our epoch and a write that is not ours: a copy of this process runs, or somebody wrote into the bucket.",
        "Find the other process (`whimbrel status` names the registered one), stop it, start this one again.",
    ),
    code(
        "WB-312",
        "a root is gone, older than it was, or damaged",
        "Somebody changed the bucket by hand, restored it from a copy, or the store lost a write.",
        "Do not delete anything. The shard rests: nothing of it is uploaded, freed or deleted, and the other shards go on. A root is older than it was where a kept root is newer, or an object has a later epoch. `whimbrel tier rebuild` makes a root from the kept ones and the objects themselves.",
    ),
    code(
        "WB-313",
        "a root is full",
        "Older entries are in parts already, but one shard has more partitions, orphaned or unlinked objects than fit into 1 MiB.",
        "See pending_deletes and orphaned_objects of that shard in `whimbrel tier status --output json`: uploads go on once deletions have caught up.",
    ),
    code(
        "WB-314",
        "the log and the bucket disagree",
        "The broker offers a slice that leaves a gap, overlaps, or is of another lineage than what the bucket holds.",
        "If a failback is under way, wait for it: it truncates the bucket. Otherwise compare `whimbrel tier status` with the broker's log; local copies stay until this is resolved.",
    ),
    code(
        "WB-315",
        "a local segment is damaged",
        "Batches of a slice that was to be uploaded fail their CRC or do not follow one another.",
        "The slice is not uploaded and not freed. Repair the replica from its mirror.",
    ),
    code(
        "WB-316",
        "an object is missing or damaged",
        "A root names an object that is not in the bucket or whose blocks fail their CRC.",
        "The object is quarantined: not deleted, and its sound blocks are read on. `whimbrel tier verify --bytes --repair` says who still has the records, with --apply it makes the object again. Or restore it under the same key from a copy of the bucket, and verify.",
    ),
    code(
        "WB-317",
        "uploads are stuck",
        "The store does not answer or refuses; nothing is lost, but local disks fill.",
        "See /status: each stuck operation has its step, age and last error. Runbook: bucket unreachable.",
    ),
    code(
        "WB-318",
        "a segment's list of aborted transactions is not what its markers say",
        "The broker's transaction index lost or changed an entry. Uploaded with it, aborted records would be read as committed ones once the local segment is gone.",
        "The slice is not uploaded and not freed. The reason names segment and producer. Have this replica filled again from another one.",
    ),
    code(
        "WB-319",
        "this machine's clock is not believed",
        "It differs by more than an hour from the store's, or it has jumped since the daemon's start.",
        "Set the clock and start the daemon again. Until then nothing is deleted because of its age; retention by size goes on.",
    ),
    code(
        "WB-320",
        "the store refuses us",
        "The store answers 401, 403, or that the session has ended: the credentials have expired or were withdrawn, or their policy lacks a permission. Records go on being taken and served from local disk and cache; nothing goes up, and what is only in the bucket is not read.",
        "Put valid credentials into the file that AWS_SHARED_CREDENTIALS_FILE names: they are read again after each refusal, without a restart. From the environment they are read at the start only. `whimbrel tier probe URL` says which permission is missing.",
    ),
    code(
        "WB-321",
        "a deletion is blocked by Object Lock",
        "Retention let go of an object that the bucket keeps: its lock has not ended, or it is under a legal hold.",
        "Nothing: it is deleted when the lock has ended; the store is asked then, daily at most, hourly for a legal hold. The space is paid for until then. Lift the hold if it is not meant.",
    ),
    code(
        "WB-322",
        "the bucket does not describe the fleet as it is",
        "What stands below meta/ was damaged, is of another fleet or was changed by hand, or the controllers know less than it does. Records go up as before, but a restore from this bucket would begin with the topics, users and epochs of then.",
        "`whimbrel tier status` says why. Where the head is damaged, copy v1/<region>/meta/head away and delete it: the daemon makes one again from the documents beside it. Delete none of those. Where the fleet's view is older, the controllers have lost state.",
    ),
    code(
        "WB-326",
        "repairs can read from no broker",
        "`[tiering]` has no `client-config`, and the brokers have TLS or ask who connects. What is damaged in the bucket is read again from brokers, as any consumer reads.",
        "Set `client-config` of `[tiering]` to a file of Kafka's client properties (`docs/clients.md`); its user needs READ on the topics.",
    ),
    code(
        "WB-327",
        "the bucket keeps a compacted log as it was written",
        "What compaction has left of a log was not taken over: too many objects would have to be unlinked at once, nothing is left of what was cleaned, the log has too many segments with records, or the store or the broker did not answer. Nothing is lost; the bucket is larger than it need be.",
        "The reason stands in `whimbrel tier status`, and goes once it was done. Against too many objects or segments set a larger `segment.bytes` for the topic, so that the log has fewer.",
    ),
    code(
        "WB-330",
        "nothing in the bucket describes the fleet",
        "There is no head below v1/<region>/meta/: the daemons of that region never wrote one, or it was not copied with the rest. Without it a restore knows the records, and neither topics' configs, users nor epochs.",
        "Look for meta/head in the bucket that this one was copied from, or restore from another region's bucket.",
    ),
    code(
        "WB-331",
        "a description of the fleet cannot be used",
        "The head below meta/ or all documents that it names are missing, damaged, of a later format, or of another fleet or region than the bucket's marker says; or a cut names a topic that none of them knows.",
        "Copy meta/ again, the documents before the head. `whimbrel restore` with an earlier --to-time goes by an earlier document.",
    ),
    code(
        "WB-332",
        "the bucket does not reach back to that time",
        "Nothing describes the fleet as it was at --to-time. Descriptions are kept for tiering.restore-window.",
        "Choose a later time; the message names the oldest.",
    ),
    code(
        "WB-333",
        "no consistent cut is wholly in the bucket",
        "Groups with positions or transactions come back only at a cut: anywhere else a transaction could be there in part. The bucket has none at or before that time below which all records are there: none was taken (broker.cut-interval), they are older than a week, or what they name was not uploaded or copied.",
        "The message says what the newest cut lacks. Copy that again, choose another time, or use another region's bucket.",
    ),
    code(
        "WB-334",
        "a root of the bucket cannot be restored from",
        "A root is missing, damaged, of another place, or has epochs so high that none is left above them.",
        "Copy it again, or copy the bucket, start a tiering daemon of the region on the copy, and make a root there with `whimbrel tier rebuild`.",
    ),
    code(
        "WB-335",
        "a log that is to be filled from a bucket holds something else",
        "The broker's copy holds records, or epochs, that the bucket does not have below the cut: it was written to before, or was begun from another cut. Nothing of it is changed, and nothing is added.",
        "Restore into a fleet whose brokers have empty data directories. A restore that was begun is gone on with by the same plan.",
    ),
    code(
        "WB-340",
        "the bucket has moved, and the configuration names its old place",
        "`whimbrel tier move` has brought everything to another place. Daemons that begin at the old one find tombstones there and follow them, so nothing stands still.",
        "Set `bucket` of `[tiering]` to the new place in the configuration of every daemon of the region, at leisure; `whimbrel tier status` and the log name it. Only then may the old place go; `whimbrel tier move --delete-old` empties it of what the new one has.",
    ),
    code(
        "WB-341",
        "a move into this bucket is not done",
        "The configuration names a place that a move is still filling. What has not arrived is only in the old place, and a daemon that began here would not know of it.",
        "Name the old place again; the message says which it is. Change the configuration when `whimbrel tier move` says that all has moved.",
    ),
    code(
        "WB-342",
        "the bucket cannot move to that place",
        "The new place is another region's or fleet's, a daemon began there by itself, or it lacks what a bucket needs. What has not moved stays where it is and is served from there.",
        "`whimbrel tier probe URL` says what the place lacks. Where it is somebody's, give the move a place of its own; `whimbrel tier move --cancel` ends one that has not changed anything yet.",
    ),
    code(
        "WB-343",
        "the bucket has moved on",
        "The configuration names a place that the bucket has left, and the place that it went to was left, too. A daemon follows one move, not two.",
        "The message names both places. Set `bucket` of `[tiering]` to the last one once the move there is done, to the one before until then.",
    ),
    code(
        "WB-350",
        "another region's bucket cannot be read",
        "`tiering.borrow` names that bucket, and what this region's own does not have would be read from there. Until it can be read, consumers of such records wait.",
        "The message says why. Whether the URL, its credentials and the marker `whimbrel.json` are that region's of this fleet; one that has moved is named by its new place.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_ours_and_rise() {
        assert!(
            CODES
                .iter()
                .all(|c| c.code.starts_with("WB-3") && c.code.len() == 6)
        );
        assert!(CODES.windows(2).all(|w| w[0].code < w[1].code));
    }
}
