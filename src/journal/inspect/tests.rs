use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;

use super::*;
use crate::journal::{Found, Open, Options, Sink};
use crate::storage::Disk;
use crate::storage::simulated::{Fate, Simulated};

const SEGMENT_BYTES: u64 = 16 << 10;
const SEAL_AT: u64 = SEGMENT_BYTES - 512;

fn folder() -> &'static Path {
    Path::new("journal")
}

fn found(storage: Arc<dyn Storage>, folder: &Path, epoch: u64) -> Result<Found, OpenFault> {
    let options = Options { folder: folder.to_owned(), segment_bytes: SEGMENT_BYTES, fingerprint: [7; 16], epoch };
    Found::open(storage, options)
}

fn begin(storage: &Simulated, epoch: u64, writers: u16) -> Open {
    found(Arc::new(storage.clone()), folder(), epoch).and_then(|found| found.begin(writers)).expect("begun")
}

/// Writes records of 400 bytes, one at a time.
fn write(open: &mut Open, writer: usize, count: u64) {
    for at in 0..count {
        let sink = &mut open.writers[writer];
        sink.append(&[1; 400], UnixMillis(i64::try_from(at).expect("small")), 10).expect("room");
        sink.flush().expect("written");
        open.keeper.prepare().expect("room");
    }
}

fn look(storage: &Simulated) -> Inspection {
    segments(storage, folder()).expect("readable")
}

fn states(storage: &Simulated) -> Vec<State> {
    look(storage).segments().iter().map(|segment| segment.state).collect()
}

fn sequences(storage: &Simulated) -> Vec<(u16, u64)> {
    let mut seen = Vec::new();
    let visit = &mut |record: &Recorded<'_>| {
        seen.push((record.writer, record.frame.sequence));
        Ok::<_, OpenFault>(())
    };
    look(storage).visit(storage, visit).expect("readable");
    seen
}

fn path(number: u64) -> PathBuf {
    SegmentId { writer: 0, number }.path(folder())
}

fn flip(storage: &Simulated, number: u64, at: u64) {
    storage.damage(&path(number), usize::try_from(at).expect("small"), |byte| byte ^ 1);
}

/// One writer with 60 records: two segments sealed, one open with all of it safe but the last record, the next one made.
fn whole() -> Simulated {
    let storage = Simulated::new();
    let mut open = begin(&storage, 1, 1);
    write(&mut open, 0, 59);
    open.syncer.step().expect("synced");
    open.keeper.seal().expect("sealed");
    write(&mut open, 0, 1);
    open.syncer.step().expect("synced");
    storage
}

#[test]
fn a_whole_journal_is_whole_and_all_of_its_records_are_seen() {
    let storage = whole();
    let inspection = look(&storage);
    assert_eq!(states(&storage), [State::Sealed, State::Sealed, State::Open, State::Open]);
    let records: Vec<u64> = inspection.segments().iter().map(|segment| segment.records).collect();
    assert_eq!((records.as_slice(), inspection.records()), (&[23, 23, 14, 0][..], 60));
    assert_eq!(inspection.segments()[1].times, Some((UnixMillis(23), UnixMillis(45))));
    assert_eq!(inspection.segments()[3].times, None);
    assert!(inspection.fault().is_none());
    assert_eq!(sequences(&storage), (1..=60).map(|sequence| (0, sequence)).collect::<Vec<_>>());
}

#[test]
fn a_journal_with_a_gate_on_it_can_be_looked_at_and_stays_as_it_is() {
    let storage = Simulated::new();
    let mut open = begin(&storage, 1, 2);
    for count in [1, 7, 30] {
        write(&mut open, 0, count);
        write(&mut open, 1, 1);
        let before = storage.list(folder()).expect("names");
        assert!(look(&storage).fault().is_none());
        assert_eq!(storage.list(folder()).expect("names"), before);
    }
    open.syncer.step().expect("the files are still the gate's");
    assert_eq!(sequences(&storage).len(), 41);
}

#[test]
fn records_of_several_writers_come_by_their_times() {
    let storage = Simulated::new();
    let mut open = begin(&storage, 1, 2);
    for (writer, at) in [(0, 5), (1, 3), (1, 6), (0, 7), (0, 7), (1, 7)] {
        open.writers[writer].append(&[1], UnixMillis(at), 0).expect("room");
        open.writers[writer].flush().expect("written");
    }
    assert_eq!(sequences(&storage), [(1, 1), (0, 1), (1, 2), (0, 2), (0, 3), (1, 3)]);
}

