//! Requests that are ready together are decided together, and a lone one does not wait for company.

use crate::gate::{Gate, Settings};
use crate::request::{Request, unique};

#[test]
fn busy_connections_are_decided_in_batches() {
    const CONNECTIONS: usize = 64;
    const ROUNDS: usize = 20;
    let gate = Gate::start(Settings::new());
    // Signed beforehand: the load must be faster than the gate.
    let wires: Vec<Vec<_>> =
        (0..ROUNDS).map(|_| (0..CONNECTIONS).map(|_| Request::query("a").wire()).collect()).collect();
    let mut clients: Vec<_> = (0..CONNECTIONS).map(|_| gate.connect("check")).collect();
    for wires in &wires {
        clients.iter_mut().zip(wires).for_each(|(client, wire)| client.send(wire));
        clients.iter_mut().for_each(|client| assert_eq!(client.answer().status(), 200));
    }
    let snapshot = gate.control().snapshot();
    let requests = (CONNECTIONS * ROUNDS) as u64;
    assert_eq!((snapshot.admitted, snapshot.batched_requests), (requests, requests));
    let mean = snapshot.batch_requests_mean().expect("batches");
    assert!(mean > 2.0, "{mean} requests a batch");
    assert_eq!(gate.metric("tollgate_batch_requests_count"), snapshot.batches as f64);
}

#[test]
fn a_lone_request_is_decided_at_once() {
    let gate = Gate::start(Settings::new());
    let mut clients: Vec<_> = (0..4).map(|_| gate.connect("check")).collect();
    for index in 0..40 {
        assert_eq!(clients[index % 4].ask(&Request::order(&unique("o"), 1)).status(), 200);
    }
    let snapshot = gate.control().snapshot();
    assert_eq!((snapshot.batches, snapshot.batched_requests), (40, 40));
}

#[test]
fn a_client_that_leaves_before_its_decision_leaves_the_others_theirs() {
    let gate = Gate::start(Settings::new());
    let wires: Vec<_> = (0..60).map(|_| Request::query("a").wire()).collect();
    let mut clients: Vec<_> = (0..60).map(|_| gate.connect("check")).collect();
    clients.iter_mut().zip(&wires).for_each(|(client, wire)| client.send(wire));
    let mut index = 0;
    clients.retain(|_| {
        index += 1;
        index % 3 > 0
    });
    assert!(clients.iter_mut().all(|client| client.answer().status() == 200));
    assert_eq!(gate.connect("check").ask(&Request::query("a")).status(), 200);
}
