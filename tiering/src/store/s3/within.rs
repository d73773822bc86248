//! Copies inside the store: from one key, prefix or bucket of an endpoint to another, without the bytes coming here.
//!
//! What is read is the state of the object that the caller has looked at (its ETag), and the store is asked to keep a
//! CRC64NVME of what it wrote. Whether it did is for the caller to verify, as after an upload.

use super::{S3, keep::Headers, parts, upload::sdk_failed};
use crate::{
    format::Key,
    store::{Brought, Known, Origin, StoreError},
};
use aws_sdk_s3::{
    Client,
    types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart},
};

/// S3 copies at most 5 GiB in one request; the last part takes what is left, up to twice as much.
pub(super) const COPY_BYTES: u64 = 2 << 30;
const OP: &str = "bring";

/// One copy.
struct Copy<'a> {
    sdk: &'a Client,
    to: &'a S3,
    /// Bucket and key, as the request names them.
    source: String,
    full: String,
    known: &'a Known<'a>,
}

impl S3 {
    pub(super) async fn copy_within(&self, from: &Key, to: &Key) -> Result<(), StoreError> {
        let source = format!("{}/{}", self.bucket.name, self.full(from.as_str()));
        let headers = Headers::of(&self.bucket.keeping, to);
        let sent = self
            .sdk
            .copy_object()
            .bucket(&self.bucket.name)
            .key(self.full(to.as_str()))
            .copy_source(source)
            .set_storage_class(headers.storage_class)
            .set_server_side_encryption(headers.encryption)
            .set_ssekms_key_id(headers.kms_key)
            .set_object_lock_mode(headers.lock)
            .set_object_lock_retain_until_date(headers.retain_until)
            .send()
            .await;
        sent.map(drop).map_err(|e| sdk_failed("copy", to, &e))
    }

    /// Brings an object over from another place of the endpoint. A store that does not let us, or knows no such thing,
    /// is no error: the bytes go through here then.
    pub(super) async fn bring_from(
        &self,
        from: &Origin,
        known: &Known<'_>,
    ) -> Result<Brought, StoreError> {
        if from.0.endpoint != self.bucket.endpoint {
            return Ok(Brought::Not(
                "the places have different endpoints".to_owned(),
            ));
        }
        let full = |prefix: &str, key: &Key| match prefix {
            "" => key.to_string(),
            prefix => format!("{prefix}/{key}"),
        };
        let copy = Copy {
            sdk: &self.sdk,
            to: self,
            source: format!("{}/{}", from.0.name, full(&from.0.prefix, known.key)),
            full: self.full(known.key.as_str()),
            known,
        };
        let copied = match parts::count(known.length, self.copy_bytes) {
            1 => copy.whole().await,
            parts => copy.in_parts(parts).await,
        };
        match copied {
            Ok(()) => Ok(Brought::Done),
            Err(error @ (StoreError::Refused { .. } | StoreError::Condition { .. })) => {
                Ok(Brought::Not(error.to_string()))
            }
            Err(error) => Err(error),
        }
    }
}

impl Copy<'_> {
    async fn whole(&self) -> Result<(), StoreError> {
        let headers = Headers::of(&self.to.bucket.keeping, self.known.key);
        let sent = self
            .sdk
            .copy_object()
            .bucket(&self.to.bucket.name)
            .key(&self.full)
            .copy_source(&self.source)
            .copy_source_if_match(&self.known.version.0)
            .checksum_algorithm(ChecksumAlgorithm::Crc64Nvme)
            .set_storage_class(headers.storage_class)
            .set_server_side_encryption(headers.encryption)
            .set_ssekms_key_id(headers.kms_key)
            .set_object_lock_mode(headers.lock)
            .set_object_lock_retain_until_date(headers.retain_until)
            .send()
            .await;
        sent.map(drop)
            .map_err(|e| sdk_failed(OP, self.known.key, &e))
    }

    /// No checksum is asked for: MinIO takes no part without one then, and computes none of a copy. Amazon's keeps a
    /// CRC64NVME of the whole in any case; where none is told, the caller reads the object back.
    async fn in_parts(&self, count: u64) -> Result<(), StoreError> {
        let headers = Headers::of(&self.to.bucket.keeping, self.known.key);
        let begun = self
            .sdk
            .create_multipart_upload()
            .bucket(&self.to.bucket.name)
            .key(&self.full)
            .set_storage_class(headers.storage_class)
            .set_server_side_encryption(headers.encryption)
            .set_ssekms_key_id(headers.kms_key)
            .set_object_lock_mode(headers.lock)
            .set_object_lock_retain_until_date(headers.retain_until)
            .send()
            .await;
        let begun = begun.map_err(|e| sdk_failed(OP, self.known.key, &e))?;
        let Some(id) = begun.upload_id() else {
            return Err(self.failed("the answer names no upload"));
        };
        let done = self.fill(id, count).await;
        if done.is_err() {
            let dropped = self
                .sdk
                .abort_multipart_upload()
                .bucket(&self.to.bucket.name)
                .key(&self.full)
                .upload_id(id);
            if let Err(error) = dropped.send().await {
                let error = sdk_failed(OP, self.known.key, &error);
                tracing::warn!(key = %self.known.key, %error, "parts of a copy are left for a sweep");
            }
        }
        done
    }

    async fn fill(&self, id: &str, count: u64) -> Result<(), StoreError> {
        let mut parts = Vec::new();
        for number in 1..=count {
            parts.push(self.part(id, number, number == count).await?);
        }
        let all = CompletedMultipartUpload::builder().set_parts(Some(parts));
        let sent = self
            .sdk
            .complete_multipart_upload()
            .bucket(&self.to.bucket.name)
            .key(&self.full)
            .upload_id(id)
            .multipart_upload(all.build())
            .send()
            .await;
        sent.map(drop)
            .map_err(|e| sdk_failed(OP, self.known.key, &e))
    }

    async fn part(
        &self,
        id: &str,
        number: u64,
        is_last: bool,
    ) -> Result<CompletedPart, StoreError> {
        let from = (number - 1) * self.to.copy_bytes;
        let end = match is_last {
            true => self.known.length,
            false => from + self.to.copy_bytes,
        };
        let part_number = i32::try_from(number).unwrap_or(i32::MAX);
        let sent = self
            .sdk
            .upload_part_copy()
            .bucket(&self.to.bucket.name)
            .key(&self.full)
            .upload_id(id)
            .part_number(part_number)
            .copy_source(&self.source)
            .copy_source_if_match(&self.known.version.0)
            .copy_source_range(format!("bytes={from}-{}", end - 1))
            .send()
            .await;
        let sent = sent.map_err(|e| sdk_failed(OP, self.known.key, &e))?;
        let Some(copied) = sent.copy_part_result() else {
            return Err(self.failed("the answer names no part"));
        };
        Ok(CompletedPart::builder()
            .part_number(part_number)
            .set_e_tag(copied.e_tag().map(str::to_owned))
            .build())
    }

    fn failed(&self, reason: &str) -> StoreError {
        StoreError::Failed {
            op: OP,
            key: self.known.key.to_string(),
            reason: reason.to_owned(),
        }
    }
}
