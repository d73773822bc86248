//! What an operator of a broker may have to act on: `whimbrel explain WB-1xx`.

use whimbrel_runtime::Code;

pub const CODES: &[Code] = &[
    Code {
        code: "WB-101",
        title: "a listener's port cannot be bound",
        cause: "Another process listens on the address, or the address is not one of this machine.",
        fix: "Stop the other process (`ss -ltnp`), or set `listen`, `replica-listen`, `rpc-listen` or `admin-listen` to a free address.",
    },
    Code {
        code: "WB-102",
        title: "the data directory is in use",
        cause: "Another broker process holds the lock of this data directory.",
        fix: "Stop that process, or give this broker its own `data-dir`. The lock goes with its process; never remove `.lock` by hand.",
    },
    Code {
        code: "WB-103",
        title: "the data directory belongs to another fleet or node",
        cause: "`meta.properties` in the data directory names another cluster id or node id than this broker's.",
        fix: "Point `data-dir` at this broker's own directory, or `controllers` at the fleet the data belongs to. Nothing was changed.",
    },
    Code {
        code: "WB-104",
        title: "the data directory cannot be opened",
        cause: "The directory cannot be created, read or locked.",
        fix: "Check that it exists, belongs to the user of the process, and that its filesystem is mounted writable.",
    },
    Code {
        code: "WB-105",
        title: "a bind to other than loopback was refused",
        cause: "The listener has neither TLS nor authentication, so whoever reaches it reads and writes everything.",
        fix: "Bind to 127.0.0.1, give `listen` both `[broker.tls]` and `[broker.auth]`, or set `insecure-bind = true` where the network itself keeps strangers out.",
    },
    Code {
        code: "WB-106",
        title: "the controller refused this broker",
        cause: "The fleet does not know the region, the node id is taken by another region, or the fleet id differs.",
        fix: "Compare `node-id`, `region`, `fleet-id` and `controllers` with the fleet's `whimbrel status`.",
    },
    Code {
        code: "WB-107",
        title: "a later start of this node took over",
        cause: "A process with the same node id registered after this one, so this one may lead nothing any more and ends.",
        fix: "Run one process per node id. If it was a restart, nothing is to be done.",
    },
    Code {
        code: "WB-108",
        title: "a partition's log is damaged below its durable point, or cannot be read",
        cause: "Bytes that were fsynced are missing or changed, or the disk did not give them when the broker started: a failing disk, or files edited by hand.",
        fix: "The partition does not lead and its files are as they were. Check the disk, and start the broker again where they can be read. A copy at home that another one stands in for is filled again by itself (WB-125); else fail over to a region whose copy is whole, or restore from the bucket.",
    },
    Code {
        code: "WB-109",
        title: "the disk failed",
        cause: "A write or fsync returned an error; what the kernel had not written may be gone, so nothing is acknowledged any more.",
        fix: "The process ends by itself. Check the disk (`dmesg`, SMART) before it starts again; a full disk needs room first.",
    },
    Code {
        code: "WB-110",
        title: "an orphan tail waits for the bucket",
        cause: "This region returned with records that the new home does not have; they are truncated only after they are safe in the bucket, and the bucket or its daemon is away.",
        fix: "Bring the bucket back (`whimbrel tier status`). The partition is mirrored again as soon as the tail is stored.",
    },
    Code {
        code: "WB-111",
        title: "no controllers are configured",
        cause: "`controllers` is empty, so the broker can neither register nor hold a lease.",
        fix: "List the controller voters as `controllers = [\"host:port\", ...]`.",
    },
    Code {
        code: "WB-112",
        title: "the disk is nearly full",
        cause: "The data directory's filesystem has less room than `disk-reserve`. Produce is answered with KAFKA_STORAGE_ERROR, which clients try again; reads, group offsets and retention go on.",
        fix: "Make room: shorter retention, local retention where a bucket holds the rest, or a larger disk. Produce is taken again by itself as soon as there is room.",
    },
    Code {
        code: "WB-113",
        title: "a log cannot be cleaned",
        cause: "Compaction met a batch it cannot read, or one whose keys do not fit `cleaner.memory`. The log keeps everything and is not tried again before the next start, or, where the disk did not give the bytes, for a minute.",
        fix: "The reason stands in the status under `cleaner.uncleanable`. Raise `cleaner.memory`, or have the damaged copy filled again from another region.",
    },
    Code {
        code: "WB-114",
        title: "compaction went on without a region",
        cause: "A region's copy of a compacted partition did not move for `cleaner.region-patience` although there was more to have. The log is cleaned past its end now, and that copy will not be filled on from there (WB-206 at its mirror).",
        fix: "Bring the region back and have its copy filled anew; WB-206 says how. Until then a move to that region loses what it lacks. The status names the region under `cleaner.left_behind`.",
    },
    Code {
        code: "WB-118",
        title: "a leader lacks records that were acknowledged",
        cause: "Another copy of the region holds records below its high watermark that the partition's leader does not have: the leader's disk was replaced or emptied while no other member of the ack set was up.",
        fix: "Nothing is cut. Give the leadership to the broker that names the partition (stop the leader, elect), or set `unclean.leader.election.enable` for the topic to have the records set aside as a tail.",
    },
    Code {
        code: "WB-120",
        title: "the Kafka listener cannot be secured as configured",
        cause: "A certificate, key or root file of `[broker.tls]` cannot be read or does not fit the others, or `[broker.auth]` asks for what the listener cannot give: PLAIN or OAUTHBEARER without TLS, certificates that clients are not required to show, or tokens without saying whose.",
        fix: "The message names the file or the setting. PLAIN sends passwords as they are: prefer SCRAM-SHA-512, or give the listener TLS. OAUTHBEARER wants `jwks`, `issuer` and `audience` in `[broker.auth.oauthbearer]`.",
    },
    Code {
        code: "WB-115",
        title: "consumers wait for tiered data",
        cause: "A consumer asks for records that are only in the bucket, and the bucket or this node's tiering daemon has not given them for some seconds. Consumers get empty answers meanwhile and lose nothing; partitions with local data are served as ever.",
        fix: "The reason stands in the log, as `cold_wait` in the broker's `/status`, and under `stuck` in `whimbrel tier status`. Bring the bucket or the daemon back; consumers then go on by themselves.",
    },
    Code {
        code: "WB-119",
        title: "nobody said which transactions of tiered data were aborted",
        cause: "The tiering daemon answered a read without its list of aborted transactions: it is of an older version. Consumers at read_committed get KAFKA_STORAGE_ERROR and try again; without the list they would read aborted records.",
        fix: "Update the node's tiering daemon. Consumers go on by themselves.",
    },
    Code {
        code: "WB-122",
        title: "tokens that nobody signed are believed",
        cause: "`unsecured-tokens = true` in `[broker.auth.oauthbearer]`: a client that connects is whoever its token says, the super user too.",
        fix: "For tests on one machine only. Elsewhere take it out and set `jwks`, `issuer` and `audience`.",
    },
    Code {
        code: "WB-123",
        title: "keys of tokens cannot be read again",
        cause: "A file of `jwks` in `[broker.auth.oauthbearer]` has changed or gone, and what is there now is no JSON web key set with a public key for RS256 or ES256. The keys of before hold on: tokens signed with newer ones are refused, and a key taken back still counts.",
        fix: "The message names the file. Write the set beside it and rename it into place; it is read at the next login. A restart with an unreadable file is refused (WB-120).",
    },
    Code {
        code: "WB-126",
        title: "a power cut may have taken acknowledged records of a topic with flush.messages",
        cause: "The topic asks for acknowledgements before the sync, and the machine was started anew without a clean stop of the broker. What was acknowledged and not yet on the disk is gone: per partition at most the number named. Only its producers had seen it; no consumer, mirror or bucket had.",
        fix: "Nothing is to be repaired. Producers that keep what they send can send again what they hold to be above the end that is named; `set_aside` says that parts from behind a gap are kept in the data directory under `quarantine/`. A topic that must not lose them has `flush.messages` 1, which is the default.",
    },
    Code {
        code: "WB-121",
        title: "the broker's options are not sound",
        cause: "A timing in `[broker]` is out of range.",
        fix: "The message names the key; `whimbrel config check` finds it before a start.",
    },
    Code {
        code: "WB-124",
        title: "an address sends what no Kafka client sends, or fails to log in",
        cause: "More connections than `limits.bad-connections-per-second` from one address brought bytes that are no request, requests that cannot be read or are not offered, or no TLS where it is asked for, or failed to log in: a scanner, somebody who guesses passwords, a probe that speaks HTTP, or a client with other security settings or an old password. New connections from there wait up to two seconds before they are read; those that stand go on.",
        fix: "The message names the address and the last reason, `whimbrel_connections_closed_total` counts all of them, `unauthenticated` among the reasons stands for logins that failed, the status lists the addresses under `offenders`. Set the client right, point the probe at the admin listener's `/readyz`, or keep the address out. Where a gateway stands in front of many clients, raise the limit.",
    },
    Code {
        code: "WB-125",
        title: "a damaged copy was set aside",
        cause: "This broker's copy of a partition is damaged below its durable point (WB-108), another broker at home leads the partition, and holds everything that this copy held. What is damaged, and all behind it, was moved below `quarantine/` of the data directory, and is filled again from the leader.",
        fix: "Nothing is lost and nothing is to be done for the partition. Check the disk: damage seldom comes alone. Remove `quarantine/` when nobody wants to look at it.",
    },
    Code {
        code: "WB-127",
        title: "which leader epochs own records of the bucket was lost here",
        cause: "The `leader-epoch-checkpoint` of a log is not what was written, and its older records are in the bucket only: nothing local proves what it says of them.",
        fix: "Nothing, where the bucket is reached: the lineage is learnt from it again, and until then clients that ask for it are told to ask later. Where it says that the bucket's does not go on as the log does, run `whimbrel tier verify`. Check the disk.",
    },
    Code {
        code: "WB-128",
        title: "the bucket holds another lineage of a partition",
        cause: "The bucket's last record of the partition is of another leader epoch than the log has at that offset: a leader with a shorter log was elected, or its disk was lost, and what the bucket holds above was written by others.",
        fix: "Nothing is freed and nothing more goes up of the partition, and its age rises. The status says `bucket_differs`. A copy that holds the bucket's records may lead again. Where none is left, `whimbrel tier set-aside TOPIC-NUMBER` lists the bucket's records above where both logs are the same as a kept tail, and the log's own go up.",
    },
];
