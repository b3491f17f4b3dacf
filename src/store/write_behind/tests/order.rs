use std::sync::Arc;

use super::*;
use crate::journal::Keep;

fn options(epoch: u64) -> Options {
    Options { folder: Path::new("journal").to_owned(), segment_bytes: 16 << 10, fingerprint: [7; 16], epoch }
}

fn found(storage: &Simulated, epoch: u64) -> Found {
    Found::open(Arc::new(storage.clone()), options(epoch)).expect("readable")
}

/// Begins a life of two writers, and ends it once the first of them has written so many records of this time.
fn live(storage: &Simulated, epoch: u64, records: u32, at: i64) -> Open {
    let mut open = found(storage, epoch).begin(2).expect("begun");
    for label in 0..records {
        let mut bytes = Vec::new();
        Entry::Label { label: label + 1, name: format!("{epoch} {label}") }.write(&mut bytes);
        open.writers[0].append(&bytes, UnixMillis(at), 0).expect("room");
    }
    open.writers[0].flush().expect("written");
    open.syncer.step().expect("synced");
    open
}

fn fold_all(storage: &Simulated, behind: &mut WriteBehind, sealed: &[(SegmentId, Seal)]) -> u64 {
    let mut folded = 0;
    loop {
        match behind.step(storage, Path::new("journal"), sealed).expect("folded") {
            0 => return folded,
            more => folded += more,
        }
    }
}

#[test]
fn segments_of_a_writer_are_folded_in_their_order_though_the_clock_was_put_back() {
    let storage = Simulated::new();
    for (epoch, at) in [(1, 9_000), (2, 2_000), (3, 5_000)] {
        live(&storage, epoch, 4, at);
        storage.kill();
    }
    let open = found(&storage, 4).begin(2).expect("begun");
    let mut behind = WriteBehind::new(Box::new(Memory::new())).expect("a store");
    assert_eq!(fold_all(&storage, &mut behind, &open.keeper.sealed().list()), 12);
    assert_eq!(behind.reached()[&0].sequence, 12);
}

/// What a start removes, since nothing is in it, leaves no gap that looks like records that are missing.
#[test]
fn an_idle_life_and_retired_segments_leave_no_record_missing() {
    let storage = Simulated::new();
    let store = Memory::new();
    live(&storage, 1, 4, 1_000);
    storage.kill();
    // Nothing is written in this life: its segments go at the next start.
    live(&storage, 2, 0, 0);
    storage.kill();
    live(&storage, 3, 4, 2_000);
    storage.kill();
    let mut open = found(&storage, 4).begin(2).expect("begun");
    let mut behind = WriteBehind::new(Box::new(store)).expect("a store");
    let first = open.keeper.sealed().list().into_iter().take(1).collect::<Vec<_>>();
    assert_eq!(fold_all(&storage, &mut behind, &first), 4);
    let reached = behind.reached().clone();
    let late = UnixMillis(1_000_000);
    let is_needed = |writer: u16, end: u64| reached.get(&writer).is_none_or(|reached| reached.position < end);
    let retired = open.keeper.retire(Keep { seconds: 0, bytes: u64::MAX }, late, late, &is_needed);
    assert_eq!(retired.expect("retired"), 1);
    storage.kill();
    assert_eq!((found(&storage, 5).first()[&0], reached[&0].sequence), (5, 4), "the next record is the next one");
}
