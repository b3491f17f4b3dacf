//! The fields of a certificate, their order and their number (RFC 5280, section 4.1).
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
