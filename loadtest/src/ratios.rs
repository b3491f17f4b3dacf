//! Ours beside rivals, in one run on one machine.
//!
//! A contest measures one thing that this project does and a rival that does the same, and checks the answers of both.
//! All contests take turns, a round of each at a time, so that whatever else the machine does falls on all of them. A
//! row says how many times better ours was in the middle round, and how far the rounds lie apart.

mod decide;
mod http;
mod http2;
mod orders;
mod quota;
mod readme;
mod row;
mod store;
mod verify;

use std::error::Error;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::machine::Machine;

pub(crate) use http::STATIC;
pub use row::{Line, Row};

/// What is compared, and how it is shown.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Options {
    /// Measure only these rows: names, or how names begin (`quota`)
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    pub only: Vec<String>,
    /// Print one JSON object a row
    #[arg(long)]
    pub json: bool,
    /// Install rivals that are missing
    #[arg(long)]
    pub install: bool,
    /// How many rounds each row is measured for
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..))]
    pub rounds: Option<u16>,
    /// Put the table into this file, between its two marks
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "README.md", conflicts_with = "only")]
    pub readme: Option<PathBuf>,
}

/// How much a round does: enough to measure, or as much as shows that it works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// All of it.
    Full,
    /// So little that the figures say nothing.
    Smoke,
}

/// Ours and a rival, ready to be measured.
pub trait Contest {
    /// Returns what ours is compared with.
    fn rival_name(&self) -> &'static str;

    /// Returns the unit of both figures.
    fn unit(&self) -> &'static str;

    /// Tells which figures are the better ones.
    fn better(&self) -> Better;

    /// Returns what the figures of the last round are made of, where that is worth saying.
    fn terms(&self) -> &str {
        ""
    }

    /// Lets both do the same, and checks what they answer.
    ///
    /// # Errors
    /// [`RatioError`] where an answer is wrong, or one of them does not work.
    fn round(&mut self) -> Result<Pair, RatioError>;
}

/// The figures of one round, in the unit of the contest; both above zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    /// Of this project.
    pub ours: f64,
    /// Of the rival.
    pub rival: f64,
}

/// Which of two figures is the better one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// The higher: a rate.
    Higher,
    /// The lower: a time.
    Lower,
}

impl Better {
    /// Returns how many times better ours is.
    fn ratio(self, pair: Pair) -> f64 {
        match self {
            Self::Higher => pair.ours / pair.rival,
            Self::Lower => pair.rival / pair.ours,
        }
    }
}

/// Makes a contest when its turn comes.
type Make = Box<dyn FnOnce() -> Result<Box<dyn Contest>, NotReady>>;

/// A row to be measured.
pub struct Entry {
    name: &'static str,
    make: Make,
}

impl Entry {
    /// Makes a row of a contest; `make` is called only where the row is asked for.
    pub fn new<C: Contest + 'static>(name: &'static str, make: impl FnOnce() -> Result<C, NotReady> + 'static) -> Self {
        Self { name, make: Box::new(|| Ok(Box::new(make()?))) }
    }

    /// Returns the name of the row.
    pub fn name(&self) -> &'static str {
        self.name
    }

    fn is_one_of(&self, names: &[String]) -> bool {
        names.is_empty() || names.iter().any(|name| begins_with(self.name, name))
    }
}

