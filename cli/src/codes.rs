//! All operator codes, for `explain`.

use whimbrel_runtime::Code;

/// The command line's and the configuration's own.
const CLI: &[Code] = &[
    Code {
        code: "WB-001",
        title: "The configuration file cannot be read",
        cause: "The file named with -c does not exist or may not be read by this user.",
        fix: "Check the path and its permissions. `whimbrel config check FILE` says the same without starting anything.",
    },
    Code {
        code: "WB-002",
        title: "The configuration file is not TOML",
        cause: "The text cannot be parsed at the place named.",
        fix: "Mend the text at the line and column named; strings need quotes, tables look like [broker].",
    },
    Code {
        code: "WB-003",
        title: "Unknown key",
        cause: "A key is not one that this version knows; most often it is misspelt.",
        fix: "Use the name that the message proposes, or remove the key.",
    },
    Code {
        code: "WB-004",
        title: "Wrong value",
        cause: "A value has the wrong form: a missing or unknown unit, text where a number belongs, a number out of range.",
        fix: "Sizes look like 8MiB, durations like 30s, addresses like 127.0.0.1:9092.",
    },
    Code {
        code: "WB-005",
        title: "A region that does not exist",
        cause: "A role stands in, or points at, a region that the fleet's list of regions does not name.",
        fix: "Correct the name, or add the region to controller.bootstrap.regions.",
    },
    Code {
        code: "WB-006",
        title: "The role is not in this file",
        cause: "`start ROLE -c FILE` reads the table named like the role, and the file has none.",
        fix: "Add the table, or start the role from the file that has it.",
    },
    Code {
        code: "WB-007",
        title: "Listening beyond loopback without TLS and authentication",
        cause: "An address in the configuration can be reached from other machines, and nobody is asked there who it is.",
        fix: "Bind to loopback, give the Kafka listener both [broker.tls] and [broker.auth], or, on a network that only you can reach, set insecure-bind = true in that table.",
    },
    Code {
        code: "WB-008",
        title: "The data directory is in use",
        cause: "Another `whimbrel dev` runs on this data directory.",
        fix: "Stop it, or choose another --data-dir.",
    },
    Code {
        code: "WB-009",
        title: "A port of the fleet is taken",
        cause: "`whimbrel dev` uses ports at fixed distances from its base; something else listens on one of them.",
        fix: "Choose another base with `--port`, or stop what listens there (`ss -ltnp`). Nothing was started.",
    },
    Code {
        code: "WB-010",
        title: "The plan of a restore is not the present one",
        cause: "The bucket was written to or copied on since it was planned, or the plan was asked for at another time or with other options. Nothing was changed.",
        fix: "Plan again with the same options, read what is different, and apply that plan. A restore that has begun goes on with its own plan alone.",
    },
    Code {
        code: "WB-011",
        title: "The bucket does not have all of the plan",
        cause: "Ranges below the cut are missing, or a newer cut than the plan's has lost objects. Nothing was changed.",
        fix: "Copy the bucket again, or plan an earlier cut with --to-time; without --newest-cut the newest cut is taken that has nothing missing at its end. What is lost for good is left out with --accept-missing: the plan names it.",
    },
    Code {
        code: "WB-012",
        title: "Another process serves the restore",
        cause: "The same plan was applied again while this process was at it, and the fleet's brokers go there.",
        fix: "Nothing, if that was meant: the other process goes on. Start it once, from where its brokers can reach it.",
    },
    Code {
        code: "WB-013",
        title: "Nobody would fetch what is restored",
        cause: "Logs come from the bucket through the mirror daemon of the region that is filled, and the fleet has none. Nothing was changed.",
        fix: "Start a mirror daemon in the region (`whimbrel start mirror`), and apply the plan again.",
    },
    Code {
        code: "WB-014",
        title: "Topics ask for more copies than the region has brokers",
        cause: "What comes back keeps its min.insync.replicas, and a group does not come home with a topic that nobody could write to with acks=all. Nothing was changed.",
        fix: "Start the region's other brokers, or apply the plan with --lower-min-insync: topics that ask for too much ask for what there is then.",
    },
    Code {
        code: "WB-015",
        title: "The fleet that comes back is too large for one commit",
        cause: "Groups, topics and the ends of all logs are put into the empty fleet at once, and a command of the controllers has a bound: some 200,000 partitions. Nothing was changed.",
        fix: "Copy single topics with `whimbrel tier export`, or restore an earlier state with fewer partitions (--to-time).",
    },
];

/// Every code of this program.
pub fn all() -> Vec<Code> {
    let mut codes: Vec<Code> = CLI.to_vec();
    codes.extend_from_slice(whimbrel_broker::codes::CODES);
    codes.extend_from_slice(whimbrel_mirror::CODES);
    codes.extend_from_slice(whimbrel_tiering::CODES);
    codes.extend_from_slice(whimbrel_controller::CODES);
    codes.sort_by_key(|c| c.code);
    codes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_unique_and_has_a_fix() {
        let codes = all();
        for pair in codes.windows(2) {
            assert_ne!(pair[0].code, pair[1].code);
        }
        for code in codes {
            assert!(
                code.code.starts_with("WB-") && code.code.len() == 6,
                "{code:?}"
            );
            assert!(
                !code.fix.is_empty() && !code.cause.is_empty() && !code.title.is_empty(),
                "{code:?}"
            );
        }
    }
}
