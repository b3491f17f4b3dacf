//! What it costs that nothing leaves before a loss of power can't take its record: a gate with durability `disk` beside one
//! that records nothing, and beside what the disk itself allows.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use super::super::row::Sorted;
use super::{
    Better, Bounds, By, CONNECTIONS, Contest, GENERATOR_CORE, PATIENCE, Pair, RatioError, RivalServer, Size, Target,
    Versus, Wire, closed, on_core,
};

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The rate with so many connections. The rival is what a gate that records nothing does, or, where that is less, what
    /// so many connections can do where each waits one and a half syncs of this disk.
    Rate(usize),
    /// How much longer the 99th percentile of latency is at half the load that it can take. The rival is that of bare syncs
    /// of as many bytes as a few records have.
    AddedP99,
}

/// A gate that waits for its disk, and one that records nothing.
pub struct Disk {
    versus: Versus,
    what: What,
    terms: String,
}

impl Disk {
    pub fn new(size: Size, program: &Path, what: What) -> Result<Self, RatioError> {
        let rival = RivalServer::Off { running: None };
        Ok(Self { versus: Versus::new(size, program, (false, "disk"), rival, By::Time)?, what, terms: String::new() })
    }

    fn rate(&mut self, off: &Target, requests: &[Vec<u8>], connections: usize) -> Result<Pair, RatioError> {
        let (few, rest) = requests.split_at(requests.len().min(ALONE));
        // One at a time: what a request takes where nobody waits for anything.
        let service_s = 1.0 / rate(off, few, 1)?;
        let off_rate = rate(off, rest, connections)?;
        let sync_s = self.syncs()?.percentile(50);
        let ours = rate(&self.versus.gate_target, requests, connections)?;
        let waits = (connections as f64 / (off_rate * (service_s + 1.5 * sync_s))).min(1.0);
        self.terms = format!(
            "off {off_rate:.0}/s; min(1, {connections} / ({off_rate:.0}/s * ({:.0} us + 1.5 * {:.0} us))) = {waits:.2}",
            service_s * 1e6,
            sync_s * 1e6
        );
        Ok(Pair { ours, rival: off_rate * waits })
    }

    fn added_p99(&mut self, off: &Target, requests: &[Vec<u8>]) -> Result<Pair, RatioError> {
        let (first, second) = requests.split_at(requests.len() / 2);
        let half = rate(&self.versus.gate_target, first, CONNECTIONS)? / 2.0;
        let bare = p99(off, second, half)?;
        let ours = p99(&self.versus.gate_target, second, half)?;
        let sync = self.syncs()?.percentile(99);
        self.terms = format!(
            "at {half:.0}/s: p99 {:.0} us, {:.0} us where nothing is recorded; fdatasync {:.0} us",
            ours * 1e6,
            bare * 1e6,
            sync * 1e6
        );
        // Where the other one was slower by chance, nothing was added.
        Ok(Pair { ours: ((ours - bare) * 1e6).max(1.0), rival: sync * 1e6 })
    }

    fn syncs(&self) -> Result<Sorted, RatioError> {
        syncs(self.versus.deployment.folder.path())
    }
}

impl Contest for Disk {
    fn rival_name(&self) -> &'static str {
        match self.what {
            What::Rate(_) => "off, or what syncs allow",
            What::AddedP99 => "bare fdatasync",
        }
    }

    fn unit(&self) -> &'static str {
        match self.what {
            What::Rate(_) => "requests per second",
            What::AddedP99 => "us at p99",
        }
    }

    fn better(&self) -> Better {
        match self.what {
            What::Rate(_) => Better::Higher,
            What::AddedP99 => Better::Lower,
        }
    }

    fn terms(&self) -> &str {
        &self.terms
    }

    fn round(&mut self) -> Result<Pair, RatioError> {
        let requests = self.versus.sign();
        let off =
            self.versus.rival.target(&self.versus.deployment).ok_or(RatioError::Wrong("no gate without journal"))?;
        match self.what {
            What::Rate(connections) => self.rate(&off, &requests, connections),
            What::AddedP99 => self.added_p99(&off, &requests),
        }
    }
}

/// Returns the requests a second where each connection sends as soon as it is answered.
fn rate(target: &Target, requests: &[Vec<u8>], connections: usize) -> Result<f64, RatioError> {
    let began = Instant::now();
    on_core(GENERATOR_CORE, || closed(target, requests, br#""decision""#, connections))?;
    Ok(requests.len() as f64 / began.elapsed().as_secs_f64())
}

/// Sends requests at a steady rate, whatever becomes of them; returns the 99th percentile of the time from when each was
/// to be sent until it was answered, in seconds.
fn p99(target: &Target, requests: &[Vec<u8>], per_second: f64) -> Result<f64, RatioError> {
    let mut latencies = Vec::with_capacity(requests.len());
    on_core(GENERATOR_CORE, || {
        let bounds = Bounds { answer_bytes_max: 1 << 16, answer_timeout: PATIENCE };
        // More connections than are needed: none of them must be waited for.
        let mut wire = Wire::connect(target, 4 * CONNECTIONS, bounds).map_err(RatioError::broken("connections"))?;
        let began = Instant::now();
        let due = |number: u64| began + Duration::from_secs_f64(number as f64 / per_second);
        let (mut next, mut failed) = (0, 0);
        while latencies.len() + failed < requests.len() {
            let mut wait = Some(PATIENCE);
            while let Some(request) = requests.get(next) {
                let left = due(next as u64).saturating_duration_since(Instant::now());
                if !left.is_zero() {
                    wait = Some(left);
                    break;
                }
                if !wire.send(next as u64, request).map_err(RatioError::broken("a request"))? {
                    break;
                }
                next += 1;
            }
            let polled = wire.poll(wait, &mut |done| match done.outcome {
                Ok(answer) if answer.status == 200 => latencies.push(due(done.tag).elapsed().as_secs_f64()),
                Ok(_) | Err(_) => failed += 1,
            });
            polled.map_err(RatioError::broken("an answer"))?;
        }
        RatioError::check(failed == 0, "an answer that should be 200")
    })?;
    Ok(Sorted::new(latencies.into_iter()).percentile(99))
}

/// Returns what bare syncs take in a folder, in seconds: of writes into room that is there, as those of the journal are.
fn syncs(folder: &Path) -> Result<Sorted, RatioError> {
    let broken = RatioError::broken::<std::io::Error>;
    let path = folder.join("syncs");
    let file = File::create(&path).map_err(broken("a file"))?;
    file.write_all_at(&vec![0; SYNCS * WRITE_BYTES], 0).and_then(|()| file.sync_all()).map_err(broken("a file"))?;
    let mut took = Vec::with_capacity(SYNCS);
    for number in 0..SYNCS {
        file.write_all_at(&[1; WRITE_BYTES], (number * WRITE_BYTES) as u64).map_err(broken("a write"))?;
        let began = Instant::now();
        file.sync_data().map_err(broken("a sync"))?;
        took.push(began.elapsed().as_secs_f64());
    }
    std::fs::remove_file(path).map_err(broken("a file"))?;
    Ok(Sorted::new(took.into_iter()))
}

/// Requests sent one at a time.
const ALONE: usize = 500;

/// Syncs of a round.
const SYNCS: usize = 500;

/// Bytes of each: some ten records.
const WRITE_BYTES: usize = 4096;
