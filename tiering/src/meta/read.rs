//! Reads head and documents out of a bucket, for whoever writes them, proves them, or begins again with them.

use super::{Document, Head, Kept, MAX_BYTES, MAX_HEAD_BYTES, MetaError};
use crate::{
    format::{FormatError, Keys, check_crc},
    store::{Store, StoreError, Version},
};

/// Whose bucket it is, as its marker says.
#[derive(Clone, Copy, Debug)]
pub struct Whose<'a> {
    pub fleet_id: &'a str,
    pub region: &'a str,
}

impl Whose<'_> {
    fn expect(&self, fleet_id: &str, region: &str) -> Result<(), MetaError> {
        if (fleet_id, region) == (self.fleet_id, self.region) {
            return Ok(());
        }
        Err(MetaError::Foreign {
            found: format!("{fleet_id}/{region}"),
            expected: format!("{}/{}", self.fleet_id, self.region),
        })
    }
}

/// The head that is there now, if one is.
pub async fn read_head(
    store: &dyn Store,
    keys: &Keys,
    whose: Whose<'_>,
) -> Result<Option<(Head, Version)>, MetaError> {
    let found = match store.get(&keys.meta_head(), MAX_HEAD_BYTES).await {
        Ok(found) => found,
        Err(e) if e.is_not_found() => return Ok(None),
        Err(e) => return Err(from_store(e)),
    };
    let head = Head::decode(&found.bytes)?;
    whose.expect(&head.fleet_id, &head.region)?;
    Ok(Some((head, found.version)))
}

/// A document that a head names.
pub async fn read_document(
    store: &dyn Store,
    keys: &Keys,
    whose: Whose<'_>,
    kept: &Kept,
) -> Result<Document, MetaError> {
    let key = keys.meta(&kept.name);
    if u64::from(kept.length) > MAX_BYTES {
        let reason = format_args!("{} bytes", kept.length);
        return Err(FormatError::malformed("document", reason).into());
    }
    let found = store.get(&key, kept.length.into()).await;
    let bytes = found.map_err(from_store)?.bytes;
    if u32::try_from(bytes.len()) != Ok(kept.length) {
        let reason = format_args!("{} bytes instead of {}", bytes.len(), kept.length);
        return Err(FormatError::malformed("document", reason).into());
    }
    check_crc("document", &bytes, kept.crc32c)?;
    let document = Document::decode(&bytes)?;
    whose.expect(&document.fleet_id, &document.region)?;
    if (document.writer_epoch, document.sequence) != (kept.name.writer_epoch, kept.name.sequence) {
        return Err(FormatError::malformed("document", "it is another one").into());
    }
    Ok(document)
}

/// Larger than it can be is a fact about the object, not about the store.
fn from_store(error: StoreError) -> MetaError {
    match error {
        e @ StoreError::TooLarge { .. } => FormatError::malformed("object", e).into(),
        e => MetaError::Store(e),
    }
}
