//! Requests signed ahead of the traffic, on threads of their own, and topped up while it runs.
//!
//! A signature takes some 25 times as long as its verification: signed one by one as they are sent, requests would
//! measure the merchants and not the gate.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, unbounded};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::DemoError;
use super::accounts::random_bytes;
use super::script::{Script, Scripted};

/// The stock of signed requests, and the threads that fill it.
pub(super) struct Stock {
    shelf: Arc<Shelf>,
    scripted: Receiver<Scripted>,
    threads: Vec<JoinHandle<()>>,
}

struct Shelf {
    sender: Sender<Scripted>,
    /// Below this many the threads sign.
    wanted: AtomicUsize,
    signed: AtomicU64,
    stop: AtomicBool,
}

impl Stock {
    /// Starts to sign, on one thread per core.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn start(script: &Script, wanted: usize) -> Result<Self, DemoError> {
        let (sender, scripted) = unbounded();
        let (wanted, signed, stop) = (AtomicUsize::new(wanted), AtomicU64::new(0), AtomicBool::new(false));
        let shelf = Arc::new(Shelf { sender, wanted, signed, stop });
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let start = |_| {
            let (shelf, script) = (Arc::clone(&shelf), script.clone());
            let name = "merchant-signing".to_owned();
            Ok(std::thread::Builder::new().name(name).spawn(move || shelf.fill(&script))?)
        };
        let threads = (0..cores).map(start).collect::<Result<_, DemoError>>()?;
        Ok(Self { shelf, scripted, threads })
    }

    /// Waits until the stock is full or the time is over; from then on only tops up what falls below `low`.
    pub fn signed_ahead(&self, within: Duration, low: usize) -> u64 {
        let by = Instant::now() + within;
        while self.scripted.len() < self.shelf.wanted.load(Ordering::Relaxed) && Instant::now() < by {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.shelf.wanted.store(low, Ordering::Relaxed);
        self.shelf.signed.load(Ordering::Relaxed)
    }

    /// Returns how many requests were signed.
    pub fn signed(&self) -> u64 {
        self.shelf.signed.load(Ordering::Relaxed)
    }

    /// Returns how many threads sign.
    pub fn threads(&self) -> usize {
        self.threads.len()
    }

    /// Returns where to take requests from.
    pub fn source(&self) -> Receiver<Scripted> {
        self.scripted.clone()
    }

    /// Ends the threads.
    ///
    /// # Errors
    /// Where one of them failed.
    pub fn stop(self) -> Result<(), DemoError> {
        self.shelf.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| DemoError::Thread))
    }
}

impl Shelf {
    // Relaxed throughout: the counters publish nothing but themselves; the channel orders what is sent.
    fn fill(&self, script: &Script) {
        let mut random = StdRng::from_seed(random_bytes());
        while !self.stop.load(Ordering::Relaxed) {
            if self.sender.len() >= self.wanted.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(2));
                continue;
            }
            let scripted = script.next(&mut random);
            let signed = u64::try_from(scripted.exchanges.len()).unwrap_or(0);
            self.signed.fetch_add(signed, Ordering::Relaxed);
            // The receiver lives as long as the stock.
            if self.sender.send(scripted).is_err() {
                return;
            }
        }
    }
}
