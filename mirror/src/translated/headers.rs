//! Record headers for librdkafka, whatever their keys are.
//!
//! Kafka's header keys are bytes; rdkafka's safe interface takes only text and would refuse, or on reading
//! panic on, the rest. librdkafka itself takes a length, so the bytes go to it directly. This is the only
//! unsafe code of the crate.

use std::ffi::{c_char, c_void};

use rdkafka::{
    bindings::{rd_kafka_header_add, rd_kafka_headers_t},
    message::OwnedHeaders,
    types::RDKafkaRespErr,
};
use whimbrel_wire::Header;

/// librdkafka could not take a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("librdkafka refused a record header of {key_bytes} and {value_bytes} bytes")]
pub struct HeaderRefused {
    pub key_bytes: usize,
    pub value_bytes: usize,
}

/// The same headers in the same order, duplicates and nulls included; `None` for none.
pub fn native(headers: &[Header]) -> Result<Option<OwnedHeaders>, HeaderRefused> {
    if headers.is_empty() {
        return Ok(None);
    }
    let owned = OwnedHeaders::new_with_capacity(headers.len());
    for header in headers {
        add(&owned, &header.key, header.value.as_deref())?;
    }
    Ok(Some(owned))
}

#[expect(
    unsafe_code,
    reason = "header keys that are not UTF-8 have no safe way into librdkafka"
)]
fn add(headers: &OwnedHeaders, key: &[u8], value: Option<&[u8]>) -> Result<(), HeaderRefused> {
    let refused = HeaderRefused {
        key_bytes: key.len(),
        value_bytes: value.map_or(0, <[u8]>::len),
    };
    let key_len = key.len().try_into().map_err(|_| refused)?;
    let value_len = refused.value_bytes.try_into().map_err(|_| refused)?;
    let value_at = value.map_or(std::ptr::null(), |v| v.as_ptr().cast::<c_void>());
    // A borrowed view of owned headers *is* the address of librdkafka's list (rdkafka casts it back the
    // same way), and `headers` owns that list alone and keeps it alive during the call.
    let list = std::ptr::from_ref(headers.as_borrowed())
        .cast::<rd_kafka_headers_t>()
        .cast_mut();
    // SAFETY: `list` is a live, writable list; key and value are readable for the lengths given, and
    // librdkafka copies both before it returns.
    let error = unsafe {
        rd_kafka_header_add(
            list,
            key.as_ptr().cast::<c_char>(),
            key_len,
            value_at,
            value_len,
        )
    };
    if error == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
        Ok(())
    } else {
        Err(refused)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use rdkafka::message::Headers;

    use super::*;

    #[test]
    fn keys_that_are_text_come_back_with_duplicates_and_nulls() {
        let header = |key: &'static [u8], value: Option<&'static [u8]>| Header {
            key: Bytes::from_static(key),
            value: value.map(Bytes::from_static),
        };
        let headers = [
            header(b"a", Some(b"1")),
            header(b"a", None),
            header(b"", Some(b"")),
        ];
        let owned = native(&headers).unwrap().unwrap();
        let read: Vec<_> = owned
            .iter()
            .map(|h| (h.key.to_owned(), h.value.map(<[u8]>::to_vec)))
            .collect();
        assert_eq!(
            read,
            [
                ("a".into(), Some(b"1".to_vec())),
                ("a".into(), None),
                (String::new(), Some(Vec::new()))
            ]
        );
        assert_eq!(
            native(&[header(b"\xff\xfe", Some(b"x"))])
                .unwrap()
                .unwrap()
                .count(),
            1
        );
        assert!(native(&[]).unwrap().is_none());
    }
}
