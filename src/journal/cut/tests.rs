use std::collections::BTreeMap;

use super::*;
use crate::journal::{Found, Open, Options, Recorded, Sink};
use crate::storage::simulated::Simulated;

const SEGMENT_BYTES: u64 = 16 << 10;

fn folder() -> &'static Path {
    Path::new("journal")
}

fn open(storage: &Simulated, epoch: u64) -> Result<Found, OpenFault> {
    let options = Options { folder: folder().to_owned(), segment_bytes: SEGMENT_BYTES, fingerprint: [7; 16], epoch };
    Found::open(Arc::new(storage.clone()), options)
}

fn begin(storage: &Simulated, epoch: u64) -> Open {
    open(storage, epoch).and_then(|found| found.begin(2)).expect("begun")
}

fn write(open: &mut Open, count: u64) {
    for at in 0..count {
        for writer in 0..2 {
            let sink = &mut open.writers[writer];
            sink.append(&[1; 400], UnixMillis(i64::try_from(at).expect("small")), 10).expect("room");
            sink.flush().expect("written");
        }
        open.keeper.prepare().expect("room");
    }
    open.syncer.step().expect("synced");
}

/// Two writers with 80 records each: three segments sealed, one open and one made.
fn journal() -> Simulated {
    let storage = Simulated::new();
    let mut open = begin(&storage, 1);
    write(&mut open, 79);
    open.keeper.seal().expect("sealed");
    write(&mut open, 1);
    drop(open);
    storage
}

fn id(number: u64) -> SegmentId {
    SegmentId { writer: 0, number }
}

fn plan(storage: &Simulated, number: u64, at: u64) -> Result<Cut, CutFault> {
    Cut::plan(Arc::new(storage.clone()), folder(), id(number), at)
}

fn flip(storage: &Simulated, number: u64, at: usize) {
    storage.damage(&id(number).path(folder()), at, |byte| byte ^ 1);
}

fn fault(storage: &Simulated) -> Option<(SegmentId, u64)> {
    let inspection = inspect::segments(storage, folder()).expect("readable");
    inspection.segments().iter().find_map(|segment| match segment.state {
        State::Damaged { at, .. } => Some((segment.id, at)),
        State::Sealed | State::Open | State::Torn { .. } => None,
    })
}

/// How many records a start finds of each writer; they are without a hole, and positions rise.
fn counts(found: &Found) -> BTreeMap<u16, (u64, u64)> {
    let mut counts: BTreeMap<u16, (u64, u64)> = BTreeMap::new();
    let visit = &mut |record: &Recorded<'_>| {
        let (count, position) = counts.entry(record.writer).or_default();
        assert_eq!(record.frame.sequence, *count + 1);
        assert!(record.position > *position);
        (*count, *position) = (*count + 1, record.position);
        Ok::<_, OpenFault>(())
    };
    found.replay(&|_| 0, UnixMillis(i64::MIN), visit).expect("readable");
    counts
}

#[test]
fn after_a_cut_where_damage_is_named_the_journal_is_whole_and_goes_on() {
    let seal_at = usize::try_from(SEGMENT_BYTES).expect("small") - 500;
    for (number, at, left) in
        [(1, 5000, 1), (2, 9000, 32), (2, 20, 23), (1, 30, 0), (3, 4100, 46), (1, seal_at, 23), (4, 4100, 69)]
    {
        let storage = journal();
        flip(&storage, number, at);
        let (damaged, offset) = fault(&storage).expect("damage");
        assert_eq!(damaged, id(number), "{at}");
        let highest = storage.list(folder()).expect("names").len();
        let cut = plan(&storage, number, offset).unwrap_or_else(|error| panic!("{number} {at}: {error}"));
        let lost = cut.records();
        cut.carry_out().expect("cut");
        assert_eq!(fault(&storage), None, "{number} {at}");
        let found = open(&storage, 2).unwrap_or_else(|error| panic!("{number} {at}: {error}"));
        let before = counts(&found);
        assert_eq!(before.get(&0).map_or(0, |(count, _)| *count), left, "{number} {at}");
        assert_eq!(before[&1].0, 80, "what others wrote is not touched");
        assert!(lost <= 80 - left && lost + 24 >= 80 - left, "{lost} of {}", 80 - left);
        let mut open_again = found.begin(2).expect("begun");
        write(&mut open_again, 30);
        open_again.keeper.seal().expect("sealed");
        drop(open_again);
        assert_eq!(fault(&storage), None, "{number} {at}: gone on with");
        let after = counts(&open(&storage, 3).expect("readable"));
        assert_eq!(after[&0].0, left + 30);
        assert!(after[&0].1 >> 32 > highest as u64 / 2, "a position was given again");
    }
}

#[test]
fn nothing_is_cut_where_nothing_is_damaged_or_something_before_it_is() {
    let storage = journal();
    assert!(matches!(plan(&storage, 2, 4096), Err(CutFault::Whole { .. })));
    assert!(matches!(plan(&storage, 9, 4096), Err(CutFault::Unknown { .. })));
    flip(&storage, 1, 5000);
    assert!(matches!(plan(&storage, 2, 4096), Err(CutFault::Earlier { .. })));
    flip(&storage, 1, 5000);
    flip(&storage, 3, 5000);
    assert!(plan(&storage, 2, 5000).is_ok(), "further than needed is the operator's to say");
    assert!(matches!(plan(&storage, 3, 14_000), Ok(cut) if cut.kept == 1), "no further than what is valid");
}

#[test]
fn a_plan_changes_nothing_and_a_gate_keeps_its_journal() {
    let storage = journal();
    flip(&storage, 2, 9000);
    let before = fault(&storage);
    let cut = plan(&storage, 2, 9000).expect("a plan");
    assert!(matches!(open(&storage, 2), Err(OpenFault::Locked { .. })), "held as long as the plan is");
    drop(cut);
    assert_eq!(fault(&storage), before);
    let storage = journal();
    let _gate = begin(&storage, 2);
    assert!(matches!(plan(&storage, 2, 9000), Err(CutFault::Open(OpenFault::Locked { .. }))));
}
