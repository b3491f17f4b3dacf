//! The seam through which every byte of the journal goes: a few calls, so that storage that fails, forgets and tears can
//! stand in for a disk.

mod disk;
pub mod faulty;
pub mod simulated;

use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::Arc;

pub use disk::Disk;

/// A file system.
pub trait Storage: Send + Sync + Debug {
    /// Makes a folder and those above it, where they are not there.
    ///
    /// # Errors
    /// What the system says; so of all calls.
    fn create_folder(&self, folder: &Path) -> io::Result<()>;

    /// Lists the names of the files in a folder, sorted.
    ///
    /// # Errors
    /// Where the folder cannot be read.
    fn list(&self, folder: &Path) -> io::Result<Vec<String>>;

    /// Makes a file of so many bytes, zero all of them, whose room is taken from the disk at once.
    ///
    /// # Errors
    /// Where it exists, or there is no room.
    fn create(&self, path: &Path, bytes: u64) -> io::Result<Arc<dyn File>>;

    /// Opens a file that exists, for reading and writing where `write`.
    ///
    /// # Errors
    /// Where it does not exist, or may not be opened so.
    fn open(&self, path: &Path, write: bool) -> io::Result<Arc<dyn File>>;

    /// Removes a file.
    ///
    /// # Errors
    /// Where it cannot be removed.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes what was created and removed in a folder safe from a loss of power.
    ///
    /// # Errors
    /// Where that is not sure.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;

    /// Locks a file for this process alone, until what is returned is dropped; makes it where it is not there.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] where another has it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>>;
}

/// A file that is open.
pub trait File: Send + Sync + Debug {
    /// Reads at an offset, as much as there is; returns how many bytes.
    ///
    /// # Errors
    /// What the system says; so of all calls.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all bytes at an offset: one call of the system, unless that takes only a part.
    ///
    /// # Errors
    /// Then any part may have been written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes what was written safe from a loss of power (`fdatasync`). Where it failed once, the bytes must be taken for
    /// lost: trying again proves nothing.
    ///
    /// # Errors
    /// Where that is not sure.
    fn sync_data(&self) -> io::Result<()>;

    /// Returns the length in bytes.
    ///
    /// # Errors
    /// Where it cannot be told.
    fn bytes(&self) -> io::Result<u64>;
}

/// Holds a lock.
pub trait Lock: Send + Sync + Debug {}
