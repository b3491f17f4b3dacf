use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::journal::{Cause, ChangeEntry, Entry, ImagePhase, ImageStake, RowPart};
use crate::types::MerchantId;

/// Revisions by decision, cells by row.
type Content = (HashMap<u128, u32>, HashMap<u128, [(u16, u64); 2]>);

fn merchant() -> MerchantId {
    "1900000001".parse().expect("a merchant")
}

/// An order as one revision of a decision has it: of few decisions and rows, so that they meet.
fn image(decision: u8, revision: u32, charged: u64, window: u16) -> Image {
    let row = |part: u8| RowPart {
        // Some of each part.
        row: u128::from(decision % 3 + part) << 120 | u128::from(decision % 2),
        label: u32::from(part),
        tag: 0,
        counts: false,
        windows: [window, window / 30],
        charged,
    };
    Image {
        decision: DecisionId(u128::from(decision) << 64),
        key: 1,
        check: 2,
        digest: 3,
        merchant: merchant(),
        revision,
        phase: if charged == 0 { ImagePhase::Released } else { ImagePhase::Held },
        keep_on_expiry: false,
        note: 0,
        amount_fen: charged,
        refunded_fen: 0,
        since_s: u32::from(decision),
        expires_s: 9,
        stake: ImageStake::Payment([row(1), row(2)].into_iter().collect()),
    }
}

fn at(position: u64) -> Reached {
    Reached { position, sequence: position + 7 }
}

fn payload(image: &Image) -> Vec<u8> {
    let mut bytes = Vec::new();
    Entry::Change(ChangeEntry { cause: Cause::Answer, orders: [image.clone()].into_iter().collect() })
        .write(&mut bytes);
    bytes
}

/// What orders come to: of each the latest image, of each row what they charge in its newest window.
fn oracle(images: &[Image]) -> Content {
    let mut latest: HashMap<u128, &Image> = HashMap::new();
    for image in images {
        let known = latest.entry(image.decision.0).or_insert(image);
        if image.revision > known.revision {
            *known = image;
        }
    }
    let mut rows: HashMap<u128, [(u16, u64); 2]> = HashMap::new();
    // A window that any image charged is one that the cell has reached.
    for part in images.iter().flat_map(|image| image.charged()) {
        let cells = rows.entry(part.row).or_default();
        cells.iter_mut().zip(part.windows).for_each(|(cell, window)| cell.0 = cell.0.max(window));
    }
    for part in latest.values().flat_map(|image| image.charged()) {
        for (cell, window) in rows.entry(part.row).or_default().iter_mut().zip(part.windows) {
            cell.1 += if cell.0 == window { part.charged } else { 0 };
        }
    }
    (latest.into_iter().map(|(decision, image)| (decision, image.revision)).collect(), rows)
}

fn content(store: &dyn Store) -> Content {
    content_with(store, &mut Fold::new())
}

/// What a store has, and a fold that is not stored.
fn content_with(store: &dyn Store, and: &mut Fold) -> Content {
    let (mut images, mut rows) = (HashMap::new(), HashMap::new());
    let mut image = |image: Image| assert_eq!(images.insert(image.decision.0, image.revision), None, "shown once");
    store.each_image(and, &mut image).expect("orders");
    let mut row = |row, folded: FoldedRow| assert_eq!(rows.insert(row, folded.cells), None, "shown once");
    store.each_row(and, &mut row).expect("rows");
    (images, rows)
}

/// Checks what a store and a fold have against what the images come to.
fn check(found: &Content, images: &[Image]) {
    let (expected_images, expected_rows) = oracle(images);
    assert_eq!(found.0, expected_images);
    for (row, cells) in expected_rows {
        let found = found.1.get(&row).copied().unwrap_or_default();
        for (found, expected) in found.iter().zip(cells) {
            assert!(found.1 == expected.1 || (found.0 < expected.0 && expected.1 == 0), "{found:?} {expected:?}");
        }
    }
}

fn fold_all<'i>(fold: &mut Fold, store: &dyn Store, images: impl IntoIterator<Item = &'i Image>) {
    for image in images {
        fold.fold(store, &payload(image), UnixMillis(5)).expect("an entry");
    }
}

/// Images of some decisions: in one window each, with rising revisions and whatever charge.
fn histories() -> impl Strategy<Value = Vec<Image>> {
    let decision = (0..8_u8, 700..703_u16, prop::collection::vec(0..50_u64, 1..5));
    let decisions = prop::collection::btree_map(0..8_u8, decision, 1..8);
    decisions.prop_flat_map(|decisions| {
        let images: Vec<Image> = decisions
            .into_iter()
            .flat_map(|(decision, (_, window, charges))| {
                (1..).zip(charges).map(move |(revision, charged)| image(decision, revision, charged, window))
            })
            .collect();
        Just(images).prop_shuffle()
    })
}

