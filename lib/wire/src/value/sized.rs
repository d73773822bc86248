//! Strings, bytes and arrays: a length, then as many bytes or elements.
//!
//! Up to a message's first flexible version (KIP-482) strings have `i16` lengths, bytes and arrays `i32` ones, -1 for
//! null; from then on all have a variable-length number, one more than the length, 0 for null.

use bytes::{BufMut, Bytes};

use crate::decoder::{DecodeError, Decoder, Fault};
use crate::encoder::Encoder;
use crate::message::Kind;
use crate::value::{Context, Value};

/// Reads a length or count; `None` is null.
fn length(context: Context, input: &mut Decoder) -> Result<Option<usize>, Fault> {
    if context.flexible {
        let raw = input.unsigned_varint()?;
        let length = raw
            .checked_sub(1)
            .map(|length| usize::try_from(length).map_err(|_| Fault::Varint));
        return or_null(context, length.transpose()?);
    }
    from_signed(context, i64::from(i32::from_be_bytes(input.array()?)))
}

fn string_length(context: Context, input: &mut Decoder) -> Result<Option<usize>, Fault> {
    if context.flexible {
        let length = length(context, input)?;
        // As in Kafka: what older versions could not say is no string in newer ones either.
        return match length {
            Some(length) if length > MAX_STRING_LEN => {
                Err(Fault::BadLength(i64::try_from(length).unwrap_or(i64::MAX)))
            }
            length => Ok(length),
        };
    }
    from_signed(context, i64::from(i16::from_be_bytes(input.array()?)))
}

fn from_signed(context: Context, length: i64) -> Result<Option<usize>, Fault> {
    match usize::try_from(length) {
        Ok(length) => Ok(Some(length)),
        Err(_) if length == -1 => or_null(context, None),
        Err(_) => Err(Fault::BadLength(length)),
    }
}

fn or_null(context: Context, length: Option<usize>) -> Result<Option<usize>, Fault> {
    if length.is_none() && !context.nullable {
        Err(Fault::Null)
    } else {
        Ok(length)
    }
}

fn put_string(string: Option<&str>, context: Context, out: &mut Encoder) {
    let string = if context.nullable {
        string
    } else {
        Some(string.unwrap_or_default())
    };
    // Names and ids are far shorter than an i16 says; a text that is not loses its end.
    let kept = string.map(|string| &string[..string.floor_char_boundary(MAX_STRING_LEN)]);
    match (context.flexible, kept) {
        (true, kept) => out.put_length(kept.map(str::len), true),
        (false, Some(kept)) => out.buffer().put_u16(u16::try_from(kept.len()).unwrap_or(0)),
        (false, None) => out.buffer().put_i16(-1),
    }
    out.buffer()
        .extend_from_slice(kept.unwrap_or_default().as_bytes());
}

/// Longest string of any version: `i16::MAX` bytes.
const MAX_STRING_LEN: usize = 0x7FFF;

const fn min_length_size(context: Context, fixed: usize) -> usize {
    if context.flexible { 1 } else { fixed }
}

impl Value for Option<String> {
    const KIND: Kind = Kind::String;

    fn min_size(context: Context) -> usize {
        min_length_size(context, 2)
    }

    fn read(context: Context, input: &mut Decoder) -> Result<Self, DecodeError> {
        match string_length(context, input)? {
            None => Ok(None),
            Some(length) => Ok(Some(input.string(length)?)),
        }
    }

    fn write(&self, context: Context, out: &mut Encoder) {
        put_string(self.as_deref(), context, out);
    }
}

impl Value for String {
    const KIND: Kind = Kind::String;

    fn min_size(context: Context) -> usize {
        min_length_size(context, 2)
    }

    fn read(context: Context, input: &mut Decoder) -> Result<Self, DecodeError> {
        Option::<String>::read(context.element(), input).map(Option::unwrap_or_default)
    }

    fn write(&self, context: Context, out: &mut Encoder) {
        put_string(Some(self), context, out);
    }
}

impl Value for Option<Bytes> {
    const KIND: Kind = Kind::Bytes;

    fn min_size(context: Context) -> usize {
        min_length_size(context, 4)
    }

    fn read(context: Context, input: &mut Decoder) -> Result<Self, DecodeError> {
        match length(context, input)? {
            None => Ok(None),
            Some(length) => Ok(Some(input.bytes(length)?)),
        }
    }

    fn write(&self, context: Context, out: &mut Encoder) {
        match self {
            Some(bytes) => bytes.write(context, out),
            None => out.put_length(
                if context.nullable { None } else { Some(0) },
                context.flexible,
            ),
        }
    }
}

impl Value for Bytes {
    const KIND: Kind = Kind::Bytes;

    fn min_size(context: Context) -> usize {
        min_length_size(context, 4)
    }

    fn read(context: Context, input: &mut Decoder) -> Result<Self, DecodeError> {
        Option::<Bytes>::read(context.element(), input).map(Option::unwrap_or_default)
    }

    fn write(&self, context: Context, out: &mut Encoder) {
        out.put_length(Some(self.len()), context.flexible);
        out.put_bytes(self);
    }
}

impl<T: Value> Value for Option<Vec<T>> {
    const KIND: Kind = Kind::Array(&T::KIND);

    fn min_size(context: Context) -> usize {
        min_length_size(context, 4)
    }

    fn read(context: Context, input: &mut Decoder) -> Result<Self, DecodeError> {
        let Some(count) = length(context, input)? else {
            return Ok(None);
        };
        let context = context.element();
        let mut elements = input.vec(count, T::min_size(context))?;
        for _ in 0..count {
            elements.push(T::read(context, input)?);
        }
        Ok(Some(elements))
    }

    fn write(&self, context: Context, out: &mut Encoder) {
        match self {
            Some(elements) => elements.write(context, out),
            None => out.put_length(
                if context.nullable { None } else { Some(0) },
                context.flexible,
            ),
        }
    }
}

impl<T: Value> Value for Vec<T> {
    const KIND: Kind = Kind::Array(&T::KIND);

    fn min_size(context: Context) -> usize {
        min_length_size(context, 4)
    }

    fn read(context: Context, input: &mut Decoder) -> Result<Self, DecodeError> {
        Option::<Vec<T>>::read(context.element(), input).map(Option::unwrap_or_default)
    }

    fn write(&self, context: Context, out: &mut Encoder) {
        out.put_length(Some(self.len()), context.flexible);
        let context = context.element();
        for element in self {
            element.write(context, out);
        }
    }
}
