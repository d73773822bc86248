//! Reads messages from a frame, within bounds.
//!
//! Three rules keep hostile input cheap: nothing is allocated before its count was held against the bytes that are
//! left and against the [`Budget`]; numbers of variable length have a longest form; tagged fields are at most
//! [`MAX_TAGGED_FIELDS`] per struct. Byte fields are slices of the frame and cost nothing (but keep the frame alive:
//! copy what is to outlive the request).

use bytes::{Buf, Bytes};

use crate::error_code::ErrorCode;
use crate::varint;

/// Most tagged fields in one struct. Kafka's schemas define fewer than ten anywhere.
pub const MAX_TAGGED_FIELDS: u32 = 64;

/// Most elements in all lists of one request: more partitions than a broker leads. What a request makes of its elements
/// (an answer with a line for each, names beside them) costs a few hundred bytes an element.
const MAX_ELEMENTS: usize = 1 << 18;
/// Most memory that decoding one request may take.
const MAX_REQUEST_BYTES: usize = 64 << 20;

/// Memory that decoding one frame may take, in bytes. Structs count with their size, strings with their length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    left: usize,
    elements_left: usize,
}

impl Budget {
    /// A budget of `bytes`.
    #[must_use]
    pub const fn new(bytes: usize) -> Self {
        Budget {
            left: bytes,
            elements_left: usize::MAX,
        }
    }

    /// The budget for a frame of this length: sixteen times its size and 64 KiB, but above 64 MiB no more than four
    /// times its size. A topic name of one letter takes 3 bytes in a frame and 41 here, so a small factor would
    /// refuse honest requests; a large frame full of such names is not one.
    #[must_use]
    pub fn for_frame(frame_len: usize) -> Self {
        let generous = frame_len.saturating_mul(16).saturating_add(64 << 10);
        Budget::new(generous.min(frame_len.saturating_mul(4).max(64 << 20)))
    }

    /// The budget for a request of this length, which comes from anybody: as [`Self::for_frame`], but never more than
    /// 64 MiB, and for no more than 262,144 elements of lists.
    #[must_use]
    pub fn for_request(frame_len: usize) -> Self {
        Budget {
            left: Budget::for_frame(frame_len).left.min(MAX_REQUEST_BYTES),
            elements_left: MAX_ELEMENTS,
        }
    }

    /// The budget for a Produce request of this length. A batch of one record takes 75 bytes on the wire and what says
    /// where it goes takes 40 here, so what is worth more than twice its bytes carries none.
    #[must_use]
    pub fn for_produce(frame_len: usize) -> Self {
        let twice = frame_len.saturating_mul(2).saturating_add(64 << 10);
        Budget {
            left: twice.min(MAX_REQUEST_BYTES),
            elements_left: MAX_ELEMENTS,
        }
    }

    /// The same for no more than `bytes`.
    #[must_use]
    pub fn at_most(self, bytes: usize) -> Self {
        Budget {
            left: self.left.min(bytes),
            ..self
        }
    }

    /// Bytes left.
    #[must_use]
    pub const fn left(&self) -> usize {
        self.left
    }

    fn charge_elements(&mut self, count: usize) -> Result<(), Fault> {
        match self.elements_left.checked_sub(count) {
            Some(left) => {
                self.elements_left = left;
                Ok(())
            }
            None => Err(Fault::TooManyInAll(count)),
        }
    }

    fn charge(&mut self, bytes: usize) -> Result<(), Fault> {
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(Fault::OverBudget {
                bytes,
                left: self.left,
            }),
        }
    }
}

/// What is wrong with the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// They end too early.
    #[error("needs {needed} bytes, {left} are left")]
    Truncated {
        /// Bytes the value takes at least.
        needed: usize,
        /// Bytes there are.
        left: usize,
    },
    /// A negative length other than null's.
    #[error("length {0}")]
    BadLength(i64),
    /// Null where the schema has none.
    #[error("null is not allowed")]
    Null,
    /// A string that is not UTF-8.
    #[error("not UTF-8")]
    Utf8,
    /// A number longer or larger than its type.
    #[error("malformed variable-length number")]
    Varint,
    /// More elements than the bytes left can hold.
    #[error("{count} elements of at least {min_size} bytes, {left} bytes are left")]
    TooManyElements {
        /// Elements claimed.
        count: usize,
        /// Least bytes of each.
        min_size: usize,
        /// Bytes there are.
        left: usize,
    },
    /// More elements, together with those before, than any request has.
    #[error("{0} more elements than one request may have in all")]
    TooManyInAll(usize),
    /// Decoding would take more memory than the frame is worth.
    #[error("{bytes} more bytes of memory, {left} are left in the budget")]
    OverBudget {
        /// Bytes to allocate.
        bytes: usize,
        /// Bytes left in the budget.
        left: usize,
    },
    /// More tagged fields than any schema has.
    #[error("{0} tagged fields")]
    TooManyTags(u32),
    /// Tags that do not rise.
    #[error("tag {0} out of order")]
    TagOrder(u32),
    /// A value that does not fill what was announced for it.
    #[error("{0} bytes left over")]
    LeftOver(usize),
    /// A version this crate does not speak.
    #[error("version {0} is not supported")]
    UnsupportedVersion(i16),
}

