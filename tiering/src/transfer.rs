//! Brings an object into the bucket and proves that it is there.
//!
//! *Verified* means: the store itself told the whole-object CRC64NVME that we computed (only where the
//! start-up probe saw that it checks it), or the object was read back whole. The answer to the PUT proves
//! nothing either way.

use std::{sync::Arc, time::Duration};

use whimbrel_runtime::{Backoff, Clock};

use crate::{
    checksum::Crc64,
    format::Key,
    ops::Op,
    store::{Capabilities, Source, Store, StoreError},
};

/// Attempts before the slice goes back to the broker, to be offered again.
const ATTEMPTS: u32 = 8;
/// Size of a GET while reading back.
const READ_BACK: u64 = 8 << 20;

#[derive(Clone, Debug)]
pub struct Transfer {
    pub store: Arc<dyn Store>,
    pub capabilities: Capabilities,
    pub clock: Clock,
}

#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    #[error("{key} did not arrive in {ATTEMPTS} attempts: {last}")]
    GaveUp { key: Key, last: StoreError },
    /// The key holds other bytes than were sent: it must not be named.
    #[error("{key} is in the bucket with other bytes than were sent")]
    Different { key: Key },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Transfer {
    /// Returns once the object is verified.
    pub async fn put(&self, key: &Key, source: &Source, op: &Op) -> Result<(), TransferError> {
        let done = self.try_to_put(key, source, op).await;
        if done.is_err() && source.is_begun() {
            // It will be offered again under another key.
            let ours = |found: &Key, _: Option<i64>| found == key;
            if let Err(error) = self.store.drop_unfinished(key.as_str(), &ours).await {
                tracing::warn!(%key, %error, "parts of an upload are left for a sweep");
            }
        }
        done
    }

    async fn try_to_put(&self, key: &Key, source: &Source, op: &Op) -> Result<(), TransferError> {
        let mut pause = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
        let mut last = None;
        for _ in 0..ATTEMPTS {
            source.sending.set(0);
            op.step_in_parts("PUT", &source.sending);
            let put = self.store.put_file(key, source).await.err();
            if let Some(e) = &put {
                op.failed(e);
            }
            if let Some(e @ StoreError::Source { .. }) = put {
                return Err(e.into());
            }
            op.step("verify upload");
            match self.verify(key, source.length(), source.crc64).await {
                Ok(true) => return Ok(()),
                Ok(false) => return Err(TransferError::Different { key: key.clone() }),
                // That it is not there is no news after a PUT that failed.
                Err(e) => {
                    if put.is_none() {
                        op.failed(&e);
                    }
                    op.step_in_parts("PUT", &source.sending);
                    last = Some(put.unwrap_or(e));
                }
            }
            self.clock.sleep(pause.next()).await;
        }
        match last {
            Some(last) => Err(TransferError::GaveUp {
                key: key.clone(),
                last,
            }),
            None => Err(TransferError::Different { key: key.clone() }),
        }
    }

    /// Whether the object is there with this length and checksum.
    pub async fn verify(&self, key: &Key, length: u64, crc64: u64) -> Result<bool, StoreError> {
        let meta = self.store.head(key).await?;
        if meta.size != length {
            return Ok(false);
        }
        if self.capabilities.checksum
            && let Some(told) = meta.crc64
        {
            return Ok(told == crc64);
        }
        let mut crc = Crc64::new();
        let mut at = 0;
        while at < length {
            let end = length.min(at + READ_BACK);
            crc.update(&self.store.get_range(key, at..end).await?);
            at = end;
        }
        Ok(crc.finish() == crc64)
    }
}
