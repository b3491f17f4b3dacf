use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::journal::{
    Cause, ChangeEntry, DecisionEntry, Entry, Found, Image, ImagePhase, ImageStake, NO_WINDOW, Open, Options, RowPart,
    Sink,
};
use crate::storage::simulated::Simulated;
use crate::store::Memory;
use crate::types::{DecisionId, Operation};

const FEN: u64 = 7;

/// A decision on a payment that charges one row of a few.
fn decision(number: u64) -> DecisionEntry {
    let part = RowPart {
        row: u128::from(number % 5) << 121,
        label: 1,
        tag: 0,
        counts: false,
        windows: [700, NO_WINDOW],
        charged: FEN,
    };
    let merchant = "1900000001".parse().expect("a merchant");
    let decision = DecisionId(u128::from(number) << 64 | 1);
    let order = Image {
        decision,
        key: 1,
        check: 2,
        digest: 3,
        merchant,
        revision: 1,
        phase: ImagePhase::Held,
        keep_on_expiry: false,
        note: 0,
        amount_fen: FEN,
        refunded_fen: 0,
        since_s: 5,
        expires_s: 9,
        stake: ImageStake::Payment([part].into_iter().collect()),
    };
    DecisionEntry {
        decision,
        merchant,
        operation: Operation::Pay,
        amount_fen: FEN,
        refused: None,
        limit: None,
        duplicate: false,
        shadowed: [].into_iter().collect(),
        nonce: None,
        order: Some(order),
    }
}

/// Takes back what a decision charged.
fn release(number: u64) -> ChangeEntry {
    let order = decision(number).order.expect("an order");
    let (phase, stake) = (ImagePhase::Released, ImageStake::Payment([].into_iter().collect()));
    ChangeEntry { cause: Cause::Call, orders: [Image { revision: 2, phase, stake, ..order }].into_iter().collect() }
}

/// Two writers: one decides, the other takes back some of it later. Returns the journal and what is used in all.
fn journal(decisions: u64, released: &dyn Fn(u64) -> bool) -> (Simulated, Open, u64) {
    let storage = Simulated::new();
    let (folder, segment_bytes) = (Path::new("journal").to_owned(), SEGMENT_BYTES);
    let options = Options { folder, segment_bytes, fingerprint: [7; 16], epoch: 1 };
    let mut open = Found::open(Arc::new(storage.clone()), options).expect("a journal").begin(2).expect("writers");
    let mut used = 0;
    for number in 0..decisions {
        let at = UnixMillis(i64::try_from(number).expect("small"));
        let mut write = |writer: usize, entry: &Entry, fen: u64| {
            let mut bytes = Vec::new();
            entry.write(&mut bytes);
            open.keeper.prepare().expect("room");
            open.writers[writer].append(&bytes, at, fen).expect("room");
            open.writers[writer].flush().expect("written");
        };
        write(0, &Entry::Decision(Box::new(decision(number))), FEN);
        if released(number) {
            write(1, &Entry::Change(release(number)), 0);
        } else {
            used += FEN;
        }
    }
    open.syncer.step().expect("synced");
    open.keeper.seal().expect("sealed");
    (storage, open, used)
}

fn used(store: &dyn Store) -> u64 {
    let mut used = 0;
    store.each_row(&mut Fold::new(), &mut |_, row| used += row.cells[0].1).expect("rows");
    used
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn whatever_fails_each_record_is_folded_once(faults in prop::collection::vec(0..3_u8, 0..40), part in 1..9_u64) {
        let (storage, open, _) = journal(600, &|number| number % part == 0);
        let memory = Memory::new();
        let mut behind = WriteBehind::new(Box::new(memory.clone())).expect("a store");
        let sealed = open.keeper.sealed().list();
        prop_assert!(sealed.len() > 3);
        let mut faults = faults.into_iter();
        loop {
            match faults.next() {
                Some(1) => memory.fail(1),
                Some(2) => memory.fail_late(1),
                Some(_) | None => {}
            }
            match behind.step(&storage, Path::new("journal"), &sealed) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => prop_assert!(matches!(error, WriteFault::Store(_)), "{error}"),
            }
        }
        // Again from the start, without a fault.
        let plain = Memory::new();
        let mut behind = WriteBehind::new(Box::new(plain.clone())).expect("a store");
        while behind.step(&storage, Path::new("journal"), &sealed).expect("folded") > 0 {}
        prop_assert_eq!(used(&memory), used(&plain));
        prop_assert_eq!(memory.meta(), plain.meta());
        prop_assert_eq!(behind.behind(&sealed), Behind::default());
    }
}

#[test]
fn what_is_behind_is_told_in_records_and_fen_and_falls_segment_by_segment() {
    let (storage, open, _) = journal(400, &|_| false);
    let sealed = open.keeper.sealed().list();
    let mut behind = WriteBehind::new(Box::new(Memory::new())).expect("a store");
    let (mut segments, mut folded) = (sealed.len() as u64, 0);
    let all: u64 = sealed.iter().map(|(_, seal)| seal.records()).sum();
    loop {
        let now = behind.behind(&sealed);
        assert_eq!((now.segments, now.records, now.fen), (segments, all - folded, (all - folded) * FEN));
        match behind.step(&storage, Path::new("journal"), &sealed).expect("folded") {
            0 => break,
            records => (segments, folded) = (segments - 1, folded + records),
        }
    }
    assert_eq!((segments, folded), (0, all));
}

#[test]
fn a_start_counts_the_same_fen_as_the_writer_did() {
    let (storage, open, _) = journal(400, &|number| number % 3 == 0);
    drop(open);
    let (folder, segment_bytes) = (Path::new("journal").to_owned(), SEGMENT_BYTES);
    let options = Options { folder, segment_bytes, fingerprint: [7; 16], epoch: 2 };
    let found = Found::open(Arc::new(storage.clone()), options).expect("the journal");
    let open = found.begin(2).expect("writers");
    let fen: u64 = open.keeper.sealed().list().iter().map(|(_, seal)| seal.fen).sum();
    assert_eq!(fen, 400 * FEN);
}

#[test]
fn records_are_visited_from_a_position_on_wherever_it_is() {
    let (storage, open, _) = journal(300, &|_| false);
    let sealed = open.keeper.sealed().list();
    for segment in sealed {
        let visit = |from: u64| {
            let mut positions = Vec::new();
            visit_sealed::<WriteFault>(&storage, Path::new("journal"), segment, from, &mut |record| {
                positions.push(record.position);
                Ok(true)
            })
            .expect("readable");
            positions
        };
        let all = visit(0);
        assert_eq!(all.len() as u64, segment.1.records());
        for (count, from) in (1..).zip(&all) {
            assert_eq!(visit(*from), all[count..]);
        }
    }
}

const SEGMENT_BYTES: u64 = 16 << 10;

mod order;
