//! Drives a gate like payment traffic, checks its books afterwards, and measures it beside rivals.
//!
//! | module | what lives there |
//! | --- | --- |
//! | [`session`] | a whole run: a gate set up, driven, settled with, its books compared |
//! | `scenario`, `arrivals`, `traffic` | what traffic is like; when, and who asks for what |
//! | `keys`, `deployment`, `pool` | keys that sign fast; a configuration; requests signed ahead |
//! | `run`, `target`, `wire`, `in_process`, `upstream` | the loop; what it sends to, by socket or in this process |
//! | `latency`, `watch` | distributions of times and their log; progress, and the memory of this process |
//! | `settling`, `ledger`, `books`, `report` | what becomes of payments; the rig's own books; the gate's beside them |
//! | [`crash`] | gates that are ended at any instant, and whether anything acknowledged was lost |
//! | [`ratios`], `rivals`, `apt`, [`bare`] | ours beside rivals, in one run, and how those are fetched; a server that does nothing else than answer |
//! | [`machine`], `process` | where it was measured; child processes on a core of their own |

pub mod bare;
pub mod crash;
pub mod machine;
pub mod ratios;
pub mod session;

mod apt;
mod arrivals;
mod books;
mod deployment;
mod in_process;
mod keys;
mod latency;
mod ledger;
mod pool;
mod process;
mod report;
mod rivals;
mod run;
mod scenario;
mod settling;
mod target;
mod traffic;
mod upstream;
mod watch;
mod wire;

/// Reads the clock of the machine, in seconds since 1970.
pub(crate) fn now_s() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}
