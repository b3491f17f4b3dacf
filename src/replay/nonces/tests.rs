use std::collections::HashMap;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use proptest::prelude::*;

use super::*;
use crate::prf::{DEPLOYMENT_KEY_BYTES, DeploymentKey};
use crate::replay::fresh;

const TOLERANCE_S: u32 = 300;
const START_S: i64 = 1_700_000_000;

fn table(entries_max: usize, entries_per_merchant_max: u32) -> Nonces {
    let prf = DeploymentKey::new([7; DEPLOYMENT_KEY_BYTES]).derive("nonces");
    Nonces::new(NonceBounds { entries_max, entries_per_merchant_max, tolerance_s: TOLERANCE_S }, prf)
}

/// One merchant with its key and its share.
struct Caller {
    merchant: MerchantId,
    key: KeyId,
    share: Arc<Share>,
}

impl Caller {
    fn new(merchant: &str) -> Self {
        let key = "AB12".parse().expect("serial");
        Self { merchant: merchant.parse().expect("identity"), key, share: Arc::default() }
    }

    /// Claims with a timestamp `offset_s` from `now`.
    fn claim(&self, nonces: &Nonces, nonce: &str, offset_s: i64, now: UnixMillis) -> Result<Claimed, Refused> {
        let fresh = fresh(now.seconds() + offset_s, now, TOLERANCE_S).expect("fresh");
        nonces.claim(nonces.key(&self.merchant, &self.key, nonce), 1, fresh, &self.share, now)
    }
}

fn at(seconds: i64) -> UnixMillis {
    UnixMillis::from_seconds(START_S + seconds)
}

const REPLAYED: Refused = Refused::Replayed { same_request: true, stored: None };

#[test]
fn claim_refuses_second_use_inside_window_and_accepts_after_it() {
    let (nonces, caller) = (table(10, 10), Caller::new("1900000001"));
    assert!(caller.claim(&nonces, "n", 0, at(0)).is_ok());
    assert_eq!(caller.claim(&nonces, "n", 0, at(0)).err(), Some(REPLAYED));
    assert_eq!(caller.claim(&nonces, "n", 0, at(300)).err(), Some(REPLAYED), "the last second counts");
    assert!(caller.claim(&nonces, "n", 0, at(301)).is_ok());
    assert_eq!((nonces.len(), caller.share.used()), (1, 1), "the past entry was freed on the way");
}

#[test]
fn claim_of_a_future_timestamp_is_kept_for_twice_the_tolerance() {
    let (nonces, caller) = (table(10, 10), Caller::new("1900000001"));
    assert!(caller.claim(&nonces, "n", 300, at(0)).is_ok());
    nonces.sweep(at(600));
    assert_eq!(caller.claim(&nonces, "n", -300, at(600)).err(), Some(REPLAYED));
    assert!(caller.claim(&nonces, "n", 0, at(601)).is_ok());
}

#[test]
fn claim_tells_merchants_keys_and_nonces_apart() {
    let (nonces, one, other) = (table(10, 10), Caller::new("1900000001"), Caller::new("1900000002"));
    let rolled = Caller { key: "AB13".parse().expect("serial"), ..Caller::new("1900000001") };
    for (caller, nonce) in [(&one, "n"), (&other, "n"), (&rolled, "n"), (&one, "m")] {
        assert!(caller.claim(&nonces, nonce, 0, at(0)).is_ok());
    }
    assert_eq!((nonces.len(), one.share.used()), (4, 2));
}

#[test]
fn claim_tells_the_same_request_from_another_and_repeats_what_was_stored() {
    let (nonces, caller) = (table(10, 10), Caller::new("1900000001"));
    let claimed = caller.claim(&nonces, "n", 0, at(0)).expect("new");
    let stored = Stored { decision: DecisionId(9), refused: Some(Reason::LimitExceeded) };
    nonces.remember(&claimed, stored);
    let again = |digest, timestamp_s| {
        let fresh = fresh(START_S + timestamp_s, at(1), TOLERANCE_S).expect("fresh");
        nonces.claim(nonces.key(&caller.merchant, &caller.key, "n"), digest, fresh, &caller.share, at(1)).err()
    };
    assert_eq!(again(1, 0), Some(Refused::Replayed { same_request: true, stored: Some(stored) }));
    assert_eq!(again(2, 1), Some(Refused::Replayed { same_request: false, stored: Some(stored) }));
}

