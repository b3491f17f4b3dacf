//! The files that a configuration names: found from its folder and read with a bound. Secrets are read only where
//! nobody else may open them.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::fault::{At, Fault, Problem};

/// The folder that relative paths count from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Folder<'f>(&'f Path);

impl<'f> Folder<'f> {
    /// Returns the folder of a file.
    pub fn of(file: &'f Path) -> Self {
        Self(file.parent().unwrap_or(Path::new("")))
    }

    /// Returns the path that a name in the configuration means.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Reads a text file.
    ///
    /// # Errors
    /// [`Fault`] at `at` where it is not a readable file of UTF-8 of at most `bytes_max` bytes.
    pub fn text(&self, at: &At<'_>, name: &str, bytes_max: u64) -> Result<String, Fault> {
        let path = self.path(name);
        read(&path, bytes_max, Access::Any).and_then(|bytes| text(&path, bytes)).map_err(|problem| at.refuse(problem))
    }

    /// Reads a file of any content.
    ///
    /// # Errors
    /// [`Fault`] at `at` where it is not a readable file of at most `bytes_max` bytes.
    pub fn bytes(&self, at: &At<'_>, name: &str, bytes_max: u64) -> Result<Vec<u8>, Fault> {
        read(&self.path(name), bytes_max, Access::Any).map_err(|problem| at.refuse(problem))
    }

    /// Reads a text file that holds a secret: nobody but its owner may open it.
    ///
    /// # Errors
    /// As [`Folder::text`], and where its mode is wider than 0600.
    pub fn secret(&self, at: &At<'_>, name: &str) -> Result<String, Fault> {
        let path = self.path(name);
        let bytes = read(&path, PEM_BYTES_MAX, Access::OwnerOnly);
        bytes.and_then(|bytes| text(&path, bytes)).map_err(|problem| at.refuse(problem))
    }
}

/// Who may be able to open a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    /// Anybody.
    Any,
    /// Its owner.
    OwnerOnly,
}

fn text(path: &Path, bytes: Vec<u8>) -> Result<String, Problem> {
    String::from_utf8(bytes).map_err(|_| Problem::Content { path: path.to_owned(), expected: "text" })
}

fn read(path: &Path, bytes_max: u64, access: Access) -> Result<Vec<u8>, Problem> {
    let unreadable = |source| Problem::Unreadable { path: path.to_owned(), source };
    // Asked by name first: to open a pipe would wait for its other end.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(Problem::NotAFile { path: path.to_owned() });
    }
    let file = File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.permissions().mode() & 0o7777;
    if access == Access::OwnerOnly && mode & 0o077 != 0 {
        return Err(Problem::Exposed { path: path.to_owned(), mode });
    }
    let mut bytes = Vec::new();
    match file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes) {
        Ok(length) if u64::try_from(length).is_ok_and(|length| length <= bytes_max) => Ok(bytes),
        Ok(_) => Err(Problem::FileTooLong { path: path.to_owned(), bytes_max }),
        Err(source) => Err(unreadable(source)),
    }
}

/// Longest file of a key or of certificates, in bytes.
pub(super) const PEM_BYTES_MAX: u64 = 64 * 1024;

/// Longest routes file, in bytes.
pub(super) const ROUTES_BYTES_MAX: u64 = 1024 * 1024;
