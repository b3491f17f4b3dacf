//! Tests of the signing threads.

use std::sync::mpsc;

use super::super::platform::tests::{PUBLIC_KEY_ID, holds, public_key};
use super::*;

const NONCE: &str = "593BEC0C930BF1AFEB40B4A08C8FB242";

fn wait(signing: Signing) -> Option<SignedHeaders> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
    runtime.block_on(signing)
}

/// A pool of one thread and one queued answer, whose thread stops after each job until it is told to go on.
struct Stepped {
    pool: SignerPool,
    events: mpsc::Receiver<SigningEvent>,
    go_on: mpsc::Sender<()>,
}

impl Stepped {
    fn start() -> Self {
        let (event, events) = mpsc::channel();
        let (go_on, gate) = mpsc::channel();
        let gate = std::sync::Mutex::new(gate);
        let observer: Observer = Arc::new(move |what| {
            event.send(what).expect("the test listens");
            gate.lock().expect("one thread").recv().expect("the test goes on");
        });
        Self { pool: SignerPool::start(1, 1, Some(observer)).expect("pool"), events, go_on }
    }

    fn sign(&self) -> Result<Signing, QueueFull> {
        self.pool.sign(Arc::new(public_key()), 1, NONCE.to_owned(), Bytes::new())
    }
}

#[test]
fn signed_headers_hold_for_a_body_and_for_none() {
    let pool = SignerPool::start(2, 8, None).expect("pool");
    for body in ["{\"prepay_id\":\"wx2611\"}", ""] {
        let signing = pool.sign(Arc::new(public_key()), 1_722_850_421, NONCE.to_owned(), Bytes::from(body));
        let headers = wait(signing.expect("room")).expect("signed");
        assert_eq!((headers.timestamp.as_str(), headers.nonce.as_str()), ("1722850421", NONCE));
        assert_eq!((headers.serial.as_str(), headers.signature_type), (PUBLIC_KEY_ID, "WECHATPAY2-SHA256-RSA2048"));
        assert_eq!(headers.signature.len(), 344);
        let signature = STANDARD.decode(&headers.signature).expect("Base64");
        assert!(holds("1722850421", NONCE, body.as_bytes(), &signature));
        assert!(!holds("1722850421", NONCE, b"{}", &signature));
    }
    pool.shutdown();
}

#[test]
fn a_full_queue_refuses_and_shutdown_signs_what_is_queued() {
    let stepped = Stepped::start();
    let first = stepped.sign().expect("room");
    // The thread is held in the observer, so the next answer stays in the queue.
    assert!(matches!(stepped.events.recv(), Ok(SigningEvent::Signed { .. })));
    let second = stepped.sign().expect("room");
    assert_eq!(stepped.pool.queued(), 1);
    assert_eq!(stepped.sign().err(), Some(QueueFull));
    stepped.go_on.send(()).expect("thread");
    stepped.go_on.send(()).expect("thread");
    stepped.pool.shutdown();
    assert!(wait(first).is_some() && wait(second).is_some());
}

#[test]
fn an_answer_that_nobody_waits_for_is_not_signed() {
    let stepped = Stepped::start();
    let first = stepped.sign().expect("room");
    stepped.events.recv().expect("the first is done");
    drop(stepped.sign().expect("room"));
    stepped.go_on.send(()).expect("thread");
    assert_eq!(stepped.events.recv(), Ok(SigningEvent::Cancelled));
    stepped.go_on.send(()).expect("thread");
    stepped.pool.shutdown();
    assert!(wait(first).is_some());
}

#[test]
fn every_answer_of_a_storm_is_signed_once_or_refused() {
    let pool = SignerPool::start(2, 4, None).expect("pool");
    let key = Arc::new(public_key());
    let (signed, refused) = thread::scope(|scope| {
        let worker = || {
            let sign = |index: i64| {
                let nonce = format!("{index:032}");
                match pool.sign(key.clone(), index, nonce.clone(), Bytes::from_static(b"{}")) {
                    Ok(signing) => {
                        let headers = wait(signing).expect("signed");
                        let signature = STANDARD.decode(&headers.signature).expect("Base64");
                        assert!(holds(&index.to_string(), &nonce, b"{}", &signature));
                        (1, 0)
                    }
                    Err(QueueFull) => (0, 1),
                }
            };
            (0..8).map(sign).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
        };
        let workers: Vec<_> = (0..8).map(|_| scope.spawn(worker)).collect();
        let sums = workers.into_iter().map(|worker| worker.join().expect("worker"));
        sums.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    });
    assert_eq!(signed + refused, 64);
    assert!(signed >= 6, "two threads and four places served {signed}");
    pool.shutdown();
}

#[test]
fn a_pool_has_threads_and_a_queue_within_bounds() {
    for (threads, queue_max) in [(0, 1), (1, 0), (THREADS_MAX + 1, 1), (1, QUEUE_MAX + 1)] {
        let refused = SignerPool::start(threads, queue_max, None).err().map(|error| error.kind());
        assert_eq!(refused, Some(io::ErrorKind::InvalidInput));
    }
}
