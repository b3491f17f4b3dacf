//! Whatever byte of a signed request is changed, it is refused, or it says the very same.

use proptest::prelude::*;
use tollgate::admission::{Admission, Decision};
use tollgate::merchant::Settle;
use tollgate::request::Request;
use tollgate::types::{Channel, Fen, Interface, MerchantId, Operation};

use crate::gate::{Gate, Setup, certified, merchant_day};
use crate::signer::{Call, Draft, Lines, NOW, serial};

/// What a decision says, but for its id.
type Content = (MerchantId, Operation, Settle, Option<Fen>, Vec<Interface>, Vec<Channel>, bool);

fn content(admission: &Admission) -> Content {
    let Admission { merchant, operation, settle, amount, interfaces, channels, duplicate, .. } = admission;
    (*merchant, *operation, *settle, *amount, interfaces.to_vec(), channels.to_vec(), *duplicate)
}

/// The parts of a request that somebody on the way could change.
#[derive(Clone)]
struct Parts {
    method: Vec<u8>,
    target: Vec<u8>,
    headers: Lines,
    body: Vec<u8>,
}

impl Parts {
    fn of(call: &Call) -> Self {
        let Draft { method, target, body, .. } = call.draft.clone();
        Self { method: method.into(), target: target.into(), headers: call.headers.clone(), body: body.into() }
    }

    /// The bytes of method, target, `Authorization` and body, in this order; which of them are the header's.
    fn bytes(&mut self) -> (Vec<&mut u8>, std::ops::Range<usize>) {
        let Self { method, target, headers, body } = self;
        let (_, authorization) = headers.0.last_mut().expect("a signed request");
        let from = method.len() + target.len();
        let header = from..from + authorization.len();
        (method.iter_mut().chain(target).chain(authorization).chain(body).collect(), header)
    }

    /// Decides it; `None` where method or target are not text, so that no front could hand them on.
    fn decide(&self, gate: &mut Gate, call: &Call) -> Option<Decision> {
        let request = Request {
            method: std::str::from_utf8(&self.method).ok()?,
            target: std::str::from_utf8(&self.target).ok()?,
            headers: &self.headers,
            body: &self.body,
            ..call.request()
        };
        Some(gate.decide(request))
    }
}

fn gate() -> Gate {
    let setup = Setup::limited([merchant_day("day", 1000)]);
    setup.first(|merchant| merchant.keys = vec![certified(0, &serial(0))]).gate()
}

/// One request of each shape.
fn calls() -> Vec<Call> {
    let drafts = [
        Draft::jsapi(0, "T1", 100, "o1"),
        Draft::close(0, "T1"),
        Draft::query(0, "T1"),
        Draft::refund(0, "R1", 5),
        Draft::new(0, "GET", "/v3/certificates", ""),
    ];
    drafts.iter().map(|draft| draft.sign(NOW)).collect()
}

/// Changes one byte and judges what comes of it. A gate that admitted is replaced.
fn judge(gate: &mut Gate, call: &Call, original: &Content, place: usize, mask: u8) -> Result<(), String> {
    let mut parts = Parts::of(call);
    let (mut bytes, header) = parts.bytes();
    let Some(byte) = bytes.get_mut(place) else { return Ok(()) };
    **byte ^= mask;
    let fault = |what: &str| Err(format!("{what}: byte {place} with mask {mask:#x} of {}", call.draft.target));
    match parts.decide(gate, call) {
        None => Ok(()),
        Some(Decision::Refused(refusal)) if refusal.authentic.is_none() => Ok(()),
        Some(Decision::Refused(_)) => fault("taken for authentic"),
        Some(Decision::Admitted(admission)) => {
            let same = content(&admission) == *original && header.contains(&place);
            *gate = self::gate();
            if same { Ok(()) } else { fault("admitted") }
        }
    }
}

fn original(call: &Call) -> Content {
    content(&gate().admit_call(call))
}

#[test]
fn any_flipped_bit_of_an_order_is_refused_or_means_nothing() {
    let call = Draft::jsapi(0, "T1", 100, "o1").sign(NOW);
    let original = original(&call);
    let (mut gate, length) = (gate(), Parts::of(&call).bytes().0.len());
    for (place, bit) in (0..length).flat_map(|place| (0..8).map(move |bit| (place, bit))) {
        judge(&mut gate, &call, &original, place, 1 << bit).expect("refused, or the same");
    }
}

#[test]
fn white_space_and_order_in_the_header_mean_nothing() {
    let call = Draft::jsapi(0, "T1", 100, "o1").sign(NOW);
    let original = original(&call);
    let mut spaced = call.clone();
    let text = String::from_utf8(spaced.authorization().clone()).expect("ASCII");
    let (scheme, pairs) = text.split_once(' ').expect("the scheme");
    let mut pairs: Vec<_> = pairs.split(',').collect();
    pairs.reverse();
    *spaced.authorization() = format!("{scheme} {}", pairs.join(" ,\t ")).into_bytes();
    assert_eq!(content(&gate().admit_call(&spaced)), original);
}

#[test]
fn a_header_moved_to_another_request_is_refused() {
    let calls = calls();
    let mut gate = gate();
    for (one, other) in calls.iter().flat_map(|one| calls.iter().map(move |other| (one, other))) {
        if one.draft.target != other.draft.target {
            let moved = Call { headers: other.headers.clone(), draft: one.draft.clone() };
            assert_eq!(gate.refuse_call(&moved).authentic, None);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_changed_byte_of_any_request_is_refused_or_means_nothing(
        changes in prop::collection::vec((0..1500_usize, 1..=u8::MAX), 60),
        which in 0..5_usize,
    ) {
        let calls = calls();
        let call = calls.get(which).expect("one of five");
        let (original, mut gate) = (original(call), gate());
        for (place, mask) in changes {
            judge(&mut gate, call, &original, place, mask).map_err(TestCaseError::fail)?;
        }
    }

    #[test]
    fn an_amount_is_exact_or_refused(amount in any::<u64>(), shift in 0..64_u32) {
        let fen = amount >> shift;
        let mut gate = Setup::default().gate();
        let call = Draft::native(0, "T1", fen).sign(NOW);
        match gate.decide(call.request()) {
            Decision::Admitted(admission) => prop_assert_eq!(admission.amount.map(Fen::get), Some(fen)),
            Decision::Refused(_) => prop_assert!(fen == 0 || fen >= 1 << 48),
        }
    }
}
