//! Valid messages as bytes, made from the declared fields and nothing else: an encoder of its own, against which the
//! crate's decoder is held.

use rand::Rng;
use rand::rngs::StdRng;
use whimbrel_wire::{Field, Kind, varint};

/// Writes random messages of one version.
pub struct Generator<'a> {
    pub version: i16,
    pub flexible: bool,
    pub random: &'a mut StdRng,
}

impl Generator<'_> {
    /// One struct with these fields.
    pub fn message(&mut self, fields: &[Field]) -> Vec<u8> {
        let mut out = Vec::new();
        self.fields(fields, &mut out);
        out
    }

    fn fields(&mut self, fields: &[Field], out: &mut Vec<u8>) {
        let here =
            |field: &&Field| field.min_version <= self.version && self.version <= field.max_version;
        let (tagged, plain): (Vec<&Field>, Vec<&Field>) =
            fields.iter().filter(here).partition(|f| f.tag.is_some());
        for field in plain {
            self.field(field, out);
        }
        if !self.flexible {
            assert!(tagged.is_empty(), "tagged fields need a flexible version");
            return;
        }
        let mut present = Vec::new();
        for field in tagged {
            if self.random.random_bool(0.7) {
                let mut value = Vec::new();
                self.field(field, &mut value);
                present.push((field.tag.unwrap(), value));
            }
        }
        varint::put_unsigned(out, u32::try_from(present.len()).unwrap());
        for (tag, value) in present {
            varint::put_unsigned(out, tag);
            varint::put_unsigned(out, u32::try_from(value.len()).unwrap());
            out.extend_from_slice(&value);
        }
    }

    fn field(&mut self, field: &Field, out: &mut Vec<u8>) {
        let nullable = field.null_from <= self.version;
        if nullable && self.random.random_bool(0.2) {
            match (self.flexible, field.kind) {
                (_, Kind::Struct(_)) => out.extend_from_slice(&(-1i8).to_be_bytes()),
                (true, _) => out.push(0),
                (false, Kind::String) => out.extend_from_slice(&(-1i16).to_be_bytes()),
                (false, _) => out.extend_from_slice(&(-1i32).to_be_bytes()),
            }
            return;
        }
        if nullable && matches!(field.kind, Kind::Struct(_)) {
            out.push(1);
        }
        self.value(field.kind, out);
    }

    fn value(&mut self, kind: Kind, out: &mut Vec<u8>) {
        match kind {
            Kind::Bool => out.push(u8::from(self.random.random_bool(0.5))),
            Kind::Int8 => self.number(1, out),
            Kind::Int16 => self.number(2, out),
            Kind::Int32 => self.number(4, out),
            Kind::Int64 => self.number(8, out),
            // No NaN: it is not equal to itself.
            Kind::Float64 => {
                out.extend_from_slice(&f64::from(self.random.random::<i32>()).to_be_bytes());
            }
            Kind::Uuid => self.number(16, out),
            Kind::String => {
                let len = self.random.random_range(0..12);
                let string: String = (0..len)
                    .map(|_| self.random.random_range('!'..'\u{2FF}'))
                    .collect();
                self.length(string.len(), 2, out);
                out.extend_from_slice(string.as_bytes());
            }
            Kind::Bytes => {
                let len = if self.random.random_bool(0.1) {
                    5_000
                } else {
                    self.random.random_range(0..20)
                };
                self.length(len, 4, out);
                self.number(len, out);
            }
            Kind::Array(element) => {
                let count = self.random.random_range(0..4);
                self.length(count, 4, out);
                for _ in 0..count {
                    self.value(*element, out);
                }
            }
            Kind::Struct(fields) => self.fields(fields, out),
        }
    }

    fn number(&mut self, len: usize, out: &mut Vec<u8>) {
        match self.random.random_range(0..8) {
            0 => out.extend(std::iter::repeat_n(0xFF, len)),
            1 => out.extend(std::iter::repeat_n(0, len)),
            _ => out.extend((0..len).map(|_| self.random.random::<u8>())),
        }
    }

    fn length(&self, len: usize, fixed: usize, out: &mut Vec<u8>) {
        let len = u32::try_from(len).unwrap();
        if self.flexible {
            varint::put_unsigned(out, len + 1);
        } else {
            out.extend_from_slice(&len.to_be_bytes()[4 - fixed..]);
        }
    }
}
