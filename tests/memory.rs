//! Ten million customers against the bounds of the table of limit rows: what it holds is what it says it holds.
//!
//! A program of its own, since it reads the resident size of the process.

#![cfg(target_os = "linux")]
#![expect(clippy::expect_used, reason = "a test says what it found by failing")]

use std::fs;
use std::sync::Arc;

use tollgate::quota::{Bounds, CellDemand, Demand, RowKey, Shortfall, Table};
use tollgate::share::Share;
use tollgate::types::{Fen, LimitMode, Unit};

const CUSTOMERS: u64 = 10_000_000;

/// Rows of two windows, and what one costs at most: its 32 bytes, its part of the index, and what is known beside it.
const ROWS_MAX: u64 = 1_000_000;
const ROW_BYTES_MAX: u64 = 48;

/// Rows of the one merchant that invents customers.
const ROWS_PER_MERCHANT_MAX: u32 = 900_000;

fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().expect("a number");
    kib * 1024
}

/// Spreads a number over the key space (SplitMix64, twice): the table is given keys that look random.
fn key(number: u64) -> RowKey {
    let mix = |seed: u64| {
        let once = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let twice = (once ^ (once >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        twice ^ (twice >> 31)
    };
    let low = mix(number.wrapping_add(0x9e37_79b9_7f4a_7c15));
    RowKey(u128::from(mix(low)) << 64 | u128::from(low))
}

#[test]
fn ten_million_customers_hold_no_more_than_the_bounds_say_and_leave_room_for_another_merchant() {
    let demand = |customer: u64| Demand {
        row: key(customer),
        label: 1,
        unit: Unit::Fen,
        mode: LimitMode::Enforce,
        tag: 0,
        cells: [20_779, 682]
            .map(|window_id| Some(CellDemand { window_id, ceiling: 100 }))
            .into_iter()
            .chain([None, None])
            .collect::<Vec<_>>()
            .try_into()
            .expect("four windows"),
    };
    let before = resident_bytes();
    let table = Table::new(Bounds { rows_max: ROWS_MAX, rows_per_merchant_max: ROWS_PER_MERCHANT_MAX });
    let (lane, amount) = (table.lane(), Fen::new(60).expect("an amount"));
    let [inventor, other] = [(); 2].map(|()| Arc::<Share>::default());
    let take =
        |customer, owner| table.reserve(lane, &[demand(customer)], amount, owner).map(|taken| drop(taken.keep()));
    let mut refused = 0;
    for customer in 0..CUSTOMERS {
        match take(customer, &inventor) {
            Ok(()) => {}
            Err(shortfall) => {
                assert_eq!(shortfall, Shortfall::ShareFull);
                refused += 1;
            }
        }
    }
    assert_eq!(refused, CUSTOMERS - u64::from(ROWS_PER_MERCHANT_MAX));
    assert_eq!((table.rows(), inventor.used()), (u64::from(ROWS_PER_MERCHANT_MAX), ROWS_PER_MERCHANT_MAX));

    for customer in 0..ROWS_MAX - table.rows() {
        assert_eq!(take(CUSTOMERS + customer, &other), Ok(()), "another merchant has room");
    }
    assert_eq!(take(2 * CUSTOMERS, &other), Err(Shortfall::TableFull));
    let full = Err(Shortfall::Exceeded { demand: 0, window: tollgate::types::Window::Day });
    assert_eq!((take(0, &inventor), take(CUSTOMERS, &other)), (full, full), "who is in goes on, and is limited");

    let (said, grown) = (table.bytes(), resident_bytes().saturating_sub(before));
    assert!(said <= ROWS_MAX * ROW_BYTES_MAX, "{said} bytes for {ROWS_MAX} rows");
    assert!(grown <= said + 8 * 1024 * 1024, "the process grew by {grown} bytes, the table says {said}");
}
