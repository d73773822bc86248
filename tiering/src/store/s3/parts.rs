//! A large object in several parts, so that a cut costs one part and not all of it.
//!
//! What has arrived is remembered beside the source, and the next attempt goes on with the first part that is
//! missing. The store compares every part with its checksum on arrival, and the whole with the one that was
//! computed before the first byte left. Nothing stands under the key before the last step.

use aws_sdk_s3::{
    Client,
    primitives::ByteStream,
    types::{ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CompletedPart},
};
use base64::{Engine, engine::general_purpose::STANDARD};

use super::{
    S3,
    keep::Headers,
    upload::{PIECE, body, crc64_from, put, sdk_failed, sdk_failed_at},
};
use crate::{
    checksum::Crc64,
    format::Key,
    store::{
        IsDead, Source, StoreError,
        location::Bucket,
        source::{Arrived, Begun},
    },
};

/// 1 GiB is six requests then, and less than S3 takes in one in any case.
pub const PART_BYTES: u64 = 256 << 20;
/// Uploads on one page of a listing.
const PAGE: i32 = 1_000;
const OP: &str = "drop_unfinished";

/// Where an object goes.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    pub sdk: &'a Client,
    pub bucket: &'a Bucket,
    /// The key with the bucket's prefix.
    pub full: &'a str,
    pub key: &'a Key,
}

/// The store has looked at what it was given and will say the same again.
fn is_verdict(error: &StoreError) -> bool {
    match error {
        StoreError::Refused { .. } => !error.is_denial(),
        StoreError::Failed { reason, .. } => reason.starts_with("HTTP 400"),
        _ => false,
    }
}

/// Parts of an object of so many bytes: the last one takes what is left. One means a single request.
pub fn count(length: u64, part_bytes: u64) -> u64 {
    (length / part_bytes).max(1)
}

