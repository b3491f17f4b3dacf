//! Settling through the control listener of a gate.

use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::{Settle, Settled, Settler};
use crate::wire::{Bounds, Target, Wire, WireError};

/// Settles through the control listener of a gate, from a thread of its own.
pub struct Remote {
    orders: Option<Sender<Settle>>,
    done: Receiver<(Settle, Settled)>,
    thread: Option<JoinHandle<()>>,
}

impl Remote {
    /// Connects to the control listener.
    ///
    /// # Errors
    /// Where nobody listens there.
    pub fn connect(control: &Target) -> Result<Self, WireError> {
        let bounds = Bounds { answer_bytes_max: 1 << 16, answer_timeout: Duration::from_secs(5) };
        let wire = Wire::connect(control, CONNECTIONS, bounds)?;
        let (orders, received) = channel();
        let (sender, done) = channel();
        let thread = thread::spawn(move || serve(wire, &received, &sender));
        Ok(Self { orders: Some(orders), done, thread: Some(thread) })
    }
}

impl Settler for Remote {
    fn settle(&mut self, settle: Settle) {
        // Where the thread has ended, nobody settles: the books show it.
        let _ = self.orders.as_ref().map(|orders| orders.send(settle));
    }

    fn settled(&mut self) -> Vec<(Settle, Settled)> {
        self.done.try_iter().collect()
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.orders = None;
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn serve(mut wire: Wire, orders: &Receiver<Settle>, done: &Sender<(Settle, Settled)>) {
    // What is under way, by the tags of the requests: there are no more than connections.
    let mut sent: [Option<Settle>; CONNECTIONS] = [None; CONNECTIONS];
    let mut next: Option<Settle> = None;
    let mut ended = false;
    while !ended || next.is_some() || sent.iter().any(Option::is_some) {
        while let Some(tag) = sent.iter().position(Option::is_none).filter(|_| wire.idle() > 0) {
            if next.is_none() {
                next = match orders.try_recv() {
                    Ok(settle) => Some(settle),
                    Err(TryRecvError::Empty) => None,
                    Err(TryRecvError::Disconnected) => {
                        ended = true;
                        None
                    }
                };
            }
            let Some(settle) = next.take() else { break };
            let verb = if settle.commit { "commit" } else { "release" };
            let request = format!(
                "POST /v1/decisions/{:032x}/{verb} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n",
                settle.decision
            );
            match (wire.send(tag as u64, request.as_bytes()), sent.get_mut(tag)) {
                (Ok(true), Some(slot)) => *slot = Some(settle),
                (Ok(_), _) => {
                    next = Some(settle);
                    break;
                }
                (Err(_), _) => return,
            }
        }
        let polled = wire.poll(Some(POLL), &mut |answer| {
            let slot = usize::try_from(answer.tag).ok().and_then(|tag| sent.get_mut(tag));
            let settled = answer.outcome.map_or(Settled::Failed, |answer| read(answer.status, answer.body));
            let _ = slot.and_then(Option::take).map(|settle| done.send((settle, settled)));
        });
        if polled.is_err() {
            return;
        }
    }
}

/// Reads the answer to a settle call.
fn read(status: u16, body: &[u8]) -> Settled {
    #[derive(serde::Deserialize)]
    struct Body<'a> {
        state: &'a str,
        late: bool,
    }
    match status {
        200 => match serde_json::from_slice(body) {
            Ok(Body { state: "pending", .. }) => Settled::Pending,
            Ok(Body { state: "committed" | "released", late }) => Settled::Done { late },
            Ok(_) | Err(_) => Settled::Failed,
        },
        404 => Settled::Unknown,
        409 => Settled::Conflict,
        _ => Settled::Failed,
    }
}

/// Connections to the control listener.
const CONNECTIONS: usize = 4;

/// How often new orders are looked for.
const POLL: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_to_settle_calls_are_told_apart() {
        let body =
            |state: &str, late| format!(r#"{{"decision":"00","state":"{state}","already":false,"late":{late}}}"#);
        assert_eq!(read(200, body("committed", true).as_bytes()), Settled::Done { late: true });
        assert_eq!(read(200, body("released", false).as_bytes()), Settled::Done { late: false });
        assert_eq!(read(200, body("pending", false).as_bytes()), Settled::Pending);
        assert_eq!(read(200, body("other", false).as_bytes()), Settled::Failed);
        assert_eq!(read(200, b"{}"), Settled::Failed);
        assert_eq!(
            [404, 409, 500].map(|status| read(status, b"")),
            [Settled::Unknown, Settled::Conflict, Settled::Failed]
        );
    }
}
