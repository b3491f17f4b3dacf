use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::journal::entry::Name;
use crate::types::{Operation, Window};

fn name() -> impl Strategy<Value = Name> {
    "[a-z.é-]{0,40}".prop_map(|text| Name::from(text.as_str()))
}

fn merchant() -> impl Strategy<Value = crate::types::MerchantId> {
    "[0-9A-Za-z_-]{1,32}".prop_map(|text| text.parse().expect("a merchant"))
}

fn part() -> impl Strategy<Value = RowPart> {
    any::<(u128, u32, u16, bool, [u16; 2], u64)>().prop_map(|(row, label, tag, counts, windows, charged)| RowPart {
        row,
        label,
        tag,
        counts,
        windows,
        charged,
    })
}

fn stake() -> impl Strategy<Value = ImageStake> {
    let refund = |(original, fen): (Option<u128>, u64)| ImageStake::Refund { original: original.map(DecisionId), fen };
    prop_oneof![
        vec(part(), 0..=PARTS_MAX).prop_map(|parts| ImageStake::Payment(parts.into())),
        any::<(Option<u128>, u64)>().prop_map(refund),
    ]
}

fn image() -> impl Strategy<Value = Image> {
    let phases = vec![ImagePhase::Held, ImagePhase::Committed, ImagePhase::Expired, ImagePhase::Released];
    let numbers = any::<(u128, u64, u64, u128, u32, bool, u8)>();
    (numbers, any::<(u64, u64, u32, u32)>(), merchant(), prop::sample::select(phases), stake()).prop_map(
        |(numbers, times, merchant, phase, stake)| {
            let (decision, key, check, digest, revision, keep_on_expiry, note) = numbers;
            let (amount_fen, refunded_fen, since_s, expires_s) = times;
            let decision = DecisionId(decision);
            Image {
                decision,
                key,
                check,
                digest,
                merchant,
                revision,
                phase,
                keep_on_expiry,
                note,
                amount_fen,
                refunded_fen,
                since_s,
                expires_s,
                stake,
            }
        },
    )
}

fn decision() -> impl Strategy<Value = Entry> {
    let limit = option::of((name(), option::of(prop::sample::select(Window::ALL))));
    let nonce = option::of(any::<(u128, u128, i64)>());
    let plain = (any::<(u128, u64, bool)>(), merchant(), prop::sample::select(Operation::ALL));
    (plain, option::of(name()), limit, vec(name(), 0..4), nonce, option::of(image())).prop_map(
        |((numbers, merchant, operation), refused, limit, shadowed, nonce, order)| {
            let (decision, amount_fen, duplicate) = numbers;
            Entry::Decision(Box::new(DecisionEntry {
                decision: DecisionId(decision),
                merchant,
                operation,
                amount_fen,
                refused,
                limit,
                duplicate,
                shadowed: shadowed.into(),
                nonce: nonce.map(|(key, digest, end_s)| NonceEntry { key, digest, end_s }),
                order,
            }))
        },
    )
}

fn entry() -> impl Strategy<Value = Entry> {
    let causes = [Cause::Answer, Cause::Call, Cause::Expiry];
    let change = (prop::sample::select(causes.to_vec()), vec(image(), 0..=IMAGES_MAX));
    prop_oneof![
        decision(),
        change.prop_map(|(cause, orders)| Entry::Change(ChangeEntry { cause, orders: orders.into() })),
        (any::<u32>(), "[a-z ]{0,255}").prop_map(|(label, name)| Entry::Label { label, name }),
        any::<bool>().prop_map(|accepted| Entry::Clock { accepted }),
    ]
}

fn bytes_of(entry: &Entry) -> Vec<u8> {
    let mut bytes = Vec::new();
    entry.write(&mut bytes);
    bytes
}

proptest! {
    #[test]
    fn what_is_written_reads_as_the_same_entry(entry in entry()) {
        let bytes = bytes_of(&entry);
        prop_assert!(bytes.len() <= ENTRY_BYTES_MAX);
        prop_assert_eq!(Entry::from_bytes(&bytes), Ok(entry));
    }

    #[test]
    fn no_part_of_an_entry_and_nothing_longer_reads_as_one(entry in entry(), cut: prop::sample::Index) {
        let mut bytes = bytes_of(&entry);
        let length = cut.index(bytes.len());
        prop_assert_eq!(Entry::from_bytes(&bytes[..length]), Err(Unreadable));
        bytes.push(0);
        prop_assert_eq!(Entry::from_bytes(&bytes), Err(Unreadable));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..400)) {
        if let Ok(entry) = Entry::from_bytes(&bytes) {
            prop_assert!(bytes_of(&entry).len() <= ENTRY_BYTES_MAX);
        }
    }
}