impl Target<'_> {
    /// False where the store has no such thing.
    pub async fn begin(&self, source: &Source) -> Result<bool, StoreError> {
        let headers = Headers::of(&self.bucket.keeping, self.key);
        let request = self
            .sdk
            .create_multipart_upload()
            .bucket(&self.bucket.name)
            .key(self.full)
            .checksum_algorithm(ChecksumAlgorithm::Crc64Nvme)
            .checksum_type(ChecksumType::FullObject)
            .set_storage_class(headers.storage_class)
            .set_server_side_encryption(headers.encryption)
            .set_ssekms_key_id(headers.kms_key)
            .set_object_lock_mode(headers.lock)
            .set_object_lock_retain_until_date(headers.retain_until);
        let answer = request.send().await;
        let answer = match answer.map_err(|e| sdk_failed("put_file", self.key, &e)) {
            // Who is not let in learns that; a store that has no parts says so in other words.
            Err(error @ StoreError::Refused { .. }) if !error.is_denial() => {
                tracing::debug!(%error, "no upload in parts");
                return Ok(false);
            }
            other => other?,
        };
        let id = answer.upload_id().map(str::to_owned);
        let id = id.ok_or_else(|| self.failed("the answer names no upload"))?;
        let parts = Vec::new();
        *source.begun.lock() = Some(Begun { id, parts });
        Ok(true)
    }

    /// Sends what `source` says has not arrived, under the upload that it names.
    pub async fn put(&self, source: &Source, part_bytes: u64) -> Result<Option<u64>, StoreError> {
        let (id, arrived) = match &*source.begun.lock() {
            Some(begun) => (begun.id.clone(), begun.parts.len() as u64),
            None => return Err(self.failed("no upload was begun")),
        };
        let sent = async {
            let count = count(source.length(), part_bytes);
            for number in arrived + 1..=count {
                source
                    .sending
                    .set(u32::try_from(number).unwrap_or(u32::MAX));
                let from = (number - 1) * part_bytes;
                let to = match number {
                    last if last == count => source.length(),
                    _ => from + part_bytes,
                };
                let part = self.send(&id, number, source.range(from, to)).await?;
                if let Some(begun) = &mut *source.begun.lock() {
                    begun.parts.push(part);
                }
            }
            self.complete(&id, source).await
        };
        match sent.await {
            // The upload is gone: it was completed by an attempt whose answer was lost, or dropped.
            Err(StoreError::NotFound { .. }) => {
                *source.begun.lock() = None;
                Err(self.failed("the store does not know the upload any more"))
            }
            // What has arrived is not what it should be: with the same parts it will never be an object.
            Err(error) if is_verdict(&error) => {
                *source.begun.lock() = None;
                self.abort(&id).await;
                Err(error)
            }
            other => other,
        }
    }

    /// Best effort: what is left is dropped by the next owner of the shard.
    async fn abort(&self, id: &str) {
        let request = self
            .sdk
            .abort_multipart_upload()
            .bucket(&self.bucket.name)
            .key(self.full)
            .upload_id(id);
        if let Err(error) = request.send().await {
            let error = sdk_failed("put_file", self.key, &error);
            tracing::warn!(key = %self.key, %error, "parts of an upload are left for a sweep");
        }
    }

    async fn send(&self, id: &str, number: u64, part: Source) -> Result<Arrived, StoreError> {
        let read = part.clone();
        let summed = tokio::task::spawn_blocking(move || {
            let mut crc = Crc64::new();
            read.read(PIECE, |piece| {
                crc.update(&piece);
                std::io::Result::Ok(())
            })?;
            std::io::Result::Ok(crc.finish())
        });
        let crc64 = match summed.await {
            Ok(Ok(crc64)) => crc64,
            Ok(Err(source)) => {
                return Err(StoreError::Source {
                    op: "put_file",
                    key: self.key.clone(),
                    source,
                });
            }
            Err(error) => return Err(self.failed(&error.to_string())),
        };
        let request = self
            .sdk
            .upload_part()
            .bucket(&self.bucket.name)
            .key(self.full)
            .upload_id(id)
            .part_number(i32::try_from(number).unwrap_or(i32::MAX))
            .content_length(i64::try_from(part.length()).unwrap_or(i64::MAX))
            .checksum_crc64_nvme(STANDARD.encode(crc64.to_be_bytes()));
        let answer = request.body(ByteStream::new(body(&part))).send().await;
        let answer = answer.map_err(|e| sdk_failed("put_file", self.key, &e))?;
        let tag = answer.e_tag().map(str::to_owned);
        let tag = tag.ok_or_else(|| self.failed("the answer has no ETag"))?;
        Ok(Arrived { tag, crc64 })
    }

    async fn complete(&self, id: &str, source: &Source) -> Result<Option<u64>, StoreError> {
        let parts = match &*source.begun.lock() {
            Some(begun) => begun.parts.clone(),
            None => Vec::new(),
        };
        let part = |(n, part): (usize, Arrived)| {
            CompletedPart::builder()
                .part_number(i32::try_from(n + 1).unwrap_or(i32::MAX))
                .e_tag(part.tag)
                .checksum_crc64_nvme(STANDARD.encode(part.crc64.to_be_bytes()))
                .build()
        };
        let parts = parts.into_iter().enumerate().map(part).collect();
        let all = CompletedMultipartUpload::builder().set_parts(Some(parts));
        let request = self
            .sdk
            .complete_multipart_upload()
            .bucket(&self.bucket.name)
            .key(self.full)
            .upload_id(id)
            .checksum_type(ChecksumType::FullObject)
            .checksum_crc64_nvme(STANDARD.encode(source.crc64.to_be_bytes()))
            .multipart_upload(all.build());
        let answer = request.send().await;
        let answer = answer.map_err(|e| sdk_failed("put_file", self.key, &e))?;
        *source.begun.lock() = None;
        Ok(answer.checksum_crc64_nvme().and_then(crc64_from))
    }

    fn failed(&self, reason: &str) -> StoreError {
        StoreError::Failed {
            op: "put_file",
            key: self.key.to_string(),
            reason: reason.to_owned(),
        }
    }
}

