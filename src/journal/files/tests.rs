use std::collections::HashMap;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::journal::{Fault, Keep, Position, Room, Sink, Watermark};
use crate::storage::Disk;
use crate::storage::faulty::{Call, Error, Faulty, Rule};
use crate::storage::simulated::{Fate, Simulated};

const SEGMENT_BYTES: u64 = 16 << 10;
const KEY: [u8; 16] = [7; 16];

fn options(epoch: u64) -> Options {
    Options { folder: Path::new("journal").to_owned(), segment_bytes: SEGMENT_BYTES, fingerprint: KEY, epoch }
}

fn found(storage: &Simulated, epoch: u64) -> Result<Found, OpenFault> {
    Found::open(Arc::new(storage.clone()), options(epoch))
}

/// All records by writer: sequence and payload.
type Records = HashMap<u16, Vec<(u64, Vec<u8>)>>;

fn records(found: &Found) -> Records {
    try_records(found).expect("readable")
}

fn try_records(found: &Found) -> Result<Records, OpenFault> {
    let mut records = Records::new();
    let visit = &mut |record: &Recorded<'_>| {
        records.entry(record.writer).or_default().push((record.frame.sequence, record.payload.to_vec()));
        Ok::<_, OpenFault>(())
    };
    found.replay(&|_| 0, UnixMillis(i64::MIN), visit)?;
    Ok(records)
}

fn payload(writer: u16, sequence: u64) -> Vec<u8> {
    let length = 1 + usize::try_from(sequence * 37 % 900).expect("small");
    let mut payload = format!("{writer} {sequence} ").into_bytes();
    payload.resize(payload.len() + length, b'x');
    payload
}

/// Appends and flushes one batch, with a new segment made where one is needed.
fn write(open: &mut Open, writer: u16, next: &mut u64, batch: u64) -> Position {
    for _ in 0..batch {
        let sink = &mut open.writers[usize::from(writer)];
        sink.append(&payload(writer, *next), UnixMillis(i64::try_from(*next).expect("small")), 10).expect("room");
        *next += 1;
    }
    let position = open.writers[usize::from(writer)].flush().expect("written");
    open.keeper.prepare().expect("room");
    position
}

#[derive(Clone, Debug)]
enum Step {
    Write { writer: u16, batch: u64 },
    Sync,
    Seal,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..3_u16, 1..6_u64).prop_map(|(writer, batch)| Step::Write { writer, batch }),
        2 => Just(Step::Sync),
        1 => Just(Step::Seal),
    ];
    prop::collection::vec(step, 1..80)
}

/// Takes the steps; returns by writer how many records are written, and how many of them safe.
fn take(open: &mut Open, steps: &[Step], next: &mut [u64; 3]) -> [u64; 3] {
    let mut positions: Vec<(u16, u64, Position)> = Vec::new();
    open.keeper.prepare().expect("room");
    for step in steps {
        match step {
            Step::Write { writer, batch } => {
                let position = write(open, *writer, &mut next[usize::from(*writer)], *batch);
                positions.push((*writer, next[usize::from(*writer)] - 1, position));
            }
            Step::Sync => open.syncer.step().expect("synced"),
            Step::Seal => drop(open.keeper.seal().expect("sealed")),
        }
    }
    let mut safe = [0; 3];
    for (writer, last, position) in positions {
        if open.progress.covers(position) {
            safe[usize::from(writer)] = safe[usize::from(writer)].max(last);
        }
    }
    safe
}