#[test]
fn remember_never_writes_to_the_next_use_of_a_nonce() {
    let (nonces, caller) = (table(10, 10), Caller::new("1900000001"));
    let late = caller.claim(&nonces, "n", 0, at(0)).expect("new");
    assert!(caller.claim(&nonces, "n", 0, at(301)).is_ok());
    nonces.remember(&late, Stored { decision: DecisionId(9), refused: None });
    assert_eq!(caller.claim(&nonces, "n", 0, at(301)).err(), Some(REPLAYED));
    nonces.remember(&Claimed::not_needed(), Stored { decision: DecisionId(9), refused: None });
    assert_eq!(nonces.len(), 1);
}

#[test]
fn claim_refuses_when_full_and_the_oldest_live_nonce_stays_refused() {
    let (nonces, caller) = (table(1_000, 2_000), Caller::new("1900000001"));
    for index in 0..1_000 {
        assert!(caller.claim(&nonces, &index.to_string(), 0, at(0)).is_ok());
    }
    for index in 1_000..2_000 {
        assert_eq!(caller.claim(&nonces, &index.to_string(), 0, at(300)).err(), Some(Refused::TableFull));
    }
    assert_eq!(caller.claim(&nonces, "0", 0, at(300)).err(), Some(REPLAYED));
    assert_eq!((nonces.len(), caller.share.used()), (1_000, 1_000), "a refusal holds nothing");
    nonces.sweep(at(301));
    assert_eq!((nonces.len(), caller.share.used()), (0, 0));
    assert!(caller.claim(&nonces, "1000", 0, at(301)).is_ok());
}

#[test]
fn claim_refuses_a_merchant_whose_share_is_used_up_and_no_other() {
    let (nonces, greedy, other) = (table(100, 5), Caller::new("1900000001"), Caller::new("1900000002"));
    let won = (0..50).filter(|index| greedy.claim(&nonces, &index.to_string(), 0, at(0)).is_ok()).count();
    assert_eq!((won, greedy.claim(&nonces, "x", 0, at(0)).err()), (5, Some(Refused::ShareFull)));
    assert!(other.claim(&nonces, "0", 0, at(0)).is_ok());
    assert_eq!((nonces.len(), greedy.share.used(), other.share.used()), (6, 5, 1));
}

#[test]
fn claim_frees_past_entries_of_its_part_without_a_sweep() {
    let (nonces, caller) = (table(20_000, 20_000), Caller::new("1900000001"));
    for index in 0..20_000 {
        assert!(caller.claim(&nonces, &index.to_string(), 0, at(0)).is_ok(), "new");
    }
    for index in 0..20_000 {
        // A claim may find its own part without anything to free, and the table still full.
        let _ = caller.claim(&nonces, &index.to_string(), 0, at(301));
    }
    for index in 20_000..40_000 {
        assert!(caller.claim(&nonces, &index.to_string(), 0, at(602)).is_ok(), "room was freed");
    }
}

#[test]
fn claim_sees_a_past_entry_behind_a_backlog_as_past() {
    let (nonces, caller) = (table(100_000, 100_000), Caller::new("1900000001"));
    for index in 0..50_000 {
        assert!(caller.claim(&nonces, &index.to_string(), 0, at(0)).is_ok(), "new");
    }
    // Every part has some 50 past entries and a claim frees four: most of these find their past selves.
    for index in 0..5_000 {
        assert!(caller.claim(&nonces, &index.to_string(), 0, at(301)).is_ok(), "new again");
    }
    nonces.sweep(at(301));
    assert_eq!((nonces.len(), caller.share.used()), (5_000, 5_000));
    for index in 0..5_000 {
        assert_eq!(caller.claim(&nonces, &index.to_string(), 0, at(301)).err(), Some(REPLAYED));
    }
    nonces.sweep(at(602));
    assert!(nonces.is_empty() && caller.share.used() == 0);
}

