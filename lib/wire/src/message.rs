//! The `message!` macro: one declaration gives struct, defaults, decoder, encoder and field list.
//!
//! ```text
//! message! {
//!     flexible 9;                                  first flexible version of all structs below, or `never`
//!
//!     /// What it is for.
//!     pub struct Request versions 3-13 {           `versions` makes it a message; without, it is a part of one
//!         transactional_id: Option<String>, 3+, null 3+, default None;
//!         acks: i16, 3+;
//!         node_endpoints: Vec<NodeEndpoint>, 10+, tag 0;
//!     }
//! }
//! ```
//!
//! A field has a name, a type, the versions it is there in (`3+`, `3-8`), the first version in which it may be null,
//! its tag, and its default (the type's own, if not given). A field that a version does not have decodes to its default
//! and is not encoded; a tagged field is encoded if it differs from its default. Tags are declared in rising order.
//!
//! Names, versions and defaults are those of the schemas in Kafka's
//! `clients/src/main/resources/common/message`.

use bytes::Bytes;

use crate::decoder::{Budget, DecodeError, Decoder};
use crate::encoder::Encoder;

/// A type of the schema language, as data: tests and tools build and take apart messages from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One byte, 0 or 1.
    Bool,
    /// Eight bits.
    Int8,
    /// Sixteen bits.
    Int16,
    /// 32 bits.
    Int32,
    /// 64 bits.
    Int64,
    /// 64 bits, IEEE 754.
    Float64,
    /// Sixteen bytes.
    Uuid,
    /// UTF-8.
    String,
    /// Bytes or records.
    Bytes,
    /// Any number of one kind.
    Array(&'static Kind),
    /// Fields one after another.
    Struct(&'static [Field]),
}

/// A field of a struct, as declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Name, in snake case.
    pub name: &'static str,
    /// Type.
    pub kind: Kind,
    /// First version that has it.
    pub min_version: i16,
    /// Last version that has it, `i16::MAX` without end.
    pub max_version: i16,
    /// First version in which it may be null, `i16::MAX` for none.
    pub null_from: i16,
    /// Tag, if it is a tagged field.
    pub tag: Option<u32>,
}

/// A request, a response, or a record of an internal topic.
pub trait Message: Sized + Default {
    /// First and last version.
    const VERSIONS: (i16, i16);
    /// First flexible version, `i16::MAX` for none.
    const FIRST_FLEXIBLE: i16;
    /// Its fields.
    const FIELDS: &'static [Field];

    /// Reads it; bytes may be left over, see [`Decoder::finish`].
    ///
    /// # Errors
    /// [`DecodeError`].
    fn decode(version: i16, input: &mut Decoder) -> Result<Self, DecodeError>;

    /// Writes it in the form of `version`, leaving out what that version does not have.
    fn encode(&self, version: i16, out: &mut Encoder);

    /// Reads a message that is all of `bytes`.
    ///
    /// # Errors
    /// [`DecodeError`], also if bytes are left over.
    fn from_bytes(version: i16, bytes: Bytes) -> Result<Self, DecodeError> {
        let budget = Budget::for_frame(bytes.len());
        let mut input = Decoder::new(bytes, budget);
        let message = Self::decode(version, &mut input)?;
        input.finish()?;
        Ok(message)
    }

    /// The message in one piece.
    fn to_bytes(&self, version: i16) -> Bytes {
        let mut out = Encoder::new();
        self.encode(version, &mut out);
        out.into_bytes()
    }
}

