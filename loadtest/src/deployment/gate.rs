//! A gate in a process of its own.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::time::Duration;

use super::Deployment;
use crate::process::Child;
use crate::wire::Address;

/// A gate that runs as a child of this process; it ends when this is dropped.
pub struct Gate {
    child: Child,
    addresses: HashMap<String, Address>,
}

impl Gate {
    /// Starts `program gate serve --config FILE`, on one core if one is given, and waits until it listens.
    ///
    /// # Errors
    /// The program does not start, or does not say in time where it listens.
    pub fn start(program: &Path, deployment: &Deployment, core: Option<usize>) -> io::Result<Self> {
        Self::start_of(program, &deployment.config_file, core)
    }

    /// Starts a gate of this configuration, as [`Gate::start`].
    ///
    /// # Errors
    /// As [`Gate::start`].
    pub fn start_of(program: &Path, config_file: &Path, core: Option<usize>) -> io::Result<Self> {
        let mut child = Child::start(program, &Self::arguments(config_file), core)?;
        let mut addresses = HashMap::new();
        // The control listener is named last.
        while !addresses.contains_key("control") {
            let line = child.wait_for_line(|line| listening(line).is_some(), START_PATIENCE)?;
            addresses.extend(listening(&line));
        }
        Ok(Self { child, addresses })
    }

    /// Returns what the program is started with.
    pub fn arguments(config_file: &Path) -> Vec<&OsStr> {
        let arguments = ["gate", "serve", "--config"].map(OsStr::new);
        [&arguments[..], &[config_file.as_os_str()]].concat()
    }

    /// Ends the gate by SIGKILL, whatever it is at.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn kill(self) -> io::Result<()> {
        self.child.kill()
    }

    /// Returns where a listener listens.
    pub fn address(&self, listener: &str) -> Option<&Address> {
        self.addresses.get(listener)
    }

    /// Returns the processor time, in seconds, that the gate has taken.
    ///
    /// # Errors
    /// The gate has ended.
    pub fn cpu_seconds(&self) -> io::Result<f64> {
        self.child.cpu_seconds()
    }

    /// Returns the process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

/// Reads the name and the address of a listener from a line of the gate's log.
fn listening(line: &str) -> Option<(String, Address)> {
    let (_, rest) = line.split_once("listener=\"")?;
    let (name, rest) = rest.split_once('"')?;
    let (_, address) = rest.split_once("address=")?;
    let address = match address.trim().strip_prefix("unix:") {
        Some(path) => Address::Unix(path.into()),
        None => Address::Tcp(address.trim().parse().ok()?),
    };
    Some((name.to_owned(), address))
}

/// Longest wait for a gate to say the next address.
const START_PATIENCE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_from_the_log_of_a_gate() {
        let line = "2026-11-22T10:00:00.000000Z  INFO tollgate::cli::serve: listening listener=\"open\" address=";
        let read = |address: &str| listening(&format!("{line}{address}"));
        assert_eq!(read("127.0.0.1:80"), Some(("open".to_owned(), Address::Tcp(([127, 0, 0, 1], 80).into()))));
        assert_eq!(read("unix:/a/b.sock"), Some(("open".to_owned(), Address::Unix("/a/b.sock".into()))));
        assert_eq!(read("nowhere"), None);
        assert_eq!(listening("draining"), None);
    }
}
