//! Rows of the bad-input catalogue that concern frames and messages.

use bytes::{BufMut, Bytes, BytesMut};
use rand::SeedableRng;
use rand::rngs::StdRng;
use whimbrel_wire::frame::{
    decode_request_header, decode_response_header, encode_request_frame, frame_length,
};
use whimbrel_wire::messages::{api_versions, fetch, metadata};
use whimbrel_wire::{ApiKey, Budget, Decoder, Fault, FrameError, Message, RequestHeader, varint};

use crate::cases;
use crate::wire_bytes::Generator;

#[test]
fn truncation_at_every_byte_is_refused() {
    for case in cases::all() {
        for version in case.versions.0..=case.versions.1 {
            for seed in 0..4 {
                let mut random = StdRng::seed_from_u64(seed);
                let flexible = case.flexible(version);
                let bytes = Bytes::from(
                    Generator {
                        version,
                        flexible,
                        random: &mut random,
                    }
                    .message(case.fields),
                );
                let step = bytes.len().div_ceil(2_000).max(1);
                for len in (0..bytes.len()).step_by(step) {
                    let cut = bytes.slice(..len);
                    assert!(
                        !(case.decode)(version, cut, Budget::new(1 << 20)),
                        "{} v{version}: {len}",
                        case.name
                    );
                }
                let longer = Bytes::from([&bytes[..], &[0]].concat());
                assert!(
                    !(case.decode)(version, longer, Budget::new(1 << 20)),
                    "{} v{version}",
                    case.name
                );
            }
        }
    }
}

#[test]
fn frame_lengths_out_of_range_are_refused() {
    assert_eq!(
        frame_length((-1i32).to_be_bytes(), 100),
        Err(FrameError::BadLength(-1))
    );
    assert_eq!(
        frame_length(i32::MIN.to_be_bytes(), 100),
        Err(FrameError::BadLength(i32::MIN))
    );
    assert_eq!(frame_length([0; 4], 100), Err(FrameError::BadLength(0)));
    assert!(matches!(
        frame_length(i32::MAX.to_be_bytes(), 100),
        Err(FrameError::TooLong { .. })
    ));
    assert!(matches!(
        frame_length(*b"GET ", 100 << 20),
        Err(FrameError::TooLong { .. })
    ));
    assert!(matches!(
        frame_length([0x16, 3, 1, 2], 100 << 20),
        Err(FrameError::TooLong { .. })
    ));
    assert_eq!(frame_length(100i32.to_be_bytes(), 100), Ok(100));
    assert!(frame_length(101i32.to_be_bytes(), 100).is_err());
}

fn header(key: i16, version: i16, rest: &[u8]) -> Result<RequestHeader, FrameError> {
    let mut bytes = BytesMut::new();
    bytes.put_i16(key);
    bytes.put_i16(version);
    bytes.put_i32(7);
    bytes.put_slice(rest);
    let budget = Budget::for_frame(bytes.len());
    decode_request_header(&mut Decoder::new(bytes.freeze(), budget))
}

#[test]
fn headers_are_read_in_both_forms() {
    let plain = header(3, 1, b"\0\x02me").unwrap();
    assert_eq!(plain.client_id.as_deref(), Some("me"));
    assert_eq!(
        (plain.api_key, plain.api_version, plain.correlation_id),
        (ApiKey::Metadata, 1, 7)
    );
    let flexible = header(3, 9, b"\xFF\xFF\x01\x05\x02ab").unwrap();
    assert_eq!(flexible.client_id, None);
    // The future's ApiVersions must be readable in order to be answered with UNSUPPORTED_VERSION.
    let future = header(18, 99, b"\0\x02me\0").unwrap();
    assert!(!future.is_supported());
    assert!(!header(3, -1, b"\0\x02me").unwrap().is_supported());
}

#[test]
fn hostile_headers_are_refused() {
    assert!(matches!(
        header(4711, 0, b"\0\0"),
        Err(FrameError::UnknownApiKey(_))
    ));
    for rest in [
        &b""[..],
        b"\xFF\xFE",                     // client id of length -2
        b"\x7F\xFFshort",                // client id longer than the frame
        b"\0\x02\xC3\x28",               // client id not UTF-8
        b"\0\0",                         // no tagged fields in a flexible version
        b"\0\0\x41",                     // 65 tagged fields
        b"\0\0\x01\0\x05ab",             // tagged field past the end
        b"\0\0\x02\x01\0\x01\0",         // the same tag twice
        b"\0\0\x02\x02\0\x01\0",         // tags that fall
        b"\0\0\xFF\xFF\xFF\xFF\x7F",     // count overflows
        b"\0\0\xFF\xFF\xFF\xFF\xFF\xFF", // count without end
    ] {
        assert!(
            matches!(header(3, 9, rest), Err(FrameError::Header(_))),
            "{rest:?}"
        );
    }
}

#[test]
fn a_flood_of_tagged_fields_is_refused_before_it_is_read() {
    let mut flood = BytesMut::from(&b"\0\0"[..]);
    varint::put_unsigned(&mut flood, 5_000_000);
    for tag in 0..5_000_000 {
        varint::put_unsigned(&mut flood, tag);
        flood.put_u8(0);
    }
    let Err(FrameError::Header(error)) = header(18, 3, &flood) else {
        panic!("the flood was read");
    };
    assert_eq!(error.fault, Fault::TooManyTags(5_000_000));
}

