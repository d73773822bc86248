//! Frames: a length, a header, a message.
//!
//! ```text
//! i32 length | request: i16 api key, i16 version, i32 correlation id, string client id [, tagged fields] | message
//! i32 length | response: i32 correlation id [, tagged fields] | message
//! ```
//!
//! The client id is of the old string form in every header version (KIP-511), and tagged fields of headers are
//! skipped: Kafka defines none.

use bytes::{BufMut, Bytes};

use crate::api_key::{ApiKey, UnknownApiKey, request_header_version, response_header_version};
use crate::decoder::{DecodeError, Decoder};
use crate::encoder::Encoder;
use crate::message::Message;
use crate::value::{Context, Value};

/// Bytes of the length before a frame.
pub const LENGTH_LEN: usize = 4;

/// A frame that cannot be read; the connection cannot go on after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Zero or negative.
    #[error("frame length {0}")]
    BadLength(i32),
    /// Longer than allowed. What an HTTP or TLS client sends first reads as 0.3 to 1.2 GB.
    #[error("frame of {length} bytes, at most {max} are allowed")]
    TooLong {
        /// Length claimed.
        length: usize,
        /// Length allowed.
        max: usize,
    },
    /// An API this crate does not speak.
    #[error(transparent)]
    UnknownApiKey(#[from] UnknownApiKey),
    /// A header that is none.
    #[error("header: {0}")]
    Header(#[from] DecodeError),
}

impl FrameError {
    /// Never: the same bytes stay what they are.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        false
    }
}

/// The length a frame's first four bytes announce.
///
/// # Errors
/// [`FrameError::BadLength`], [`FrameError::TooLong`]; nothing may be allocated for such a frame.
pub fn frame_length(prefix: [u8; LENGTH_LEN], max: usize) -> Result<usize, FrameError> {
    let signed = i32::from_be_bytes(prefix);
    let length = usize::try_from(signed).unwrap_or(0);
    if length == 0 {
        return Err(FrameError::BadLength(signed));
    }
    if length > max {
        return Err(FrameError::TooLong { length, max });
    }
    Ok(length)
}

/// Who asks, and how to answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHeader {
    /// The API.
    pub api_key: ApiKey,
    /// The version, which may be one we do not speak: see [`Self::is_supported`].
    pub api_version: i16,
    /// To be repeated in the response.
    pub correlation_id: i32,
    /// What the client calls itself; its own claim, of any content.
    pub client_id: Option<String>,
}

impl RequestHeader {
    /// Whether this crate can decode the request. If not, an ApiVersions request is answered with a version 0 body and
    /// UNSUPPORTED_VERSION, any other by closing the connection.
    #[must_use]
    pub const fn is_supported(&self) -> bool {
        self.api_key.supports(self.api_version)
    }
}

const fn context(flexible: bool, nullable: bool) -> Context {
    Context {
        version: 0,
        flexible,
        nullable,
    }
}

/// Reads a request's header; the message follows.
///
/// # Errors
/// [`FrameError::UnknownApiKey`], [`FrameError::Header`].
pub fn decode_request_header(input: &mut Decoder) -> Result<RequestHeader, FrameError> {
    let plain = context(false, true);
    let key = i16::read(plain, input).map_err(|error| error.within("api_key"))?;
    let api_version = i16::read(plain, input).map_err(|error| error.within("api_version"))?;
    let correlation_id = i32::read(plain, input).map_err(|error| error.within("correlation_id"))?;
    let api_key = ApiKey::try_from(key)?;
    let client_id =
        Option::<String>::read(plain, input).map_err(|error| error.within("client_id"))?;
    if request_header_version(api_key, api_version) >= 2 {
        skip_tagged_fields(input)?;
    }
    Ok(RequestHeader {
        api_key,
        api_version,
        correlation_id,
        client_id,
    })
}

/// Reads a response's header and returns its correlation id; the message follows.
///
/// # Errors
/// [`FrameError::Header`].
pub fn decode_response_header(
    key: ApiKey,
    version: i16,
    input: &mut Decoder,
) -> Result<i32, FrameError> {
    let correlation_id =
        i32::read(context(false, false), input).map_err(|error| error.within("correlation_id"))?;
    if response_header_version(key, version) >= 1 {
        skip_tagged_fields(input)?;
    }
    Ok(correlation_id)
}

fn skip_tagged_fields(input: &mut Decoder) -> Result<(), DecodeError> {
    input
        .tagged_fields(|_, _| Ok(false))
        .map_err(|error| error.within("tagged fields"))
}

/// A request, length included.
#[must_use]
pub fn encode_request_frame(header: &RequestHeader, message: &impl Message) -> Vec<Bytes> {
    let mut out = Encoder::new();
    out.buffer().put_i32(0);
    out.buffer().put_i16(header.api_key as i16);
    out.buffer().put_i16(header.api_version);
    out.buffer().put_i32(header.correlation_id);
    header.client_id.write(context(false, true), &mut out);
    if request_header_version(header.api_key, header.api_version) >= 2 {
        out.put_unsigned_varint(0);
    }
    message.encode(header.api_version, &mut out);
    out.patch_frame_length();
    out.finish()
}

/// A response, length included.
#[must_use]
pub fn encode_response_frame(
    correlation_id: i32,
    key: ApiKey,
    version: i16,
    message: &impl Message,
) -> Vec<Bytes> {
    let mut out = Encoder::new();
    out.buffer().put_i32(0);
    out.buffer().put_i32(correlation_id);
    if response_header_version(key, version) >= 1 {
        out.put_unsigned_varint(0);
    }
    message.encode(version, &mut out);
    out.patch_frame_length();
    out.finish()
}
