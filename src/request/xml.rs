//! The one strict XML reader: flat documents as WeChat Pay API v2 sends them, `<xml><name>value</name>..</xml>`.
//!
//! HOT. One parser must not see another document than the next one does, so what parsers are known to read differently,
//! or what makes them do more than read, is refused: document types and entities of their own, comments, processing
//! instructions, attributes, nesting, a name that occurs twice, text beside elements, CDATA beside text, a bare carriage
//! return in a value (XML turns it into a line feed, others do not), anything behind the root. The root may have any name.
//! Values are what remains once CDATA and the predefined and numeric references are undone, not trimmed.

mod scan;
mod write;

use std::borrow::Cow;

use super::json::{WANTED_MAX, Wanted};
use scan::{Scanner, Value};

pub use write::element;

/// A flat document: its fields, ordered by the bytes of their names.
#[derive(Clone, Debug)]
pub struct Document<'a> {
    fields: Vec<Field<'a>>,
}

#[derive(Clone, Copy, Debug)]
struct Field<'a> {
    name: &'a str,
    value: Value<'a>,
    /// Where the name stands, in bytes.
    offset: usize,
}

impl<'a> Document<'a> {
    /// Returns the fields, ordered by the bytes of their names, each with its value.
    pub fn fields(&self) -> impl Iterator<Item = (&'a str, Cow<'a, str>)> {
        self.fields.iter().map(|field| (field.name, field.value.decode()))
    }

    /// Returns the value of a field; `None` where the document has none of this name.
    pub fn field(&self, name: &str) -> Option<Cow<'a, str>> {
        let at = self.fields.binary_search_by(|field| field.name.cmp(name)).ok()?;
        self.fields.get(at).map(|field| field.value.decode())
    }

    /// Picks out the fields that pointers such as `/total_fee` name.
    ///
    /// # Errors
    /// [`XmlError::Ambiguous`] where a name differs from a wanted one by case only, [`XmlError::NotLiteral`] where a value
    /// could be read as another by a parser that trims values, or that leaves references as they stand.
    pub fn find(&self, wanted: &Wanted) -> Result<Found<'a>, XmlError> {
        let mut values = [None; WANTED_MAX];
        for field in &self.fields {
            let offset = field.offset;
            let pointers = wanted.named(field.name).map_err(|_| XmlError::Ambiguous { offset })?;
            if pointers != 0 && !field.value.is_literal() {
                return Err(XmlError::NotLiteral { offset });
            }
            values.iter_mut().enumerate().filter(|(index, _)| pointers >> index & 1 == 1).for_each(|(_, slot)| {
                *slot = Some(field.value);
            });
        }
        Ok(Found { values })
    }
}

/// The values found in a document, by the position of their pointer in [`Wanted::new`].
///
/// A field without a value counts as absent: it takes no part in a signature.
#[derive(Clone, Debug)]
pub struct Found<'a> {
    values: [Option<Value<'a>>; WANTED_MAX],
}

impl<'a> Found<'a> {
    /// Returns the text of the field at the pointer, `None` where there is none or it is empty.
    pub fn string(&self, index: usize) -> Option<Cow<'a, str>> {
        self.values.get(index).copied().flatten().filter(|value| !value.is_empty()).map(|value| value.decode())
    }

    /// Returns the integer at the pointer, `None` where there is no such field or it is empty.
    ///
    /// # Errors
    /// [`XmlError::Number`] where it is not digits alone, begins with a zero too many, or is above [`u64::MAX`].
    pub fn integer(&self, index: usize) -> Result<Option<u64>, XmlError> {
        self.string(index).map(|text| plain_integer(&text).ok_or(XmlError::Number { index })).transpose()
    }
}

