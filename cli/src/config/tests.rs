use super::*;

const MIRROR: &str = "[mirror]\nregion = \"west\"\nnode-id = 1\nadmin-listen = \"127.0.0.1:0\"\ncontrollers = [\"127.0.0.1:1\"]\n";

fn problems(text: &str) -> Vec<Problem> {
    check(text).unwrap_err()
}

#[test]
fn a_right_file_is_accepted() {
    assert!(check(MIRROR).is_ok(), "{:?}", check(MIRROR));
}

#[test]
fn a_misspelt_key_is_named_with_its_place_and_the_right_one() {
    let found = problems(&MIRROR.replace("admin-listen", "admin-lisen"));
    assert_eq!(found[0].code, "WB-003");
    assert_eq!(found[0].at, Some((4, 1)));
    assert_eq!(
        found[0].fix.as_deref(),
        Some("did you mean `admin-listen`?")
    );
}

#[test]
fn a_wrong_unit_is_refused() {
    let found = problems(&format!("{MIRROR}credit-bytes = \"64MB\"\n"));
    assert_eq!((found[0].code, found[0].at), ("WB-004", Some((6, 16))));
    assert!(found[0].message.contains("8MiB"), "{found:?}");
}

#[test]
fn all_mistakes_are_said_at_once() {
    let text = MIRROR
        .replace("node-id", "nodeid")
        .replace("127.0.0.1:0", "nowhere");
    let found = problems(&text);
    assert!(found.len() >= 2, "{found:?}");
}

#[test]
fn text_that_is_not_toml_is_said_to_be_so() {
    assert_eq!(problems("[mirror\n")[0].code, "WB-002");
}

#[test]
fn an_open_bind_needs_a_name() {
    let open = MIRROR.replace("127.0.0.1:0", "0.0.0.0:9000");
    assert_eq!(problems(&open)[0].code, "WB-007");
}