/// Tells whether a row is this one, or one of this group.
fn begins_with(name: &str, group: &str) -> bool {
    name.strip_prefix(group).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Why a contest cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum NotReady {
    /// It does not work: the command fails.
    #[error(transparent)]
    Failed(#[from] RatioError),
    /// This machine lacks something, which is said: the row is left out.
    #[error("skipped: {0}")]
    Skipped(String),
}

/// Ours and a rival could not be compared.
#[derive(Debug, thiserror::Error)]
pub enum RatioError {
    /// One of them does not work.
    #[error("{what}: {source}")]
    Broken {
        /// What does not work.
        what: &'static str,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// A figure is not a number above zero.
    #[error("ours {ours}, the rival's {rival}: no ratio follows from these")]
    Immeasurable {
        /// The figure of ours.
        ours: f64,
        /// The figure of the rival.
        rival: f64,
    },
    /// A row failed.
    #[error("{name}: {source}")]
    InRow {
        /// The row.
        name: &'static str,
        /// What went wrong in it.
        source: Box<RatioError>,
    },
    /// The file does not have the marks between which the table goes.
    #[error("{}: write `{begin}` and `{end}` where the table goes", path.display())]
    NoMarks {
        /// The file.
        path: PathBuf,
        /// The first mark.
        begin: &'static str,
        /// The other.
        end: &'static str,
    },
    /// No row has such a name.
    #[error("there is no row `{name}`; write one of: {}", known.join(", "))]
    NoSuchRow {
        /// What was asked for.
        name: String,
        /// The rows there are.
        known: Vec<&'static str>,
    },
    /// The file that the table goes into cannot be read or written.
    #[error("{}: {source}", path.display())]
    Readme {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The rows cannot be printed.
    #[error("cannot print the rows: {0}")]
    Write(#[from] io::Error),
    /// An answer is wrong.
    #[error("wrong answer: {0}")]
    Wrong(&'static str),
}

impl RatioError {
    /// Makes the error of something that does not work, out of the error it gave.
    pub fn broken<E: Into<Box<dyn Error + Send + Sync>>>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Broken { what, source: source.into() }
    }

    /// Checks an answer.
    ///
    /// # Errors
    /// [`RatioError::Wrong`] where what must hold does not; `otherwise` says what is wrong.
    pub fn check(holds: bool, otherwise: &'static str) -> Result<(), Self> {
        if holds { Ok(()) } else { Err(Self::Wrong(otherwise)) }
    }

    fn in_row(self, name: &'static str) -> Self {
        Self::InRow { name, source: Box::new(self) }
    }
}

/// Measures the rows that the options ask for and prints them; `program` is this program, of which servers are children;
/// `tell` is told of the progress.
///
/// # Errors
/// As [`run`].
pub fn command(options: &Options, program: &Path, tell: &mut dyn FnMut(&str)) -> Result<(), RatioError> {
    let rows = entries(Size::Full).into_iter().chain(server_entries(Size::Full, program, options.install)).collect();
    run(options, rows, &mut io::stdout().lock(), tell)
}

/// Returns the rows that need servers, children of `program`; with `install`, rivals that are missing are fetched first.
pub fn server_entries(size: Size, program: &Path, install: bool) -> Vec<Entry> {
    let mut entries = http::entries(size, program, install);
    entries.extend(http2::entries(size, program, install));
    entries
}

/// Returns the rows that are measured in this process.
pub fn entries(size: Size) -> Vec<Entry> {
    [verify::entries(size), quota::entries(size), decide::entries(size), store::entries(size)]
        .into_iter()
        .flatten()
        .collect()
}

/// Measures the rows that are asked for, prints them, and puts the table where it is to go; `tell` is told of each row as
/// it begins, and of each of its rounds.
///
/// # Errors
/// [`RatioError::InRow`] where a row fails; the others where the options ask for what is not there, or output fails.
pub fn run(
    options: &Options,
    contests: Vec<Entry>,
    out: &mut dyn Write,
    tell: &mut dyn FnMut(&str),
) -> Result<(), RatioError> {
    if let Some(path) = &options.readme {
        // Before hours of measuring.
        readme::check(path)?;
    }
    let lines = measure(options, contests, tell)?;
    if options.json {
        for line in &lines {
            let json = serde_json::to_string(line).map_err(RatioError::broken("JSON"))?;
            writeln!(out, "{json}")?;
        }
    } else {
        write!(out, "{}", row::table(&lines))?;
    }
    if let Some(path) = &options.readme {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(".".as_ref());
        readme::replace(path, &lines, &Machine::read(folder))?;
    }
    Ok(())
}

/// Measures a round of each, then the next round of each.
fn measure(options: &Options, contests: Vec<Entry>, tell: &mut dyn FnMut(&str)) -> Result<Vec<Line>, RatioError> {
    if let Some(name) = options.only.iter().find(|name| !contests.iter().any(|row| begins_with(row.name, name))) {
        let known = contests.iter().map(Entry::name).collect();
        return Err(RatioError::NoSuchRow { name: name.clone(), known });
    }
    let asked = contests.into_iter().filter(|row| row.is_one_of(&options.only));
    let mut runs = asked.map(|row| Run::begin(row, tell)).collect::<Result<Vec<_>, _>>()?;
    let rounds = options.rounds.unwrap_or(ROUNDS);
    for round in 1..=rounds {
        for run in &mut runs {
            if let Some(Pair { ours, rival }) = run.round()? {
                let [ours, rival] = [ours, rival].map(row::figure);
                tell(&format!("round {round} of {rounds}: {}: ours {ours}, the rival's {rival}", run.name));
            }
        }
    }
    Ok(runs.into_iter().map(Run::end).collect())
}

/// A row under way.
struct Run {
    name: &'static str,
    contest: Result<Box<dyn Contest>, String>,
    pairs: Vec<Pair>,
}

impl Run {
    fn begin(entry: Entry, tell: &mut dyn FnMut(&str)) -> Result<Self, RatioError> {
        let Entry { name, make } = entry;
        tell(&format!("making ready: {name}"));
        let contest = match make() {
            Ok(contest) => Ok(contest),
            Err(NotReady::Skipped(why)) => {
                tell(&format!("skipped: {name}: {why}"));
                Err(why)
            }
            Err(NotReady::Failed(error)) => return Err(error.in_row(name)),
        };
        Ok(Self { name, contest, pairs: Vec::new() })
    }

    /// Measures once more; `None` where the row is skipped.
    fn round(&mut self) -> Result<Option<Pair>, RatioError> {
        let Ok(contest) = &mut self.contest else { return Ok(None) };
        let pair = contest.round().and_then(Pair::measurable).map_err(|error| error.in_row(self.name))?;
        self.pairs.push(pair);
        Ok(Some(pair))
    }

    fn end(self) -> Line {
        match self.contest {
            Ok(contest) => Line::Measured(Row::new(self.name, &*contest, &self.pairs)),
            Err(why) => Line::Skipped { name: self.name, skipped: why },
        }
    }
}

impl Pair {
    fn measurable(self) -> Result<Self, RatioError> {
        let Self { ours, rival } = self;
        let number = |figure: f64| figure.is_finite() && figure > 0.0;
        if number(ours) && number(rival) { Ok(self) } else { Err(RatioError::Immeasurable { ours, rival }) }
    }
}

/// Rounds of a row where none are asked for: enough that one of ten says something.
const ROUNDS: u16 = 15;

#[cfg(test)]
mod tests;
