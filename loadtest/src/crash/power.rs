//! A gate whose disk loses power: a file system in a file, shut down without a last write (`FS_IOC_SHUTDOWN`).
//!
//! What was not synced is gone then, whatever the system had in its caches. A sector is not torn by it; that is tried on
//! storage in memory.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::Outcome;
use super::kill::Load;
use super::scene::{CrashError, Scene};

/// Cuts the power so often: on either file system, in either durability.
pub fn run(cuts: u32, seed: u64, program: &Path, tell: &mut dyn FnMut(&str)) -> Result<Outcome, CrashError> {
    let mut outcome = Outcome::default();
    let mut random = StdRng::seed_from_u64(seed);
    let kinds = [("ext4", "disk"), ("xfs", "disk"), ("ext4", "process"), ("xfs", "process")];
    for ((system, durability), share) in kinds.into_iter().zip(shares(cuts)) {
        let mut scene = Scene::new(durability, seed)?;
        let disk = Disk::make(system, scene.deployment.folder.path())?;
        scene.keep_in(&disk.mounted.join("journal"))?;
        let mut lost = Lost::default();
        for cut in 1..=share {
            let faults = one(&mut scene, &disk, program, &mut random, durability, &mut lost)?;
            outcome.passed += u32::from(faults == 0);
            outcome.failed += u32::from(faults > 0);
            tell(&format!("{system} {durability} cut {cut} of {share}: {:?}, {faults} faults", scene.counts()));
        }
        outcome.summary.push_str(&format!(
            "{system} {durability}: {} of {} acknowledged decisions lost, {} fen at most at once\n",
            lost.decisions, lost.acknowledged, lost.fen_max
        ));
        outcome.faults.append(&mut scene.faults);
    }
    Ok(outcome)
}

/// What losses of power took.
#[derive(Default)]
struct Lost {
    acknowledged: usize,
    decisions: usize,
    fen_max: u64,
}

/// Loads a gate, cuts its power, starts it again and looks at what is left.
fn one(
    scene: &mut Scene,
    disk: &Disk,
    program: &Path,
    random: &mut StdRng,
    durability: &str,
    lost: &mut Lost,
) -> Result<u32, CrashError> {
    let before = scene.faults.len();
    disk.mount()?;
    let gate = scene.start(program)?;
    scene.check(&gate, 0)?;
    let requests = scene.sign(REQUESTS);
    let loading = Load::start(scene, &gate, requests.start, random.random())?;
    thread::sleep(Duration::from_millis(random.random_range(20..300)));
    disk.cut()?;
    // What is acknowledged from here on was acknowledged in vain: with the disk gone, nothing may be.
    thread::sleep(AFTER_CUT);
    gate.kill()?;
    let seen = loading.end()?;
    disk.unmount()?;
    let acknowledged = scene.take(seen);
    disk.mount()?;
    let gate = scene.start(program)?;
    let (decisions, fen) = scene.find_lost(&gate, &acknowledged)?;
    lost.acknowledged += acknowledged.decisions();
    lost.decisions += decisions;
    lost.fen_max = lost.fen_max.max(fen);
    if durability == "disk" && decisions > 0 {
        let lost = scene.lost.join(", ");
        scene.faults.push(format!("{decisions} decisions that were acknowledged are lost: {lost}"));
    }
    if fen > EXPOSURE_FEN {
        scene.faults.push(format!("{fen} fen are lost, where {EXPOSURE_FEN} may be exposed"));
    }
    scene.check(&gate, 0)?;
    gate.kill()?;
    disk.unmount()?;
    Ok(u32::try_from(scene.faults.len() - before).unwrap_or(u32::MAX))
}

/// A file system in a file.
struct Disk {
    image: PathBuf,
    mounted: PathBuf,
}

impl Disk {
    fn make(system: &str, folder: &Path) -> io::Result<Self> {
        let disk = Self { image: folder.join(format!("{system}.img")), mounted: folder.join("mounted") };
        std::fs::create_dir_all(&disk.mounted)?;
        std::fs::File::create(&disk.image)?.set_len(IMAGE_BYTES)?;
        let quiet: &[&str] = if system == "ext4" { &["-q", "-F"] } else { &["-q", "-f"] };
        call(Command::new(format!("mkfs.{system}")).args(quiet).arg(&disk.image))?;
        Ok(disk)
    }

    fn mount(&self) -> io::Result<()> {
        call(Command::new("mount").args(["-o", "loop"]).arg(&self.image).arg(&self.mounted))
    }

    fn unmount(&self) -> io::Result<()> {
        call(Command::new("umount").arg(&self.mounted))
    }

    /// Shuts the file system down as a loss of power does: nothing that is not on the disk gets there any more.
    fn cut(&self) -> io::Result<()> {
        call(Command::new("xfs_io").args(["-x", "-c", "shutdown"]).arg(&self.mounted))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Fails where it is not mounted.
        let _ = Command::new("umount").arg("-q").arg(&self.mounted).status();
    }
}

fn call(command: &mut Command) -> io::Result<()> {
    let status = command.status().map_err(|error| io::Error::new(error.kind(), format!("{command:?}: {error}")))?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("{command:?}: {status}"))) }
}

/// Shares cuts among four.
fn shares(cuts: u32) -> [u32; 4] {
    std::array::from_fn(|number| cuts / 4 + u32::from(u32::try_from(number).unwrap_or(0) < cuts % 4))
}

/// Bytes of the file system.
const IMAGE_BYTES: u64 = 400 << 20;

/// Requests signed for each cut: more than a gate answers in the time.
const REQUESTS: usize = if cfg!(debug_assertions) { 1_000 } else { 4_000 };

/// How long the gate goes on without its disk.
const AFTER_CUT: Duration = Duration::from_millis(50);

/// What a gate may expose by default, in fen.
const EXPOSURE_FEN: u64 = 100_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_are_shared_whole() {
        assert_eq!((shares(30), shares(4), shares(1)), ([8, 8, 7, 7], [1; 4], [1, 0, 0, 0]));
    }
}
