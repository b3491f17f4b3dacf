//! Signs answers on threads of its own, never on a worker: one signature takes longer than a hundred decisions.
//!
//! The queue is bounded and a full one refuses at once. Who no longer waits drops its [`Signing`], and the work is not
//! done. A failure of the library is an answer that stays unsigned, never a panic.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use crossbeam::channel::{Receiver, Sender, bounded};
use tokio::sync::oneshot;

use super::platform::PlatformKey;

/// Is told how each job ended; runs on the signing threads, before the answer is handed over.
pub type Observer = Arc<dyn Fn(SigningEvent) + Send + Sync>;

/// How a signing job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SigningEvent {
    /// It was signed.
    Signed {
        /// How long it was queued.
        waited: Duration,
        /// How long signing took.
        took: Duration,
    },
    /// The library failed.
    Failed,
    /// Nobody waited for it any more.
    Cancelled,
}

/// The queue has no room: the answer is not signed now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the queue of the signing threads is full")]
pub struct QueueFull;

/// Threads that sign answers, and their queue.
pub struct SignerPool {
    jobs: Sender<Job>,
    threads: Vec<JoinHandle<()>>,
}

impl SignerPool {
    /// Starts 1 to [`THREADS_MAX`] threads behind a queue of 1 to [`QUEUE_MAX`] answers.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] where a number is out of its range, else what the operating system says.
    pub fn start(threads: usize, queue_max: usize, observer: Option<Observer>) -> io::Result<Self> {
        if !(1..=THREADS_MAX).contains(&threads) || !(1..=QUEUE_MAX).contains(&queue_max) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let (jobs, queue) = bounded(queue_max);
        // Threads started before a failure end by themselves, as `jobs` is dropped.
        let threads = (0..threads)
            .map(|index| {
                let (queue, observer) = (queue.clone(), observer.clone());
                let work = move || run(&queue, observer.as_ref());
                thread::Builder::new().name(format!("sign-{index}")).spawn(work)
            })
            .collect::<io::Result<_>>()?;
        Ok(Self { jobs, threads })
    }

    /// Queues an answer to be signed at `timestamp_s` (seconds since the epoch) with a fresh `nonce` of 32 letters and
    /// digits. Never blocks.
    ///
    /// # Errors
    /// [`QueueFull`] where the queue has no room.
    pub fn sign(
        &self,
        key: Arc<PlatformKey>,
        timestamp_s: i64,
        nonce: String,
        body: Bytes,
    ) -> Result<Signing, QueueFull> {
        let (answer, signed) = oneshot::channel();
        let job = Job { key, timestamp: timestamp_s.to_string(), nonce, body, queued_at: Instant::now(), answer };
        self.jobs.try_send(job).map_err(|_| QueueFull)?;
        Ok(Signing(signed))
    }

    /// Tells whether half of the queue is taken: what may go unsigned should, so that what must be signed finds room.
    pub fn is_busy(&self) -> bool {
        self.jobs.capacity().is_some_and(|queue_max| self.jobs.len() * 2 >= queue_max)
    }

    /// Returns how many answers are queued.
    pub fn queued(&self) -> usize {
        self.jobs.len()
    }

    /// Signs what is queued, then ends the threads.
    pub fn shutdown(self) {
        drop(self.jobs);
        for thread in self.threads {
            // A thread that panicked has nothing left to sign; its callers were told `None`.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for SignerPool {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SignerPool").field("threads", &self.threads.len()).finish_non_exhaustive()
    }
}

/// A signature being made. Dropping it cancels the work if that has not begun.
#[derive(Debug)]
#[must_use = "a signature that nobody waits for is not made"]
pub struct Signing(oneshot::Receiver<SignedHeaders>);

impl Future for Signing {
    /// `None` where the signature could not be made.
    type Output = Option<SignedHeaders>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(Result::ok)
    }
}

/// The five headers that sign an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedHeaders {
    /// `Wechatpay-Timestamp`, in seconds since the epoch.
    pub timestamp: String,
    /// `Wechatpay-Nonce`.
    pub nonce: String,
    /// `Wechatpay-Signature`, in Base64.
    pub signature: String,
    /// `Wechatpay-Serial`.
    pub serial: String,
    /// `Wechatpay-Signature-Type`.
    pub signature_type: &'static str,
}

struct Job {
    key: Arc<PlatformKey>,
    timestamp: String,
    nonce: String,
    body: Bytes,
    queued_at: Instant,
    answer: oneshot::Sender<SignedHeaders>,
}

fn run(queue: &Receiver<Job>, observer: Option<&Observer>) {
    let tell = |event| {
        if let Some(observer) = observer {
            observer(event);
        }
    };
    for job in queue {
        if job.answer.is_closed() {
            tell(SigningEvent::Cancelled);
            continue;
        }
        let began_at = Instant::now();
        let waited = began_at.duration_since(job.queued_at);
        match headers(&job.key, job.timestamp, job.nonce, &job.body) {
            Some(headers) => {
                tell(SigningEvent::Signed { waited, took: began_at.elapsed() });
                // The caller may have left while its answer was signed.
                let _ = job.answer.send(headers);
            }
            None => tell(SigningEvent::Failed),
        }
    }
}

fn headers(key: &PlatformKey, timestamp: String, nonce: String, body: &[u8]) -> Option<SignedHeaders> {
    let signature = STANDARD.encode(key.sign(&timestamp, &nonce, body)?);
    let serial = key.serial().to_owned();
    Some(SignedHeaders { timestamp, nonce, signature, serial, signature_type: SIGNATURE_TYPE })
}

/// Most signing threads.
pub const THREADS_MAX: usize = 64;

/// Longest queue, in answers; their bodies stay in memory.
pub const QUEUE_MAX: usize = 65_536;

/// `Wechatpay-Signature-Type` of RSA signatures; one client fails where the header is missing.
pub const SIGNATURE_TYPE: &str = "WECHATPAY2-SHA256-RSA2048";

#[cfg(test)]
mod tests;
