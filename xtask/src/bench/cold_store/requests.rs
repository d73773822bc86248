//! What the store was asked, counted by the store: MinIO posts a line of JSON for each request (its audit webhook) to us.
//!
//! Requests of every API are told apart by what they were about: an object of records costs by bytes, a root or a
//! description of the fleet by time, so that the one multiplies to a TiB and the other to an hour.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::Command,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context;
use serde_json::{Deserializer, Value};

/// How long nothing more comes until all is taken to be there.
const QUIET: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum About {
    Records,
    State,
}

type Counts = BTreeMap<(About, String), u64>;

pub struct Requests {
    port: u16,
    counts: Arc<Mutex<Counts>>,
}

impl Requests {
    pub fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let port = listener.local_addr()?.port();
        let counts = Arc::<Mutex<Counts>>::default();
        let into = Arc::clone(&counts);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let into = Arc::clone(&into);
                std::thread::spawn(move || {
                    // Ends with the store's connection.
                    let _ = receive(stream, &into);
                });
            }
        });
        Ok(Self { port, counts })
    }

    /// Has the store tell us.
    pub fn told_by(&self, store: &mut Command) {
        let here = format!("http://127.0.0.1:{}", self.port);
        store
            .env("MINIO_AUDIT_WEBHOOK_ENABLE_BENCH", "on")
            .env("MINIO_AUDIT_WEBHOOK_ENDPOINT_BENCH", here);
    }

    /// Requests to these APIs so far.
    pub fn of(&self, about: About, apis: &[&str]) -> u64 {
        let mut before = self.count(about, apis);
        loop {
            std::thread::sleep(QUIET);
            let now = self.count(about, apis);
            if now == before {
                return now;
            }
            before = now;
        }
    }

    fn count(&self, about: About, apis: &[&str]) -> u64 {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        apis.iter()
            .filter_map(|api| counts.get(&(about, (*api).to_owned())))
            .sum()
    }
}

/// Posts of one connection, one after the other.
fn receive(stream: TcpStream, into: &Mutex<Counts>) -> anyhow::Result<()> {
    let mut input = BufReader::new(stream.try_clone()?);
    let mut output = stream;
    loop {
        let (mut line, mut length) = (String::new(), 0);
        if input.read_line(&mut line)? == 0 {
            return Ok(());
        }
        while line.trim_end() != "" {
            line.clear();
            input.read_line(&mut line)?;
            let (name, value) = line.split_once(':').unwrap_or_default();
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().context("content-length")?;
            }
        }
        let mut body = Vec::new();
        input.by_ref().take(length).read_to_end(&mut body)?;
        note(&body, into)?;
        output.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
    }
}

fn note(body: &[u8], into: &Mutex<Counts>) -> anyhow::Result<()> {
    for told in Deserializer::from_slice(body).into_iter::<Value>() {
        let api = &told?["api"];
        let (Some(name), object) = (api["name"].as_str(), api["object"].as_str()) else {
            continue;
        };
        let about = about(object.unwrap_or_default());
        let mut counts = into.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((about, name.to_owned())).or_default() += 1;
    }
    Ok(())
}

/// By the form of keys (`docs/formats.md`).
fn about(object: &str) -> About {
    if object.split('/').any(|part| part == "data") {
        About::Records
    } else {
        About::State
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_their_names_and_what_they_are_about() {
        let line = |api: &str, object: &str| {
            format!("{{\"api\":{{\"name\":\"{api}\",\"object\":\"{object}\"}}}}\n")
        };
        let object = "v1/east/data/5a/10/1b/0/00000000000000064788-0-1-7ec9b357870f1d8c";
        let text = [
            line("GetObject", object),
            line("GetObject", object),
            line("GetObject", "v1/east/root/6"),
            line("GetObject", "v1/east/whimbrel.json"),
            line("PutObjectPart", object),
        ];
        let counts = Mutex::default();
        note(text.concat().as_bytes(), &counts).unwrap();
        let requests = Requests {
            port: 0,
            counts: Arc::new(counts),
        };
        let count = |about, apis: &[&str]| requests.count(about, apis);
        assert_eq!(count(About::Records, &["GetObject"]), 2);
        assert_eq!(count(About::State, &["GetObject"]), 2);
        let both = ["GetObject", "PutObjectPart"];
        assert_eq!(count(About::Records, &both), 3);
        assert_eq!(count(About::Records, &["DeleteObject"]), 0);
    }
}