proptest! {
    /// The whole promise of the files: what is safe is there, what is there was written, in order and without a hole; a torn
    /// tail is cut, or, where that could be damage, refused.
    #[test]
    fn a_loss_of_power_takes_nothing_that_was_safe_and_invents_nothing(
        lives in prop::collection::vec((steps(), any::<u64>(), 0..3_usize), 1..4),
    ) {
        let storage = Simulated::new();
        let (mut next, mut at_least) = ([1; 3], [0; 3]);
        for (epoch, (steps, seed, kind)) in (1..).zip(&lives) {
            let found = found(&storage, epoch).expect("what is torn is cut");
            let there = records(&found);
            for writer in 0..3_u16 {
                let records = there.get(&writer).map_or(&[][..], Vec::as_slice);
                let count = u64::try_from(records.len()).expect("few");
                prop_assert!(count >= at_least[usize::from(writer)], "writer {writer}: {count}");
                prop_assert!(count < next[usize::from(writer)]);
                for (expected, (sequence, found)) in (1..).zip(records) {
                    prop_assert_eq!(*sequence, expected);
                    prop_assert_eq!(found, &payload(writer, expected));
                }
                next[usize::from(writer)] = count + 1;
            }
            let mut open = found.begin(3).expect("begun");
            at_least = take(&mut open, steps, &mut next);
            match kind {
                0 => {
                    at_least = next.map(|next| next - 1);
                    storage.kill();
                }
                1 => storage.cut_power(*seed, &Fate::ALL),
                _ => storage.cut_power(*seed, &[Fate::Kept, Fate::Dropped]),
            }
        }
        let first = records(&found(&storage, 100).expect("readable"));
        storage.kill();
        prop_assert_eq!(records(&found(&storage, 101).expect("readable")), first, "a recovery that was ended is repeated");
    }

    #[test]
    fn a_recovery_may_lose_power_at_any_call(steps in steps(), seed: u64, calls in 0..40_u64) {
        let storage = Simulated::new();
        let mut open = found(&storage, 1).expect("empty").begin(3).expect("begun");
        let mut next = [1; 3];
        let safe = take(&mut open, &steps, &mut next);
        storage.cut_power(seed, &Fate::ALL);
        let before = storage.copy();
        let faulty = Faulty::new(Arc::new(storage.clone()));
        faulty.set(Some(Rule { call: None, after: calls, times: u64::MAX, error: Error::Broken }));
        let broken = Found::open(Arc::new(faulty), options(2)).and_then(|found| found.begin(3));
        drop(broken);
        storage.cut_power(seed ^ 1, &[Fate::Kept, Fate::Dropped]);
        let again = records(&found(&storage, 3).expect("still readable"));
        let whole = records(&found(&before, 3).expect("readable"));
        for writer in 0..3_u16 {
            prop_assert_eq!(again.get(&writer), whole.get(&writer));
            prop_assert!(again.get(&writer).map_or(0, Vec::len) as u64 >= safe[usize::from(writer)]);
        }
    }

    #[test]
    fn damage_to_what_was_safe_is_refused_and_named(steps in steps(), at: prop::sample::Index, bit in 0..8) {
        let storage = Simulated::new();
        let mut open = found(&storage, 1).expect("empty").begin(3).expect("begun");
        let mut next = [1; 3];
        take(&mut open, &steps, &mut next);
        open.syncer.step().expect("synced");
        // One more of each, so that there is a record that says what was safe before it.
        for writer in 0..3 {
            write(&mut open, writer, &mut next[usize::from(writer)], 1);
        }
        open.syncer.step().expect("synced");
        storage.kill();
        let whole = records(&found(&storage.copy(), 2).expect("readable"));
        let names = storage.list(Path::new("journal")).expect("a folder");
        let name = at.get(&names);
        let path = Path::new("journal").join(name);
        let bytes = usize::try_from(SEGMENT_BYTES).expect("small");
        storage.damage(&path, at.index(bytes), |byte| byte ^ (1_u8 << bit));
        let read = found(&storage, 2).and_then(|found| try_records(&found));
        match read {
            Err(OpenFault::Damaged { .. } | OpenFault::Version { .. } | OpenFault::Fingerprint { .. }) => {}
            Err(other) => prop_assert!(false, "{other}"),
            Ok(there) => {
                // Where nothing was, nothing is damaged; the last record of a writer cannot be told from a torn one.
                for (writer, records) in whole {
                    let left = there.get(&writer).map_or(&[][..], Vec::as_slice);
                    prop_assert!(left.len() + 1 >= records.len(), "{} of {}", left.len(), records.len());
                    prop_assert_eq!(left, &records[..left.len()]);
                }
            }
        }
    }
}

#[test]
fn records_of_many_writers_come_in_the_order_in_which_they_were_written() {
    let storage = Simulated::new();
    let mut open = found(&storage, 1).expect("empty").begin(3).expect("begun");
    let (mut next, mut expected) = ([1; 3], Vec::new());
    for turn in 0..200_u16 {
        let writer = turn * 7 % 3;
        expected.push((writer, next[usize::from(writer)]));
        write(&mut open, writer, &mut next[usize::from(writer)], 1);
    }
    storage.kill();
    let found = found(&storage, 2).expect("readable");
    let mut seen = Vec::new();
    let visit = &mut |record: &Recorded<'_>| {
        seen.push((record.writer, record.frame.sequence));
        Ok::<_, OpenFault>(())
    };
    found.replay(&|_| 0, UnixMillis(i64::MIN), visit).expect("readable");
    assert_eq!(seen, expected);
}