#[test]
fn counts_beyond_the_frame_are_refused() {
    // Four bytes that abort a decoder which allocates on the sender's word.
    let huge = Bytes::from_static(&[0x7F, 0xFF, 0xFF, 0xFF]);
    let error = metadata::Request::from_bytes(8, huge).unwrap_err();
    assert!(
        matches!(
            error.fault,
            Fault::TooManyElements {
                count: 0x7FFF_FFFF,
                ..
            }
        ),
        "{error}"
    );
    let minus_two = Bytes::from_static(&[0xFF, 0xFF, 0xFF, 0xFE]);
    assert_eq!(
        metadata::Request::from_bytes(8, minus_two)
            .unwrap_err()
            .fault,
        Fault::BadLength(-2)
    );
    // Null is all topics from version 1 on, and nothing in version 0.
    let null = Bytes::from_static(&[0xFF, 0xFF, 0xFF, 0xFF]);
    assert_eq!(
        metadata::Request::from_bytes(0, null.clone())
            .unwrap_err()
            .fault,
        Fault::Null
    );
    assert_eq!(
        metadata::Request::from_bytes(1, null).map(|request| request.topics),
        Ok(None)
    );

    let mut body = BytesMut::new();
    body.put_slice(&[0; 4 + 4 + 4 + 1 + 4 + 4]);
    body.put_slice(&[0xFF, 0xFF, 0xFF, 0xFF, 0x0F]);
    let error = fetch::Request::from_bytes(12, body.freeze()).unwrap_err();
    assert_eq!(error.field, "topics");
    assert!(
        matches!(error.fault, Fault::TooManyElements { .. }),
        "{error}"
    );
}

#[test]
fn more_structs_than_the_frame_is_worth_are_refused() {
    let mut body = BytesMut::new();
    body.put_i32(50_000);
    body.put_slice(&[0; 100_000]);
    body.put_u8(1);
    let mut input = Decoder::new(body.clone().freeze(), Budget::new(100_000));
    let error = metadata::Request::decode(4, &mut input).unwrap_err();
    assert!(matches!(error.fault, Fault::OverBudget { .. }), "{error}");
}

#[test]
fn a_tagged_field_must_fill_its_size() {
    // NodeEndpoints (tag 0) of a Fetch response, an empty array, in two bytes instead of one.
    let body = |size: u8, value: &[u8]| {
        let mut bytes = BytesMut::from(&[0; 4 + 2 + 4][..]);
        bytes.put_slice(&[1, 1, 0, size]);
        bytes.put_slice(value);
        fetch::Response::from_bytes(16, bytes.freeze())
    };
    assert!(body(1, &[1]).is_ok());
    assert_eq!(body(2, &[1, 0]).unwrap_err().fault, Fault::LeftOver(1));
    assert!(body(0, &[]).is_err());
}

#[test]
fn unknown_tagged_fields_are_passed_over() {
    let bytes = Bytes::from_static(b"\x02a\x02b\x02\x05\x01x\x3F\x00");
    let request = api_versions::Request::from_bytes(3, bytes).unwrap();
    assert_eq!(
        (
            request.client_software_name.as_str(),
            request.client_software_version.as_str()
        ),
        ("a", "b")
    );
    assert_eq!(&request.to_bytes(3)[..], b"\x02a\x02b\0");
}

#[test]
fn versions_we_do_not_speak_are_refused() {
    for case in cases::all() {
        for version in [
            case.versions.0 - 1,
            case.versions.1 + 1,
            -1,
            i16::MAX,
            i16::MIN,
        ] {
            if version < case.versions.0 || version > case.versions.1 {
                let error = (case.recode)(version, Bytes::from_static(&[0; 64])).unwrap_err();
                assert_eq!(error.fault, Fault::UnsupportedVersion(version));
            }
        }
    }
}

#[test]
fn frames_carry_their_length_and_header() {
    for version in [2, 3] {
        let request = api_versions::Request {
            client_software_name: "w".into(),
            ..Default::default()
        };
        let header = RequestHeader {
            api_key: ApiKey::ApiVersions,
            api_version: version,
            correlation_id: 9,
            client_id: Some("me".into()),
        };
        let frame = encode_request_frame(&header, &request).concat();
        let (prefix, rest) = frame.split_first_chunk::<4>().unwrap();
        assert_eq!(frame_length(*prefix, 1_000), Ok(rest.len()));
        let mut input = Decoder::new(Bytes::copy_from_slice(rest), Budget::new(1_000));
        assert_eq!(decode_request_header(&mut input), Ok(header));
        let decoded = api_versions::Request::decode(version, &mut input).unwrap();
        input.finish().unwrap();
        assert_eq!(
            decoded.client_software_name,
            if version == 3 { "w" } else { "" }
        );
    }
    for (key, version) in [
        (ApiKey::Metadata, 8),
        (ApiKey::Metadata, 9),
        (ApiKey::ApiVersions, 3),
    ] {
        let frame = whimbrel_wire::frame::encode_response_frame(
            9,
            key,
            version,
            &metadata::Response::default(),
        )
        .concat();
        let mut input = Decoder::new(Bytes::copy_from_slice(&frame[4..]), Budget::new(1_000));
        assert_eq!(decode_response_header(key, version, &mut input), Ok(9));
        assert!(metadata::Response::decode(version, &mut input).is_ok());
        input.finish().unwrap();
    }
}