/// What happens to a store.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// So many records of a writer are folded, and stored.
    Step { writer: u8, records: u8 },
    /// So many are folded, and the process ends before they are stored.
    Lost { writer: u8, records: u8 },
    /// The store is closed, and opened again.
    Opened,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let step = || (any::<u8>(), 1..6_u8);
    let event = prop_oneof![
        6 => step().prop_map(|(writer, records)| Event::Step { writer, records }),
        1 => step().prop_map(|(writer, records)| Event::Lost { writer, records }),
        1 => Just(Event::Opened),
    ];
    prop::collection::vec(event, 1..40)
}

/// Gives the images to some writers, and folds what each wrote in its order, theirs in whatever order the events say.
fn agree(mut open: impl FnMut() -> Box<dyn Store>, images: &[Image], writers: u8, events: &[Event]) {
    let mut logs: Vec<Vec<&Image>> = vec![Vec::new(); writers.into()];
    for (image, place) in images.iter().zip(0_usize..) {
        logs[(place * 7 + image.decision.0 as usize) % usize::from(writers)].push(image);
    }
    let reached = |store: &dyn Store, writer: u16| {
        store.meta().expect("meta").reached.get(&writer).map(|reached| reached.position)
    };
    let mut store = open();
    for event in events {
        let (writer, records, lost) = match *event {
            Event::Step { writer, records } => (writer % writers, records, false),
            Event::Lost { writer, records } => (writer % writers, records, true),
            Event::Opened => {
                drop(std::mem::replace(&mut store, Box::new(Memory::new())));
                store = open();
                continue;
            }
        };
        let from = usize::try_from(reached(&*store, writer.into()).unwrap_or(0)).expect("a position");
        let log = &logs[usize::from(writer)];
        let to = log.len().min(from + usize::from(records));
        let mut fold = Fold::new();
        fold_all(&mut fold, &*store, log[from..to].iter().copied());
        if !lost {
            store.apply(&mut fold, &BTreeMap::from([(writer.into(), at(to as u64))])).expect("stored");
        }
    }
    // What is left is folded as a start folds it, all at once; what is stored is complete without it, too.
    let stored = |store: &dyn Store, (writer, log): (u16, &Vec<&Image>)| -> Vec<Image> {
        let reached = usize::try_from(reached(store, writer).unwrap_or(0)).expect("a position");
        log[..reached].iter().map(|image| (*image).clone()).collect()
    };
    let folded: Vec<Image> = (0..).zip(&logs).flat_map(|log| stored(&*store, log)).collect();
    check(&content(&*store), &folded);
    let mut fold = Fold::new();
    for (writer, log) in (0..).zip(&logs) {
        let from = stored(&*store, (writer, log)).len();
        fold_all(&mut fold, &*store, log[from..].iter().copied());
    }
    check(&content_with(&*store, &mut fold), images);
    let whole = (0..).zip(&logs).map(|(writer, log)| (writer, at(log.len() as u64))).collect();
    store.apply(&mut fold, &whole).expect("stored");
    check(&content(&*store), images);
    let left: Vec<u128> = images.iter().filter(|image| store.is_ahead(image.decision)).map(|i| i.decision.0).collect();
    assert_eq!(left, [], "every first image has come");
}

proptest! {
    #[test]
    fn whatever_the_order_of_the_writers_the_steps_and_the_ends_a_store_comes_to_the_same(
        images in histories(), writers in 1..4_u8, events in events(),
    ) {
        let memory = Memory::new();
        agree(|| Box::new(memory.clone()), &images, writers, &events);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn the_durable_store_comes_to_the_same(images in histories(), writers in 1..4_u8, events in events()) {
        let folder = tempfile::tempdir().expect("a folder");
        let open = || Box::new(Durable::open(folder.path(), [7; 16]).expect("a store")) as Box<dyn Store>;
        agree(open, &images, writers, &events);
    }
}

#[test]
fn rows_of_many_steps_are_merged_and_come_to_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut memory, mut durable) = (Memory::new(), Durable::open(folder.path(), [7; 16]).expect("a store"));
    for step in 0..200_u32 {
        let decision = u8::try_from(step % 40).expect("small");
        let image = image(decision, step / 40 + 1, u64::from(step), 700 + u16::from(decision % 2));
        for store in [&mut memory as &mut dyn Store, &mut durable] {
            let mut fold = Fold::new();
            fold_all(&mut fold, store, [&image]);
            store.apply(&mut fold, &BTreeMap::from([(0, at(u64::from(step)))])).expect("stored");
        }
    }
    assert_eq!(content(&durable), content(&memory));
    assert!(durable.runs_max() < 50, "of {} runs", durable.runs_max());
    drop(durable);
    assert_eq!(content(&Durable::open(folder.path(), [7; 16]).expect("the store")), content(&memory));
}