#[test]
fn claim_refuses_what_a_stepping_clock_made_fresh_again() {
    let maybe = Some(Refused::Replayed { same_request: false, stored: None });
    let (nonces, caller) = (table(10, 10), Caller::new("1900000001"));
    assert!(caller.claim(&nonces, "n", 0, at(0)).is_ok());
    nonces.sweep(at(86_400));
    assert!(nonces.is_empty());
    assert_eq!(caller.claim(&nonces, "n", 0, at(0)).err(), maybe);
    assert_eq!(caller.claim(&nonces, "n", -1, at(1)).err(), maybe);
    assert!(caller.claim(&nonces, "m", 1, at(0)).is_ok(), "a day ahead and back refuses only what was freed");
}

#[test]
fn claim_refuses_a_proof_of_freshness_that_is_out_of_date() {
    let (nonces, caller) = (table(10, 10), Caller::new("1900000001"));
    let stale = fresh(START_S, at(0), TOLERANCE_S).expect("fresh");
    let claim = |now| nonces.claim(nonces.key(&caller.merchant, &caller.key, "n"), 1, stale, &caller.share, now).err();
    assert_eq!(claim(at(301)), Some(Refused::Replayed { same_request: false, stored: None }));
    assert_eq!((nonces.len(), claim(at(300))), (0, None));
}

#[test]
fn claim_keeps_live_entries_when_the_clock_steps_back() {
    let (nonces, caller) = (table(10, 10), Caller::new("1900000001"));
    assert!(caller.claim(&nonces, "n", 0, at(0)).is_ok());
    nonces.sweep(at(-86_400));
    assert_eq!((nonces.len(), caller.claim(&nonces, "n", 0, at(-86_400)).err()), (1, Some(REPLAYED)));
}

#[test]
fn storm_accepts_each_nonce_exactly_once() {
    const THREADS: usize = 16;
    const TRIALS: u32 = 1_000;
    let (nonces, caller) = (table(TRIALS as usize, TRIALS), Caller::new("1900000001"));
    let (start, won) = (Barrier::new(THREADS), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for trial in 0..TRIALS {
                    let nonce = trial.to_string();
                    start.wait();
                    let accepted = caller.claim(&nonces, &nonce, 0, at(0)).is_ok();
                    won.fetch_add(usize::from(accepted), Ordering::Relaxed);
                    if start.wait().is_leader() {
                        assert_eq!(won.load(Ordering::Relaxed), trial as usize + 1, "one acceptance a trial");
                    }
                }
            });
        }
    });
    assert_eq!((nonces.len(), caller.share.used()), (TRIALS as usize, TRIALS));
}

#[test]
fn storm_holds_the_bounds_while_sweeps_run() {
    const ENTRIES_MAX: usize = 500;
    const SHARE_MAX: u32 = 200;
    let nonces = table(ENTRIES_MAX, SHARE_MAX);
    let callers: Vec<_> = (0..4).map(|index| Caller::new(&format!("190000000{index}"))).collect();
    thread::scope(|scope| {
        for thread in 0..16 {
            let (nonces, caller) = (&nonces, &callers[thread % 4]);
            scope.spawn(move || {
                for index in 0..4_000_i64 {
                    let _ = caller.claim(nonces, &format!("{thread}-{index}"), 0, at(index / 4));
                    assert!(nonces.len() <= ENTRIES_MAX && caller.share.used() <= SHARE_MAX);
                    if index % 512 == 0 {
                        nonces.sweep(at(index / 4));
                    }
                }
            });
        }
    });
    nonces.sweep(at(100_000));
    assert!(nonces.is_empty() && callers.iter().all(|caller| caller.share.used() == 0));
}

