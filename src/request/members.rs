//! Bodies of either format, read by the same pointers.

use std::borrow::Cow;

use super::json::{self, JsonError, Wanted};
use super::xml::{self, XmlError};

/// How bodies are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JSON: see [`json`].
    Json,
    /// Flat XML: see [`xml`].
    Xml,
}

/// The values found in a body, by the position of their pointer in [`Wanted::new`].
#[derive(Clone, Debug)]
pub enum Found<'a> {
    /// In JSON.
    Json(json::Found<'a>),
    /// In XML.
    Xml(xml::Found<'a>),
}

impl<'a> Found<'a> {
    /// Returns the text at the pointer, `None` where there is no such member.
    ///
    /// # Errors
    /// [`NotOfType`] where it is something else than a text.
    pub fn string(&self, index: usize) -> Result<Option<Cow<'a, str>>, NotOfType> {
        match self {
            Self::Json(found) => found.string(index).map_err(|_: JsonError| NotOfType),
            Self::Xml(found) => Ok(found.string(index)),
        }
    }

    /// Returns the integer at the pointer, `None` where there is no such member.
    ///
    /// # Errors
    /// [`NotOfType`] where it is something else than a plain integer: in JSON a number, in XML digits alone.
    pub fn integer(&self, index: usize) -> Result<Option<u64>, NotOfType> {
        match self {
            Self::Json(found) => found.integer(index).map_err(|_: JsonError| NotOfType),
            Self::Xml(found) => found.integer(index).map_err(|_: XmlError| NotOfType),
        }
    }
}

/// A member is not of the type asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the member is not of the type asked for")]
pub struct NotOfType;

/// The body is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It is not strict JSON.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// It is not strict flat XML.
    #[error(transparent)]
    Xml(#[from] XmlError),
}

/// Checks a body to its end, and picks out the wanted members.
///
/// # Errors
/// [`Unreadable`] where the body is refused.
pub fn read<'a>(format: Format, body: &'a [u8], wanted: &Wanted) -> Result<Found<'a>, Unreadable> {
    Ok(match format {
        Format::Json => Found::Json(json::read(body, wanted)?),
        Format::Xml => Found::Xml(xml::read(body)?.find(wanted)?),
    })
}
