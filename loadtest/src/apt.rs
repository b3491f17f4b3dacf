//! Debian packages that rivals need, fetched where a command was asked to.

use std::io;
use std::process::Command;

/// Installs packages, as root or by sudo. What `apt-get` says goes to standard error: standard output is for rows.
///
/// # Errors
/// `apt-get` does not start, or ends with a failure.
pub fn install<'a>(packages: impl Iterator<Item = &'a str>) -> io::Result<()> {
    apt_get(["update", "-qq"].into_iter())?;
    apt_get(["install", "-y", "-qq", "--no-install-recommends"].into_iter().chain(packages))
}

fn apt_get<'a>(arguments: impl Iterator<Item = &'a str>) -> io::Result<()> {
    let mut command = if rustix::process::geteuid().is_root() {
        Command::new("env")
    } else {
        let mut sudo = Command::new("sudo");
        sudo.arg("env");
        sudo
    };
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]).args(arguments);
    let status = command.stdout(io::stderr()).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("apt-get: {status}"))) }
}