#[test]
fn a_replay_begins_behind_a_position_and_reaches_back_for_what_is_young() {
    let storage = Simulated::new();
    let mut open = found(&storage, 1).expect("empty").begin(1).expect("begun");
    let mut next = 1;
    let positions: Vec<Position> = (0..100).map(|_| write(&mut open, 0, &mut next, 1)).collect();
    storage.kill();
    let found = found(&storage, 2).expect("readable");
    let sequences = |from: u64, since: i64| {
        let mut seen = Vec::new();
        let visit = &mut |record: &Recorded<'_>| {
            seen.push(record.frame.sequence);
            Ok::<_, OpenFault>(())
        };
        found.replay(&|_| from, UnixMillis(since), visit).expect("readable");
        seen
    };
    assert_eq!(sequences(positions[59].offset, i64::MAX), (61..=100).collect::<Vec<_>>());
    assert_eq!(sequences(positions[59].offset, 31), (31..=100).collect::<Vec<_>>());
    assert_eq!(sequences(u64::MAX, i64::MAX), Vec::<u64>::new());
}

#[test]
fn a_second_gate_and_another_key_are_refused() {
    let storage = Simulated::new();
    let first = found(&storage, 1).expect("empty");
    assert!(matches!(found(&storage, 2), Err(OpenFault::Locked { .. })));
    let mut open = first.begin(1).expect("begun");
    write(&mut open, 0, &mut 1, 1);
    drop(open);
    let other = Options { fingerprint: [8; 16], ..options(3) };
    assert!(matches!(Found::open(Arc::new(storage), other), Err(OpenFault::Fingerprint { .. })));
}

#[test]
fn a_full_disk_takes_what_there_is_room_for_and_more_once_there_is_again() {
    let storage = Simulated::new();
    let mut open = found(&storage, 1).expect("empty").begin(1).expect("begun");
    storage.set_room(Some(SEGMENT_BYTES));
    assert_eq!(open.keeper.prepare().expect("no fault"), Room::Full);
    let writer = &mut open.writers[0];
    let mut taken = 0;
    while writer.append(&[1; 100], UnixMillis(0), 0).is_ok() {
        taken += 1;
    }
    assert!(taken > 50, "{taken}");
    assert_eq!(writer.append(&[1; 100], UnixMillis(0), 0), Err(Fault::NoRoom));
    writer.flush().expect("written");
    storage.set_room(None);
    assert_eq!(open.keeper.prepare().expect("no fault"), Room::Ready);
    open.writers[0].append(&[1; 100], UnixMillis(0), 0).expect("room again");
    open.writers[0].flush().expect("written");
    storage.kill();
    let found = found(&storage, 2).expect("readable");
    assert_eq!(records(&found)[&0].len(), taken + 1);
}

#[test]
fn a_sync_or_write_that_fails_is_the_end() {
    for call in [Call::Sync, Call::Write] {
        let storage = Simulated::new();
        let faulty = Faulty::new(Arc::new(storage.clone()));
        let mut open = Found::open(Arc::new(faulty.clone()), options(1)).expect("empty").begin(1).expect("begun");
        let before = write(&mut open, 0, &mut 1, 3);
        open.syncer.step().expect("synced");
        faulty.set(Some(Rule { call: Some(call), after: 0, times: 1, error: Error::Broken }));
        let writer = &mut open.writers[0];
        writer.append(&[1; 10], UnixMillis(0), 0).expect("room");
        let written = writer.flush();
        let synced = open.syncer.step();
        assert!(written.is_err() || synced.is_err());
        // The disk is well again; that changes nothing.
        assert_eq!(open.writers[0].append(&[1; 10], UnixMillis(0), 0), Err(Fault::Failed));
        assert_eq!(open.writers[0].flush(), Err(Fault::Failed));
        assert!(open.progress.has_failed() && open.progress.covers(before));
        assert_eq!(open.progress.wait(Position { offset: u64::MAX, ..before }), Err(Fault::Failed));
        if let Ok(written) = written {
            assert!(!open.progress.covers(written), "what a failed sync was to cover is not safe");
        }
    }
}

