//! Numbers, texts and counts, big-endian, read within bounds.

use uuid::Uuid;

/// A field that does not fit into the bytes that are there.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum FieldError {
    #[error("{wanted} bytes are needed at {at}, {left} are left")]
    Cut {
        at: usize,
        wanted: usize,
        left: usize,
    },
    #[error("a count of {count} at {at} cannot be in {left} bytes")]
    Count { at: usize, count: u64, left: usize },
    #[error("the text at {at} is not UTF-8")]
    Text { at: usize },
    #[error("{left} bytes are left over")]
    LeftOver { left: usize },
}

/// Reads fields one after another.
#[derive(Debug)]
pub struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

macro_rules! number {
    ($name:ident, $type:ty) => {
        pub fn $name(&mut self) -> Result<$type, FieldError> {
            self.array().map(<$type>::from_be_bytes)
        }
    };
}

impl<'a> Fields<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub fn take(&mut self, wanted: usize) -> Result<&'a [u8], FieldError> {
        let rest = &self.bytes[self.at..];
        let Some(taken) = rest.get(..wanted) else {
            return Err(FieldError::Cut {
                at: self.at,
                wanted,
                left: rest.len(),
            });
        };
        self.at += wanted;
        Ok(taken)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], FieldError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    number!(u8, u8);
    number!(u16, u16);
    number!(u32, u32);
    number!(u64, u64);
    number!(i32, i32);
    number!(i64, i64);

    pub fn uuid(&mut self) -> Result<Uuid, FieldError> {
        self.array().map(Uuid::from_bytes)
    }

    /// A u16 length and so many bytes of UTF-8.
    pub fn text(&mut self) -> Result<String, FieldError> {
        let length = self.u16()?;
        let at = self.at;
        let bytes = self.take(usize::from(length))?;
        std::str::from_utf8(bytes)
            .map(str::to_owned)
            .map_err(|_| FieldError::Text { at })
    }

    /// A u32 count of elements that take at least `min_bytes` each: never more than can be there.
    pub fn count(&mut self, min_bytes: usize) -> Result<usize, FieldError> {
        let at = self.at;
        let count = self.u32()?;
        let left = self.bytes.len() - self.at;
        let fits = usize::try_from(count)
            .ok()
            .filter(|n| n.checked_mul(min_bytes).is_some_and(|bytes| bytes <= left));
        fits.ok_or(FieldError::Count {
            at,
            count: count.into(),
            left,
        })
    }

    /// Everything that was not read yet.
    pub fn rest(self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    pub fn end(self) -> Result<(), FieldError> {
        match self.bytes.len() - self.at {
            0 => Ok(()),
            left => Err(FieldError::LeftOver { left }),
        }
    }
}

/// Writes fields one after another.
pub trait Put {
    fn put(&mut self, bytes: &[u8]);

    fn put_u8(&mut self, n: u8) {
        self.put(&[n]);
    }
    fn put_u16(&mut self, n: u16) {
        self.put(&n.to_be_bytes());
    }
    fn put_u32(&mut self, n: u32) {
        self.put(&n.to_be_bytes());
    }
    fn put_u64(&mut self, n: u64) {
        self.put(&n.to_be_bytes());
    }
    fn put_i32(&mut self, n: i32) {
        self.put(&n.to_be_bytes());
    }
    fn put_i64(&mut self, n: i64) {
        self.put(&n.to_be_bytes());
    }
    /// Cut at 65,535 bytes; names are far shorter.
    fn put_text(&mut self, text: &str) {
        let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
        self.put_u16(length);
        self.put(&text.as_bytes()[..usize::from(length)]);
    }
    /// Lists have fewer than 2^32 elements: a root is at most 1 MiB.
    fn put_count(&mut self, count: usize) {
        self.put_u32(u32::try_from(count).unwrap_or(u32::MAX));
    }
}

impl Put for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_checked_before_anything_is_allocated() {
        let mut fields = Fields::new(&[0xff, 0xff, 0xff, 0xff, 1]);
        assert_eq!(
            fields.count(8),
            Err(FieldError::Count {
                at: 0,
                count: 0xffff_ffff,
                left: 1
            })
        );
    }

    #[test]
    fn what_was_put_is_read_and_nothing_more() {
        let mut out = Vec::new();
        out.put_i32(-7);
        out.put_text("häron");
        let mut fields = Fields::new(&out);
        assert_eq!(
            (fields.i32(), fields.text()),
            (Ok(-7), Ok("häron".to_owned()))
        );
        assert_eq!(
            fields.u8(),
            Err(FieldError::Cut {
                at: out.len(),
                wanted: 1,
                left: 0
            })
        );
        assert_eq!(
            Fields::new(&[1]).end(),
            Err(FieldError::LeftOver { left: 1 })
        );
    }
}
