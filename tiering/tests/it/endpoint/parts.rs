//! Uploads in parts, as S3 has them: nothing stands under the key before they are completed.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Answer, Endpoint, Object, Request, checksum_of, error};

/// One that was begun and neither completed nor aborted.
#[derive(Clone, Debug, Default)]
pub struct Unfinished {
    pub key: String,
    parts: BTreeMap<u32, Bytes>,
}

fn field<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find_map(|(key, value)| (key == name).then_some(value))
}

fn is_of_uploads(query: &str) -> bool {
    query
        .split('&')
        .any(|pair| pair == "uploads" || pair == "uploads=")
}

impl Endpoint {
    pub fn unfinished(&self) -> Vec<Unfinished> {
        self.state.lock().unfinished.values().cloned().collect()
    }

    /// `None` for a request that has nothing to do with parts.
    pub(super) fn answer_in_parts(&self, request: &Request, body: &Bytes) -> Option<Answer> {
        let id = field(&request.query, "uploadId");
        match (request.method.as_str(), id) {
            ("POST", None) if is_of_uploads(&request.query) => Some(self.begin(request)),
            ("GET", None) if is_of_uploads(&request.query) => Some(self.list_unfinished(request)),
            ("PUT", Some(id)) => Some(self.part(id, request, body.clone())),
            ("POST", Some(id)) => Some(self.complete(id, request)),
            ("DELETE", Some(id)) => Some(match self.state.lock().unfinished.remove(id) {
                Some(_) => (204, Vec::new(), Bytes::new()),
                None => error(404, "NoSuchUpload"),
            }),
            _ => None,
        }
    }

    fn begin(&self, request: &Request) -> Answer {
        let id = format!("upload-{}", self.next());
        let begun = Unfinished {
            key: request.key.clone(),
            ..Unfinished::default()
        };
        self.state.lock().unfinished.insert(id.clone(), begun);
        let text = format!(
            "<InitiateMultipartUploadResult><Bucket>bkt</Bucket><Key>{}</Key><UploadId>{id}</UploadId></InitiateMultipartUploadResult>",
            request.key
        );
        (200, Vec::new(), text.into())
    }

    fn part(&self, id: &str, request: &Request, body: Bytes) -> Answer {
        let number = field(&request.query, "partNumber").and_then(|n| n.parse().ok());
        let sent = request.header("x-amz-checksum-crc64nvme");
        if sent.is_some_and(|sent| sent != checksum_of(&body)) {
            return error(400, "BadDigest");
        }
        let tag = format!("\"{}\"", self.next());
        match (self.state.lock().unfinished.get_mut(id), number) {
            (Some(upload), Some(number)) => upload.parts.insert(number, body),
            _ => return error(404, "NoSuchUpload"),
        };
        (200, vec![("etag", tag)], Bytes::new())
    }

    fn complete(&self, id: &str, request: &Request) -> Answer {
        let tag = format!("\"{}\"", self.next());
        let mut state = self.state.lock();
        let Some(upload) = state.unfinished.get(id).cloned() else {
            return error(404, "NoSuchUpload");
        };
        let bytes = Bytes::from(upload.parts.into_values().collect::<Vec<_>>().concat());
        let checksum = checksum_of(&bytes);
        let sent = request.header("x-amz-checksum-crc64nvme");
        if sent.is_some_and(|sent| sent != checksum) {
            return error(400, "BadDigest");
        }
        state.unfinished.remove(id);
        let object = Object {
            bytes,
            before: None,
            tag: tag.clone(),
            checksum: Some(checksum.clone()),
            kept: BTreeMap::new(),
        };
        state.objects.insert(upload.key, object);
        let text = format!(
            "<CompleteMultipartUploadResult><ETag>{tag}</ETag><ChecksumCRC64NVME>{checksum}</ChecksumCRC64NVME></CompleteMultipartUploadResult>"
        );
        (200, Vec::new(), text.into())
    }

    fn list_unfinished(&self, request: &Request) -> Answer {
        let prefix = field(&request.query, "prefix").unwrap_or_default();
        let prefix = prefix.replace("%2F", "/");
        let mut text = "<ListMultipartUploadsResult><IsTruncated>false</IsTruncated>".to_owned();
        for (id, upload) in &self.state.lock().unfinished {
            if upload.key.starts_with(&prefix) {
                text.push_str(&format!(
                    "<Upload><Key>{}</Key><UploadId>{id}</UploadId><Initiated>2026-11-21T00:00:00.000Z</Initiated></Upload>",
                    upload.key
                ));
            }
        }
        text.push_str("</ListMultipartUploadsResult>");
        (200, Vec::new(), text.into())
    }
}
