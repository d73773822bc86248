//! What a bucket holds of the fleet besides its records: topics with their ids and configs, access rules, users,
//! homes, and the highest epochs and ids that were given. With it the bucket alone is enough to begin again.
//!
//! Documents are never changed; one small object, the head, names them and is replaced by compare-and-swap, as roots
//! are. One daemon of a region writes; what it may write, and which documents stay, is pure ([`Fleet`], [`Head`]),
//! the IO around it is [`keeper`]'s, and when it is done [`writer`]'s.
//!
//! Deliberately not here: where replicas stand, who leads, and leases. They are those of machines that a restored
//! fleet does not have.

mod document;
mod fleet;
mod head;
mod keeper;
mod progress;
mod read;
mod writer;

pub use document::Document;
pub use fleet::{Fleet, Group, Properties, Topic};
pub use head::{Head, Kept, MAX_DOCUMENTS, MAX_HEAD_BYTES};
pub use keeper::{Context, Keeper, MetaError};
pub use progress::Progress;
pub use read::{Whose, read_document, read_head};
pub use writer::Writer;

/// Longest document: a hundred thousand topics with a million partitions take a fifth of it.
pub const MAX_BYTES: u64 = 64 << 20;

use crate::format::{FormatError, check_crc};

/// Magic, format, zero, length and CRC of the body.
const ENVELOPE: usize = 20;
const FORMAT: u16 = 1;

/// Puts a body into its envelope.
pub(crate) fn enclose(magic: &[u8; 8], body: &[u8]) -> Vec<u8> {
    use crate::format::Put;
    let mut out = Vec::with_capacity(ENVELOPE + body.len());
    out.put(magic);
    out.put_u16(FORMAT);
    out.put_u16(0);
    // At most 64 MiB, checked by whoever made it.
    out.put_u32(u32::try_from(body.len()).unwrap_or(u32::MAX));
    out.put_u32(crc32c::crc32c(body));
    out.put(body);
    out
}

/// The body, if its envelope is whole.
pub(crate) fn disclose<'a>(
    what: &'static str,
    magic: &[u8; 8],
    bytes: &'a [u8],
) -> Result<&'a [u8], FormatError> {
    use crate::format::Fields;
    let malformed = |reason: &dyn std::fmt::Display| FormatError::malformed(what, reason);
    let (head, body) = bytes
        .split_at_checked(ENVELOPE)
        .ok_or_else(|| malformed(&"it is too short"))?;
    let mut head = Fields::new(head);
    let read = || -> Result<_, crate::format::FieldError> {
        Ok((
            head.take(8)?,
            head.u16()?,
            head.u16()?,
            head.u32()?,
            head.u32()?,
        ))
    };
    let mut read = read;
    let (found, format, zero, length, crc) = read().map_err(|e| malformed(&e))?;
    if found != magic {
        return Err(FormatError::Magic { what });
    }
    if format != FORMAT {
        return Err(FormatError::Version {
            what,
            found: format,
        });
    }
    if zero != 0 || usize::try_from(length).ok() != Some(body.len()) {
        return Err(malformed(&format_args!(
            "{} bytes of body, {length} were written",
            body.len()
        )));
    }
    check_crc(what, body, crc)?;
    Ok(body)
}