impl S3 {
    /// Objects of twice as many bytes and more go up, and are copied inside the store, in parts of so many; S3 takes
    /// none below 5 MiB.
    pub fn in_parts_of(self, part_bytes: u64) -> Self {
        Self {
            part_bytes,
            copy_bytes: part_bytes,
            ..self
        }
    }

    pub(super) async fn upload(
        &self,
        key: &Key,
        source: &Source,
    ) -> Result<Option<u64>, StoreError> {
        let full = self.full(key.as_str());
        let to = Target {
            sdk: &self.sdk,
            bucket: &self.bucket,
            full: &full,
            key,
        };
        if count(source.length(), self.part_bytes) > 1 {
            if source.is_begun() || to.begin(source).await? {
                return to.put(source, self.part_bytes).await;
            }
            tracing::warn!(%key, "the store takes no uploads in parts; it gets the object whole");
        }
        put(&self.sdk, &self.bucket, &full, key, source).await
    }
}

/// Drops uploads below `prefix` that were begun and not completed, where `is_dead` says so of their key.
/// MinIO lists them only by the whole key, and drops them by itself after a day.
pub async fn drop_unfinished(
    sdk: &Client,
    bucket: &str,
    prefix: &str,
    full: impl Fn(&str) -> String,
    is_dead: &IsDead<'_>,
) -> Result<usize, StoreError> {
    let (mut count, mut after) = (0, None::<(String, String)>);
    let (strip, prefix_full) = (full(""), full(prefix));
    loop {
        let (key_marker, id_marker) = after.take().unzip();
        let listed = sdk
            .list_multipart_uploads()
            .bucket(bucket)
            .prefix(&prefix_full)
            .max_uploads(PAGE)
            .set_key_marker(key_marker)
            .set_upload_id_marker(id_marker)
            .send()
            .await;
        let listed = listed.map_err(|e| sdk_failed_at(OP, prefix, &e))?;
        for upload in listed.uploads() {
            let (Some(found), Some(id)) = (upload.key(), upload.upload_id()) else {
                continue;
            };
            let key = found.strip_prefix(&strip).and_then(Key::parse);
            let begun_ms = upload.initiated().and_then(|at| at.to_millis().ok());
            if !key.is_some_and(|key| is_dead(&key, begun_ms)) {
                continue;
            }
            let request = sdk.abort_multipart_upload().bucket(bucket);
            let dropped = request.key(found).upload_id(id).send().await;
            match dropped.map_err(|e| sdk_failed_at(OP, found, &e)) {
                Ok(_) => count += 1,
                // Completed or dropped since it was listed.
                Err(StoreError::Failed { reason, .. }) if reason.starts_with("HTTP 404") => {}
                Err(error) => return Err(error),
            }
        }
        let next = listed.next_key_marker().zip(listed.next_upload_id_marker());
        match next {
            Some((key, id)) if listed.is_truncated() == Some(true) => {
                after = Some((key.to_owned(), id.to_owned()));
            }
            _ => return Ok(count),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tebibyte_of_segments_is_seven_thousand_requests() {
        let parts = |length| count(length, PART_BYTES);
        assert_eq!((parts(1), parts(511 << 20)), (1, 1));
        // A segment of 1 GiB with its tail: begin, four parts, complete, and the root's swap.
        assert_eq!(parts((1 << 30) + (2 << 20)), 4);
        let per_segment = parts(1 << 30) + 2 + 1;
        assert!(1_024 * per_segment + 1_024 / 64 < 10_000);
        // The last part takes what is left: less than twice the others, and S3 takes 5 GiB.
        let last = |length| length - (parts(length) - 1) * PART_BYTES;
        assert_eq!(last((1 << 30) - 1), 2 * PART_BYTES - 1);
    }
}
