//! The tokens of JSON (RFC 8259, sections 2, 6 and 7).

use std::borrow::Cow;

use super::JsonError;

/// A place in a document that is known to be UTF-8.
pub(super) struct Scanner<'a> {
    text: &'a str,
    /// What is left.
    rest: &'a [u8],
}

impl<'a> Scanner<'a> {
    pub(super) fn new(document: &'a [u8]) -> Result<Self, JsonError> {
        let text = std::str::from_utf8(document).map_err(|error| JsonError::NotUtf8 { offset: error.valid_up_to() })?;
        Ok(Self { text, rest: document })
    }

    pub(super) fn offset(&self) -> usize {
        self.text.len() - self.rest.len()
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// Skips white space.
    #[inline]
    pub(super) fn space(&mut self) {
        while let [b' ' | b'\t' | b'\n' | b'\r', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }

    /// Skips one byte if it is the one expected.
    #[inline]
    pub(super) fn eat(&mut self, expected: u8) -> bool {
        match self.rest {
            [byte, rest @ ..] if *byte == expected => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    #[inline]
    pub(super) fn expect(&mut self, expected: u8) -> Result<(), JsonError> {
        if self.eat(expected) { Ok(()) } else { Err(self.syntax()) }
    }

    pub(super) fn end(&self) -> Result<(), JsonError> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.syntax()) }
    }

    /// Reads a number, and returns it as written.
    pub(super) fn number(&mut self) -> Result<&'a str, JsonError> {
        let start = self.offset();
        self.eat(b'-');
        if !self.eat(b'0') {
            self.digits()?;
        }
        if self.eat(b'.') {
            self.digits()?;
        }
        if self.eat(b'e') || self.eat(b'E') {
            if !self.eat(b'+') {
                self.eat(b'-');
            }
            self.digits()?;
        }
        self.since(start)
    }

    /// Skips one digit or more.
    fn digits(&mut self) -> Result<(), JsonError> {
        let count = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.skip(count);
        if count == 0 { Err(self.syntax()) } else { Ok(()) }
    }

    /// Reads a string.
    pub(super) fn string(&mut self) -> Result<Text<'a>, JsonError> {
        self.expect(b'"')?;
        let start = self.offset();
        let mut escaped = false;
        loop {
            self.skip(plain_run(self.rest));
            match self.rest {
                [b'"', rest @ ..] => {
                    let raw = self.since(start)?;
                    self.rest = rest;
                    return Ok(Text { raw, escaped });
                }
                [b'\\', ..] => {
                    escaped = true;
                    self.escape()?;
                }
                _ => return Err(self.syntax()),
            }
        }
    }

    fn escape(&mut self) -> Result<(), JsonError> {
        let offset = self.offset();
        let (_, rest) = escape(self.rest).map_err(|fault| match fault {
            EscapeFault::Syntax => JsonError::Syntax { offset },
            EscapeFault::Surrogate => JsonError::Surrogate { offset },
        })?;
        self.rest = rest;
        Ok(())
    }

    fn skip(&mut self, count: usize) {
        self.rest = self.rest.get(count..).unwrap_or(&[]);
    }

    /// Returns the text from an offset to here.
    fn since(&self, start: usize) -> Result<&'a str, JsonError> {
        self.text.get(start..self.offset()).ok_or(self.syntax())
    }

    fn syntax(&self) -> JsonError {
        JsonError::Syntax { offset: self.offset() }
    }
}

/// A string, as written between its quotes; its escapes have been checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text<'a> {
    raw: &'a str,
    escaped: bool,
}

