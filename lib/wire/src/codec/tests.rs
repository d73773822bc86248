use proptest::prelude::*;

use super::*;

const COMPRESSING: [Codec; 4] = [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

proptest! {
    #[test]
    fn what_was_compressed_comes_back(data in prop::collection::vec(any::<u8>(), 0..100_000)) {
        for &codec in Codec::ALL {
            let compressed = codec.compress(&data).unwrap();
            let back = codec.decompress(compressed, Limits::default()).unwrap();
            prop_assert_eq!(&back[..], &data[..]);
        }
    }

    #[test]
    fn arbitrary_bytes_are_refused_or_bounded(data in prop::collection::vec(any::<u8>(), 0..2_000)) {
        let limits = Limits { max_output_bytes: 10_000, ..Limits::default() };
        for codec in COMPRESSING {
            if let Ok(out) = codec.decompress(Bytes::from(data.clone()), limits) {
                prop_assert!(out.len() <= 10_000);
            }
        }
    }
}

#[test]
fn a_truncated_stream_is_refused() {
    let data: Vec<u8> = (0..20_000u32).flat_map(u32::to_be_bytes).collect();
    for codec in COMPRESSING {
        let compressed = codec.compress(&data).unwrap();
        let cut = compressed.slice(..compressed.len() - 5);
        assert!(
            codec.decompress(cut, Limits::default()).is_err(),
            "{codec:?}"
        );
    }
}

#[test]
fn a_bomb_is_stopped_by_output_and_by_ratio() {
    let zeros = vec![0; 32 << 20];
    for codec in COMPRESSING {
        let compressed = codec.compress(&zeros).unwrap();
        let small = Limits {
            max_output_bytes: 1 << 20,
            ..Limits::default()
        };
        let error = codec.decompress(compressed.clone(), small).unwrap_err();
        assert!(matches!(error, DecompressError::TooLarge { .. }), "{error}");
        assert_eq!(error.error_code(), ErrorCode::CORRUPT_MESSAGE);

        let dense = Limits {
            max_ratio: 10,
            ..Limits::default()
        };
        let ratio_stops = compressed.len() * 10 < zeros.len();
        assert_eq!(
            codec.decompress(compressed, dense).is_err(),
            ratio_stops,
            "{codec:?}"
        );
    }
}

#[test]
fn a_raw_snappy_block_is_read() {
    let data = b"whimbrel whimbrel whimbrel".repeat(20);
    let raw = snap::raw::Encoder::new().compress_vec(&data).unwrap();
    let out = Codec::Snappy
        .decompress(Bytes::from(raw), Limits::default())
        .unwrap();
    assert_eq!(&out[..], &data[..]);
}

#[test]
fn a_snappy_block_claiming_gigabytes_gets_no_memory() {
    for claim in [
        [0xFF, 0xFF, 0xFF, 0xFF, 0x0F, 0x00],
        [0xFF, 0xFF, 0xFF, 0x0F, 0x00, 0x00],
    ] {
        let error = Codec::Snappy
            .decompress(Bytes::copy_from_slice(&claim), Limits::default())
            .unwrap_err();
        assert_eq!(error.error_code(), ErrorCode::CORRUPT_MESSAGE);
    }
}

#[test]
fn xerial_framing_with_bad_lengths_is_refused() {
    let good = Codec::Snappy.compress(b"whimbrel").unwrap();
    for length in [i32::MAX, -1, i32::MIN] {
        let mut bad = good.to_vec();
        bad[16..20].copy_from_slice(&length.to_be_bytes());
        assert!(
            Codec::Snappy
                .decompress(Bytes::from(bad), Limits::default())
                .is_err()
        );
    }
    for len in 8..good.len() {
        let cut = good.slice(..len);
        // Header alone is an empty stream.
        assert_eq!(
            Codec::Snappy.decompress(cut, Limits::default()).is_ok(),
            len == 16,
            "{len}"
        );
    }
}

#[test]
fn a_legacy_zstd_frame_is_an_unsupported_codec() {
    let frame = [0x25, 0xB5, 0x2F, 0xFD, 0, 0, 0, 0, 0];
    let error = Codec::Zstd
        .decompress(Bytes::copy_from_slice(&frame), Limits::default())
        .unwrap_err();
    assert_eq!(error.error_code(), ErrorCode::UNSUPPORTED_COMPRESSION_TYPE);
}
