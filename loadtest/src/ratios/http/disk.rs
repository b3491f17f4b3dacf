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

/// By rate, with so many connections. The rival is what a gate that records nothing does, or, where that is less, what so
/// many connections can do where each waits one and a half syncs of this disk.
pub struct Rate {
    versus: Versus,
    connections: usize,
    terms: String,
}

impl Rate {
    pub fn new(size: Size, program: &Path, connections: usize) -> Result<Self, RatioError> {
        Ok(Self { versus: gates(size, program)?, connections, terms: String::new() })
    }
}

impl Contest for Rate {
    fn rival_name(&self) -> &'static str {
        "off, or what syncs allow"
    }

    fn unit(&self) -> &'static str {
        "requests per second"
    }

    fn better(&self) -> Better {
        Better::Higher
    }

    fn terms(&self) -> &str {
        &self.terms
    }

    fn round(&mut self) -> Result<Pair, RatioError> {
        let requests = self.versus.sign();
        let off =
            self.versus.rival.target(&self.versus.deployment).ok_or(RatioError::Wrong("no gate without journal"))?;
        let few = requests.get(..requests.len().min(ALONE)).unwrap_or(&requests);
        let rest = requests.get(few.len()..).unwrap_or_default();
        // One at a time: what a request takes where nobody waits for anything.
        let service_s = 1.0 / rate(&off, few, 1)?;
        let off_rate = rate(&off, rest, self.connections)?;
        let syncs = syncs(self.versus.deployment.folder.path())?;
        let ours = rate(&self.versus.gate_target, &requests, self.connections)?;
        let sync_s = syncs.percentile(50);
        let waits = (self.connections as f64 / (off_rate * (service_s + 1.5 * sync_s))).min(1.0);
        self.terms = format!(
            "off {off_rate:.0}/s; min(1, {} / ({off_rate:.0}/s * ({:.0} us + 1.5 * {:.0} us))) = {waits:.2}",
            self.connections,
            service_s * 1e6,
            sync_s * 1e6
        );
        Ok(Pair { ours, rival: off_rate * waits })
    }
}

/// By what the 99th percentile of latency is longer at half the load that it can take. The rival is that of bare syncs of as
/// many bytes as a few records have.
pub struct AddedP99 {
    versus: Versus,
    terms: String,
}

impl AddedP99 {
    pub fn new(size: Size, program: &Path) -> Result<Self, RatioError> {
        Ok(Self { versus: gates(size, program)?, terms: String::new() })
    }
}

impl Contest for AddedP99 {
    fn rival_name(&self) -> &'static str {
        "bare fdatasync"
    }

    fn unit(&self) -> &'static str {
        "us at p99"
    }

    fn better(&self) -> Better {
        Better::Lower
    }

    fn terms(&self) -> &str {
        &self.terms
    }

    fn round(&mut self) -> Result<Pair, RatioError> {
        let requests = self.versus.sign();
        let off =
            self.versus.rival.target(&self.versus.deployment).ok_or(RatioError::Wrong("no gate without journal"))?;
        let (first, second) = requests.split_at(requests.len() / 2);
        let half = rate(&self.versus.gate_target, first, CONNECTIONS)? / 2.0;
        let bare = p99(&off, second, half)?;
        let ours = p99(&self.versus.gate_target, second, half)?;
        let sync = syncs(self.versus.deployment.folder.path())?.percentile(99);
        self.terms = format!(
            "at {half:.0}/s: p99 {:.0} us, {:.0} us where nothing is recorded; fdatasync {:.0} us",
            ours * 1e6,
            bare * 1e6,
            sync * 1e6
        );
        // Where the other one was slower by chance, nothing was added.
        Ok(Pair { ours: ((ours - bare) * 1e6).max(1.0), rival: sync * 1e6 })
    }
}

fn gates(size: Size, program: &Path) -> Result<Versus, RatioError> {
    Versus::new(size, program, (false, "disk"), RivalServer::Off { running: None }, By::Time)
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