impl<'a> Text<'a> {
    /// Returns the string if it is its own spelling, without escapes.
    pub(super) fn plain(&self) -> Option<&'a str> {
        (!self.escaped).then_some(self.raw)
    }

    /// Returns the string that is meant.
    pub(super) fn decode(&self) -> Cow<'a, str> {
        match self.plain() {
            Some(text) => Cow::Borrowed(text),
            None => Cow::Owned(self.chars().collect()),
        }
    }

    /// Returns the characters that are meant.
    pub(super) fn chars(&self) -> impl Iterator<Item = char> + Clone + use<'a> {
        let mut rest = self.raw;
        std::iter::from_fn(move || {
            if !rest.starts_with('\\') {
                let next = rest.chars().next()?;
                rest = rest.get(next.len_utf8()..)?;
                return Some(next);
            }
            let (next, tail) = escape(rest.as_bytes()).ok()?;
            rest = rest.get(rest.len() - tail.len()..)?;
            Some(next)
        })
    }
}

/// What is wrong with an escape.
enum EscapeFault {
    Syntax,
    Surrogate,
}

/// Reads the escape at the beginning: the character that it means, and what follows.
fn escape(text: &[u8]) -> Result<(char, &[u8]), EscapeFault> {
    let [b'\\', letter, rest @ ..] = text else { return Err(EscapeFault::Syntax) };
    let meant = match letter {
        b'"' | b'\\' | b'/' => char::from(*letter),
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => return unicode(rest),
        _ => return Err(EscapeFault::Syntax),
    };
    Ok((meant, rest))
}

/// Reads what follows `\u`: one code unit of UTF-16, or a pair of surrogates.
fn unicode(text: &[u8]) -> Result<(char, &[u8]), EscapeFault> {
    let (first, rest) = code_unit(text).ok_or(EscapeFault::Syntax)?;
    if let Some(meant) = char::from_u32(first) {
        return Ok((meant, rest));
    }
    let low = rest.strip_prefix(br"\u").and_then(code_unit);
    let (second, rest) = low.ok_or(EscapeFault::Surrogate)?;
    match (first, second) {
        (0xd800..=0xdbff, 0xdc00..=0xdfff) => {
            let meant = char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00));
            meant.map(|meant| (meant, rest)).ok_or(EscapeFault::Surrogate)
        }
        _ => Err(EscapeFault::Surrogate),
    }
}

/// Reads four hexadecimal digits.
fn code_unit(text: &[u8]) -> Option<(u32, &[u8])> {
    let (digits, rest) = text.split_first_chunk::<4>()?;
    let unit = digits.iter().try_fold(0, |unit, &digit| Some(unit << 4 | char::from(digit).to_digit(16)?))?;
    Some((unit, rest))
}

/// Counts the leading bytes that stand for themselves inside a string: no quote, no backslash, no control character.
///
/// PERF: eight bytes at a time take 12 % off `request/json/read/order` and 15 % off `request/json/read/detailed`; the
/// price is the arithmetic of [`stops`], for which the plain form is the test's oracle.
#[inline]
fn plain_run(text: &[u8]) -> usize {
    let (words, tail) = text.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let stops = stops(u64::from_le_bytes(*word));
        if stops != 0 {
            return index * 8 + (stops.trailing_zeros() / 8) as usize;
        }
    }
    let stop = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
    words.len() * 8 + tail.iter().position(stop).unwrap_or(tail.len())
}

/// Marks the bytes of a little-endian word that end a plain run. The lowest mark is exact; those above it may be due to
/// a borrow.
#[inline]
fn stops(word: u64) -> u64 {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    // Wrapping: the borrow out of the highest byte means nothing.
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word & HIGH;
    let equal = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    below(word, 0x20) | equal(b'"') | equal(b'\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_run_stops_at_the_first_byte_that_does_not_stand_for_itself() {
        let plain = |byte: u8| byte != b'"' && byte != b'\\' && byte >= 0x20;
        for length in 0..20 {
            for place in 0..length {
                for byte in 0..=u8::MAX {
                    for around in [b'a', 0xff, 0x21, b'"'] {
                        let mut text = vec![around; length];
                        text[place] = byte;
                        let expected = text.iter().position(|&byte| !plain(byte)).unwrap_or(length);
                        assert_eq!(plain_run(&text), expected, "{text:?}");
                    }
                }
            }
        }
    }
}
