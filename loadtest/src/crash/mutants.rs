//! Whether the simulation finds what is wrong: faults put into a copy of the sources, one at a time.

mod list;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use list::{MUTANTS, Mutant};

use super::Outcome;
use super::scene::CrashError;

/// Builds each mutant, and has it live through at most so many seeds: one of them must find it.
pub fn run(seeds: u32, tell: &mut dyn FnMut(&str)) -> Result<Outcome, CrashError> {
    let tree = Tree::copy(Path::new("."))?;
    let mut outcome = Outcome::default();
    for mutant in MUTANTS {
        let began = Instant::now();
        let text = tree.mutate(mutant)?;
        let found = tree.build(mutant).and_then(|program| lives(&program, seeds));
        fs::write(tree.folder.join(mutant.file), text)?;
        let seconds = began.elapsed().as_secs();
        match found? {
            Some(fault) => {
                tell(&format!("found, {seconds} s: {}: {fault}", mutant.name));
                outcome.passed += 1;
            }
            None => {
                let fault = format!("not found in {seeds} seeds: {} ({})", mutant.name, mutant.file);
                tell(&fault);
                outcome.faults.push(fault);
                outcome.failed += 1;
            }
        }
    }
    outcome.summary = format!("{} mutants, at most {seeds} seeds each\n", MUTANTS.len());
    Ok(outcome)
}

/// A copy of the sources.
struct Tree {
    folder: PathBuf,
    /// Where the project itself is built: what both depend on is built once.
    target: PathBuf,
}

impl Tree {
    fn copy(root: &Path) -> io::Result<Self> {
        let root = root.canonicalize()?;
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        let folder = target.join("mutants");
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        for part in ["Cargo.toml", "Cargo.lock", "src", "benches", "tests", "loadtest"] {
            copy(&root.join(part), &folder.join(part))?;
        }
        Ok(Self { folder, target })
    }

    /// Puts a fault in; returns the file as it was.
    fn mutate(&self, mutant: &Mutant) -> io::Result<String> {
        let path = self.folder.join(mutant.file);
        let text = fs::read_to_string(&path)?;
        if text.matches(mutant.from).count() != 1 {
            let problem = format!("{}: `{}` is not there once: say anew what to change", mutant.file, mutant.from);
            return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        }
        fs::write(&path, text.replacen(mutant.from, mutant.to, 1))?;
        Ok(text)
    }

    /// Builds the program, and puts it aside.
    fn build(&self, mutant: &Mutant) -> io::Result<PathBuf> {
        let built = Command::new("cargo")
            .args(BUILD)
            .args(LEAN)
            .env("CARGO_TARGET_DIR", &self.target)
            .current_dir(&self.folder)
            .output()?;
        if !built.status.success() {
            let told = String::from_utf8_lossy(&built.stderr);
            return Err(io::Error::other(format!("the mutant `{}` does not compile: {told}", mutant.name)));
        }
        let program = self.folder.join("mutant");
        fs::copy(self.target.join("debug/loadtest"), &program)?;
        Ok(program)
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        // The mutants' program must not be taken for the project's.
        let _ = Command::new("cargo").args(BUILD).status();
    }
}

/// Has a program live through seeds until one finds a fault; returns the fault.
fn lives(program: &Path, seeds: u32) -> io::Result<Option<String>> {
    let mut child = Command::new(program)
        .args(["crash", "sim", "--until-fault", &seeds.to_string()])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            let output = child.wait_with_output()?;
            let text = String::from_utf8_lossy(&output.stdout);
            let fault = text.lines().find_map(|line| line.strip_prefix("FAULT "));
            return match fault {
                Some(fault) => Ok(Some(fault.chars().take(FAULT_CHARS).collect())),
                None if status.success() => Ok(None),
                None => Err(io::Error::other(format!("the simulation ended with {status} and named no fault"))),
            };
        }
        if began.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            return Ok(Some(format!("it did not end in {} s", PATIENCE.as_secs())));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    if !from.is_dir() {
        to.parent().map_or(Ok(()), fs::create_dir_all)?;
        return fs::copy(from, to).map(drop);
    }
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        copy(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

const BUILD: [&str; 5] = ["build", "--quiet", "--locked", "-p", "loadtest"];

/// Nobody looks into a mutant: without names for a debugger it is built in half the time.
const LEAN: [&str; 4] =
    ["--config", "profile.dev.package.tollgate.debug=false", "--config", "profile.dev.package.loadtest.debug=false"];

/// How much of a fault is shown.
const FAULT_CHARS: usize = 160;

/// Longest that a mutant may live.
const PATIENCE: Duration = Duration::from_secs(600);
