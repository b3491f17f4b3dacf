//! The one strict JSON reader: checks a whole document against RFC 8259 and picks out the members that a route names.
//!
//! HOT. One parser must not see another document than the next one does, so what parsers are known to read differently
//! is refused: repeated members on the way to a wanted one, keys that differ from a wanted one by case only, lone
//! surrogates, bytes that are not UTF-8, anything behind the value. Numbers count only as plain integers.

mod scan;
mod wanted;

use std::borrow::Cow;

use scan::{Scanner, Text};
use wanted::{Likeness, Node};

pub use wanted::{NODES_MAX, WANTED_MAX, Wanted, WantedError};

/// The values found in a document, by the position of their pointer in [`Wanted::new`].
#[derive(Clone, Debug)]
pub struct Found<'a> {
    values: [Value<'a>; WANTED_MAX],
}

impl<'a> Found<'a> {
    /// Returns the string at the pointer, `None` where there is no such member.
    ///
    /// # Errors
    /// [`JsonError::WrongType`] where the member, or one on the way to it, is something else; `null` is something else.
    pub fn string(&self, index: usize) -> Result<Option<Cow<'a, str>>, JsonError> {
        match self.values.get(index) {
            None | Some(Value::Absent) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.decode())),
            Some(Value::Number(_) | Value::Other | Value::Object) => Err(JsonError::WrongType { index }),
        }
    }

    /// Returns the integer at the pointer, `None` where there is no such member.
    ///
    /// # Errors
    /// [`JsonError::WrongType`] where the member, or one on the way to it, is something else than a number;
    /// [`JsonError::Number`] where the number has a sign, a fraction or an exponent, or is above [`u64::MAX`].
    pub fn integer(&self, index: usize) -> Result<Option<u64>, JsonError> {
        match self.values.get(index) {
            None | Some(Value::Absent) => Ok(None),
            Some(Value::Number(text)) => plain_integer(text).map(Some).ok_or(JsonError::Number { index }),
            Some(Value::String(_) | Value::Other | Value::Object) => Err(JsonError::WrongType { index }),
        }
    }
}

/// The document is refused, or a value in it is not of the type asked for. Offsets are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// The grammar allows no such byte here, or the document ends too early.
    #[error("the document is not JSON at byte {offset}")]
    Syntax {
        /// The first byte that cannot be.
        offset: usize,
    },
    /// An escape stands for half a surrogate pair.
    #[error("the string at byte {offset} has half a surrogate pair")]
    Surrogate {
        /// Where the escape begins.
        offset: usize,
    },
    /// The document is not UTF-8.
    #[error("the document is not UTF-8 at byte {offset}")]
    NotUtf8 {
        /// The first byte that is none.
        offset: usize,
    },
    /// Arrays and objects are nested more than [`DEPTH_MAX`] deep.
    #[error("arrays and objects are nested more than {DEPTH_MAX} deep")]
    Depth,
    /// The document is JSON, but not an object.
    #[error("the document is not an object")]
    NotObject,
    /// A wanted member, or one on the way to it, occurs twice.
    #[error("the key at byte {offset} occurs for the second time")]
    Repeated {
        /// Where the second key begins.
        offset: usize,
    },
    /// A key differs from a wanted one by case only; some parsers take it for the wanted one.
    #[error("the key at byte {offset} differs from the expected one by case only")]
    Ambiguous {
        /// Where the key begins.
        offset: usize,
    },
    /// A wanted member is not of the type asked for.
    #[error("the member wanted as number {index} has another type")]
    WrongType {
        /// The pointer's position.
        index: usize,
    },
    /// A wanted number is not a plain integer in range.
    #[error("the member wanted as number {index} is not a plain integer in range")]
    Number {
        /// The pointer's position.
        index: usize,
    },
}

/// Checks a document, which must be an object, to its end, and picks out the wanted members.
///
/// # Errors
/// [`JsonError`] where the document is refused.
pub fn read<'a>(document: &'a [u8], wanted: &Wanted) -> Result<Found<'a>, JsonError> {
    let mut walk = Walk::new(document)?;
    match walk.document(Some(wanted.root()))? {
        Value::Object => Ok(Found { values: walk.values }),
        Value::Absent | Value::String(_) | Value::Number(_) | Value::Other => Err(JsonError::NotObject),
    }
}

/// Checks a document, which may be any value, to its end.
///
/// # Errors
/// [`JsonError`] where the document is refused.
pub fn check(document: &[u8]) -> Result<(), JsonError> {
    Walk::new(document)?.document(None).map(|_| ())
}

