//! The distinguished encoding (ITU-T X.690, sections 8 and 10): its framing, read strictly.
//!
//! The parser behind us takes several encodings for one value and skips what follows the last field of a sequence.
//! What has passed here has one reading, so that no two readers can differ on a certificate.

/// One element: the octet of its tag and its contents.
#[derive(Clone, Copy, Debug)]
pub(super) struct Element<'a> {
    pub(super) tag: u8,
    pub(super) contents: &'a [u8],
}

/// Reads elements one after another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(input: &'a [u8]) -> Self {
        Self { rest: input }
    }

    /// Returns what has not been read.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Reads the next element; `None` where there is none, or its header is not DER.
    pub(super) fn next(&mut self) -> Option<Element<'a>> {
        let (&tag, rest) = self.rest.split_first()?;
        if tag & TAG_NUMBER == TAG_NUMBER {
            return None;
        }
        let (length, rest) = length(rest)?;
        let (contents, rest) = rest.split_at_checked(length)?;
        self.rest = rest;
        Some(Element { tag, contents })
    }

    /// Reads the next element if it has the tag; `None`, with nothing read, where it has not.
    pub(super) fn take(&mut self, tag: u8) -> Option<Element<'a>> {
        let mut ahead = *self;
        let element = ahead.next().filter(|element| element.tag == tag)?;
        *self = ahead;
        Some(element)
    }

    /// Reads the next element if it has the tag, and returns a reader of its contents.
    pub(super) fn enter(&mut self, tag: u8) -> Option<Self> {
        self.take(tag).map(|element| Self::new(element.contents))
    }

    /// Says that nothing may be left.
    pub(super) fn end(&self) -> Option<()> {
        self.rest.is_empty().then_some(())
    }
}

/// Tells whether the input is one element or several, strictly encoded down to [`DEPTH_MAX`].
pub(super) fn is_strict(input: &[u8]) -> bool {
    elements_are_strict(input, DEPTH_MAX)
}

fn elements_are_strict(input: &[u8], depth_left: u8) -> bool {
    let mut reader = Reader::new(input);
    while !reader.rest().is_empty() {
        let Some(element) = reader.next() else { return false };
        let strict = if element.tag & CONSTRUCTED == 0 {
            primitive_is_strict(element)
        } else {
            // DER constructs nothing of the universal class but sequences and sets (X.690, section 10.2).
            let constructible = element.tag & CLASS != 0 || matches!(element.tag, SEQUENCE | SET);
            constructible && depth_left.checked_sub(1).is_some_and(|left| elements_are_strict(element.contents, left))
        };
        if !strict {
            return false;
        }
    }
    true
}

fn primitive_is_strict(Element { tag, contents }: Element<'_>) -> bool {
    match tag {
        END_OF_CONTENTS => false,
        BOOLEAN => matches!(contents, [0x00 | 0xff]),
        INTEGER => is_minimal_integer(contents),
        BIT_STRING => match contents {
            [0] => true,
            [unused @ 0..=7, .., last] => last.trailing_zeros() >= u32::from(*unused),
            _ => false,
        },
        NULL => contents.is_empty(),
        OBJECT_IDENTIFIER => is_object_identifier(contents),
        // A sequence or a set has parts, so it is never primitive (X.690, sections 8.9.1 and 8.11.1).
        PRIMITIVE_SEQUENCE | PRIMITIVE_SET => false,
        _ => true,
    }
}

fn is_minimal_integer(contents: &[u8]) -> bool {
    match contents {
        [] => false,
        [0x00, second, ..] => second & 0x80 != 0,
        [0xff, second, ..] => second & 0x80 == 0,
        _ => true,
    }
}

fn is_object_identifier(contents: &[u8]) -> bool {
    let mut begins_arc = true;
    for byte in contents {
        if begins_arc && *byte == 0x80 {
            return false;
        }
        begins_arc = byte & 0x80 == 0;
    }
    begins_arc && !contents.is_empty()
}

