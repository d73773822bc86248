//! Kafka bytes: frames, messages, record batches. Sans-IO.
//!
//! Everything here turns bytes into values and back and does nothing else: no sockets, no clock, no tasks. All
//! input counts as hostile. Decoding never panics, checks every count and length before it allocates, and keeps
//! within a [`Budget`]. Record bytes are never copied: a decoded Produce or Fetch holds slices of the frame, and
//! an encoded one is a list of chunks.
//!
//! * [`frame`] - length prefix, request and response headers.
//! * [`messages`] - one module per API, each declared once with the `message!` macro.
//! * [`batch`], [`record`], [`control`] - record batches of format 2.
//! * [`codec`] - the four compressions, with bounded output.
//! * [`internal`] - records of `__consumer_offsets`.

mod api_key;
pub mod batch;
pub mod codec;
pub mod control;
mod decoder;
mod encoder;
mod error_code;
pub mod frame;
pub mod internal;
mod message;
pub mod messages;
pub mod record;
mod value;
pub mod varint;

pub use api_key::{
    ApiKey, SupportedApi, UnknownApiKey, request_header_version, response_header_version,
    supported_apis,
};
pub use batch::{
    Batch, BatchBuilder, BatchError, BatchHeader, Batches, BuildError, ProduceRules,
    validate_produce,
};
pub use codec::Codec;
pub use decoder::{Budget, DecodeError, Decoder, Fault, MAX_TAGGED_FIELDS};
pub use encoder::{Encoder, KEEP_BYTES};
pub use error_code::ErrorCode;
pub use frame::{FrameError, RequestHeader};
pub use message::{Field, Kind, Message};
pub use messages::Request;
pub use record::{Header, Record, RecordError};
pub use value::{Context, Value};
