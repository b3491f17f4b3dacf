//! What is wrong with a configuration, and where: a fault knows the path of a key, an error also the file and the line.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::certificate;
use crate::front::PlatformError;
use crate::merchant::{self, RoutesInvalid};
use crate::signature::KeyError;
use crate::types::{Interface, MerchantId, Scenario};

use super::issue::IssueError;

/// A configuration that cannot be used. Reads `FILE:LINE: key: what is wrong; what to write instead`.
#[derive(Debug)]
pub struct ConfigError {
    /// The configuration file, or the folder that was to hold one.
    pub file: PathBuf,
    /// The line of the key, from 1; that of the table that lacks the key; `None` where the file could not be read.
    pub line: Option<usize>,
    /// The path of the key, such as `merchant[2].key[0].certificate_file`; items count from 0.
    pub key: String,
    /// What is wrong.
    pub problem: Box<Problem>,
}

impl ConfigError {
    /// Makes an error that no line is to blame for.
    pub(super) fn of_file(file: &Path, problem: Problem) -> Self {
        Self { file: file.to_owned(), line: None, key: String::new(), problem: Box::new(problem) }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(formatter, ":{line}")?;
        }
        if !self.key.is_empty() {
            write!(formatter, ": {}", self.key)?;
        }
        write!(formatter, ": {}", self.problem)
    }
}

impl Error for ConfigError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.problem.source()
    }
}