#[test]
fn rows_that_are_past_are_forgotten_and_others_are_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let stores: [Box<dyn Store>; 2] =
        [Box::new(Memory::new()), Box::new(Durable::open(folder.path(), [7; 16]).expect("a store"))];
    for mut store in stores {
        let mut fold = Fold::new();
        let images: Vec<Image> = (0..6).map(|decision| image(decision, 1, 5, 700 + u16::from(decision % 2))).collect();
        fold_all(&mut fold, &*store, &images);
        store.apply(&mut fold, &BTreeMap::from([(0, at(1))])).expect("stored");
        let kept = |found: Content| found.1.into_iter().filter(|(_, [(window, _), _])| *window > 700).collect();
        let expected: HashMap<u128, [(u16, u64); 2]> = kept(content(&*store));
        let all = content(&*store).1.len();
        let past = |_: u128, row: &FoldedRow| row.cells[0].0 <= 700;
        let forgotten: usize = (0..rows::PARTS).map(|_| store.clean_rows(&past).expect("cleaned")).sum();
        assert!(forgotten > 0 && expected.len() == all - forgotten, "{forgotten} of {all}");
        assert_eq!(content(&*store).1, expected);
        // What is folded lower later makes no room that there is not.
        let mut fold = Fold::new();
        let released: Vec<Image> =
            (0..6).map(|decision| image(decision, 2, 0, 700 + u16::from(decision % 2))).collect();
        fold_all(&mut fold, &*store, &released);
        store.apply(&mut fold, &BTreeMap::from([(0, at(2))])).expect("stored");
        assert!(content(&*store).1.values().flatten().all(|(_, used)| *used == 0));
    }
}

#[test]
fn a_decision_whose_first_image_was_lost_is_ahead_until_it_is_forgotten() {
    let folder = tempfile::tempdir().expect("a folder");
    let open = || Durable::open(folder.path(), [7; 16]).expect("a store");
    let mut store = open();
    let image = image(3, 2, 5, 700);
    let mut fold = Fold::new();
    fold_all(&mut fold, &store, [&image]);
    store.apply(&mut fold, &BTreeMap::from([(0, at(1))])).expect("stored");
    drop(store);
    let mut store = open();
    assert!(store.is_ahead(image.decision));
    assert_eq!(store.clean(&|_| true), Ok(1));
    assert!(!store.is_ahead(image.decision));
    drop(store);
    assert!(!open().is_ahead(image.decision));
}

#[test]
fn a_durable_store_keeps_what_is_said_of_the_whole_and_knows_its_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut store = Durable::open(folder.path(), [7; 16]).expect("a store");
    assert_eq!(store.meta(), Ok(Meta::default()));
    let mut fold = Fold::new();
    let mut label = Vec::new();
    Entry::Label { label: 3, name: "daily".to_owned() }.write(&mut label);
    fold.fold(&store, &label, UnixMillis(77)).expect("an entry");
    store.apply(&mut fold, &BTreeMap::from([(2, at(1 << 40)), (0, at(9))])).expect("stored");
    drop(store);
    let store = Durable::open(folder.path(), [7; 16]).expect("the store");
    let expected = Meta {
        reached: BTreeMap::from([(0, at(9)), (2, at(1 << 40))]),
        labels: BTreeMap::from([(3, "daily".to_owned())]),
        highest: Some(UnixMillis(77)),
    };
    assert_eq!(store.meta(), Ok(expected));
    drop(store);
    assert!(matches!(Durable::open(folder.path(), [8; 16]), Err(StoreFault::Fingerprint)));
}

#[test]
fn cleaning_goes_round_and_forgets_what_is_past_only() {
    let folder = tempfile::tempdir().expect("a folder");
    let stores: [Box<dyn Store>; 2] =
        [Box::new(Memory::new()), Box::new(Durable::open(folder.path(), [7; 16]).expect("a store"))];
    for mut store in stores {
        let mut fold = Fold::new();
        for decision in 0..100 {
            fold.fold(&*store, &payload(&image(decision, 1, 5, 700)), UnixMillis(5)).expect("an entry");
        }
        store.apply(&mut fold, &BTreeMap::new()).expect("stored");
        let past = |image: &Image| image.since_s < 40;
        assert_eq!((store.clean(&past), store.clean(&past)), (Ok(40), Ok(0)));
        assert_eq!(content(&*store).0.len(), 60);
    }
}

#[test]
fn a_record_of_a_later_version_is_refused_and_not_passed_over() {
    let mut fold = Fold::new();
    assert!(matches!(fold.fold(&Nothing, &[99, 1, 2], UnixMillis(1)), Err(Unfoldable::Unreadable(_))));
    assert_eq!(fold.records(), 0);
}

#[test]
fn a_store_that_fails_is_left_alone_for_longer_each_time_up_to_a_bound() {
    let mut backoff = Backoff::default();
    let waits: Vec<u128> = (0..10).map(|_| backoff.failed().as_millis()).collect();
    assert_eq!(waits, [100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000, 10_000]);
    backoff.succeeded();
    assert_eq!(backoff.failed().as_millis(), 100);
}
