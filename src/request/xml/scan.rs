//! The tokens of flat XML (Extensible Markup Language 1.0, fifth edition, sections 2 and 4.1).

use std::borrow::Cow;

use super::{NAME_BYTES_MAX, VALUE_BYTES_MAX, XmlError};

/// A place in a document that is known to be UTF-8.
pub(super) struct Scanner<'a> {
    text: &'a str,
    /// What is left.
    rest: &'a str,
}

/// The start tag of an element.
pub(super) struct Tag<'a> {
    pub name: &'a str,
    /// Where the name begins, in bytes.
    pub offset: usize,
    /// Whether the element ends with it.
    pub empty: bool,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(document: &'a [u8]) -> Result<Self, XmlError> {
        let text = std::str::from_utf8(document).map_err(|error| XmlError::NotUtf8 { offset: error.valid_up_to() })?;
        Ok(Self { text, rest: text })
    }

    fn offset(&self) -> usize {
        self.text.len() - self.rest.len()
    }

    fn syntax(&self) -> XmlError {
        XmlError::Syntax { offset: self.offset() }
    }

    fn eat(&mut self, expected: &str) -> bool {
        match self.rest.strip_prefix(expected) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Takes so many bytes off, which must end a character.
    fn take(&mut self, bytes: usize) -> Result<&'a str, XmlError> {
        let (taken, rest) = self.rest.split_at_checked(bytes).ok_or(self.syntax())?;
        self.rest = rest;
        Ok(taken)
    }

    /// Skips white space.
    pub(super) fn space(&mut self) {
        self.rest = self.rest.trim_start_matches(SPACE);
    }

    pub(super) fn end(&self) -> Result<(), XmlError> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.stray()) }
    }

    /// Skips the XML declaration, where there is one.
    pub(super) fn declaration(&mut self) -> Result<(), XmlError> {
        let Some(rest) = self.rest.strip_prefix("<?xml").filter(|rest| rest.starts_with(SPACE)) else { return Ok(()) };
        let (declared, rest) = rest.split_once("?>").ok_or(XmlError::Declaration)?;
        let mut declared = declared;
        let version = pseudo_attribute(&mut declared, "version")?;
        let encoding = pseudo_attribute(&mut declared, "encoding")?;
        let standalone = pseudo_attribute(&mut declared, "standalone")?;
        let known = version == Some("1.0")
            && encoding.is_none_or(|name| name.eq_ignore_ascii_case("utf-8"))
            && standalone.is_none_or(|value| value == "yes" || value == "no")
            && declared.trim_matches(SPACE).is_empty();
        self.rest = rest;
        if known { Ok(()) } else { Err(XmlError::Declaration) }
    }

    /// Reads a start tag, or an empty element.
    pub(super) fn open(&mut self) -> Result<Tag<'a>, XmlError> {
        if !self.rest.starts_with('<') || self.rest.starts_with("<!") || self.rest.starts_with("<?") {
            return Err(self.stray());
        }
        self.take(1)?;
        let offset = self.offset();
        let name = self.name()?;
        self.space();
        let empty = self.eat("/");
        if self.eat(">") {
            Ok(Tag { name, offset, empty })
        } else if empty || self.rest.is_empty() {
            Err(self.syntax())
        } else {
            Err(XmlError::Attribute { offset: self.offset() })
        }
    }

    /// Skips the end tag of an element; `false` where none begins here.
    pub(super) fn close(&mut self, name: &str) -> Result<bool, XmlError> {
        if !self.eat("</") {
            return Ok(false);
        }
        if !self.eat(name) {
            return Err(self.syntax());
        }
        self.space();
        if self.eat(">") { Ok(true) } else { Err(self.syntax()) }
    }

    /// Reads the value of a field and its end tag.
    pub(super) fn value(&mut self, name: &str) -> Result<Value<'a>, XmlError> {
        let start = self.offset();
        let value = if self.eat(CDATA) {
            let raw = self.take(self.rest.find("]]>").ok_or(self.syntax())?)?;
            self.check_characters(raw, start + CDATA.len())?;
            self.eat("]]>");
            Value { raw, escaped: false }
        } else {
            let raw = self.take(self.rest.find('<').unwrap_or(self.rest.len()))?;
            self.check_characters(raw, start)?;
            if let Some(at) = raw.find("]]>") {
                return Err(XmlError::Syntax { offset: start + at });
            }
            let escaped = check_references(raw).map_err(|at| XmlError::Reference { offset: start + at })?;
            Value { raw, escaped }
        };
        if value.raw.len() > VALUE_BYTES_MAX {
            return Err(XmlError::ValueTooLong { offset: start });
        }
        let nested = self.rest.starts_with('<') && !["<!", "<?"].iter().any(|other| self.rest.starts_with(other));
        match self.close(name)? {
            true => Ok(value),
            false if nested => Err(XmlError::Nested { offset: self.offset() }),
            false => Err(self.stray()),
        }
    }

    fn name(&mut self) -> Result<&'a str, XmlError> {
        let offset = self.offset();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        let length = self.rest.bytes().take_while(|byte| plain(*byte)).count();
        let name = self.take(length)?;
        let begins = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
        let ends = self.rest.starts_with(['>', '/', ' ', '\t', '\r', '\n']) || self.rest.is_empty();
        if begins && ends && length <= NAME_BYTES_MAX { Ok(name) } else { Err(XmlError::Name { offset }) }
    }

    /// Checks that each character of a value is one of XML (production 2), and none that a parser changes (section 2.11).
    fn check_characters(&self, raw: &str, start: usize) -> Result<(), XmlError> {
        // PERF: values are nearly all of letters and digits, and those need no look at characters.
        if raw.bytes().all(|byte| (0x20..0x80).contains(&byte)) {
            return Ok(());
        }
        match raw.char_indices().find(|(_, character)| !is_xml(*character) || *character == '\r') {
            Some((at, _)) => Err(XmlError::Character { offset: start + at }),
            None => Ok(()),
        }
    }

    /// Says what stands where an element or the end should.
    fn stray(&self) -> XmlError {
        let offset = self.offset();
        match self.rest {
            rest if rest.starts_with("<!--") => XmlError::Comment { offset },
            rest if rest.starts_with(CDATA) => XmlError::Mixed { offset },
            rest if rest.starts_with("<!") => XmlError::Doctype { offset },
            rest if rest.starts_with("<?") => XmlError::Instruction { offset },
            rest if rest.is_empty() || rest.starts_with('<') => XmlError::Syntax { offset },
            _ => XmlError::Mixed { offset },
        }
    }
}

