//! A description of the fleet as an object in the bucket. Drawn in `docs/formats.md`.

use super::{Fleet, disclose, enclose};
use crate::format::{FieldError, Fields, FormatError, Put};

const MAGIC: &[u8; 8] = b"WBMETA01";
const WHAT: &str = "document";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    pub fleet_id: String,
    pub region: String,
    /// Of who wrote it; stands in the key too.
    pub writer_epoch: u64,
    pub sequence: u64,
    pub written_ms: i64,
    /// Of the view that it was taken from.
    pub view_version: u64,
    pub fleet: Fleet,
}

impl Document {
    pub fn encode(&self) -> Result<Vec<u8>, FormatError> {
        Ok(self.encode_with(&self.fleet.encode()?))
    }

    /// The same with a description that was encoded before.
    pub(super) fn encode_with(&self, fleet: &[u8]) -> Vec<u8> {
        let mut body = Vec::with_capacity(64 + fleet.len());
        for n in [self.writer_epoch, self.sequence, self.view_version] {
            body.put_u64(n);
        }
        body.put_i64(self.written_ms);
        body.put_text(&self.fleet_id);
        body.put_text(&self.region);
        body.put(fleet);
        enclose(MAGIC, &body)
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let body = disclose(WHAT, MAGIC, bytes)?;
        let mut fields = Fields::new(body);
        let mut document = head(&mut fields).map_err(|e| FormatError::malformed(WHAT, e))?;
        document.fleet = Fleet::decode(fields.rest())?;
        Ok(document)
    }
}

fn head(fields: &mut Fields<'_>) -> Result<Document, FieldError> {
    Ok(Document {
        writer_epoch: fields.u64()?,
        sequence: fields.u64()?,
        view_version: fields.u64()?,
        written_ms: fields.i64()?,
        fleet_id: fields.text()?,
        region: fields.text()?,
        fleet: Fleet::default(),
    })
}
