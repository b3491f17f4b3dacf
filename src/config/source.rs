//! The text of a configuration: read with a bound, parsed strictly, and searched for the line of a key at fault.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::de::{DeTable, DeValue};

use super::fault::{ConfigError, Fault, Problem, Step, path_text};
use super::shape::Shape;

/// A configuration file and its text.
pub(super) struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ConfigError`] without a line where the file cannot be read, is not UTF-8 or is longer than
    /// [`CONFIG_BYTES_MAX`].
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let fail = |problem| ConfigError::of_file(path, problem);
        let mut text = String::new();
        let read = std::fs::File::open(path)
            .and_then(|file| file.take(CONFIG_BYTES_MAX.saturating_add(1)).read_to_string(&mut text));
        let length = read.map_err(|source| fail(Problem::Unreadable { path: path.to_owned(), source }))?;
        if u64::try_from(length).is_ok_and(|length| length <= CONFIG_BYTES_MAX) {
            Ok(Self { path: path.to_owned(), text })
        } else {
            Err(fail(Problem::FileTooLong { path: path.to_owned(), bytes_max: CONFIG_BYTES_MAX }))
        }
    }

    /// Parses the text into its shape.
    ///
    /// # Errors
    /// [`ConfigError`] for what is not TOML, unknown and missing keys, and values of another type.
    pub fn parse(&self) -> Result<Shape, ConfigError> {
        let deserializer = toml::Deserializer::parse(&self.text).map_err(|error| {
            let problem = Problem::Syntax { message: error.message().to_owned() };
            self.error_at(error.span().map_or(0, |span| span.start), String::new(), problem)
        })?;
        Shape::deserialize(deserializer).map_err(|error| self.form_error(&error))
    }

    /// Gives a fault its file and line.
    pub fn error(&self, fault: Fault) -> ConfigError {
        let (steps, problem) = fault.into_parts();
        let offset = DeTable::parse(&self.text).map_or(0, |root| offset_of(root.get_ref(), &steps));
        self.error_at(offset, path_text(&steps), problem)
    }

    fn error_at(&self, offset: usize, key: String, problem: Problem) -> ConfigError {
        let line = 1 + self.text.bytes().take(offset).filter(|byte| *byte == b'\n').count();
        ConfigError { file: self.path.clone(), line: Some(line), key, problem: Box::new(problem) }
    }

    /// Turns what serde says into a key path and a remedy.
    fn form_error(&self, error: &toml::de::Error) -> ConfigError {
        let span = error.span().unwrap_or_default();
        let mut path =
            DeTable::parse(&self.text).ok().and_then(|root| path_of(root.get_ref(), &span, "")).unwrap_or_default();
        let message = error.message();
        let problem = if let Some(rest) = message.strip_prefix("unknown field `") {
            unknown_key(rest)
        } else if let Some(name) = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
            path = join(&path, name);
            Problem::Missing { remedy: "add the key: it has no default" }
        } else {
            form(message, self.text.get(span.clone()).unwrap_or_default())
        };
        self.error_at(span.start, path, problem)
    }
}

/// Finds where a path leads: the key, the item, or the nearest table on the way that exists.
fn offset_of(root: &DeTable<'_>, steps: &[Step]) -> usize {
    let mut offset = 0;
    let mut table = Some(root);
    for step in steps {
        let (name, index) = match step {
            Step::Root => continue,
            Step::Key(name) => (*name, None),
            Step::Item(name, index) => (*name, Some(*index)),
        };
        let Some((key, value)) = table.and_then(|table| table.iter().find(|(key, _)| key.get_ref() == name)) else {
            break;
        };
        let item = index.and_then(|index| value.get_ref().as_array()?.get(index));
        offset = item.map_or(key.span(), |item| item.span()).start;
        table = item.unwrap_or(value).get_ref().as_table();
    }
    offset
}

/// Finds the path of the key or value that stands at a span; the innermost, where several begin there.
fn path_of(table: &DeTable<'_>, span: &std::ops::Range<usize>, path: &str) -> Option<String> {
    table.iter().find_map(|(key, value)| {
        let path = join(path, key.get_ref());
        let within = path_within(value.get_ref(), span, &path);
        within.or_else(|| (key.span() == *span || value.span() == *span).then_some(path))
    })
}

fn path_within(value: &DeValue<'_>, span: &std::ops::Range<usize>, path: &str) -> Option<String> {
    match value {
        DeValue::Table(table) => path_of(table, span, path),
        DeValue::Array(items) => items.iter().enumerate().find_map(|(index, item)| {
            let path = format!("{path}[{index}]");
            let within = path_within(item.get_ref(), span, &path);
            within.or_else(|| (item.span() == *span).then_some(path))
        }),
        DeValue::String(_) | DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {
            None
        }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// Reads the rest of serde's "unknown field `x`, expected one of `a`, `b`"; puts the likeliest key first.
fn unknown_key(rest: &str) -> Problem {
    let (name, expected) = rest.split_once('`').unwrap_or((rest, ""));
    let mut known: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
    known.sort_by_key(|other| std::cmp::Reverse(common_prefix(name, other)));
    Problem::UnknownKey { known: known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ") }
}

fn common_prefix(one: &str, other: &str) -> usize {
    one.bytes().zip(other.bytes()).take_while(|(one, other)| one == other).count()
}

/// Reads serde's "invalid type: x, expected y" and the like.
fn form(message: &str, found: &str) -> Problem {
    let (wrong, expected) = match message.strip_prefix("expected ") {
        Some(expected) => (format!("{} cannot be used", shortened(found)), expected),
        None => {
            let (wrong, expected) = message.split_once(", expected ").unwrap_or((message, "another value"));
            (wrong.replace("unknown variant", "unknown value"), expected)
        }
    };
    let expected = match expected {
        "u64" => "a whole number, without quotes and not negative",
        "a string" => "a text, in quotes",
        "a sequence" => "a list: of sections in double brackets, or of values in brackets",
        other => other,
    };
    Problem::Form { found: wrong, expected: expected.to_owned() }
}

fn shortened(text: &str) -> String {
    let short: String = text.chars().take(FOUND_CHARS_MAX).collect();
    if short.len() == text.len() { short } else { short + "..." }
}

/// Longest configuration file, in bytes.
pub(super) const CONFIG_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Most characters of a wrong value that a message repeats.
const FOUND_CHARS_MAX: usize = 60;