const GRID_S: i64 = 100;

/// One step of a random history.
#[derive(Clone, Copy, Debug)]
enum Step {
    Clock(i64),
    Claim { nonce: u8, offset_s: i64 },
    Sweep,
}

/// Makes histories whose instants and timestamps often meet: most are multiples of [`GRID_S`].
fn steps(clock_ms: std::ops::Range<i64>) -> impl Strategy<Value = Vec<Step>> {
    let tolerance_s = i64::from(TOLERANCE_S);
    let clock_grid =
        (clock_ms.start / 1_000 / GRID_S..clock_ms.end / 1_000 / GRID_S).prop_map(|grid| grid * GRID_S * 1_000);
    let clock_ms = prop_oneof![3 => clock_grid, 1 => clock_ms];
    let offset_s = prop_oneof![Just(-tolerance_s), Just(tolerance_s), Just(0), -tolerance_s..=tolerance_s];
    let step = prop_oneof![
        2 => clock_ms.prop_map(Step::Clock),
        6 => (0..4_u8, offset_s).prop_map(|(nonce, offset_s)| Step::Claim { nonce, offset_s }),
        1 => Just(Step::Sweep),
    ];
    prop::collection::vec(step, 1..120)
}

/// A claim of a history. Times in seconds.
#[derive(Clone, Copy, Debug)]
struct Tried {
    nonce: u8,
    timestamp_s: i64,
    now_s: i64,
    /// Highest instant that the table was shown so far.
    highest_s: i64,
    accepted: bool,
}

fn run(steps: &[Step]) -> Vec<Tried> {
    let (nonces, caller) = (table(1_000, 1_000), Caller::new("1900000001"));
    let (mut now, mut highest_s) = (at(0), i64::MIN);
    let mut tried = Vec::new();
    for step in steps {
        match *step {
            Step::Clock(step_ms) => {
                now.0 += step_ms;
                continue;
            }
            Step::Sweep => {
                nonces.sweep(now);
                highest_s = highest_s.max(now.seconds());
            }
            Step::Claim { nonce, offset_s } => {
                let now_s = now.seconds();
                let timestamp_s = (now_s + offset_s).div_euclid(GRID_S) * GRID_S;
                if fresh(timestamp_s, now, TOLERANCE_S).is_err() {
                    continue;
                }
                highest_s = highest_s.max(now_s);
                let accepted = caller.claim(&nonces, &nonce.to_string(), timestamp_s - now_s, now).is_ok();
                tried.push(Tried { nonce, timestamp_s, now_s, highest_s, accepted });
            }
        }
        assert_eq!(nonces.len(), usize::try_from(caller.share.used()).expect("small"));
    }
    tried
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn claim_agrees_with_a_plain_map_while_the_clock_runs_forward(steps in steps(0..200_000)) {
        let mut ends: HashMap<u8, i64> = HashMap::new();
        for tried in run(&steps) {
            let live = ends.get(&tried.nonce).is_some_and(|end_s| tried.now_s <= *end_s);
            prop_assert_eq!(tried.accepted, !live, "{:?}", tried);
            if tried.accepted {
                ends.insert(tried.nonce, tried.timestamp_s + i64::from(TOLERANCE_S));
            }
        }
    }

    #[test]
    fn claim_never_accepts_falsely_however_the_clock_moves(steps in steps(-700_000..700_000)) {
        let mut accepted: Vec<Tried> = Vec::new();
        for tried in run(&steps).into_iter().filter(|tried| tried.accepted) {
            for before in accepted.iter().filter(|before| before.nonce == tried.nonce) {
                prop_assert!(before.timestamp_s != tried.timestamp_s, "one request twice: {:?}", tried);
                let end_s = before.timestamp_s + i64::from(TOLERANCE_S);
                prop_assert!(end_s < tried.highest_s, "{:?} inside the window of {:?}", tried, before);
            }
            accepted.push(tried);
        }
    }
}