/// One value, as far as anybody asks.
#[derive(Clone, Copy, Debug)]
enum Value<'a> {
    /// There is no such member.
    Absent,
    String(Text<'a>),
    /// A number, as written.
    Number(&'a str),
    Object,
    /// An array, `true`, `false` or `null`; or a member below something that is not an object.
    Other,
}

/// One walk through a document.
struct Walk<'a> {
    scanner: Scanner<'a>,
    values: [Value<'a>; WANTED_MAX],
    /// The nodes met so far. As none may be met twice, one set serves all objects.
    seen: u64,
}

impl<'a> Walk<'a> {
    fn new(document: &'a [u8]) -> Result<Self, JsonError> {
        Ok(Self { scanner: Scanner::new(document)?, values: [Value::Absent; WANTED_MAX], seen: 0 })
    }

    fn document(&mut self, node: Option<&Node>) -> Result<Value<'a>, JsonError> {
        self.scanner.space();
        let value = self.value(node, DEPTH_MAX)?;
        self.scanner.space();
        self.scanner.end()?;
        Ok(value)
    }

    /// Reads one value; `node` is its place among the wanted ones, `room` how much deeper the document may get.
    fn value(&mut self, node: Option<&Node>, room: usize) -> Result<Value<'a>, JsonError> {
        let value = match self.scanner.peek() {
            Some(b'"') => Value::String(self.scanner.string()?),
            Some(b'-' | b'0'..=b'9') => Value::Number(self.scanner.number()?),
            Some(b'{') => {
                self.object(node, room.checked_sub(1).ok_or(JsonError::Depth)?)?;
                Value::Object
            }
            Some(b'[') => {
                self.array(room.checked_sub(1).ok_or(JsonError::Depth)?)?;
                Value::Other
            }
            Some(b't') => self.literal(b"true")?,
            Some(b'f') => self.literal(b"false")?,
            _ => self.literal(b"null")?,
        };
        if let Some(node) = node {
            self.keep(node, value);
        }
        Ok(value)
    }

    fn object(&mut self, node: Option<&Node>, room: usize) -> Result<(), JsonError> {
        self.scanner.expect(b'{')?;
        self.scanner.space();
        if self.scanner.eat(b'}') {
            return Ok(());
        }
        loop {
            let offset = self.scanner.offset();
            let key = self.scanner.string()?;
            self.scanner.space();
            self.scanner.expect(b':')?;
            self.scanner.space();
            let child = match node {
                Some(node) => self.child(node, key, offset)?,
                None => None,
            };
            self.value(child, room)?;
            self.scanner.space();
            if !self.scanner.eat(b',') {
                return self.scanner.expect(b'}');
            }
            self.scanner.space();
        }
    }

    fn array(&mut self, room: usize) -> Result<(), JsonError> {
        self.scanner.expect(b'[')?;
        self.scanner.space();
        if self.scanner.eat(b']') {
            return Ok(());
        }
        loop {
            self.value(None, room)?;
            self.scanner.space();
            if !self.scanner.eat(b',') {
                return self.scanner.expect(b']');
            }
            self.scanner.space();
        }
    }

    fn literal(&mut self, word: &[u8]) -> Result<Value<'a>, JsonError> {
        word.iter().try_for_each(|&byte| self.scanner.expect(byte)).map(|()| Value::Other)
    }

    /// Finds the wanted member that a key names, which must be its first occurrence.
    fn child<'n>(&mut self, node: &'n Node, key: Text<'a>, offset: usize) -> Result<Option<&'n Node>, JsonError> {
        let ascii = key.plain().filter(|key| key.is_ascii());
        for child in node.children() {
            match child.likeness(&key, ascii) {
                Likeness::None => {}
                Likeness::Folded => return Err(JsonError::Ambiguous { offset }),
                Likeness::Equal if self.seen & child.bit() != 0 => return Err(JsonError::Repeated { offset }),
                Likeness::Equal => {
                    self.seen |= child.bit();
                    return Ok(Some(child));
                }
            }
        }
        Ok(None)
    }

    /// Stores a value under the pointers that end at a node; those that go on below it find nothing in a mere value.
    fn keep(&mut self, node: &Node, value: Value<'a>) {
        let below = if matches!(value, Value::Object) { 0 } else { node.below() };
        let mut pointers = node.pointers() | below;
        while pointers != 0 {
            let index = pointers.trailing_zeros() as usize;
            let kept = if node.pointers() >> index & 1 == 1 { value } else { Value::Other };
            if let Some(slot) = self.values.get_mut(index) {
                *slot = kept;
            }
            pointers &= pointers - 1;
        }
    }
}

/// Reads an integer without sign, fraction and exponent; the grammar has excluded leading zeros.
fn plain_integer(number: &str) -> Option<u64> {
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    number.parse().ok()
}

/// How deep arrays and objects may be nested.
pub const DEPTH_MAX: usize = 32;

#[cfg(test)]
mod tests;