/// Declares structs of the Kafka protocol; see the module.
macro_rules! message {
    (
        flexible $flexible:tt;
        $(
            $(#[$meta:meta])*
            pub struct $name:ident $(versions $min:literal - $max:literal)? { $($fields:tt)* }
        )+
    ) => {
        $(
            $crate::message::message! { @struct [$(#[$meta])*] $name { $($fields)* } }
            $(
                impl $crate::message::Message for $name {
                    const VERSIONS: (i16, i16) = ($min, $max);
                    const FIRST_FLEXIBLE: i16 = $crate::message::message!(@flexible $flexible);
                    const FIELDS: &'static [$crate::message::Field] = $name::FIELDS;

                    fn decode(
                        version: i16,
                        input: &mut $crate::decoder::Decoder,
                    ) -> Result<Self, $crate::decoder::DecodeError> {
                        let context = $crate::value::Context {
                            version,
                            flexible: version >= Self::FIRST_FLEXIBLE,
                            nullable: false,
                        };
                        if !context.within($min, $max) {
                            return Err($crate::decoder::Fault::UnsupportedVersion(version).into());
                        }
                        $crate::value::Value::read(context, input)
                    }

                    fn encode(&self, version: i16, out: &mut $crate::encoder::Encoder) {
                        let context = $crate::value::Context {
                            version,
                            flexible: version >= Self::FIRST_FLEXIBLE,
                            nullable: false,
                        };
                        $crate::value::Value::write(self, context, out);
                    }
                }
            )?
        )+
    };

    (@struct [$(#[$meta:meta])*] $name:ident {
        $(
            $field:ident : $type:ty, $min:literal $(+)? $(- $max:literal)?
            $(, null $null:literal +)? $(, tag $tag:literal)? $(, default $default:expr)?;
        )*
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            $(pub $field: $type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                $name { $($field: $crate::message::message!(@default $($default)?),)* }
            }
        }

        impl $name {
            /// The fields, as declared.
            pub const FIELDS: &'static [$crate::message::Field] = &[
                $($crate::message::Field {
                    name: stringify!($field),
                    kind: <$type as $crate::value::Value>::KIND,
                    min_version: $min,
                    max_version: $crate::message::message!(@max $min $($max)?),
                    null_from: $crate::message::message!(@or_never $($null)?),
                    tag: $crate::message::message!(@tag $($tag)?),
                },)*
            ];
        }

        impl $crate::value::Value for $name {
            const KIND: $crate::message::Kind = $crate::message::Kind::Struct($name::FIELDS);

            fn min_size(context: $crate::value::Context) -> usize {
                let mut size = usize::from(context.flexible);
                $(
                    const { assert!($min >= 0) };
                    if context.within($min, $crate::message::message!(@max $min $($max)?))
                        && $crate::message::message!(@tag $($tag)?).is_none()
                    {
                        size += <$type as $crate::value::Value>::min_size(context);
                    }
                )*
                size
            }

            fn read(
                context: $crate::value::Context,
                input: &mut $crate::decoder::Decoder,
            ) -> Result<Self, $crate::decoder::DecodeError> {
                let mut value = $name::default();
                $(
                    if context.within($min, $crate::message::message!(@max $min $($max)?))
                        && $crate::message::message!(@tag $($tag)?).is_none()
                    {
                        let field = context.field($crate::message::message!(@or_never $($null)?));
                        value.$field = $crate::value::Value::read(field, input)
                            .map_err(|error| error.within(stringify!($field)))?;
                    }
                )*
                if context.flexible {
                    input.tagged_fields(|tag, input| {
                        $(
                            if $crate::message::message!(@tag $($tag)?) == Some(tag)
                                && context.within($min, $crate::message::message!(@max $min $($max)?))
                            {
                                let field = context.field($crate::message::message!(@or_never $($null)?));
                                value.$field = $crate::value::Value::read(field, input)
                                    .map_err(|error| error.within(stringify!($field)))?;
                                return Ok(true);
                            }
                        )*
                        let _ = (tag, input);
                        Ok(false)
                    })?;
                }
                Ok(value)
            }

            fn write(&self, context: $crate::value::Context, out: &mut $crate::encoder::Encoder) {
                let mut tags = 0u32;
                $(
                    if context.within($min, $crate::message::message!(@max $min $($max)?)) {
                        if $crate::message::message!(@tag $($tag)?).is_none() {
                            let field = context.field($crate::message::message!(@or_never $($null)?));
                            $crate::value::Value::write(&self.$field, field, out);
                        } else if self.$field != $crate::message::message!(@default_as $type, $($default)?) {
                            tags += 1;
                        }
                    }
                )*
                if !context.flexible {
                    return;
                }
                out.put_unsigned_varint(tags);
                if tags == 0 {
                    return;
                }
                $(
                    if let Some(tag) = $crate::message::message!(@tag $($tag)?)
                        && context.within($min, $crate::message::message!(@max $min $($max)?))
                        && self.$field != $crate::message::message!(@default_as $type, $($default)?)
                    {
                        let field = context.field($crate::message::message!(@or_never $($null)?));
                        out.put_tagged(tag, |out| $crate::value::Value::write(&self.$field, field, out));
                    }
                )*
            }
        }
    };

    (@nullable $name:ident) => {
        /// A struct that may be null has a byte in front: 1, or -1 for null.
        impl $crate::value::Value for Option<$name> {
            const KIND: $crate::message::Kind = <$name as $crate::value::Value>::KIND;

            fn min_size(context: $crate::value::Context) -> usize {
                if context.nullable {
                    1
                } else {
                    <$name as $crate::value::Value>::min_size(context)
                }
            }

            fn read(
                context: $crate::value::Context,
                input: &mut $crate::decoder::Decoder,
            ) -> Result<Self, $crate::decoder::DecodeError> {
                if context.nullable && i8::from_be_bytes(input.array()?) < 0 {
                    return Ok(None);
                }
                $crate::value::Value::read(context, input).map(Some)
            }

            fn write(&self, context: $crate::value::Context, out: &mut $crate::encoder::Encoder) {
                if context.nullable {
                    let marker: i8 = if self.is_some() { 1 } else { -1 };
                    $crate::value::Value::write(&marker, context, out);
                }
                match self {
                    Some(value) => $crate::value::Value::write(value, context, out),
                    None if context.nullable => {}
                    None => $crate::value::Value::write(&$name::default(), context, out),
                }
            }
        }
    };

    (@flexible never) => { i16::MAX };
    (@flexible $version:literal) => { $version };
    (@max $min:literal $max:literal) => { $max };
    (@max $min:literal) => { i16::MAX };
    (@or_never $version:literal) => { $version };
    (@or_never) => { i16::MAX };
    (@tag $tag:literal) => { Some($tag) };
    (@tag) => { None::<u32> };
    (@default $default:expr) => { $default };
    (@default) => { Default::default() };
    (@default_as $type:ty, $default:expr) => { $default };
    (@default_as $type:ty,) => { <$type as Default>::default() };
}

pub(crate) use message;