#[test]
fn a_torn_tail_is_told_from_damage_and_names_its_byte() {
    let storage = whole();
    let end = look(&storage).segments()[2].end;
    flip(&storage, 3, end - 10);
    let torn = end - 448;
    assert_eq!(states(&storage)[2], State::Torn { at: torn - 64 }, "the last record, which no other says was safe");
    assert_eq!(sequences(&storage).len(), 59);
    assert!(look(&storage).fault().is_none());
}

#[test]
fn every_kind_of_damage_is_named_with_its_byte() {
    let ends = |number: usize| look(&whole()).segments()[number].end;
    let (second_end, third_end) = (ends(1), ends(2));
    let first_record = 4096 + 440;
    let cases: [(&str, u64, u64, usize, State); 9] = [
        ("a header", 1, 20, 0, damaged(0, "the header is not whole, and something follows it")),
        ("the zeros of a header", 2, 100, 1, damaged(100, "a byte that was zero is not")),
        ("a sealed record", 1, 4096 + 50, 0, damaged(4096, NOT_WHOLE)),
        ("a later sealed record", 1, 4608 + 50, 0, damaged(first_record, NOT_WHOLE)),
        ("zeros between writes", 1, first_record + 20, 0, damaged(first_record + 20, "a byte that was zero is not")),
        ("the last sealed record", 2, second_end - 10, 1, damaged(second_end - 512, NOT_WHOLE)),
        ("a seal before another", 1, SEAL_AT + 20, 0, damaged(SEAL_AT, "it has no seal, and a later segment has one")),
        ("a record that was safe", 3, 4608 + 50, 2, damaged(first_record, GONE)),
        ("the last record but one", 3, third_end - 522, 2, damaged(third_end - 1024, GONE)),
    ];
    for (what, number, at, index, expected) in cases {
        let storage = whole();
        flip(&storage, number, at);
        assert_eq!(states(&storage)[index], expected, "{what}");
        let fault = look(&storage).fault().expect("damage").to_string();
        assert!(fault.contains(&path(number).display().to_string()), "{what}: {fault}");
        let State::Damaged { at, .. } = expected else { panic!("{what}") };
        assert!(fault.contains(&format!("damaged at byte {at}: ")), "{what}: {fault}");
        let seen = sequences(&storage);
        assert_eq!(seen, (1..=seen.len() as u64).map(|sequence| (0, sequence)).collect::<Vec<_>>(), "{what}");
        assert!(seen.len() < 60, "{what}: records behind damage are not seen");
    }
}

fn damaged(at: u64, found: &'static str) -> State {
    State::Damaged { at, found }
}

const NOT_WHOLE: &str = "a sealed record is not whole, or does not follow the one before it";
const GONE: &str = "records that were safe are not there any more";

#[test]
fn a_segment_that_is_missing_between_others_is_noticed() {
    let storage = whole();
    storage.remove(&path(2)).expect("removed");
    let expected = [State::Sealed, damaged(4096, MISSING)];
    assert_eq!(states(&storage)[..2], expected);
    seal_third(&storage);
    assert_eq!(states(&storage)[..2], expected);
}

/// Seals the third segment of [`whole`] as a start would that does not count records.
fn seal_third(storage: &Simulated) {
    let end = look(&whole()).segments()[2].end;
    let file = storage.open(&path(3), true).expect("the file");
    let before = Seal::of(&*storage.open(&path(1), false).expect("the file"), SEGMENT_BYTES)
        .expect("read")
        .expect("a seal")
        .hash;
    let hash = crate::journal::keeper::hash(&*file, before, end).expect("hashed");
    let seal = Seal {
        end,
        first_sequence: 47,
        last_sequence: 60,
        times: (UnixMillis(46), UnixMillis(0)),
        fen: 0,
        before,
        hash,
    };
    crate::journal::keeper::write(&*file, &seal, SEGMENT_BYTES).expect("sealed");
}

#[test]
fn records_written_over_with_others_that_check_are_noticed_by_the_chain() {
    let (storage, other) = (whole(), whole());
    // The same numbers and times, and another payload: each record checks, and the hash does not.
    let mut forged = vec![0; 512];
    other.open(&path(1), false).and_then(|file| file.read_at(&mut forged, 4096)).expect("read");
    let mut buffer = Vec::new();
    let (frame, ..) = crate::journal::frame::at(&forged, 0, 1).expect("a record");
    crate::journal::frame::append(&mut buffer, frame.sequence, frame.at, &[2; 400]);
    crate::journal::frame::seal(&mut buffer, 1, frame.stamp, frame.durable);
    for (offset, byte) in buffer.iter().enumerate() {
        storage.damage(&path(1), 4096 + offset, |_| *byte);
    }
    assert_eq!(states(&storage)[0], damaged(SEAL_AT, "the records are not those that were sealed"));
    assert_eq!(sequences(&storage), [], "nothing of the segment is proved");
}