#[test]
fn segments_go_once_they_are_old_and_not_needed_and_leave_no_hole() {
    let storage = Simulated::new();
    let mut open = found(&storage, 1).expect("empty").begin(2).expect("begun");
    let mut next = [1; 2];
    for _ in 0..120 {
        for writer in 0..2 {
            write(&mut open, writer, &mut next[usize::from(writer)], 1);
        }
    }
    open.syncer.step().expect("synced");
    let sealed = open.keeper.seal().expect("sealed");
    assert!(sealed >= 4, "{sealed}");
    let keep = Keep { seconds: 0, bytes: u64::MAX };
    let late = UnixMillis(1_000_000);
    assert_eq!(open.keeper.retire(keep, late, late, &|_, _| true).expect("no fault"), 0, "all of it is needed");
    assert_eq!(
        open.keeper.retire(keep, late, UnixMillis(0), &|_, _| false).expect("no fault"),
        0,
        "all of it is young"
    );
    let gone = open.keeper.retire(keep, late, late, &|writer, _| writer == 1).expect("no fault");
    assert!(gone > 0 && gone < sealed);
    let roomy = Keep { seconds: 10_000_000, bytes: 0 };
    assert_eq!(
        open.keeper.retire(roomy, late, late, &|_, _| false).expect("no fault"),
        sealed - gone - 2,
        "beyond the bytes, but for the last of each writer"
    );
    storage.kill();
    let there = records(&found(&storage, 2).expect("no hole"));
    for (writer, records) in there {
        let first = records[0].0;
        let sequences: Vec<u64> = records.iter().map(|(sequence, _)| *sequence).collect();
        assert!(first > 1 && sequences == (first..next[usize::from(writer)]).collect::<Vec<_>>());
    }
}

#[test]
fn exposure_is_what_is_written_and_not_safe() {
    let storage = Simulated::new();
    let mut open = found(&storage, 1).expect("empty").begin(2).expect("begun");
    assert_eq!((open.progress.exposure().fen, open.progress.exposure().since), (0, None));
    write(&mut open, 0, &mut 5, 2);
    write(&mut open, 1, &mut 4, 1);
    assert_eq!((open.progress.exposure().fen, open.progress.exposure().since), (30, Some(UnixMillis(4))));
    open.syncer.step().expect("synced");
    assert_eq!((open.progress.exposure().fen, open.progress.exposure().since), (0, None));
}

#[test]
fn a_disk_keeps_what_was_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = |epoch| Options { folder: folder.path().join("journal"), ..options(epoch) };
    let mut next = 1;
    for epoch in 1..4 {
        let found = Found::open(Arc::new(Disk), options(epoch)).expect("readable");
        let there = records(&found);
        assert_eq!(there.get(&0).map_or(0, Vec::len) as u64, next - 1);
        let mut open = found.begin(1).expect("begun");
        open.keeper.prepare().expect("room");
        let position = (0..100).map(|_| write(&mut open, 0, &mut next, 2)).last().expect("written");
        open.syncer.step().expect("synced");
        assert!(open.progress.covers(position));
        open.keeper.seal().expect("sealed");
    }
}

