//! Bad configuration: refused before anything starts, with place, cause, fix and exit 78.

use crate::whimbrel::{command, run, stderr};

const MIRROR: &str = "[mirror]\nregion = \"west\"\nnode-id = 1\nadmin-listen = \"127.0.0.1:0\"\ncontrollers = [\"127.0.0.1:1\"]\n";

fn check(text: &str) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("whimbrel.toml");
    std::fs::write(&file, text).unwrap();
    let output = run(&["config", "check", file.to_str().unwrap()]);
    (output.status.code(), stderr(&output))
}

#[test]
fn a_right_file_passes() {
    assert_eq!(check(MIRROR).0, Some(0));
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_the_nearest_name() {
    let (exit, said) = check(&MIRROR.replace("admin-listen", "admin-lisen"));
    assert_eq!(exit, Some(78));
    for part in [
        "WB-003",
        ":4:1",
        "did you mean `admin-listen`?",
        "nothing was started",
    ] {
        assert!(said.contains(part), "{part} is missing in {said}");
    }
}

#[test]
fn a_wrong_unit_is_named() {
    let (exit, said) = check(&format!("{MIRROR}credit-bytes = \"64MB\"\n"));
    assert_eq!(exit, Some(78));
    assert!(said.contains("WB-004") && said.contains("8MiB"), "{said}");
}

#[test]
fn a_file_without_an_end_is_not_read_into_memory() {
    let output = run(&["config", "check", "/dev/zero"]);
    assert_eq!(output.status.code(), Some(78));
    assert!(stderr(&output).contains("1 MiB"), "{}", stderr(&output));
}

#[test]
fn a_bind_beyond_loopback_is_refused_unless_it_is_said_by_name() {
    let open = MIRROR.replace("127.0.0.1:0", "0.0.0.0:7777");
    let (exit, said) = check(&open);
    assert_eq!(exit, Some(78));
    assert!(said.contains("WB-007") && said.contains(":4:"), "{said}");
    assert_eq!(check(&format!("{open}insecure-bind = true\n")).0, Some(0));
}

#[test]
fn the_kafka_listener_may_be_open_with_tls_and_authentication_and_no_other() {
    let east = include_str!("../../../region-configs/east.toml");
    let tls = "\n[broker.tls]\ncertificate = \"c.pem\"\nkey = \"c.key\"\n";
    let auth = "\n[broker.auth]\nsuper-users = [\"admin\"]\n";
    let listen = "\nlisten = \"127.0.0.1:9092\"";
    assert!(east.contains(listen));
    let open = |key: &str| east.replacen(listen, &format!("\n{key} = \"0.0.0.0:9092\""), 1);
    assert_eq!(check(&format!("{}{tls}{auth}", open("listen"))).0, Some(0));
    let anonymous = "\n[broker.auth]\nmechanisms = []\nanonymous = true\n";
    for tables in [tls.to_owned(), auth.to_owned(), format!("{tls}{anonymous}")] {
        let (exit, said) = check(&format!("{}{tables}", open("listen")));
        assert_eq!(exit, Some(78), "{tables}");
        assert!(said.contains("WB-007"), "{said}");
    }
}

#[test]
fn tokens_are_refused_with_place_and_fix_unless_it_is_said_whose_are_believed() {
    let east = include_str!("../../../region-configs/east.toml");
    let auth = "\n[broker.auth]\nmechanisms = [\"OAUTHBEARER\"]\n";
    let tls = "\n[broker.tls]\ncertificate = \"c.pem\"\nkey = \"c.key\"\n";
    let jwks = "jwks = [\"keys.json\"]\nissuer = \"https://issuer\"\n";
    let audience = "audience = [\"kafka\"]\n";
    let table = "\n[broker.auth.oauthbearer]\n";
    let whole = format!("{east}{auth}{table}{jwks}{audience}{tls}");
    assert_eq!(check(&whole).0, Some(0), "{}", check(&whole).1);
    let wrong = [
        (format!("{east}{auth}"), "whose tokens are believed"),
        (format!("{east}{auth}{table}{jwks}{tls}"), "no audience"),
        (format!("{east}{auth}{table}{jwks}{audience}"), "no TLS"),
    ];
    for (text, word) in wrong {
        let (exit, said) = check(&text);
        assert_eq!(exit, Some(78), "{said}");
        let named = said.contains("WB-120") && said.contains("fix: ") && said.contains("  at ");
        assert!(named && said.contains(word), "{said}");
    }
    // Allowed by name, and said each time; no protection for a listener that others reach.
    let unsecured = format!("{auth}{table}unsecured-tokens = true\n{tls}");
    let (exit, said) = check(&format!("{east}{unsecured}"));
    assert_eq!(exit, Some(0));
    assert!(
        said.contains("warning[WB-122]") && said.contains("  at "),
        "{said}"
    );
    // The tiering daemon of the same file is to repair the bucket from brokers.
    assert!(said.contains("warning[WB-326]"), "{said}");
    let known = "rpc-listen = \"127.0.0.1:9096\"\n";
    let as_someone = east.replace(known, &format!("{known}client-config = \"/etc/k\"\n"));
    assert_ne!(as_someone, east);
    let (_, said) = check(&format!("{as_someone}{unsecured}"));
    assert!(!said.contains("WB-326"), "{said}");
    let open = east.replacen(
        "\nlisten = \"127.0.0.1:9092\"",
        "\nlisten = \"0.0.0.0:9092\"",
        1,
    );
    assert_ne!(open, east);
    let (exit, said) = check(&format!("{open}{unsecured}"));
    assert_eq!(exit, Some(78));
    assert!(said.contains("WB-007"), "{said}");
}

#[test]
fn a_region_that_does_not_exist_is_named_in_each_role_with_its_own_place() {
    let east = include_str!("../../../region-configs/east.toml");
    let wrong = east.replace("region = \"east\"", "region = \"eats\"");
    assert_ne!(wrong, east);
    let (exit, said) = check(&wrong);
    assert_eq!(exit, Some(78));
    for role in ["broker", "tiering", "mirror"] {
        let named = format!("{role}.region = \"eats\" is a region that does not exist");
        assert!(said.contains(&named), "{named} is missing in {said}");
    }
    let places = said.lines().filter(|line| line.starts_with("  at "));
    let places: std::collections::BTreeSet<&str> = places.collect();
    assert_eq!(places.len(), 3, "{said}");
    assert!(said.contains("did you mean \"east\"?"), "{said}");
}

#[test]
fn a_missing_file_is_named() {
    let output = run(&["start", "mirror", "-c", "/no/such.toml"]);
    assert_eq!(output.status.code(), Some(78));
    assert!(stderr(&output).contains("/no/such.toml"));
}

#[test]
fn a_role_that_the_file_does_not_have_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("whimbrel.toml");
    std::fs::write(&file, MIRROR).unwrap();
    let output = command(&["start", "broker", "-c", file.to_str().unwrap()])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(78));
    assert!(stderr(&output).contains("[broker]"), "{}", stderr(&output));
}