/// The document is refused, or a value in it is not of the type asked for. Offsets are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum XmlError {
    /// The document is longer than [`DOCUMENT_BYTES_MAX`].
    #[error("the document is longer than {DOCUMENT_BYTES_MAX} bytes")]
    TooLong,
    /// The document is not UTF-8.
    #[error("the document is not UTF-8 at byte {offset}")]
    NotUtf8 {
        /// The first byte that is none.
        offset: usize,
    },
    /// The grammar allows no such byte here, or the document ends too early.
    #[error("the document is not XML at byte {offset}")]
    Syntax {
        /// The first byte that cannot be.
        offset: usize,
    },
    /// The XML declaration is not that of XML 1.0 in UTF-8.
    #[error("the XML declaration is not that of version 1.0 in UTF-8")]
    Declaration,
    /// A document type, or another declaration.
    #[error("there is a document type declaration at byte {offset}: send none")]
    Doctype {
        /// Where it begins.
        offset: usize,
    },
    /// A comment.
    #[error("there is a comment at byte {offset}: send none")]
    Comment {
        /// Where it begins.
        offset: usize,
    },
    /// A processing instruction.
    #[error("there is a processing instruction at byte {offset}: send none")]
    Instruction {
        /// Where it begins.
        offset: usize,
    },
    /// An element has attributes.
    #[error("the element at byte {offset} has attributes: send none")]
    Attribute {
        /// Where the first of them begins.
        offset: usize,
    },
    /// A name is empty, too long, or not of ASCII letters, digits, `_`, `-` and `.`.
    #[error("the name at byte {offset} is not of 1 to {NAME_BYTES_MAX} letters, digits, `_`, `-` and `.`")]
    Name {
        /// Where the name begins.
        offset: usize,
    },
    /// A field has elements of its own.
    #[error("the field has an element in it at byte {offset}: send a flat document")]
    Nested {
        /// Where the inner element begins.
        offset: usize,
    },
    /// Text stands beside fields, or beside CDATA.
    #[error("text stands beside elements or CDATA at byte {offset}: write each value as one text or one CDATA section")]
    Mixed {
        /// Where it begins.
        offset: usize,
    },
    /// A reference is neither predefined nor to a character of XML.
    #[error("the reference at byte {offset} is not a predefined or numeric one")]
    Reference {
        /// Where it begins.
        offset: usize,
    },
    /// A value has a character that XML has not, or a carriage return that is not written as a reference.
    #[error("the value has a character at byte {offset} that XML forbids or changes")]
    Character {
        /// The character.
        offset: usize,
    },
    /// A value is longer than [`VALUE_BYTES_MAX`].
    #[error("the value at byte {offset} is longer than {VALUE_BYTES_MAX} bytes")]
    ValueTooLong {
        /// Where it begins.
        offset: usize,
    },
    /// There are more fields than [`FIELDS_MAX`].
    #[error("the document has more than {FIELDS_MAX} fields")]
    TooManyFields,
    /// A field occurs twice.
    #[error("the field at byte {offset} occurs for the second time")]
    Repeated {
        /// Where the second one's name begins.
        offset: usize,
    },
    /// A name differs from a wanted one by case only; some parsers take it for the wanted one.
    #[error("the name at byte {offset} differs from the expected one by case only")]
    Ambiguous {
        /// Where the name begins.
        offset: usize,
    },
    /// A wanted value begins or ends with white space, or has references in it.
    #[error("the value of the field at byte {offset} begins or ends with white space, or has references in it")]
    NotLiteral {
        /// Where the name begins.
        offset: usize,
    },
    /// A wanted number is not a plain integer in range.
    #[error("the field wanted as number {index} is not a plain integer in range")]
    Number {
        /// The pointer's position.
        index: usize,
    },
}

/// Checks a document to its end.
///
/// # Errors
/// [`XmlError`] where the document is refused.
pub fn read(document: &[u8]) -> Result<Document<'_>, XmlError> {
    if document.len() > DOCUMENT_BYTES_MAX {
        return Err(XmlError::TooLong);
    }
    let mut scanner = Scanner::new(document)?;
    scanner.declaration()?;
    scanner.space();
    let root = scanner.open()?;
    let mut fields = Vec::with_capacity(if root.empty { 0 } else { FIELDS_USUAL });
    if !root.empty {
        loop {
            scanner.space();
            if scanner.close(root.name)? {
                break;
            }
            let tag = scanner.open()?;
            let value = if tag.empty { Value::default() } else { scanner.value(tag.name)? };
            if fields.len() >= FIELDS_MAX {
                return Err(XmlError::TooManyFields);
            }
            fields.push(Field { name: tag.name, value, offset: tag.offset });
        }
    }
    scanner.space();
    scanner.end()?;
    fields.sort_unstable_by_key(|field| (field.name, field.offset));
    let mut rest = fields.as_slice();
    while let [first, second, ..] = rest {
        if first.name == second.name {
            return Err(XmlError::Repeated { offset: second.offset });
        }
        rest = rest.get(1..).unwrap_or_default();
    }
    Ok(Document { fields })
}

/// Reads an integer of digits alone: `0`, or one that does not begin with a zero.
fn plain_integer(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

/// Longest document, in bytes.
pub const DOCUMENT_BYTES_MAX: usize = 65_536;

/// Most fields of a document.
pub const FIELDS_MAX: usize = 128;

/// Longest name, in bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// Longest value, in bytes as written.
pub const VALUE_BYTES_MAX: usize = 16_384;

/// How many fields memory is taken for at first: orders have some 12 to 24.
const FIELDS_USUAL: usize = 24;

#[cfg(test)]
mod tests;
