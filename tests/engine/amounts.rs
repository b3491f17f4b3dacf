//! Amounts at the edges of what a row can say, through every way in which they are taken and given back.

use tollgate::admission::{Decision, Outcome, SettleAs};
use tollgate::merchant::{LimitSpec, SettledFacts};
use tollgate::reason::Reason;
use tollgate::types::Fen;

use crate::gate::{Gate, Setup, certified, fen, merchant_day};
use crate::signer::{Draft, serial};

const MAX: u64 = (1 << 48) - 1;
const FIRST: [&str; 2] = ["merchant", "1900000000"];

fn gate(limit: LimitSpec) -> Gate {
    Setup::limited([limit]).first(|merchant| merchant.keys = vec![certified(0, &serial(0))]).gate()
}

#[test]
fn an_amount_is_exact_from_one_to_2_to_the_48_less_one_and_refused_beyond() {
    for (text, amount) in [
        ("0", None),
        ("1", Some(1)),
        ("281474976710655", Some(MAX)),
        ("281474976710656", None),
        ("281474976710657", None),
        ("9223372036854775807", None),
        ("9223372036854775808", None),
        ("18446744073709551615", None),
        ("18446744073709551616", None),
        ("18446744073709551617", None),
        ("-1", None),
    ] {
        let mut gate = gate(LimitSpec { year: fen(MAX), lifetime: fen(MAX), ..merchant_day("limit", MAX) });
        let draft = Draft::order(0, "/v3/pay/transactions/native", "wx-native", "T1", text, "");
        match (gate.decide(draft.sign(gate.now).request()), amount) {
            (Decision::Admitted(admission), Some(amount)) => {
                assert_eq!(admission.amount.map(Fen::get), Some(amount));
                assert_eq!([0, 1, 2, 3].map(|cell| gate.used("limit", &FIRST, cell)), [amount; 4]);
                admission.settle(Outcome::Refused);
            }
            (Decision::Refused(refusal), None) => assert_eq!(refusal.reason, Reason::ParameterInvalid, "{text}"),
            (other, _) => panic!("{text}: {other:?}"),
        }
        assert_eq!((gate.shared.table().used_total(), gate.shared.orders().len()), (0, 0), "{text}");
        gate.assert_conserved();
    }
}

#[test]
fn a_full_row_refuses_the_next_fen_where_it_has_a_ceiling_and_where_it_has_none() {
    let without_day = LimitSpec { day: None, month: fen(MAX), ..merchant_day("limit", 1) };
    for limit in [merchant_day("limit", MAX), without_day] {
        let mut gate = gate(limit);
        gate.admit(&Draft::codepay(0, "T1", MAX)).settle(Outcome::Done);
        for amount in [1, MAX] {
            let call = Draft::native(0, "T2", amount).sign(gate.now);
            assert_eq!(gate.shared.explain(&call.request(), gate.now).refused(), Some(Reason::LimitExceeded));
            assert_eq!(gate.refuse_call(&call).reason, Reason::LimitExceeded);
        }
        assert_eq!(gate.used("limit", &FIRST, 0), MAX);
        gate.admit(&Draft::refund_of(0, "R1", "T1", 1)).settle(Outcome::Done);
        gate.admit(&Draft::codepay(0, "T3", 1)).settle(Outcome::Done);
        assert_eq!(gate.used("limit", &FIRST, 1), MAX);
        gate.admit(&Draft::refund_of(0, "R2", "T1", MAX)).settle(Outcome::Done);
        assert_eq!(gate.used("limit", &FIRST, 1), 1, "no refund gives back more than was taken");
        gate.assert_conserved();
    }
}

#[test]
fn a_late_charge_stops_at_what_a_row_can_say_and_wraps_nothing() {
    let mut gate = gate(merchant_day("limit", MAX));
    let late = gate.admit(&Draft::native(0, "T1", MAX));
    let id = late.id;
    late.answered(200, b"{}");
    gate.pass(604_801);
    gate.sweep();
    let window = gate.cell("limit", &FIRST, 1).expect("a row");
    assert_eq!(window.1, 0);
    gate.now = crate::signer::NOW;
    gate.admit(&Draft::codepay(0, "T2", MAX - 5)).settle(Outcome::Done);
    let settled = gate.shared.settle(id, SettleAs::Commit, &SettledFacts::default(), gate.now).expect("known");
    assert!(settled.late);
    assert_eq!(gate.cell("limit", &FIRST, 1), Some((window.0, MAX)));
    assert_eq!(gate.reason(&Draft::native(0, "T3", 1)), Reason::LimitExceeded);
    gate.assert_conserved();
}
