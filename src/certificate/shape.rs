//! The fields of a certificate and of a revocation list, their order and their number (RFC 5280, sections 4.1 and 5.1).
//!
//! Only the form; the values are read afterwards by the parser, which alone would pass over additional fields.

use super::der::{
    BIT_STRING, BOOLEAN, GENERALIZED_TIME, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, Reader, SEQUENCE, SET, UTC_TIME,
};

/// Tells whether the input is a certificate and nothing else, of any version, without the unique identifiers that
/// RFC 5280 tells authorities not to make.
pub(super) fn is_certificate(input: &[u8]) -> bool {
    let mut reader = Reader::new(input);
    certificate(&mut reader).and_then(|()| reader.end()).is_some()
}

/// Tells whether the input is a revocation list of version 2 and nothing else (RFC 5280, section 5.1).
pub(super) fn is_list(input: &[u8]) -> bool {
    let mut reader = Reader::new(input);
    list(&mut reader).and_then(|()| reader.end()).is_some()
}

/// Counts the entries of a revocation list, no further than one past `max`; `None` where it has no such form.
pub(super) fn list_entries(input: &[u8], max: usize) -> Option<usize> {
    let mut fields = Reader::new(input).enter(SEQUENCE)?.enter(SEQUENCE)?;
    list_head(&mut fields)?;
    let mut entries = fields.enter(SEQUENCE).unwrap_or_else(|| Reader::new(&[]));
    let mut count = 0;
    while count <= max && !entries.rest().is_empty() {
        entries.take(SEQUENCE)?;
        count += 1;
    }
    Some(count)
}

/// Tells whether the input is the public key of RSA (RFC 8017, appendix A.1.1).
pub(super) fn is_rsa_public_key(input: &[u8]) -> bool {
    let mut reader = Reader::new(input);
    let mut key = || {
        let mut fields = reader.enter(SEQUENCE)?;
        fields.take(INTEGER)?;
        fields.take(INTEGER)?;
        fields.end()?;
        reader.end()
    };
    key().is_some()
}

fn certificate(reader: &mut Reader<'_>) -> Option<()> {
    let mut fields = reader.enter(SEQUENCE)?;
    to_be_signed(&mut fields)?;
    algorithm(&mut fields)?;
    fields.take(BIT_STRING)?;
    fields.end()
}

fn to_be_signed(reader: &mut Reader<'_>) -> Option<()> {
    let mut fields = reader.enter(SEQUENCE)?;
    if let Some(mut version) = fields.enter(VERSION) {
        version.take(INTEGER)?;
        version.end()?;
    }
    fields.take(INTEGER)?;
    algorithm(&mut fields)?;
    name(&mut fields)?;
    validity(&mut fields)?;
    name(&mut fields)?;
    public_key(&mut fields)?;
    if let Some(mut tagged) = fields.enter(EXTENSIONS) {
        extensions(&mut tagged)?;
        tagged.end()?;
    }
    fields.end()
}

fn list(reader: &mut Reader<'_>) -> Option<()> {
    let mut fields = reader.enter(SEQUENCE)?;
    let mut signed = fields.enter(SEQUENCE)?;
    list_head(&mut signed)?;
    if let Some(mut entries) = signed.enter(SEQUENCE) {
        while !entries.rest().is_empty() {
            entry(&mut entries)?;
        }
    }
    let mut tagged = signed.enter(LIST_EXTENSIONS)?;
    extensions(&mut tagged)?;
    tagged.end()?;
    signed.end()?;
    algorithm(&mut fields)?;
    fields.take(BIT_STRING)?;
    fields.end()
}

/// What stands before the entries; the next update must be there.
fn list_head(fields: &mut Reader<'_>) -> Option<()> {
    fields.take(INTEGER)?;
    algorithm(fields)?;
    name(fields)?;
    time(fields)?;
    time(fields)
}

fn entry(reader: &mut Reader<'_>) -> Option<()> {
    let mut fields = reader.enter(SEQUENCE)?;
    fields.take(INTEGER)?;
    time(&mut fields)?;
    if !fields.rest().is_empty() {
        extensions(&mut fields)?;
    }
    fields.end()
}

fn algorithm(reader: &mut Reader<'_>) -> Option<()> {
    let mut fields = reader.enter(SEQUENCE)?;
    fields.take(OBJECT_IDENTIFIER)?;
    if !fields.rest().is_empty() {
        fields.next()?;
    }
    fields.end()
}

fn name(reader: &mut Reader<'_>) -> Option<()> {
    let mut relative_names = reader.enter(SEQUENCE)?;
    while !relative_names.rest().is_empty() {
        let mut attributes = relative_names.enter(SET)?;
        attribute(&mut attributes)?;
        while !attributes.rest().is_empty() {
            attribute(&mut attributes)?;
        }
    }
    Some(())
}

fn attribute(reader: &mut Reader<'_>) -> Option<()> {
    let mut fields = reader.enter(SEQUENCE)?;
    fields.take(OBJECT_IDENTIFIER)?;
    fields.next()?;
    fields.end()
}

fn validity(reader: &mut Reader<'_>) -> Option<()> {
    let mut fields = reader.enter(SEQUENCE)?;
    time(&mut fields)?;
    time(&mut fields)?;
    fields.end()
}

/// Times are of Greenwich and have seconds, no fractions (RFC 5280, sections 4.1.2.5.1 and 4.1.2.5.2).
fn time(reader: &mut Reader<'_>) -> Option<()> {
    let element = reader.next()?;
    let digits = match element.tag {
        UTC_TIME => 12,
        GENERALIZED_TIME => 14,
        _ => return None,
    };
    let (zone, moment) = element.contents.split_last()?;
    (*zone == b'Z' && moment.len() == digits && moment.iter().all(u8::is_ascii_digit)).then_some(())
}

fn public_key(reader: &mut Reader<'_>) -> Option<()> {
    let mut fields = reader.enter(SEQUENCE)?;
    algorithm(&mut fields)?;
    fields.take(BIT_STRING)?;
    fields.end()
}

fn extensions(reader: &mut Reader<'_>) -> Option<()> {
    let mut list = reader.enter(SEQUENCE)?;
    extension(&mut list)?;
    while !list.rest().is_empty() {
        extension(&mut list)?;
    }
    Some(())
}

fn extension(reader: &mut Reader<'_>) -> Option<()> {
    let mut fields = reader.enter(SEQUENCE)?;
    fields.take(OBJECT_IDENTIFIER)?;
    // FALSE is the default and should not be written, but some authorities do; it has one reading all the same.
    fields.take(BOOLEAN);
    fields.take(OCTET_STRING)?;
    fields.end()
}

/// The explicit tag of the version.
const VERSION: u8 = 0xa0;

/// The explicit tag of the extensions.
const EXTENSIONS: u8 = 0xa3;

/// The explicit tag of the extensions of a revocation list.
const LIST_EXTENSIONS: u8 = 0xa0;