/// Reads a length in its shortest form; three octets suffice for the largest revocation list.
fn length(input: &[u8]) -> Option<(usize, &[u8])> {
    match *input {
        [short @ 0..=0x7f, ref rest @ ..] => Some((usize::from(short), rest)),
        [0x81, long @ 0x80..=0xff, ref rest @ ..] => Some((usize::from(long), rest)),
        [0x82, high @ 1..=0xff, low, ref rest @ ..] => Some((usize::from(u16::from_be_bytes([high, low])), rest)),
        [0x83, high @ 1..=0xff, middle, low, ref rest @ ..] => {
            usize::try_from(u32::from_be_bytes([0, high, middle, low])).ok().map(|length| (length, rest))
        }
        _ => None,
    }
}

pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(super) const UTC_TIME: u8 = 0x17;
pub(super) const GENERALIZED_TIME: u8 = 0x18;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;

const END_OF_CONTENTS: u8 = 0x00;
const NULL: u8 = 0x05;
const PRIMITIVE_SEQUENCE: u8 = 0x10;
const PRIMITIVE_SET: u8 = 0x11;

/// The bits of a tag octet that hold the class; none is set in the universal class.
const CLASS: u8 = 0xc0;

/// The bit of a tag octet that says that the contents are elements.
const CONSTRUCTED: u8 = 0x20;

/// The bits of a tag octet that hold the number; all set, the number follows, which no certificate needs.
const TAG_NUMBER: u8 = 0x1f;

/// Deepest nesting that is read. A certificate needs six levels.
const DEPTH_MAX: u8 = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strict_is_the_shortest_definite_length() {
        let mut long = vec![OCTET_STRING, 0x82, 0x01, 0x00];
        long.resize(4 + 256, 7);
        assert!(is_strict(&long));
        let mut longer = vec![OCTET_STRING, 0x83, 0x01, 0x00, 0x00];
        longer.resize(5 + 65_536, 7);
        assert!(is_strict(&longer));
        for bad in [
            &[OCTET_STRING, 0x81, 0x01, 0x00][..],
            &[OCTET_STRING, 0x82, 0x00, 0x01, 0x00],
            &[OCTET_STRING, 0x83, 0x00, 0x01, 0x00],
            &[OCTET_STRING, 0x83, 0x01, 0x00, 0x00],
            &[SEQUENCE, 0x80, 0x00, 0x00],
            &[OCTET_STRING, 0x02, 0x00],
            &[OCTET_STRING],
            &[0x1f, 0x81, 0x01, 0x00],
        ] {
            assert!(!is_strict(bad), "{bad:02x?}");
        }
    }

    #[test]
    fn strict_is_the_one_encoding_of_a_value() {
        for good in [
            &[BOOLEAN, 1, 0xff][..],
            &[INTEGER, 2, 0x00, 0x80],
            &[INTEGER, 1, 0x00],
            &[BIT_STRING, 2, 7, 0x80],
            &[BIT_STRING, 1, 0],
            &[NULL, 0],
            &[OBJECT_IDENTIFIER, 3, 0x2a, 0x86, 0x48],
            &[SEQUENCE, 0],
            &[0x80, 0],
        ] {
            assert!(is_strict(good), "{good:02x?}");
        }
        for bad in [
            &[BOOLEAN, 1, 0x01][..],
            &[BOOLEAN, 0],
            &[INTEGER, 0],
            &[INTEGER, 2, 0x00, 0x7f],
            &[INTEGER, 2, 0xff, 0x80],
            &[BIT_STRING, 0],
            &[BIT_STRING, 1, 1],
            &[BIT_STRING, 2, 8, 0],
            &[BIT_STRING, 2, 7, 0x40],
            &[NULL, 1, 0],
            &[OBJECT_IDENTIFIER, 0],
            &[OBJECT_IDENTIFIER, 2, 0x80, 0x01],
            &[OBJECT_IDENTIFIER, 2, 0x2a, 0x86],
            &[0x24, 0],
            &[PRIMITIVE_SEQUENCE, 0],
            &[END_OF_CONTENTS, 0],
        ] {
            assert!(!is_strict(bad), "{bad:02x?}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |levels: usize| {
            (0..levels).fold(Vec::new(), |inner, _| {
                [&[SEQUENCE, u8::try_from(inner.len()).expect("short")], &inner[..]].concat()
            })
        };
        assert!(is_strict(&nested(usize::from(DEPTH_MAX))));
        assert!(!is_strict(&nested(usize::from(DEPTH_MAX) + 2)));
    }
}
