//! How each type of Kafka's schema language stands on the wire: the trait, and the types of fixed size.

mod sized;

use bytes::BufMut;
use uuid::Uuid;

use crate::decoder::{DecodeError, Decoder};
use crate::encoder::Encoder;
use crate::error_code::ErrorCode;
use crate::message::Kind;

/// What the form of a value depends on, besides its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// Version of the message.
    pub version: i16,
    /// Whether that version is flexible.
    pub flexible: bool,
    /// Whether null is allowed here.
    pub nullable: bool,
}

impl Context {
    /// Whether the version lies in the range.
    #[must_use]
    pub const fn within(self, min: i16, max: i16) -> bool {
        min <= self.version && self.version <= max
    }

    /// The same for a field that may be null from `null_from` on.
    #[must_use]
    pub const fn field(self, null_from: i16) -> Self {
        Context {
            nullable: null_from <= self.version,
            ..self
        }
    }

    /// The same for an element of an array, which is never null.
    const fn element(self) -> Self {
        Context {
            nullable: false,
            ..self
        }
    }
}

/// A type that can be a field.
pub trait Value: Sized {
    /// Its place in the schema language.
    const KIND: Kind;

    /// Least bytes it takes on the wire.
    fn min_size(context: Context) -> usize;

    /// Reads it.
    ///
    /// # Errors
    /// [`DecodeError`].
    fn read(context: Context, input: &mut Decoder) -> Result<Self, DecodeError>;

    /// Writes it.
    fn write(&self, context: Context, out: &mut Encoder);
}

macro_rules! number {
    ($($type:ty, $kind:ident, $put:ident;)*) => {
        $(
            impl Value for $type {
                const KIND: Kind = Kind::$kind;

                fn min_size(_: Context) -> usize {
                    size_of::<$type>()
                }

                fn read(_: Context, input: &mut Decoder) -> Result<Self, DecodeError> {
                    Ok(<$type>::from_be_bytes(input.array()?))
                }

                fn write(&self, _: Context, out: &mut Encoder) {
                    out.buffer().$put(*self);
                }
            }
        )*
    };
}

number! {
    i8, Int8, put_i8;
    i16, Int16, put_i16;
    i32, Int32, put_i32;
    i64, Int64, put_i64;
    u16, Int16, put_u16;
    f64, Float64, put_f64;
}

impl Value for bool {
    const KIND: Kind = Kind::Bool;

    fn min_size(_: Context) -> usize {
        1
    }

    fn read(_: Context, input: &mut Decoder) -> Result<Self, DecodeError> {
        let [byte] = input.array()?;
        Ok(byte != 0)
    }

    fn write(&self, _: Context, out: &mut Encoder) {
        out.buffer().put_u8(u8::from(*self));
    }
}

impl Value for ErrorCode {
    const KIND: Kind = Kind::Int16;

    fn min_size(_: Context) -> usize {
        2
    }

    fn read(context: Context, input: &mut Decoder) -> Result<Self, DecodeError> {
        i16::read(context, input).map(ErrorCode)
    }

    fn write(&self, context: Context, out: &mut Encoder) {
        self.0.write(context, out);
    }
}

impl Value for Uuid {
    const KIND: Kind = Kind::Uuid;

    fn min_size(_: Context) -> usize {
        16
    }

    fn read(_: Context, input: &mut Decoder) -> Result<Self, DecodeError> {
        Ok(Uuid::from_bytes(input.array()?))
    }

    fn write(&self, _: Context, out: &mut Encoder) {
        out.buffer().extend_from_slice(self.as_bytes());
    }
}