#[test]
fn the_tail_of_a_segment_that_was_safe_is_missed_by_the_next() {
    let storage = Simulated::new();
    let mut open = begin(&storage, 1, 1);
    for _ in 0..30 {
        write(&mut open, 0, 1);
        open.syncer.step().expect("synced");
    }
    let end = look(&storage).segments()[0].end;
    for at in end - 448..end {
        storage.damage(&path(1), usize::try_from(at).expect("small"), |_| 0);
    }
    assert_eq!(states(&storage)[0], damaged(end - 512, GONE));
}

#[test]
fn a_follower_sees_what_is_written_later_once_and_in_its_order() {
    let storage = Simulated::new();
    let mut open = begin(&storage, 1, 2);
    write(&mut open, 0, 5);
    let mut follower = look(&storage).follower();
    let mut expected: Vec<(u16, u64)> = Vec::new();
    let mut seen = Vec::new();
    let (mut next, mut turn) = ([6, 1], 0);
    for count in [0, 1, 60, 3] {
        turn += 1;
        let writer = turn % 2;
        write(&mut open, writer, count);
        expected.extend((0..count).map(|more| (u16::try_from(writer).expect("small"), next[writer] + more)));
        next[writer] += count;
        // A segment at a time.
        for _ in 0..8 {
            let visit = &mut |record: &Recorded<'_>| {
                assert_eq!(record.payload, [1; 400]);
                seen.push((record.writer, record.frame.sequence));
                Ok::<_, OpenFault>(())
            };
            follower.more(&storage, visit).expect("readable");
        }
        assert_eq!(seen, expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// What a loss of power leaves is never called damaged, and what is seen before a recovery is what it finds.
    #[test]
    fn what_a_loss_of_power_leaves_is_seen_as_a_recovery_finds_it(
        counts in prop::collection::vec((0..3_usize, 1..20_u64, 0..4_u8), 1..12), seed: u64,
    ) {
        let storage = Simulated::new();
        let mut open = begin(&storage, 1, 3);
        open.keeper.prepare().expect("room");
        for (writer, count, then) in counts {
            write(&mut open, writer, count);
            match then {
                0 => open.syncer.step().expect("synced"),
                1 => drop(open.keeper.seal().expect("sealed")),
                _ => {}
            }
        }
        storage.cut_power(seed, &Fate::ALL);
        let inspection = look(&storage);
        prop_assert!(inspection.fault().is_none(), "{:?}", inspection.fault());
        let before: std::collections::BTreeSet<_> = sequences(&storage).into_iter().collect();
        drop(found(Arc::new(storage.clone()), folder(), 2).expect("what is torn is cut"));
        let after: std::collections::BTreeSet<_> = sequences(&storage).into_iter().collect();
        prop_assert_eq!(before, after);
        let sealed = states(&storage).iter().all(|state| *state == State::Sealed);
        prop_assert!(sealed, "{:?}", states(&storage));
    }

    #[test]
    fn a_flipped_bit_is_noticed_wherever_something_says_that_it_was_safe(at in 0..SEGMENT_BYTES, number in 1..3_u64, bit in 0..8) {
        let storage = whole();
        let inspection = look(&storage);
        let end = inspection.segments()[usize::try_from(number).expect("small") - 1].end;
        storage.damage(&path(number), usize::try_from(at).expect("small"), |byte| byte ^ (1_u8 << bit));
        let damaged = look(&storage).fault().is_some();
        // Nothing stands between the records and the seal, nor behind what the seal says.
        let means = at < end || (SEAL_AT..SEAL_AT + 128).contains(&at);
        let last_seal = number == 2 && at >= SEAL_AT;
        prop_assert_eq!(damaged, means && !last_seal);
    }
}

#[test]
fn a_journal_that_is_written_meanwhile_is_never_called_damaged() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let mut open = found(Arc::new(Disk), folder, 1).and_then(|found| found.begin(2)).expect("begun");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for turn in 0..4000_usize {
                write(&mut open, turn % 2, 1);
                if turn % 8 == 0 {
                    open.syncer.step().expect("synced");
                    open.keeper.seal().expect("sealed");
                }
            }
            stop.store(true, Ordering::SeqCst);
        });
        let mut last = 0;
        while !stop.load(Ordering::SeqCst) {
            let inspection = segments(&Disk, folder).expect("readable");
            assert!(inspection.fault().is_none(), "{:?}", inspection.fault());
            assert!(inspection.records() >= last, "records do not go away");
            last = inspection.records();
        }
    });
    assert_eq!(segments(&Disk, folder).expect("readable").records(), 4000);
}
