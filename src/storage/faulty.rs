//! Storage whose calls fail when they are told to.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::{File, Lock, Storage};

/// Wraps storage. Clones are the same.
#[derive(Clone, Debug)]
pub struct Faulty {
    storage: Arc<dyn Storage>,
    plan: Arc<Plan>,
}

#[derive(Debug, Default)]
struct Plan {
    calls: AtomicU64,
    rule: Mutex<Option<Rule>>,
}

/// Which calls fail, and how.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// The kind of call; `None` means any.
    pub call: Option<Call>,
    /// How many such calls pass before.
    pub after: u64,
    /// How many fail then.
    pub times: u64,
    /// What the system says.
    pub error: Error,
}

/// A kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Folders and files are made.
    Create,
    /// A folder is listed, a file is opened or read.
    Read,
    /// A file is written.
    Write,
    /// A file is synced.
    Sync,
    /// A file is removed, or its folder synced.
    Folder,
}

/// What a failing call says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// `EIO`.
    Broken,
    /// `ENOSPC`.
    Full,
}

impl Faulty {
    /// Wraps storage; every call passes.
    pub fn new(storage: Arc<dyn Storage>) -> Self {
        Self { storage, plan: Arc::default() }
    }

    /// Has calls fail from here on; `None` has every call pass.
    pub fn set(&self, rule: Option<Rule>) {
        *self.plan.rule.lock().unwrap_or_else(PoisonError::into_inner) = rule;
    }

    /// Returns how many calls were made.
    pub fn calls(&self) -> u64 {
        self.plan.calls.load(Ordering::Relaxed)
    }
}

impl Plan {
    fn pass(&self, call: Call) -> io::Result<()> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let mut rule = self.rule.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(rule) = rule.as_mut().filter(|rule| rule.call.is_none_or(|kind| kind == call)) else { return Ok(()) };
        if rule.after > 0 {
            rule.after -= 1;
            return Ok(());
        }
        if rule.times == 0 {
            return Ok(());
        }
        rule.times -= 1;
        Err(match rule.error {
            Error::Broken => rustix::io::Errno::IO.into(),
            Error::Full => rustix::io::Errno::NOSPC.into(),
        })
    }

    fn wrap(self: &Arc<Self>, file: Arc<dyn File>) -> Arc<dyn File> {
        Arc::new(FaultyFile { file, plan: Arc::clone(self) })
    }
}

impl Storage for Faulty {
    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        self.plan.pass(Call::Create)?;
        self.storage.create_folder(folder)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        self.plan.pass(Call::Read)?;
        self.storage.list(folder)
    }

    fn create(&self, path: &Path, bytes: u64) -> io::Result<Arc<dyn File>> {
        self.plan.pass(Call::Create)?;
        self.storage.create(path, bytes).map(|file| self.plan.wrap(file))
    }

    fn open(&self, path: &Path, write: bool) -> io::Result<Arc<dyn File>> {
        self.plan.pass(Call::Read)?;
        self.storage.open(path, write).map(|file| self.plan.wrap(file))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.plan.pass(Call::Folder)?;
        self.storage.remove(path)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.plan.pass(Call::Folder)?;
        self.storage.sync_folder(folder)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        self.storage.lock(path)
    }
}

#[derive(Debug)]
struct FaultyFile {
    file: Arc<dyn File>,
    plan: Arc<Plan>,
}

impl File for FaultyFile {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.plan.pass(Call::Read)?;
        self.file.read_at(bytes, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.plan.pass(Call::Write)?;
        self.file.write_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.plan.pass(Call::Sync)?;
        self.file.sync_data()
    }

    fn bytes(&self) -> io::Result<u64> {
        self.plan.pass(Call::Read)?;
        self.file.bytes()
    }
}
