//! Damage: what networks and disks do, and what somebody would who has read the decoder.

use super::Random;

/// Numbers at which counts and lengths go wrong, in the forms in which they are written.
const NUMBERS: &[&[u8]] = &[
    &[0],
    &[1],
    &[0x7F],
    &[0x80],
    &[0xFF],
    &[0xFF, 0xFF],
    &[0x7F, 0xFF],
    &[0x80, 0x00],
    &[0, 0, 0, 0],
    &[0, 0, 0, 1],
    &[0x7F, 0xFF, 0xFF, 0xFF],
    &[0x80, 0, 0, 0],
    &[0xFF, 0xFF, 0xFF, 0xFE],
    &[0xFF, 0xFF, 0xFF, 0xFF],
    &[0x00, 0x10, 0x00, 0x00],
    &[0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF],
    &[0x80, 0, 0, 0, 0, 0, 0, 0],
    &[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF],
    // Of variable length: 2^28, 2^32 - 1, too long, -2^63 in zigzag.
    &[0x80, 0x80, 0x80, 0x80, 0x01],
    &[0xFF, 0xFF, 0xFF, 0xFF, 0x0F],
    &[0x80, 0x80, 0x80, 0x80, 0x80, 0x01],
    &[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01],
];

/// Changes `body` in a few places; `other` is another input of the same kind to take pieces from.
pub fn mutate(body: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    for _ in 0..=random.below(4) {
        one(body, other, random);
    }
}

fn one(body: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let at = random.below(body.len());
    let length = 1 + random.below(16);
    let end = body.len().min(at + length);
    match random.below(10) {
        0 if !body.is_empty() => body[at] ^= 1 << random.below(8),
        1 if !body.is_empty() => body[at] = random.byte(),
        2 | 3 => overwrite(body, at, random.pick::<&[u8]>(NUMBERS)),
        4 => insert(body, at, random.pick::<&[u8]>(NUMBERS)),
        5 => body.truncate(at),
        6 => drop(body.drain(at.min(end)..end)),
        7 => {
            let piece = body[at.min(end)..end].to_vec();
            insert(body, at, &piece.repeat(1 + random.below(40)));
        }
        8 => {
            let from = random.below(other.len());
            let upto = other.len().min(from + 1 + random.below(64));
            let piece = &other[from.min(upto)..upto];
            if random.one_in(2) {
                overwrite(body, at, piece);
            } else {
                insert(body, at, piece);
            }
        }
        _ => {
            let piece = random.bytes(length);
            insert(body, at, &piece);
        }
    }
}

fn overwrite(body: &mut [u8], at: usize, piece: &[u8]) {
    for (byte, new) in body.iter_mut().skip(at).zip(piece) {
        *byte = *new;
    }
}

fn insert(body: &mut Vec<u8>, at: usize, piece: &[u8]) {
    let at = at.min(body.len());
    body.splice(at..at, piece.iter().copied());
}
