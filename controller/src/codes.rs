//! What an operator may have to act on, `WB-4xx`: the controller and moves.

use whimbrel_runtime::Code;

macro_rules! codes {
    ($($name:ident = $code:literal, $title:literal, $cause:literal, $fix:literal;)*) => {
        $(pub const $name: &str = $code;)*
        /// Pages of `whimbrel explain`.
        pub const CODES: &[Code] = &[$(Code { code: $code, title: $title, cause: $cause, fix: $fix },)*];
    };
}

codes! {
    DATA_DIR = "WB-401", "the controller's data directory cannot be used",
        "The directory or `controller.db` in it cannot be opened or written, or another process has it open.",
        "Check that the path exists, is writable and has space, and that no other voter runs on it.";
    FOREIGN_FLEET = "WB-402", "a data directory, a peer or a request of another fleet",
        "The fleet id stored or sent is not this fleet's, or the directory belongs to another voter id.",
        "Point the process at its own data directory, or correct `fleet-id`, `voter-id` or `controllers`.";
    NOT_BOOTSTRAPPED = "WB-403", "the fleet has not been bootstrapped",
        "An empty data directory needs `bootstrap` (fleet id, regions, home), and a majority of voters must have met once.",
        "Give every voter the same `bootstrap` table at its first start, and start a majority of them.";
    BAD_BOOTSTRAP = "WB-404", "the bootstrap or the voter's options are not sound",
        "The fleet id is empty, a region's name is not lower-case letters, digits and '-', the home is not among the regions, this voter is not among the voters, or a timing is out of range.",
        "Correct the `[controller]` table; `whimbrel config check` names the field.";
    LISTEN = "WB-405", "the controller cannot listen",
        "The address is taken, not this machine's, or not loopback without TLS and authentication.",
        "Choose another address, or end the process that holds it.";
    STORAGE = "WB-406", "the controller's storage failed",
        "A write to `controller.db` failed or what was read there is damaged. The voter has stopped voting.",
        "Check the disk. A voter whose database is damaged is replaced, never edited.";
    UNKNOWN_GROUP = "WB-410", "no such failover group",
        "The failover group named in the request does not exist.",
        "`whimbrel status` lists the groups; the first one is called `default`.";
    UNKNOWN_REGION = "WB-411", "no such region",
        "The region named is not one of the fleet's.",
        "`whimbrel status` lists the regions. Regions are given at bootstrap.";
    NODE_ID_TAKEN = "WB-412", "the node id belongs to another region",
        "Node ids are unique in the whole fleet, and this one was registered from another region.",
        "Give the broker an id of its own.";
    BAD_NODE = "WB-413", "the registration is malformed",
        "A broker's id is negative, or its incarnation is missing, or a daemon calls itself a broker.",
        "Correct `node-id`; ids start at 0.";
    SUPERSEDED = "WB-421", "a later start of this node has registered",
        "Two processes run with one node id, or an old one woke up after its successor had started.",
        "End the older process. It stops serving by itself.";
    ALREADY_HOME = "WB-430", "the group is at home there already",
        "The target of the move is the present home.",
        "Nothing to do; `whimbrel status` shows the homes.";
    MOVE_UNDER_WAY = "WB-431", "a move of this group is under way",
        "The group is fenced for another move that has not ended.",
        "Wait for it: `whimbrel failover status` shows its step. It ends or aborts by itself.";
    PLAN_CHANGED = "WB-432", "the plan is no longer the present one",
        "The group's home or epoch has changed since the plan was made.",
        "Plan again and apply the new plan.";
    NO_FENCE = "WB-433", "no such move",
        "A step was reported for a move that is not under way any more.",
        "Nothing: a late message of an old move was ignored.";
    NO_BROKER = "WB-434", "the target region has no broker that answers",
        "No broker of the target region reported its positions within the last seconds.",
        "Start or reconnect the target's brokers.";
    NO_COPY = "WB-435", "partitions have no copy in the target region",
        "Some partitions of the group have no replica there, or the brokers that hold them do not report.",
        "Wait until the target's brokers are all up and have taken the partitions over.";
    TOO_FAR_BEHIND = "WB-436", "the target is too far behind for a planned move",
        "What is missing there would not arrive within the time that writes are held.",
        "Wait for the mirror to catch up (`whimbrel mirror status`), then plan again.";
    HOME_AWAY = "WB-437", "a planned move needs the home",
        "A switchover or failback drains the home, and no broker of the home answers.",
        "If the home is lost, plan a failover.";
    FEW_COPIES = "WB-438", "fewer copies than min.insync.replicas",
        "The target region holds fewer live copies of a topic than its min.insync.replicas asks for, so acks=all would be refused after the move.",
        "Start the target's other brokers, or lower min.insync.replicas of the topics named.";
    LOSS_TOO_HIGH = "WB-439", "the loss bound is above what was accepted",
        "Acknowledged records may be missing in the target, up to the bound named. Nothing moved; the home may go on.",
        "Wait for the mirror if the home is alive; otherwise repeat with `--accept-loss` at least as high as the bound.";
    LOSS_UNKNOWN = "WB-440", "the loss bound is unknown",
        "No majority of the surviving voters holds a reservation of the home, so nobody can say how much it acknowledged.",
        "Bring back a voter that was up while the home was, or move with `--accept-loss unknown`.";
    NOT_SEALED = "WB-441", "a broker did not seal in time",
        "After the fence a broker whose positions are needed did not report them as final before the deadline. Nothing moved.",
        "Check that broker's connection to the controllers, then repeat the move.";
    NOT_DRAINED = "WB-442", "the target did not catch up in time",
        "The home held its writes, but the target did not reach the home's last offsets before the deadline. Nothing moved.",
        "Check the mirror between the regions, then repeat the move.";
    BAD_REQUEST = "WB-443", "the request cannot be understood",
        "A move request names no known mode, or its accepted loss cannot be read.",
        "Use the command line of the same release as the controllers.";
    NOT_EMPTY = "WB-450", "the fleet is not empty",
        "A bucket is restored into a fleet that has just been bootstrapped: one that has, or had, topics, producers, users or settings of its own is not touched.",
        "Bootstrap a new fleet and restore into that.";
    RESTORE_STANDS = "WB-451", "a restore is under way",
        "The fleet is being filled from a bucket by another plan, or its groups are not to move now.",
        "Go on with the plan that was begun, or give it up before it has come home.";
    NO_RESTORE = "WB-452", "no such restore",
        "The fleet is not being filled from a bucket, or was never.",
        "`whimbrel status` shows what the fleet is.";
    NOT_RESTORED = "WB-453", "not everything has come from the bucket",
        "A group comes home when every log ends where the plan says, and the restore ends when every group is home.",
        "Serve the bucket again by the same plan: it goes on where it was.";
    BAD_RESTORE = "WB-454", "a fleet cannot be begun from what the bucket says",
        "The description names a topic, a group or an epoch that cannot be, or the region that would stand for the bucket is one of this fleet.",
        "Use the command line of the same release as the controllers; plan from an earlier time with `--to-time`.";
}
