//! `tier probe`: what it says and with which code it ends.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::Output,
};

use crate::whimbrel::{command, run, stderr, stdout};

fn probe(url: &str) -> Output {
    command(&["tier", "probe", url])
        .envs([("AWS_ACCESS_KEY_ID", "k"), ("AWS_SECRET_ACCESS_KEY", "s")])
        .output()
        .unwrap()
}

#[test]
fn a_folder_is_usable_and_left_empty() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("file://{}", dir.path().display());
    let output = run(&["tier", "probe", &url]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let said = stdout(&output);
    assert!(
        said.contains("of eight concurrent swaps one wins"),
        "{said}"
    );
    assert!(said.lines().last().unwrap().starts_with("usable"), "{said}");
    let output = run(&["tier", "probe", &url, "--region", "east", "-o", "json"]);
    let page: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((&page["usable"], &page["code"]), (&true.into(), &().into()));
    let findings = page["findings"].as_array().unwrap();
    assert_eq!(findings.len(), 12);
    let one_winner = findings.iter().find(|f| f["asked"] == "one-winner");
    assert_eq!(one_winner.unwrap()["found"], "yes");
    let objects = walk(dir.path());
    assert!(objects.is_empty(), "{objects:?}");
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(walk(&path));
        } else if path.file_name() != Some(".lock".as_ref()) {
            found.push(path);
        }
    }
    found
}

#[test]
fn what_is_no_bucket_has_a_code_of_its_own() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = format!("s3://bkt?endpoint=http://{}", taken.local_addr().unwrap());
    drop(taken);
    for (url, exit, code) in [
        ("nonsense", 2, "WB-300"),
        ("s3://bkt?lock=compliance", 2, "WB-300"),
        ("file:///no/such/folder", 1, "WB-301"),
        (closed.as_str(), 20, "WB-301"),
    ] {
        let output = probe(url);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(exit), "{url}: {said}");
        assert!(said.contains(code), "{url}: {said}");
    }
    let output = run(&["tier", "probe", "file:///tmp", "--region", "Ä"]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
}

/// Takes every write, whatever its condition.
fn careless(stream: TcpStream) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut line, mut length) = (String::new(), 0);
        stream.read_line(&mut line).ok()?;
        let method = line.split(' ').next()?.to_owned();
        loop {
            let mut header = String::new();
            stream.read_line(&mut header).ok()?;
            let Some((name, value)) = header.trim_end().split_once(':') else {
                break;
            };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().ok()?;
            }
        }
        stream.read_exact(&mut vec![0; length]).ok()?;
        let answer = match method.as_str() {
            "PUT" => "200 OK\r\netag: \"x\"",
            "DELETE" => "204 No Content",
            "" => return None,
            _ => "404 Not Found",
        };
        let answer = format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\n\r\n");
        stream.get_mut().write_all(answer.as_bytes()).ok()?;
    }
}

#[test]
fn a_store_that_ignores_conditions_is_refused_by_name() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!(
        "s3://bkt?endpoint=http://{}",
        listener.local_addr().unwrap()
    );
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || careless(stream));
        }
    });
    let output = probe(&url);
    let (table, said) = (stdout(&output), stderr(&output));
    assert_eq!(output.status.code(), Some(11), "{said}");
    assert!(said.contains("WB-302"), "{said}");
    assert!(
        table.contains("refused: If-None-Match on a present key: refused: it was accepted"),
        "{table}"
    );
    assert!(table.ends_with("not usable\n"), "{table}");
}
