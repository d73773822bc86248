//! Codes of the mirror that an operator can look up.

use whimbrel_runtime::Code;

pub const OPTIONS: &str = "WB-200";
pub const TRIMMED: &str = "WB-201";
pub const DAMAGED: &str = "WB-202";
pub const NO_AGREEMENT: &str = "WB-203";
pub const REFUSED: &str = "WB-204";
pub const ADMIN: &str = "WB-205";
pub const OVERTAKEN: &str = "WB-206";
pub const TRANSLATED_SOURCE: &str = "WB-210";
pub const TRANSLATED_TARGET: &str = "WB-211";
pub const TRANSLATED_MAP: &str = "WB-212";

/// What `whimbrel explain` knows of the mirror.
pub const CODES: &[Code] = &[
    Code {
        code: OPTIONS,
        title: "The mirror's settings cannot be used",
        cause: "A setting in [mirror] is missing, out of range or contradicts another one; the message names it.",
        fix: "Correct the named setting. `whimbrel config check` reports all problems of a file at once.",
    },
    Code {
        code: TRIMMED,
        title: "Retention overtook a mirrored partition",
        cause: "The source deleted offsets that this region did not have yet, by retention or DeleteRecords. The partition is stopped so that the gap is not hidden; the message has the exact range.",
        fix: "Accept the gap by deleting and re-creating the target's copy of the partition, or restore the range from the source region's bucket. Raise retention above the longest outage the mirror has to bridge.",
    },
    Code {
        code: DAMAGED,
        title: "The target's copy of a partition is damaged",
        cause: "The target broker found damage below its durable point and refuses to append.",
        fix: "See the target broker's /status for file and offset; remove the damaged copy so that it is filled again from the source.",
    },
    Code {
        code: NO_AGREEMENT,
        title: "Source and target find no common point",
        cause: "The source keeps asking the target to truncate, or its batches do not continue the target's log, several times without progress.",
        fix: "Compare the leader-epoch-checkpoint files of both copies; `whimbrel mirror verify` shows the first difference. The partition stays stopped until its region epoch changes or the mirror is restarted.",
    },
    Code {
        code: REFUSED,
        title: "The target keeps refusing a partition's batches",
        cause: "Batches arrived damaged or out of order several times in a row.",
        fix: "Look for network or memory faults on the path; the target's log names the batch. The partition stays stopped until its region epoch changes or the mirror is restarted.",
    },
    Code {
        code: ADMIN,
        title: "The mirror's admin endpoint cannot be opened",
        cause: "The address in `admin-listen` is taken or not an address of this host.",
        fix: "Choose a free port, or port 0 for any.",
    },
    Code {
        code: OVERTAKEN,
        title: "Compaction overtook a mirrored partition",
        cause: "This region's copy of a compacted partition did not move for longer than the source's `broker.cleaner.region-patience`, and the source compacted past its end. What the copy has is whole as of its end; filled on from there it would lack both old and new records of some keys until it has passed the range in the message, so it is stopped.",
        fix: "To have the copy filled anew, remove its folder on the broker that holds it (stopped), and restart the mirror. Raise `region-patience` above the longest outage the mirror has to bridge.",
    },
    Code {
        code: TRANSLATED_SOURCE,
        title: "A translated flow lost its place at the source",
        cause: "The source deleted offsets that were not copied yet, or the topic was deleted and created again. The partition is stopped; the others go on.",
        fix: "Decide whether the gap is acceptable; the message has the exact range. Delete the flow's offset map entries of the partition to start over.",
    },
    Code {
        code: TRANSLATED_TARGET,
        title: "A translated flow cannot write to its target",
        cause: "The target refuses transactions, the topic has fewer partitions than the source, or another process writes this flow (the same transactional id).",
        fix: "See the message; only one mirror may run a flow, and the target must allow transactions.",
    },
    Code {
        code: TRANSLATED_MAP,
        title: "A translated flow's offset map cannot be read",
        cause: "A record in __whimbrel_offset_map.<flow> on the target does not have the map's format or contradicts the entries before it.",
        fix: "Nothing but this flow may write that topic. Restore it, or delete it together with the target topics to start over.",
    },
];
