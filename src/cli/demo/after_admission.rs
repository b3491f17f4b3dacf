//! Cases in which the request was admitted, and what came after went wrong.

use super::DemoError;
use super::before_anybody_is_known::system;
use super::cases::{Case, Expected};
use super::client::Answer;
use super::configuration::Bounds;
use super::request::Payment;
use super::upstream::{DROP, SLOW};
use super::world::{DemoGate, Door, World};
use crate::front::wire;
use crate::reason::Reason;
use crate::types::Interface;

pub(super) fn upstream_unreachable() -> Case {
    Expected::signed(502, "SERVICE_UNAVAILABLE").after("nobody listens behind the gate", |world| {
        Box::pin(async move {
            let bounds = Bounds { upstream: "unix:nobody.sock".to_owned(), ..world.small() };
            let pay = world.accounts.store.pay(Interface::Jsapi, &Payment::new(100));
            world.at_gate("unreachable", bounds, system(), async |gate| gate.send(pay).await).await
        })
    })
}

pub(super) fn upstream_timeout() -> Case {
    Expected::signed(504, "SYSTEM_ERROR").after("the service behind is slower than the gate waits", |world| {
        Box::pin(async move {
            let bounds = Bounds { answer_timeout_ms: 300, ..world.small() };
            let pay = world.accounts.store.pay(Interface::Jsapi, &Payment::new(100).scripted(SLOW));
            world.at_gate("slow-upstream", bounds, system(), async |gate| gate.send(pay).await).await
        })
    })
}

pub(super) fn upstream_broken() -> Case {
    Expected::signed(502, "SYSTEM_ERROR").on("the service behind breaks off its answer", |world| {
        world.accounts.store.pay(Interface::Jsapi, &Payment::new(100).scripted(DROP)).into()
    })
}

pub(super) fn signing_overloaded() -> Case {
    Expected::unsigned(503, "SYSTEM_ERROR").after("a burst at one signing thread with a queue of one", |world| {
        Box::pin(async move {
            let bounds = Bounds { signing_queue_max: 1, ..world.small() };
            let bursts = async |gate: &DemoGate| {
                for _ in 0..BURSTS_MAX {
                    if let Some(refused) = burst(world, gate).await? {
                        return Ok(refused);
                    }
                }
                Err(DemoError::Setup("every burst was signed in time"))
            };
            world.at_gate("signing-queue", bounds, system(), bursts).await
        })
    })
}

/// Sends one request on each of many connections at once; returns the last answer that was refused, if any was.
async fn burst(world: &World, gate: &DemoGate) -> Result<Option<Answer>, DemoError> {
    let mut exchanges = Vec::new();
    for _ in 0..BURST_REQUESTS {
        let mut connection = gate.doors().open(Door::Public).await?;
        let hello = world.accounts.store.echo("hello").signed();
        exchanges.push(async move { connection.send(hello.request()).await });
    }
    let exchanges: Vec<_> = exchanges.into_iter().map(tokio::spawn).collect();
    let mut refused = None;
    for exchange in exchanges {
        let answer = exchange.await.map_err(|_| DemoError::Thread)??;
        if answer.status == wire(Reason::SigningOverloaded).status {
            refused = Some(answer);
        } else {
            answer.admitted()?;
        }
    }
    Ok(refused)
}

const BURST_REQUESTS: usize = 32;
const BURSTS_MAX: usize = 20;
