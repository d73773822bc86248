//! The subject of an X.509 certificate as text (RFC 2253), which is what Kafka calls its bearer.
//!
//! Reads only what stands before the subject, of certificates that TLS has verified; what does not read as expected
//! names nobody.

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OID: u8 = 0x06;
const EXPLICIT_VERSION: u8 = 0xa0;
const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;
const IA5_STRING: u8 = 0x16;

/// Attributes that have a name in RFC 2253, by their object identifiers' bytes.
const NAMES: [(&[u8], &str); 9] = [
    (&[0x55, 4, 3], "CN"),
    (&[0x55, 4, 6], "C"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 9], "STREET"),
    (&[0x55, 4, 10], "O"),
    (&[0x55, 4, 11], "OU"),
    (
        &[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1],
        "UID",
    ),
    (
        &[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25],
        "DC",
    ),
];

/// DER values one after another.
struct Values<'a>(&'a [u8]);

impl<'a> Values<'a> {
    /// The next value's tag, its content, and all of it.
    fn next(&mut self) -> Option<(u8, &'a [u8], &'a [u8])> {
        let (&tag, after) = self.0.split_first()?;
        let (&first, after) = after.split_first()?;
        let (length, after) = match first {
            0..=0x7f => (usize::from(first), after),
            0x81..=0x84 => {
                let (digits, after) = after.split_at_checked(usize::from(first & 0x7f))?;
                let length = digits
                    .iter()
                    .fold(0_usize, |sum, digit| (sum << 8) | usize::from(*digit));
                (length, after)
            }
            _ => return None,
        };
        let (content, rest) = after.split_at_checked(length)?;
        let whole = &self.0[..self.0.len() - rest.len()];
        self.0 = rest;
        Some((tag, content, whole))
    }

    fn of(&mut self, wanted: u8) -> Option<&'a [u8]> {
        self.next()
            .filter(|(tag, ..)| *tag == wanted)
            .map(|(_, content, _)| content)
    }
}

/// The subject of a certificate in DER, most particular part first.
pub fn of(certificate: &[u8]) -> Option<String> {
    let mut signed = Values(Values(certificate).of(SEQUENCE)?);
    let mut fields = Values(signed.of(SEQUENCE)?);
    if fields.0.first() == Some(&EXPLICIT_VERSION) {
        fields.next()?;
    }
    // Serial number, signature algorithm, issuer, validity.
    for _ in 0..4 {
        fields.next()?;
    }
    let mut relative = Values(fields.of(SEQUENCE)?);
    let mut parts = Vec::new();
    while !relative.0.is_empty() {
        let mut attributes = Values(relative.of(SET)?);
        let mut joined = Vec::new();
        while !attributes.0.is_empty() {
            joined.push(attribute(attributes.of(SEQUENCE)?)?);
        }
        parts.push(joined.join("+"));
    }
    parts.reverse();
    Some(parts.join(","))
}

fn attribute(content: &[u8]) -> Option<String> {
    let mut values = Values(content);
    let oid = values.of(OID)?;
    let (tag, value, whole) = values.next()?;
    let name = NAMES.iter().find(|(known, _)| *known == oid);
    let text = match tag {
        UTF8_STRING | PRINTABLE_STRING | IA5_STRING => std::str::from_utf8(value).ok(),
        _ => None,
    };
    Some(match (name, text) {
        (Some((_, name)), Some(text)) => format!("{name}={}", escaped(text)),
        (Some((_, name)), None) => format!("{name}=#{}", hex(whole)),
        (None, _) => format!("{}=#{}", dotted(oid), hex(whole)),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn dotted(oid: &[u8]) -> String {
    let mut arcs: Vec<u64> = Vec::new();
    let mut arc = 0_u64;
    for byte in oid {
        arc = (arc << 7) | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            if arcs.is_empty() {
                let root = (arc / 40).min(2);
                arcs.push(root);
                arc -= root * 40;
            }
            arcs.push(arc);
            arc = 0;
        }
    }
    let arcs: Vec<_> = arcs.iter().map(u64::to_string).collect();
    arcs.join(".")
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let last = text.len().saturating_sub(1);
    for (at, sign) in text.char_indices() {
        let is_edge = (at == 0 && (sign == ' ' || sign == '#')) || (at == last && sign == ' ');
        if is_edge || ",+\"\\<>;".contains(sign) {
            out.push('\\');
        }
        out.push(sign);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![tag];
        if content.len() < 0x80 {
            out.push(u8::try_from(content.len()).unwrap());
        } else {
            out.push(0x82);
            out.extend(u16::try_from(content.len()).unwrap().to_be_bytes());
        }
        out.extend(content);
        out
    }

    fn part(oid: &[u8], tag: u8, text: &[u8]) -> Vec<u8> {
        let pair = [value(OID, oid), value(tag, text)].concat();
        value(SET, &value(SEQUENCE, &pair))
    }

    fn certificate(subject: &[Vec<u8>]) -> Vec<u8> {
        let fields = [
            value(EXPLICIT_VERSION, &value(2, &[2])),
            value(2, &[1; 20]),
            value(SEQUENCE, &[]),
            value(SEQUENCE, &[]),
            value(SEQUENCE, &[]),
            value(SEQUENCE, &subject.concat()),
            value(3, &[0; 200]),
        ];
        value(SEQUENCE, &value(SEQUENCE, &fields.concat()))
    }

    #[test]
    fn a_subject_is_written_most_particular_part_first() {
        let der = certificate(&[
            part(&[0x55, 4, 6], PRINTABLE_STRING, b"DE"),
            part(&[0x55, 4, 10], UTF8_STRING, b"Birds, Inc."),
            part(&[0x55, 4, 3], UTF8_STRING, b"ann"),
        ]);
        assert_eq!(of(&der).as_deref(), Some("CN=ann,O=Birds\\, Inc.,C=DE"));
    }

    #[test]
    fn what_has_no_name_or_is_no_text_stays_distinct() {
        let der = certificate(&[
            part(
                &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1],
                IA5_STRING,
                b"a@b",
            ),
            part(&[0x55, 4, 3], 0x1e, &[0, 0x61]),
        ]);
        assert_eq!(
            of(&der).as_deref(),
            Some("CN=#1e020061,1.2.840.113549.1.9.1=#1603614062")
        );
    }

    #[test]
    fn what_is_cut_short_names_nobody() {
        let der = certificate(&[part(&[0x55, 4, 3], UTF8_STRING, b"ann")]);
        for length in 0..der.len() {
            assert_eq!(of(&der[..length]), None, "{length}");
        }
        assert_eq!(of(&[SEQUENCE, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
    }
}
