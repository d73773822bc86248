//! Messages made from their declared fields.

use whimbrel_wire::{Field, Kind, varint};

use super::Random;

/// Names that mean something somewhere.
const NAMES: &[&str] = &[
    "",
    "t",
    "a-topic",
    "range",
    "consumer",
    "retention.ms",
    "ä",
    "x.y_z",
];

/// A message of this version.
pub fn message(fields: &[Field], version: i16, is_flexible: bool, random: &mut Random) -> Vec<u8> {
    let mut out = Vec::new();
    let writer = Writer {
        version,
        is_flexible,
    };
    writer.fields(fields, random, &mut out);
    out
}

#[derive(Clone, Copy)]
struct Writer {
    version: i16,
    is_flexible: bool,
}

impl Writer {
    fn fields(self, fields: &[Field], random: &mut Random, out: &mut Vec<u8>) {
        let here = |f: &&Field| (f.min_version..=f.max_version).contains(&self.version);
        for field in fields.iter().filter(here).filter(|f| f.tag.is_none()) {
            self.field(field, random, out);
        }
        if !self.is_flexible {
            return;
        }
        let mut tagged = Vec::new();
        for field in fields.iter().filter(here) {
            if let Some(tag) = field.tag
                && random.one_in(2)
            {
                let mut value = Vec::new();
                self.field(field, random, &mut value);
                tagged.push((tag, value));
            }
        }
        put_count(out, tagged.len());
        for (tag, value) in tagged {
            varint::put_unsigned(out, tag);
            put_count(out, value.len());
            out.extend(value);
        }
    }

    fn field(self, field: &Field, random: &mut Random, out: &mut Vec<u8>) {
        let is_nullable = field.null_from <= self.version;
        let is_null = is_nullable && random.one_in(5);
        match field.kind {
            Kind::Struct(_) if is_null => out.push(0xFF),
            kind if is_null => self.length(None, kind, out),
            Kind::Struct(fields) => {
                if is_nullable {
                    out.push(1);
                }
                self.fields(fields, random, out);
            }
            kind => self.value(kind, random, out),
        }
    }

    fn value(self, kind: Kind, random: &mut Random, out: &mut Vec<u8>) {
        match kind {
            Kind::Bool => out.push(u8::from(random.one_in(2))),
            Kind::Int8 => number(1, random, out),
            Kind::Int16 => number(2, random, out),
            Kind::Int32 => number(4, random, out),
            Kind::Int64 | Kind::Float64 => number(8, random, out),
            Kind::Uuid => number(16, random, out),
            Kind::String => {
                let name = *random.pick(NAMES);
                self.length(Some(name.len()), kind, out);
                out.extend_from_slice(name.as_bytes());
            }
            Kind::Bytes => {
                let length = random.below(30);
                self.length(Some(length), kind, out);
                out.extend(random.bytes(length));
            }
            Kind::Array(element) => {
                let count = random.below(4);
                self.length(Some(count), kind, out);
                for _ in 0..count {
                    self.value(*element, random, out);
                }
            }
            Kind::Struct(fields) => self.fields(fields, random, out),
        }
    }

    fn length(self, length: Option<usize>, kind: Kind, out: &mut Vec<u8>) {
        if self.is_flexible {
            put_count(out, length.map_or(0, |length| length + 1));
            return;
        }
        let signed = length.map_or(-1, |length| i32::try_from(length).unwrap_or(i32::MAX));
        let bytes = signed.to_be_bytes();
        let skipped = if matches!(kind, Kind::String) { 2 } else { 0 };
        out.extend_from_slice(&bytes[skipped..]);
    }
}

fn number(length: usize, random: &mut Random, out: &mut Vec<u8>) {
    match random.below(4) {
        0 => out.extend(random.bytes(length)),
        1 => out.extend(std::iter::repeat_n(0xFF, length)),
        _ => {
            out.extend(std::iter::repeat_n(0, length - 1));
            out.push(random.byte() & 0x0F);
        }
    }
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    varint::put_unsigned(out, u32::try_from(count).unwrap_or(u32::MAX));
}
