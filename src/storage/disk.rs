//! The disk.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock};
use rustix::io::Errno;

use super::{File, Lock, Storage};

/// The file system of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl Storage for Disk {
    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let names =
            fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()));
        let mut names = names.collect::<io::Result<Vec<_>>>()?;
        names.sort_unstable();
        Ok(names)
    }

    fn create(&self, path: &Path, bytes: u64) -> io::Result<Arc<dyn File>> {
        let file = fs::OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        let room = match fallocate(&file, FallocateFlags::empty(), 0, bytes) {
            // A file system without the call: its room is taken by writing.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            Err(errno) => Err(errno.into()),
        };
        // Room that was only promised is changed in the file system's own log with the first write: each sync costs that
        // log a commit then, and on ext4 one that the loss of the disk overtakes may say that it succeeded.
        if let Err(error) = room.and_then(|()| fill(&file, bytes)) {
            // Nothing is left behind of a file that could not be made whole.
            drop(file);
            let _ = fs::remove_file(path);
            return Err(error);
        }
        Ok(Arc::new(file))
    }

    fn open(&self, path: &Path, write: bool) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(fs::OpenOptions::new().read(true).write(write).open(path)?))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        fs::File::open(folder)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let file = fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Box::new(Flock { _file: file }))
    }
}

impl File for fs::File {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut read = 0;
        while let Some(rest) = bytes.get_mut(read..).filter(|rest| !rest.is_empty()) {
            let at = offset.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
            match FileExt::read_at(self, rest, at) {
                Ok(0) => break,
                Ok(more) => read = read.saturating_add(more),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        Self::sync_data(self)
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

/// Writes zeros, and makes them safe: bit by bit, so that the syncs of others do not wait long for the disk.
fn fill(file: &fs::File, bytes: u64) -> io::Result<()> {
    let zeros = vec![0; FILL_BYTES];
    let mut offset = 0;
    while offset < bytes {
        let left = usize::try_from(bytes - offset).unwrap_or(FILL_BYTES).min(FILL_BYTES);
        file.write_all_at(zeros.get(..left).unwrap_or(&zeros), offset)?;
        file.sync_data()?;
        offset = offset.saturating_add(u64::try_from(left).unwrap_or(u64::MAX));
    }
    file.sync_all()
}

/// Is locked for as long as it is open.
#[derive(Debug)]
struct Flock {
    _file: fs::File,
}

impl Lock for Flock {}

/// How much is written at a time.
const FILL_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_its_size_from_the_start_and_reads_as_zeros() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        let file = Disk.create(&path, 10_000).expect("a file");
        let mut bytes = [1; 20];
        assert_eq!((file.bytes().expect("a length"), file.read_at(&mut bytes, 9_990).expect("bytes")), (10_000, 10));
        assert_eq!(bytes[..10], [0; 10]);
        file.write_at(b"ab", 5).and_then(|()| file.sync_data()).expect("written");
        let again = Disk.open(&path, false).expect("the file");
        assert_eq!((again.read_at(&mut bytes[..4], 4).expect("bytes"), &bytes[..4]), (4, b"\0ab\0".as_slice()));
        assert!(again.write_at(b"c", 0).is_err(), "it is open for reading only");
        assert_eq!(Disk.create(&path, 1).map(drop).map_err(|error| error.kind()), Err(ErrorKind::AlreadyExists));
        assert_eq!(Disk.list(folder.path()).expect("names"), ["file"]);
        Disk.remove(&path).and_then(|()| Disk.sync_folder(folder.path())).expect("removed");
        assert_eq!(Disk.list(folder.path()).expect("names"), Vec::<String>::new());
    }

    #[test]
    fn a_lock_is_one_owners_at_a_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lock");
        let first = Disk.lock(&path).expect("a lock");
        assert_eq!(Disk.lock(&path).map(drop).map_err(|error| error.kind()), Err(ErrorKind::WouldBlock));
        drop(first);
        assert!(Disk.lock(&path).is_ok());
    }
}