/// What is wrong with a key, and what to write instead. Never holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The text is not TOML.
    #[error("not TOML: {message}; write `key = value`, `[section]` or `[[section]]`, with texts in quotes")]
    Syntax {
        /// The parser's words.
        message: String,
    },
    /// No such key exists here.
    #[error("unknown key; write {known}")]
    UnknownKey {
        /// The keys that exist here, the likeliest first.
        known: String,
    },
    /// A key is missing.
    #[error("missing; {remedy}")]
    Missing {
        /// What to add.
        remedy: &'static str,
    },
    /// A key stands where it means nothing.
    #[error("does not belong here; {remedy}")]
    Unwanted {
        /// What to do instead.
        remedy: &'static str,
    },
    /// A value has the wrong type, or is none of those allowed.
    #[error("{found}; write {expected}")]
    Form {
        /// What was found.
        found: String,
        /// What would be accepted.
        expected: String,
    },
    /// A text does not have the form of its kind.
    #[error("`{found}` cannot be used; write {expected}")]
    Text {
        /// What was found.
        found: String,
        /// What would be accepted.
        expected: &'static str,
    },
    /// A number is out of range.
    #[error("{value} is out of range; write {min} to {max}")]
    Range {
        /// What was found.
        value: u64,
        /// The smallest that is accepted.
        min: u64,
        /// The largest that is accepted.
        max: u64,
    },
    /// A number is above one that bounds it.
    #[error("{value} is above `{other}`; write at most {max}, or raise `{other}`")]
    Above {
        /// What was found.
        value: u64,
        /// The key that bounds it.
        other: &'static str,
        /// The value of that key.
        max: u64,
    },
    /// There are more items than the gate takes.
    #[error("{count} items; write at most {max}")]
    TooMany {
        /// How many were found.
        count: usize,
        /// How many are taken.
        max: usize,
    },
    /// A value occurs twice where it must be unique.
    #[error("`{value}` is taken already, by {first}; write another")]
    Duplicate {
        /// The value.
        value: String,
        /// The path of the item that has it.
        first: String,
    },
    /// A name stands for nothing that is configured.
    #[error("`{name}` is not known; write {known}")]
    Unknown {
        /// The name.
        name: String,
        /// The names that are known.
        known: String,
    },
    /// Requests would cross a network in the clear.
    #[error(
        "`{address}` can be reached from elsewhere without TLS; write 127.0.0.1, [::1] or unix:PATH, or add \
         `tls_certificate_file` and `tls_key_file`"
    )]
    PlainNotLocal {
        /// The address.
        address: String,
    },
    /// The control listener could be reached from another machine.
    #[error(
        "`{address}` can be reached from elsewhere; write 127.0.0.1, [::1] or unix:PATH: who reaches the control \
         listener controls the gate"
    )]
    ControlNotLocal {
        /// The address.
        address: String,
    },
    /// A scenario that the kind of interface does not have.
    #[error("`{scenario}` does not fit `{interface}`; write {}", listed(.fits.iter()))]
    Scenario {
        /// The kind of interface.
        interface: Interface,
        /// What was found.
        scenario: Scenario,
        /// The scenarios that fit.
        fits: &'static [Scenario],
    },
    /// A file cannot be read.
    #[error("cannot read {}: {source}; write the path of a file that can be read, absolute or from the folder of the \
         configuration", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What the path names is no regular file.
    #[error("{} is not a regular file; write the path of one", .path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// A file is longer than the gate reads.
    #[error("{} is longer than {bytes_max} bytes; write the path of the right file", .path.display())]
    FileTooLong {
        /// The file.
        path: PathBuf,
        /// Most bytes that are read.
        bytes_max: u64,
    },
    /// A secret file can be opened by other users.
    #[error("{0} holds a secret and others may open it (mode {mode:04o}); run `chmod 600 {0}`", .path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file does not hold what it should.
    #[error("{} does not hold {expected}; write the path of a file that does", .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
    },
    /// A certificate cannot be used.
    #[error("{}: {source}; write the path of a certificate in PEM that can be used here", .path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why.
        source: certificate::Error,
    },
    /// A revocation list cannot be used.
    #[error("{}: {source}; write the path of a revocation list, in PEM or DER, that can be used here", .path.display())]
    RevocationList {
        /// The file.
        path: PathBuf,
        /// Why.
        source: certificate::Error,
    },
    /// A merchant's certificate is that of another merchant.
    #[error("{} was issued to merchant {found}, not to {expected}; write the path of a certificate whose subject CN is \
         {expected}", .path.display())]
    ForeignCertificate {
        /// The file.
        path: PathBuf,
        /// The subject CN.
        found: MerchantId,
        /// The merchant.
        expected: MerchantId,
    },
    /// A public key cannot be used.
    #[error("{}: {source}; write the path of a key that can be used", .path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        source: KeyError,
    },
    /// A platform key cannot be used.
    #[error("{source}; {remedy}")]
    Platform {
        /// Why.
        source: PlatformError,
        /// What to do instead.
        remedy: &'static str,
    },
    /// The TLS certificate and key cannot be used together.
    #[error("{0}; write the private key that belongs to `tls_certificate_file`")]
    Tls(#[source] rustls::Error),
    /// The routes file cannot be used.
    #[error("{}: {source}; see the standard table for the form", .path.display())]
    Routes {
        /// The file.
        path: PathBuf,
        /// Why.
        source: RoutesInvalid,
    },
    /// The table of routes that is part of the program cannot be used: a fault of this build.
    #[error("{0}; write `routes_file` with a table of your own")]
    StandardRoutes(#[source] RoutesInvalid),
    /// Merchants, limits and routes do not fit together.
    #[error(transparent)]
    Policy(merchant::Problem),
    /// Something stands where a new configuration was to be written.
    #[error("exists already and is not an empty folder; write the name of a new folder")]
    Exists,
    /// A file of a new configuration cannot be written.
    #[error("cannot write {}: {source}; write the name of a folder that can be made", .path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A key or certificate of a new configuration could not be made.
    #[error("{0}; run the command again")]
    Issue(#[from] IssueError),
}

/// A problem, and the path of the key that has it.
#[derive(Debug)]
pub(super) struct Fault(Box<(Vec<Step>, Problem)>);

impl Fault {
    /// Takes the fault apart.
    pub fn into_parts(self) -> (Vec<Step>, Problem) {
        *self.0
    }
}

/// The place of a value, kept as links on the stack: naming a place costs nothing until it is at fault.
#[derive(Clone, Copy, Debug)]
pub(super) struct At<'p> {
    parent: Option<&'p At<'p>>,
    step: Step,
}

/// One step from a table to a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// To the table of the whole file.
    Root,
    /// To the value of a key.
    Key(&'static str),
    /// To an item of the list that a key holds, from 0.
    Item(&'static str, usize),
}

impl At<'_> {
    /// Names the value of a key.
    pub fn key(&self, name: &'static str) -> At<'_> {
        At { parent: Some(self), step: Step::Key(name) }
    }

    /// Names an item of the list that a key holds.
    pub fn item(&self, name: &'static str, index: usize) -> At<'_> {
        At { parent: Some(self), step: Step::Item(name, index) }
    }

    /// Makes a fault of a problem with this value.
    pub fn refuse(&self, problem: Problem) -> Fault {
        Fault(Box::new((self.steps(), problem)))
    }

    fn steps(&self) -> Vec<Step> {
        let mut steps: Vec<Step> = std::iter::successors(Some(self), |at| at.parent).map(|at| at.step).collect();
        steps.reverse();
        steps
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&path_text(&self.steps()))
    }
}

/// Writes a path as people read it: `merchant[2].key[0].certificate_file`.
pub(super) fn path_text(steps: &[Step]) -> String {
    let names = steps.iter().filter_map(|step| match step {
        Step::Root => None,
        Step::Key(name) => Some((*name).to_owned()),
        Step::Item(name, index) => Some(format!("{name}[{index}]")),
    });
    names.collect::<Vec<_>>().join(".")
}

/// Lists values as people read them: `a`, `b`.
pub(super) fn listed(values: impl Iterator<Item = impl fmt::Display>) -> String {
    values.map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", ")
}

/// The table of the whole file.
pub(super) static ROOT: At<'static> = At { parent: None, step: Step::Root };
