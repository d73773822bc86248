//! Requests that are as much work as their bytes can be: made from the declared fields, with long names and lists as
//! long as wanted.

use whimbrel_wire::{ApiKey, Field, Kind, messages::SHAPES, varint};

use crate::raw::plain;

/// How much of everything.
#[derive(Clone, Copy)]
pub struct Measure {
    /// Letters of every string outside the innermost lists.
    pub letters: usize,
    /// Elements of the innermost lists.
    pub elements: usize,
}

/// Header and message of the API's newest version, without the length in front.
pub fn request(key: ApiKey, measure: Measure) -> Vec<u8> {
    let shape = SHAPES
        .iter()
        .find(|shape| shape.key == key && !shape.is_response)
        .unwrap();
    let version = key.versions().1;
    let mut body = plain(key, version);
    let mut dense = Dense {
        version,
        is_flexible: key.is_flexible(version),
        measure,
        is_inner: false,
    };
    dense.fields(shape.fields, &mut body);
    body
}

struct Dense {
    version: i16,
    is_flexible: bool,
    measure: Measure,
    is_inner: bool,
}

impl Dense {
    fn fields(&mut self, fields: &[Field], out: &mut Vec<u8>) {
        for field in fields {
            if !self.has(field) {
                continue;
            }
            let is_nullable = field.null_from <= self.version;
            match field.kind {
                // Null where nothing is gained by a value.
                Kind::Struct(_) if is_nullable => out.push(0xff),
                Kind::Bytes if is_nullable => self.length(None, 4, out),
                kind => self.value(kind, out),
            }
        }
        if self.is_flexible {
            out.push(0);
        }
    }

    fn has(&self, field: &Field) -> bool {
        field.tag.is_none() && (field.min_version..=field.max_version).contains(&self.version)
    }

    fn value(&mut self, kind: Kind, out: &mut Vec<u8>) {
        match kind {
            Kind::Bool | Kind::Int8 => out.push(0),
            Kind::Int16 => out.extend([0; 2]),
            Kind::Int32 => out.extend([0; 4]),
            Kind::Int64 | Kind::Float64 => out.extend([0; 8]),
            Kind::Uuid => out.extend([0; 16]),
            Kind::Bytes => self.length(Some(0), 4, out),
            Kind::String => {
                let letters = if self.is_inner {
                    0
                } else {
                    self.measure.letters
                };
                self.length(Some(letters), 2, out);
                out.resize(out.len() + letters, b'x');
            }
            Kind::Array(element) => {
                let is_innermost = !self.holds_list(*element);
                let count = if self.is_inner {
                    0
                } else if is_innermost {
                    self.measure.elements
                } else {
                    1
                };
                self.length(Some(count), 4, out);
                let outside = self.is_inner;
                self.is_inner |= is_innermost;
                for _ in 0..count {
                    self.value(*element, out);
                }
                self.is_inner = outside;
            }
            Kind::Struct(fields) => self.fields(fields, out),
        }
    }

    fn holds_list(&self, kind: Kind) -> bool {
        match kind {
            Kind::Array(_) => true,
            Kind::Struct(fields) => fields
                .iter()
                .any(|field| self.has(field) && self.holds_list(field.kind)),
            _ => false,
        }
    }

    fn length(&self, length: Option<usize>, fixed: usize, out: &mut Vec<u8>) {
        let length = length.map(|length| u32::try_from(length).unwrap());
        if self.is_flexible {
            varint::put_unsigned(out, length.map_or(0, |length| length + 1));
        } else {
            let length = length.map_or(-1, |length| i32::try_from(length).unwrap());
            out.extend_from_slice(&length.to_be_bytes()[4 - fixed..]);
        }
    }
}
