//! What figures were measured on: the machine, its kernel, and the commit.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The machine and the state of the repository. What cannot be found out is called `unknown`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Machine {
    /// The name of the processor, as `lscpu` prints it.
    pub model: String,
    /// How many processors the kernel runs on.
    pub cores: usize,
    /// The release of the kernel.
    pub kernel: String,
    /// The commit that is checked out, in short.
    pub commit: String,
    /// Whether files differ from that commit.
    pub changed: bool,
}

impl Machine {
    /// Reads what this machine is, and the commit of the repository that a folder lies in.
    pub fn read(folder: &Path) -> Self {
        let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").ok();
        let changes = git(folder, &["status", "--porcelain", "--untracked-files=no"]);
        Self {
            model: field(&processors, "model name").map(str::to_owned).unwrap_or_else(unknown),
            cores: processors.lines().filter(|line| named(line, "processor").is_some()).count(),
            kernel: kernel.map(|release| release.trim().to_owned()).unwrap_or_else(unknown),
            commit: git(folder, &["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(unknown),
            changed: changes.is_some_and(|changes| !changes.is_empty()),
        }
    }
}

/// Returns a folder of the repository that this program was built in, where `cargo run` says it; else where it is started.
pub fn repository() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from("."), PathBuf::from)
}

impl std::fmt::Display for Machine {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { model, cores, kernel, commit, changed } = self;
        let plural = if *cores == 1 { "" } else { "s" };
        let changed = if *changed { " with changes" } else { "" };
        write!(formatter, "{model}, {cores} core{plural}, Linux {kernel}, commit {commit}{changed}")
    }
}

/// Returns the first value of a field of `/proc/cpuinfo`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| named(line, name))
}

fn named<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (key, value) = line.split_once(':')?;
    (key.trim_end() == name).then_some(value.trim())
}

/// Returns what git prints; `None` where it fails, as it does outside of a repository.
fn git(folder: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("-C").arg(folder).args(arguments).output().ok()?;
    let printed = output.status.success().then_some(output.stdout)?;
    Some(String::from_utf8(printed).ok()?.trim().to_owned())
}

fn unknown() -> String {
    "unknown".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_told_apart_by_their_whole_name() {
        let text = "processor\t: 0\nmodel\t\t: 167\nmodel name\t: Some CPU @ 2:70\nprocessor\t: 1\n";
        assert_eq!(field(text, "model name"), Some("Some CPU @ 2:70"));
        assert_eq!(field(text, "model"), Some("167"));
        assert_eq!(field(text, "stepping"), None);
    }

    #[test]
    fn this_machine_has_a_core_and_a_kernel() {
        let machine = Machine::read(Path::new("/"));
        assert!(machine.cores > 0 && machine.kernel != "unknown", "{machine}");
        assert!(machine.to_string().ends_with("commit unknown"), "{machine}");
    }
}