#[test]
fn what_a_role_would_refuse_is_said_before_anything_starts() {
    let tiering = "[tiering]\nregion = \"west\"\nnode-id = 1\ndata-dir = \"d\"\ncache-dir = \"c\"\ncontrollers = [\"127.0.0.1:1\"]\nbucket = \"foo://x\"\n";
    let (exit, said) = check(tiering);
    assert_eq!(exit, Some(78));
    assert!(said.contains("WB-300") && said.contains("foo"), "{said}");
}

#[test]
fn options_of_a_bucket_that_do_not_go_together_are_said() {
    for (options, word) in [
        ("lock=compliance", "lock-for"),
        ("sse=kmz", "`s3` and `kms`"),
        ("storage-class=DEEP_ARCHIVE", "restored"),
        ("storage_class=X", "`storage-class`"),
    ] {
        let tiering = format!(
            "[tiering]\nregion = \"west\"\nnode-id = 1\ndata-dir = \"d\"\ncache-dir = \"c\"\ncontrollers = [\"127.0.0.1:1\"]\nbucket = \"s3://bkt?{options}\"\n"
        );
        let (exit, said) = check(&tiering);
        assert_eq!(exit, Some(78));
        assert!(said.contains("WB-300") && said.contains(word), "{said}");
    }
}

#[test]
fn a_bucket_that_dev_cannot_use_is_bad_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let ports = whimbrel_dev::FreePorts::find().unwrap();
    let port = ports.base().to_string();
    let dir = dir.path().join("fleet");
    let arguments = ["dev", "--bucket", "foo://x", "--port", &port, "--data-dir"];
    let output = command(&arguments).arg(&dir).output().unwrap();
    assert_eq!(output.status.code(), Some(78), "{}", stderr(&output));
    assert!(stderr(&output).contains("WB-300"), "{}", stderr(&output));
}