/// A value, as written between its tags; its characters and references have been checked.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Value<'a> {
    raw: &'a str,
    /// Whether references stand in it.
    escaped: bool,
}

impl<'a> Value<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    /// Tells whether every parser reads the same text: without references, and without anything at its ends that one could
    /// trim.
    pub(super) fn is_literal(&self) -> bool {
        let trimmed = self.raw.trim_matches(|character: char| character.is_whitespace() || character == '\u{feff}');
        !self.escaped && trimmed.len() == self.raw.len()
    }

    /// Returns the text that is meant.
    pub(super) fn decode(&self) -> Cow<'a, str> {
        if !self.escaped {
            return Cow::Borrowed(self.raw);
        }
        let mut meant = String::with_capacity(self.raw.len());
        let mut rest = self.raw;
        while let Some((plain, behind)) = rest.split_once('&') {
            meant.push_str(plain);
            let Some((character, behind)) = reference(behind) else { break };
            meant.push(character);
            rest = behind;
        }
        meant.push_str(rest);
        Cow::Owned(meant)
    }
}

/// Tells whether references stand in a text.
///
/// # Errors
/// Where the first one begins that means nothing.
fn check_references(raw: &str) -> Result<bool, usize> {
    let mut rest = raw;
    while let Some((_, behind)) = rest.split_once('&') {
        let begins = raw.len() - behind.len() - 1;
        rest = reference(behind).ok_or(begins)?.1;
    }
    Ok(rest.len() < raw.len())
}

/// Reads the reference whose `&` was taken off: the character that it means, and what follows.
fn reference(text: &str) -> Option<(char, &str)> {
    let (name, rest) = text.split_at_checked(text.bytes().take(REFERENCE_BYTES_MAX).position(|byte| byte == b';')?)?;
    let rest = rest.strip_prefix(';')?;
    let meant = match name {
        "lt" => '<',
        "gt" => '>',
        "amp" => '&',
        "quot" => '"',
        "apos" => '\'',
        _ => {
            let number = name.strip_prefix('#')?;
            let (digits, radix) = number.strip_prefix('x').map_or((number, 10), |digits| (digits, 16));
            let code = digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then_some(digits)?;
            char::from_u32(u32::from_str_radix(code, radix).ok()?).filter(|character| is_xml(*character))?
        }
    };
    Some((meant, rest))
}

/// Tells whether XML has a character (production 2).
pub(super) fn is_xml(character: char) -> bool {
    match character {
        '\t' | '\n' | '\r' => true,
        '\u{fffe}' | '\u{ffff}' => false,
        _ => character >= ' ',
    }
}

/// Takes ` name="value"` off the beginning of a declaration; `None` where another name or nothing stands there.
fn pseudo_attribute<'a>(declared: &mut &'a str, name: &str) -> Result<Option<&'a str>, XmlError> {
    let Some(rest) = declared.trim_start_matches(SPACE).strip_prefix(name) else { return Ok(None) };
    let taken = || {
        // White space must stand before it.
        declared.starts_with(SPACE).then_some(())?;
        let rest = rest.trim_start_matches(SPACE).strip_prefix('=')?.trim_start_matches(SPACE);
        let quote = rest.chars().next().filter(|quote| *quote == '"' || *quote == '\'')?;
        rest.get(1..)?.split_once(quote)
    };
    let (value, rest) = taken().ok_or(XmlError::Declaration)?;
    *declared = rest;
    Ok(Some(value))
}

/// White space (production 3).
const SPACE: [char; 4] = [' ', '\t', '\r', '\n'];

/// Begins a CDATA section.
const CDATA: &str = "<![CDATA[";

/// Longest reference without its `&`, in bytes.
const REFERENCE_BYTES_MAX: usize = 12;
