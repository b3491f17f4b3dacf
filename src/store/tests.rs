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
        row: u128::from(decision % 3 + part),
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

fn reached(position: u64) -> Reached {
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
    for part in images.iter().flat_map(Image::charged) {
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
    let (mut images, mut rows) = (HashMap::new(), HashMap::new());
    store.each_image(&mut |image| _ = images.insert(image.decision.0, image.revision)).expect("orders");
    store.each_row(&mut |row, folded| _ = rows.insert(row, folded.cells)).expect("rows");
    (images, rows)
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

fn agree(store: &mut dyn Store, images: &[Image], cuts: &[usize], again: usize) {
    for (part, end) in images.chunks(cuts.len().max(1)).zip(1_u64..) {
        let mut fold = Fold::new();
        for image in part {
            fold.fold(&*store, &payload(image), UnixMillis(5)).expect("an entry");
        }
        store.apply(&fold, &BTreeMap::from([(0, reached(end))])).expect("stored");
    }
    // What is folded again, after a start that begins further back, changes nothing.
    let mut fold = Fold::new();
    for image in images.iter().skip(again.min(images.len())) {
        fold.fold(&*store, &payload(image), UnixMillis(5)).expect("an entry");
    }
    store.apply(&fold, &BTreeMap::new()).expect("stored");
    let (expected_images, expected_rows) = oracle(images);
    let (found_images, found_rows) = content(&*store);
    assert_eq!(found_images, expected_images);
    for (row, cells) in expected_rows {
        let found = found_rows.get(&row).copied().unwrap_or_default();
        for (found, expected) in found.iter().zip(cells) {
            assert!(found.1 == expected.1 || (found.0 < expected.0 && expected.1 == 0), "{found:?} {expected:?}");
        }
    }
}

proptest! {
    #[test]
    fn orders_in_any_order_and_any_batches_come_to_the_same(
        images in histories(), cuts in prop::collection::vec(0..9_usize, 1..6), again in 0..20_usize,
    ) {
        agree(&mut Memory::new(), &images, &cuts, again);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn the_durable_store_comes_to_the_same(
        images in histories(), cuts in prop::collection::vec(0..9_usize, 1..6), again in 0..20_usize,
    ) {
        let folder = tempfile::tempdir().expect("a folder");
        let mut store = Durable::open(folder.path(), [7; 16]).expect("a store");
        agree(&mut store, &images, &cuts, again);
        let before = content(&store);
        drop(store);
        prop_assert_eq!(content(&Durable::open(folder.path(), [7; 16]).expect("the store")), before);
    }
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
    store.apply(&fold, &BTreeMap::from([(2, reached(1 << 40)), (0, reached(9))])).expect("stored");
    drop(store);
    let store = Durable::open(folder.path(), [7; 16]).expect("the store");
    let expected = Meta {
        reached: BTreeMap::from([(0, reached(9)), (2, reached(1 << 40))]),
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
        store.apply(&fold, &BTreeMap::new()).expect("stored");
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