/// Bytes that are not the message they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {fault}")]
pub struct DecodeError {
    /// The innermost field it was found in.
    pub field: &'static str,
    /// What is wrong.
    pub fault: Fault,
}

impl DecodeError {
    /// The code to answer with, where the connection is worth keeping.
    #[must_use]
    pub const fn error_code(&self) -> ErrorCode {
        match self.fault {
            Fault::UnsupportedVersion(_) => ErrorCode::UNSUPPORTED_VERSION,
            _ => ErrorCode::INVALID_REQUEST,
        }
    }

    /// Never: the same bytes stay what they are.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        false
    }

    /// Names the field, unless an inner one is named already.
    #[must_use]
    pub(crate) fn within(self, field: &'static str) -> Self {
        if self.field == UNNAMED {
            DecodeError { field, ..self }
        } else {
            self
        }
    }
}

/// Stands for a field until the struct it belongs to names it.
const UNNAMED: &str = "message";

impl From<Fault> for DecodeError {
    fn from(fault: Fault) -> Self {
        DecodeError {
            field: UNNAMED,
            fault,
        }
    }
}

/// A frame being read from front to back.
#[derive(Debug, Clone)]
pub struct Decoder {
    input: Bytes,
    budget: Budget,
}

impl Decoder {
    /// Reads `input`, allocating no more than `budget`.
    #[must_use]
    pub fn new(input: Bytes, budget: Budget) -> Self {
        Decoder { input, budget }
    }

    /// The rest, to be read within another budget.
    #[must_use]
    pub fn with_budget(&self, budget: Budget) -> Self {
        Decoder {
            input: self.input.clone(),
            budget,
        }
    }

    /// What is left of its budget.
    #[must_use]
    pub const fn budget(&self) -> Budget {
        self.budget
    }

    /// Bytes not read yet.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.input.len()
    }

    /// Checks that everything was read.
    ///
    /// # Errors
    /// [`Fault::LeftOver`].
    pub fn finish(&self) -> Result<(), DecodeError> {
        match self.input.len() {
            0 => Ok(()),
            left => Err(Fault::LeftOver(left).into()),
        }
    }

    /// Reads `N` bytes.
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let left = self.input.len();
        let bytes = *self
            .input
            .first_chunk::<N>()
            .ok_or(Fault::Truncated { needed: N, left })?;
        self.input.advance(N);
        Ok(bytes)
    }

    /// Reads an unsigned number of variable length.
    pub(crate) fn unsigned_varint(&mut self) -> Result<u32, Fault> {
        let mut slice: &[u8] = &self.input;
        let value = varint::read_unsigned(&mut slice).ok_or(Fault::Varint)?;
        let consumed = self.input.len() - slice.len();
        self.input.advance(consumed);
        Ok(value)
    }

    /// Reads the next `length` bytes, without a copy.
    pub(crate) fn bytes(&mut self, length: usize) -> Result<Bytes, Fault> {
        if length > self.input.len() {
            return Err(Fault::Truncated {
                needed: length,
                left: self.input.len(),
            });
        }
        Ok(self.input.split_to(length))
    }

    /// Reads a string of `length` bytes, copied.
    pub(crate) fn string(&mut self, length: usize) -> Result<String, Fault> {
        let left = self.input.len();
        let bytes = self.input.get(..length).ok_or(Fault::Truncated {
            needed: length,
            left,
        })?;
        self.budget.charge(length)?;
        let string = str::from_utf8(bytes).map_err(|_| Fault::Utf8)?.to_owned();
        self.input.advance(length);
        Ok(string)
    }

    /// Room for `count` elements that take `min_size` bytes each on the wire, at least.
    pub(crate) fn vec<T>(&mut self, count: usize, min_size: usize) -> Result<Vec<T>, Fault> {
        let left = self.input.len();
        let min_size = min_size.max(1);
        if count > left / min_size {
            return Err(Fault::TooManyElements {
                count,
                min_size,
                left,
            });
        }
        self.budget.charge_elements(count)?;
        self.budget.charge(count.saturating_mul(size_of::<T>()))?;
        Ok(Vec::with_capacity(count))
    }

    /// Reads tagged fields, handing each to `take`, which says whether it knew the tag. Unknown ones are skipped, as
    /// KIP-482 wants it; known ones must fill their size exactly.
    pub(crate) fn tagged_fields(
        &mut self,
        mut take: impl FnMut(u32, &mut Decoder) -> Result<bool, DecodeError>,
    ) -> Result<(), DecodeError> {
        let count = self.unsigned_varint()?;
        if count > MAX_TAGGED_FIELDS {
            return Err(Fault::TooManyTags(count).into());
        }
        let mut lowest = 0;
        for _ in 0..count {
            let tag = self.unsigned_varint()?;
            if tag < lowest {
                return Err(Fault::TagOrder(tag).into());
            }
            lowest = tag.checked_add(1).ok_or(Fault::Varint)?;
            let size = usize::try_from(self.unsigned_varint()?).map_err(|_| Fault::Varint)?;
            let field = self.bytes(size)?;
            let after = std::mem::replace(&mut self.input, field);
            let known = take(tag, self)?;
            let field = std::mem::replace(&mut self.input, after);
            if known && !field.is_empty() {
                return Err(Fault::LeftOver(field.len()).into());
            }
        }
        Ok(())
    }
}
