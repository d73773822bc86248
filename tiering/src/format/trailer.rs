//! The last 64 bytes of an object.
//!
//! ```text
//!  0 magic "WBTRAIL1"
//!  8 format u16 = 1 | 10 zero u16
//! 12 footer position u64 | 20 footer length u32 | 24 footer crc32c u32
//! 28 body length u64      data and index sections: what the block table covers
//! 36 block table position u64 | 44 length u32 | 48 crc32c u32
//! 52 zero u64
//! 60 crc32c u32 of bytes 0..60
//! ```

use super::{FieldError, Fields, FormatError, Put, check_crc};

pub const TRAILER_BYTES: usize = 64;
const MAGIC: &[u8; 8] = b"WBTRAIL1";
const FORMAT: u16 = 1;
const WHAT: &str = "trailer";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailer {
    pub footer_position: u64,
    pub footer_length: u32,
    pub footer_crc: u32,
    pub body_length: u64,
    pub table_position: u64,
    pub table_length: u32,
    pub table_crc: u32,
}

impl Trailer {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(TRAILER_BYTES);
        out.put(MAGIC);
        out.put_u16(FORMAT);
        out.put_u16(0);
        out.put_u64(self.footer_position);
        out.put_u32(self.footer_length);
        out.put_u32(self.footer_crc);
        out.put_u64(self.body_length);
        out.put_u64(self.table_position);
        out.put_u32(self.table_length);
        out.put_u32(self.table_crc);
        out.put_u64(0);
        let crc = crc32c::crc32c(&out);
        out.put_u32(crc);
        out
    }

    /// The trailer of an object of `object_bytes`; its parts lie in order and fill the object.
    pub fn decode(bytes: &[u8; TRAILER_BYTES], object_bytes: u64) -> Result<Self, FormatError> {
        if &bytes[..8] != MAGIC {
            return Err(FormatError::Magic { what: WHAT });
        }
        let mut fields = Fields::new(bytes);
        let (format, found, stored) =
            Self::read(&mut fields).map_err(|e| FormatError::malformed(WHAT, e))?;
        check_crc(WHAT, &bytes[..60], stored)?;
        if format != FORMAT {
            return Err(FormatError::Version {
                what: WHAT,
                found: format,
            });
        }
        let table_end = found.table_position.checked_add(found.table_length.into());
        let footer_end = found
            .footer_position
            .checked_add(found.footer_length.into());
        let fills =
            footer_end.and_then(|end| end.checked_add(TRAILER_BYTES as u64)) == Some(object_bytes);
        if !fills
            || table_end != Some(found.footer_position)
            || found.body_length != found.table_position
        {
            return Err(FormatError::malformed(
                WHAT,
                format!("parts do not fill an object of {object_bytes} bytes"),
            ));
        }
        Ok(found)
    }

    fn read(fields: &mut Fields<'_>) -> Result<(u16, Self, u32), FieldError> {
        fields.take(8)?;
        let format = fields.u16()?;
        fields.u16()?;
        let found = Self {
            footer_position: fields.u64()?,
            footer_length: fields.u32()?,
            footer_crc: fields.u32()?,
            body_length: fields.u64()?,
            table_position: fields.u64()?,
            table_length: fields.u32()?,
            table_crc: fields.u32()?,
        };
        fields.u64()?;
        Ok((format, found, fields.u32()?))
    }
}
