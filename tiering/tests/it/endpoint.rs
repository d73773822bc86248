//! An S3 endpoint in this process: it keeps what it is sent in memory, writes down every request, and can be
//! told to lie.

mod parts;
mod strike;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};
use whimbrel_tiering::store::{Location, S3, Secret, Store};

use self::{
    parts::Unfinished,
    strike::{Fate, Strike},
};
use crate::memory::Memory;

/// What it does wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lie {
    #[default]
    None,
    /// 501 to every condition.
    KnowsNoConditions,
    IgnoresIfNoneMatch,
    IgnoresIfMatch,
    /// If-Match on a key that is not there is taken.
    TakesMissing,
    /// A swapped object reads as it was before.
    ReadsStale,
    AcceptsWrongChecksums,
    TellsNoChecksum,
    CannotCopy,
    CannotDelete,
    /// 403 to everything.
    Refuses,
    /// 400 ExpiredToken to everything.
    Expired,
    /// 503 to everything.
    Busy,
}

#[derive(Clone, Debug, Default)]
pub struct Request {
    pub method: String,
    /// Below the bucket, without the query.
    pub key: String,
    pub query: String,
    pub headers: BTreeMap<String, String>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

#[derive(Clone, Debug)]
struct Object {
    bytes: Bytes,
    before: Option<Bytes>,
    tag: String,
    checksum: Option<String>,
    /// `x-amz-object-lock-..`, `x-amz-storage-class` and their like, as they were sent.
    kept: BTreeMap<String, String>,
}

#[derive(Debug, Default)]
struct State {
    lie: Lie,
    objects: BTreeMap<String, Object>,
    requests: Vec<Request>,
    /// Whether the bucket has Object Lock.
    lock: bool,
    /// Access key that is known; any without it.
    known: Option<String>,
    /// Uploads in parts, by their ids.
    unfinished: BTreeMap<String, Unfinished>,
    strike: Option<Strike>,
}

#[derive(Clone, Debug)]
pub struct Endpoint {
    pub url: String,
    state: Arc<Mutex<State>>,
    tags: Arc<AtomicU64>,
}

type Answer = (u16, Vec<(&'static str, String)>, Bytes);

impl Endpoint {
    pub async fn start(lie: Lie) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let endpoint = Self {
            url: format!("http://127.0.0.1:{port}"),
            state: Arc::default(),
            tags: Arc::default(),
        };
        endpoint.state.lock().lie = lie;
        endpoint.clone().serve(listener);
        endpoint
    }

    #[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
    fn serve(self, listener: TcpListener) {
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let serving = self.clone();
                tokio::spawn(async move { serving.connection(stream).await });
            }
        });
    }

    pub fn lie(&self, lie: Lie) {
        self.state.lock().lie = lie;
    }

    pub fn has_lock(&self) {
        self.state.lock().lock = true;
    }

    /// From now on this access key alone is let in.
    pub fn knows(&self, key: &str) {
        self.state.lock().known = Some(key.to_owned());
    }

    /// All requests so far, which are forgotten.
    pub fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.state.lock().requests)
    }

    pub fn keys(&self) -> Vec<String> {
        self.state.lock().objects.keys().cloned().collect()
    }

    /// What is there now, below the prefix of [`Endpoint::bucket`].
    pub fn snapshot(&self) -> Memory {
        let state = self.state.lock();
        let all = state.objects.iter();
        let below = all.filter_map(|(key, object)| Some((key.strip_prefix("p/")?, &object.bytes)));
        Memory::of(below.map(|(key, bytes)| (key.to_owned(), bytes.clone())))
    }

    /// A bucket URL with further options.
    pub fn bucket(&self, options: &str) -> String {
        format!("s3://bkt/p?endpoint={}&region=r1{options}", self.url)
    }

    pub fn store(&self, options: &str) -> Arc<dyn Store> {
        Arc::new(self.store_of("k", options))
    }

    /// The store of a client with this access key.
    pub fn store_of(&self, key: &str, options: &str) -> S3 {
        let Location::S3(bucket) = Location::parse(&self.bucket(options)).unwrap() else {
            unreachable!()
        };
        let secret = Secret {
            key: key.into(),
            secret: "s".into(),
            token: None,
        };
        S3::open(&bucket, &secret).unwrap()
    }

    fn next(&self) -> u64 {
        self.tags.fetch_add(1, Ordering::SeqCst)
    }

    async fn connection(&self, stream: TcpStream) -> Option<()> {
        let mut stream = BufReader::new(stream);
        loop {
            let (request, body) = read(&mut stream).await?;
            self.state.lock().requests.push(request.clone());
            match self.fate(&request) {
                Fate::Work => {}
                Fate::Dead => return std::future::pending().await,
                Fate::Dies { after } => {
                    if after {
                        self.answer(&request, body);
                    }
                    return std::future::pending().await;
                }
            }
            let (status, headers, bytes) = self.answer(&request, body);
            let mut head = format!("HTTP/1.1 {status} X\r\nx-amz-request-id: 1\r\n");
            for (name, value) in headers {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
            let is_head = request.method == "HEAD";
            if !(is_head && status == 200) {
                head.push_str(&format!("content-length: {}\r\n", bytes.len()));
            }
            head.push_str("\r\n");
            stream.get_mut().write_all(head.as_bytes()).await.ok()?;
            if !is_head {
                stream.get_mut().write_all(&bytes).await.ok()?;
            }
        }
    }

    fn answer(&self, request: &Request, body: Bytes) -> Answer {
        let (lie, lock, known) = {
            let state = self.state.lock();
            (state.lie, state.lock, state.known.clone())
        };
        let let_in = known.is_none_or(|known| {
            let signed = request.header("authorization").unwrap_or_default();
            signed.contains(&format!("Credential={known}/"))
        });
        match lie {
            Lie::Refuses => return error(403, "AccessDenied"),
            Lie::Expired => return error(400, "ExpiredToken"),
            Lie::Busy => return error(503, "SlowDown"),
            _ if !let_in => return error(403, "InvalidAccessKeyId"),
            _ => {}
        }
        if request.query.contains("object-lock") {
            let text = "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>";
            return match lock {
                true => (200, Vec::new(), text.into()),
                false => error(404, "ObjectLockConfigurationNotFoundError"),
            };
        }
        if let Some(answer) = self.answer_in_parts(request, &body) {
            return answer;
        }
        match request.method.as_str() {
            "PUT" if request.header("x-amz-copy-source").is_some() => self.copy(request, lie),
            "PUT" => self.put(request, body, lie),
            "GET" if request.key.is_empty() => self.list(request),
            "GET" | "HEAD" => self.get(request, lie),
            "DELETE" => self.delete(request, lie),
            _ => error(501, "NotImplemented"),
        }
    }

    fn put(&self, request: &Request, body: Bytes, lie: Lie) -> Answer {
        let (absent, matching) = (request.header("if-none-match"), request.header("if-match"));
        if lie == Lie::KnowsNoConditions && (absent.is_some() || matching.is_some()) {
            return error(501, "NotImplemented");
        }
        let mut state = self.state.lock();
        let there = state.objects.get(&request.key).cloned();
        if absent.is_some() && there.is_some() && lie != Lie::IgnoresIfNoneMatch {
            return error(412, "PreconditionFailed");
        }
        match (&there, matching) {
            (None, Some(_)) if lie != Lie::TakesMissing => return error(404, "NoSuchKey"),
            (Some(there), Some(tag)) if there.tag != tag && lie != Lie::IgnoresIfMatch => {
                return error(412, "PreconditionFailed");
            }
            _ => {}
        }
        let checksum = request
            .header("x-amz-checksum-crc64nvme")
            .map(str::to_owned);
        if let Some(sent) = &checksum
            && *sent != checksum_of(&body)
            && lie != Lie::AcceptsWrongChecksums
        {
            return error(400, "BadDigest");
        }
        let tag = format!("\"{}\"", self.next());
        let kept = request
            .headers
            .iter()
            .filter(|(name, _)| name.starts_with("x-amz-"));
        let object = Object {
            bytes: body,
            before: there.map(|there| there.bytes),
            tag: tag.clone(),
            checksum,
            kept: kept.map(|(k, v)| (k.clone(), v.clone())).collect(),
        };
        state.objects.insert(request.key.clone(), object);
        (200, vec![("etag", tag)], Bytes::new())
    }

    fn copy(&self, request: &Request, lie: Lie) -> Answer {
        if lie == Lie::CannotCopy {
            return error(501, "NotImplemented");
        }
        let source = request.header("x-amz-copy-source").unwrap_or_default();
        let source = source
            .trim_start_matches('/')
            .trim_start_matches("bkt/")
            .to_owned();
        let mut state = self.state.lock();
        let Some(object) = state.objects.get(&source).cloned() else {
            return error(404, "NoSuchKey");
        };
        state.objects.insert(request.key.clone(), object);
        let text = "<CopyObjectResult><ETag>\"c\"</ETag></CopyObjectResult>";
        (200, Vec::new(), text.into())
    }

    fn get(&self, request: &Request, lie: Lie) -> Answer {
        let state = self.state.lock();
        let Some(object) = state.objects.get(&request.key) else {
            return error(404, "NoSuchKey");
        };
        let stale = object.before.clone().filter(|_| lie == Lie::ReadsStale);
        let whole = stale.unwrap_or_else(|| object.bytes.clone());
        let mut headers = vec![
            ("etag", object.tag.clone()),
            ("last-modified", "Sat, 21 Nov 2026 00:00:00 GMT".to_owned()),
            (
                "x-amz-version-id",
                format!("v{}", object.tag.trim_matches('"')),
            ),
        ];
        for (name, told) in [
            ("x-amz-object-lock-mode", "x-amz-object-lock-mode"),
            (
                "x-amz-object-lock-retain-until-date",
                "x-amz-object-lock-retain-until-date",
            ),
        ] {
            if let Some(value) = object.kept.get(name) {
                headers.push((told, value.clone()));
            }
        }
        if lie != Lie::TellsNoChecksum
            && request.header("x-amz-checksum-mode").is_some()
            && let Some(checksum) = &object.checksum
        {
            headers.push(("x-amz-checksum-crc64nvme", checksum.clone()));
        }
        if request.method == "HEAD" {
            headers.push(("content-length", whole.len().to_string()));
            return (200, headers, Bytes::new());
        }
        let range = request
            .header("range")
            .and_then(|r| r.strip_prefix("bytes="));
        let Some((from, to)) = range.and_then(|r| r.split_once('-')) else {
            return (200, headers, whole);
        };
        let from: usize = from.parse().unwrap();
        let to = to
            .parse::<usize>()
            .unwrap()
            .min(whole.len().saturating_sub(1));
        if from > to {
            return error(416, "InvalidRange");
        }
        headers.push((
            "content-range",
            format!("bytes {from}-{to}/{}", whole.len()),
        ));
        (206, headers, whole.slice(from..=to))
    }

    fn delete(&self, request: &Request, lie: Lie) -> Answer {
        let mut state = self.state.lock();
        let object = state.objects.get(&request.key);
        let locked = object.is_some_and(|o| o.kept.contains_key("x-amz-object-lock-mode"));
        if lie == Lie::CannotDelete || (locked && request.query.contains("versionId")) {
            return error(403, "AccessDenied");
        }
        state.objects.remove(&request.key);
        (204, Vec::new(), Bytes::new())
    }

    fn list(&self, request: &Request) -> Answer {
        let prefix = request
            .query
            .split('&')
            .find_map(|pair| pair.strip_prefix("prefix="))
            .unwrap_or_default()
            .replace("%2F", "/");
        let mut text = "<ListBucketResult><IsTruncated>false</IsTruncated>".to_owned();
        for (key, object) in &self.state.lock().objects {
            if key.starts_with(&prefix) {
                text.push_str(&format!(
                    "<Contents><Key>{key}</Key><LastModified>2026-11-21T00:00:00.000Z</LastModified><ETag>{}</ETag><Size>{}</Size></Contents>",
                    object.tag,
                    object.bytes.len()
                ));
            }
        }
        text.push_str("</ListBucketResult>");
        (200, Vec::new(), text.into())
    }
}

fn checksum_of(bytes: &[u8]) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, bytes);
    STANDARD.encode(crc.to_be_bytes())
}

fn error(status: u16, code: &str) -> Answer {
    let text = format!("<Error><Code>{code}</Code><Message>planned</Message></Error>");
    (status, Vec::new(), text.into())
}

async fn read(stream: &mut BufReader<TcpStream>) -> Option<(Request, Bytes)> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let key = path
        .trim_start_matches("/bkt")
        .trim_start_matches('/')
        .to_owned();
    let mut request = Request {
        method,
        key,
        query: query.to_owned(),
        headers: BTreeMap::new(),
    };
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        let name = name.trim().to_ascii_lowercase();
        request.headers.insert(name, value.trim().to_owned());
    }
    if request.header("expect").is_some() {
        let go_on = b"HTTP/1.1 100 Continue\r\n\r\n";
        stream.get_mut().write_all(go_on).await.ok()?;
    }
    let length = request
        .header("content-length")
        .and_then(|n| n.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await.ok()?;
    Some((request, body.into()))
}