mod review {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    fn order(found: &Found) -> Vec<(u16, u64, u64)> {
        let mut seen = Vec::new();
        let visit = &mut |record: &Recorded<'_>| {
            seen.push((record.writer, record.frame.sequence, record.frame.stamp));
            Ok::<_, OpenFault>(())
        };
        found.replay(&|_| 0, UnixMillis(i64::MIN), visit).expect("readable");
        seen
    }

    /// Stamps go on rising over a start in which nothing is written.
    #[test]
    fn stamps_rise_over_an_idle_start() {
        let storage = Simulated::new();
        let mut open = found(&storage, 1).expect("empty").begin(2).expect("begun");
        let mut next = [1; 2];
        for _ in 0..5 {
            write(&mut open, 0, &mut next[0], 1);
        }
        storage.kill();
        drop(found(&storage, 2).expect("ok").begin(2).expect("begun"));
        storage.kill();
        let mut open = found(&storage, 3).expect("ok").begin(2).expect("begun");
        write(&mut open, 1, &mut next[1], 1);
        storage.kill();
        let seen = order(&found(&storage, 4).expect("ok"));
        assert_eq!(seen.last().map(|seen| seen.0), Some(1), "the last written comes last: {seen:?}");
    }

    /// A whole segment lost at a turn is damage when the next one says that the one before was safe.
    #[test]
    fn damage_at_the_end_of_a_full_segment_is_refused() {
        let storage = Simulated::new();
        let mut open = found(&storage, 1).expect("empty").begin(1).expect("begun");
        open.keeper.prepare().expect("room");
        let mut next = 1;
        let mut last = write(&mut open, 0, &mut next, 1);
        // Fill segment 1 and sync each record, until the writer has turned over.
        loop {
            open.syncer.step().expect("synced");
            let now = write(&mut open, 0, &mut next, 1);
            if now.offset >> 32 > last.offset >> 32 {
                last = now;
                break;
            }
            last = now;
        }
        open.syncer.step().expect("synced");
        assert!(open.progress.covers(last));
        storage.kill();
        let whole = records(&found(&storage.copy(), 2).expect("readable"))[&0].len();
        let file = Path::new("journal/000-0000000001.journal");
        let read =
            Read::new(&storage, Path::new("journal"), SegmentId { writer: 0, number: 1 }).expect("ok").expect("ok");
        let (_, _, begun, _) = read.frames(0).last().expect("frames");
        storage.damage(file, usize::try_from(begun).expect("small") + 45, |byte| byte ^ 1);
        match found(&storage, 2) {
            Err(OpenFault::Damaged { .. }) => {}
            Err(other) => panic!("{other}"),
            Ok(found) => panic!("opened with {} of {whole} synced records", records(&found)[&0].len()),
        }
    }

    /// Positions never go back, whatever is retired and wherever a start ends.
    #[test]
    fn positions_never_go_back() {
        let storage = Simulated::new();
        let mut open = found(&storage, 1).expect("empty").begin(1).expect("begun");
        let mut next = 1;
        let before = (0..100).map(|_| write(&mut open, 0, &mut next, 1)).last().expect("written");
        storage.kill();
        let mut open = found(&storage, 2).expect("ok").begin(1).expect("begun");
        let late = UnixMillis(1_000_000);
        open.keeper.retire(Keep { seconds: 0, bytes: 0 }, late, late, &|_, _| false).expect("retired");
        storage.kill();
        drop(found(&storage, 3).expect("found, and ended before it began"));
        storage.kill();
        let mut open = found(&storage, 4).expect("ok").begin(1).expect("begun");
        let after = write(&mut open, 0, &mut 1, 1);
        assert!(after.offset > before.offset, "segment {} after {}", after.offset >> 32, before.offset >> 32);
    }

    /// Power is lost while segments are retired.
    #[test]
    fn retiring_may_lose_power_at_any_call() {
        let mut refused = Vec::new();
        for calls in 0..12 {
            for seed in 0..20 {
                let storage = Simulated::new();
                let faulty = Faulty::new(Arc::new(storage.clone()));
                let found_here = Found::open(Arc::new(faulty.clone()), options(1)).expect("empty");
                let mut open = found_here.begin(1).expect("begun");
                let mut next = 1;
                for _ in 0..150 {
                    write(&mut open, 0, &mut next, 1);
                }
                open.syncer.step().expect("synced");
                assert!(open.keeper.seal().expect("sealed") >= 3);
                faulty.set(Some(Rule { call: None, after: calls, times: u64::MAX, error: Error::Broken }));
                let late = UnixMillis(1_000_000);
                let _ = open.keeper.retire(Keep { seconds: 0, bytes: 0 }, late, late, &|_, _| false);
                storage.cut_power(seed, &[Fate::Kept]);
                if let Err(error) = found(&storage, 2) {
                    refused.push(format!("calls {calls} seed {seed}: {error}"));
                }
            }
        }
        assert!(refused.is_empty(), "{} of 240, such as {}", refused.len(), refused[0]);
    }

    /// A paced syncer syncs while records keep coming.
    #[test]
    fn a_paced_syncer_syncs_under_steady_load() {
        let storage = Simulated::new();
        let faulty = Faulty::new(Arc::new(storage.clone()));
        let mut open = Found::open(Arc::new(faulty), Options { segment_bytes: 1 << 20, ..options(1) })
            .expect("empty")
            .begin(1)
            .expect("begun");
        let syncs = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let counted = Arc::clone(&syncs);
        let syncer = open.syncer.paced(Duration::from_millis(50)).telling(Box::new(move || {
            counted.fetch_add(1, Ordering::SeqCst);
        }));
        let thread = std::thread::spawn(move || syncer.run());
        for sequence in 0..1000_i64 {
            open.writers[0].append(&[1; 20], UnixMillis(sequence), 1).expect("room");
            open.writers[0].flush().expect("written");
            std::thread::sleep(Duration::from_millis(1));
        }
        let synced = syncs.load(Ordering::SeqCst);
        let exposed = open.progress.exposure().fen;
        open.progress.stop();
        thread.join().expect("ended").expect("synced");
        assert!(synced >= 5, "{synced} syncs in a second at a pace of 50 ms; {exposed} of 1000 records exposed");
    }

    /// What is said to be safe survives a loss of power, also where a writer turns over while a sync begins.
    #[test]
    fn a_turn_while_a_sync_begins_is_synced() {
        for attempt in 0..2000 {
            let storage = Simulated::new();
            let mut open = found(&storage, 1).expect("empty").begin(1).expect("begun");
            open.keeper.prepare().expect("room");
            let mut next = 1;
            // Fill to where the next record of 900 bytes turns over, all of it synced.
            let writer = &mut open.writers[0];
            let mut first = writer.flush().expect("begun").offset;
            while (first & 0xffff_ffff) + 2600 < SEGMENT_BYTES - 512 {
                writer.append(&[1; 900], UnixMillis(1), 0).expect("room");
                next += 1;
                first = writer.flush().expect("written").offset;
            }
            open.syncer.step().expect("synced");
            let progress = Arc::clone(&open.progress);
            let held = progress.writers[0].files();
            let mut writer = open.writers.remove(0);
            let syncer = open.syncer;
            let begun = Arc::new(AtomicBool::new(false));
            let (position, syncer, turned) = std::thread::scope(|scope| {
                let flag = Arc::clone(&begun);
                let stepping = scope.spawn(move || {
                    flag.store(true, Ordering::SeqCst);
                    syncer.step().expect("synced");
                    syncer
                });
                while !begun.load(Ordering::SeqCst) {
                    std::hint::spin_loop();
                }
                std::thread::sleep(Duration::from_micros(200));
                let writing = scope.spawn(move || {
                    writer.append(&[2; 1400], UnixMillis(1), 0).expect("room");
                    let in_old = writer.flush().expect("written");
                    writer.append(&[3; 1400], UnixMillis(1), 0).expect("room");
                    let in_new = writer.flush().expect("written");
                    (in_new, in_new.offset >> 32 > in_old.offset >> 32)
                });
                std::thread::sleep(Duration::from_micros(200));
                drop(held);
                let (position, turned) = writing.join().expect("written");
                (position, stepping.join().expect("synced"), turned)
            });
            assert!(turned, "the test turns over");
            syncer.step().expect("synced");
            assert!(open.progress.covers(position));
            storage.cut_power(attempt, &[Fate::Dropped]);
            let there = match found(&storage, 2) {
                Ok(found) => records(&found).get(&0).map_or(0, Vec::len) as u64,
                Err(error) => panic!("attempt {attempt}: {error}"),
            };
            assert!(there > next, "attempt {attempt}: {there} of {} safe records", next + 1);
        }
    }

    fn sealed(storage: Arc<dyn crate::storage::Storage>, back: bool) -> Open {
        let mut open = Found::open(storage, options(1)).expect("empty").begin(1).expect("begun");
        for record in 0..150_i64 {
            // The clock is put back in the middle.
            let at = if back && record >= 75 { record - 60 } else { record };
            open.writers[0].append(&[1; 900], UnixMillis(at * 1000), 0).expect("room");
            open.writers[0].flush().expect("written");
            open.keeper.prepare().expect("room");
        }
        open.syncer.step().expect("synced");
        assert!(open.keeper.seal().expect("sealed") >= 6);
        open
    }

    #[test]
    fn a_clock_that_was_put_back_leaves_no_hole() {
        for seconds in 0..160 {
            let storage = Simulated::new();
            let mut open = sealed(Arc::new(storage.clone()), true);
            let keep = Keep { seconds, bytes: u64::MAX };
            open.keeper.retire(keep, UnixMillis(160_000), UnixMillis(160_000), &|_, _| false).expect("retired");
            storage.kill();
            if let Err(error) = found(&storage, 2) {
                panic!("keep {seconds}: {error}");
            }
        }
    }

    #[test]
    fn retiring_goes_on_after_a_call_that_failed() {
        let faulty = Faulty::new(Arc::new(Simulated::new()));
        let mut open = sealed(Arc::new(faulty.clone()), false);
        faulty.set(Some(Rule { call: Some(Call::Folder), after: 2, times: 1, error: Error::Broken }));
        let late = UnixMillis(1_000_000);
        let mut retire = || open.keeper.retire(Keep { seconds: 0, bytes: 0 }, late, late, &|_, _| false);
        assert!(retire().is_err());
        retire().expect("the disk is well again");
    }
}
