//! Recorded requests of real clients, decided at the time of their recording.

use tollgate::admission::{Batch, Decision};
use tollgate::certificate::Revocation;
use tollgate::merchant::{AppSpec, KeyOrigin, KeySpec, KeyStatus, MerchantSpec, SubjectPart};
use tollgate::reason::Reason;
use tollgate::signature::Scheme as _;
use tollgate::signature::wechatpay_v3::WechatPayV3;
use tollgate::time::UnixMillis;
use tollgate::types::{Interface, Operation, Scenario};

use crate::captures::{self, Capture, Captures};
use crate::gate::{Gate, Setup, fen, limit, merchant};

const APPID: &str = "wxd678efh567hg6787";

/// A gate at which the recording's merchant is registered with this origin of its key.
fn gate(captures: &Captures, origin: KeyOrigin) -> Gate {
    let key = KeySpec { id: captures.key_id, key: captures.key.clone(), origin, status: KeyStatus::Active };
    let apps = vec![AppSpec {
        interface: Interface::Jsapi,
        scenario: Scenario::OfficialAccount,
        appids: vec![APPID.to_owned()],
    }];
    let client = MerchantSpec { id: captures.merchant, keys: vec![key], apps, ..merchant(0) };
    let customer_day = tollgate::merchant::LimitSpec { day: fen(1000), ..limit("day", &[SubjectPart::Customer]) };
    Setup { merchants: vec![client], ..Setup::limited([customer_day]) }.gate()
}

/// The validity of the certificate in the recording, generously.
const CERTIFICATE: KeyOrigin = KeyOrigin::Certificate {
    not_before: UnixMillis::from_seconds(1_795_000_000),
    not_after: UnixMillis(i64::MAX),
    revocation: Revocation::NotAsked,
};

fn recorded_at(capture: &Capture) -> UnixMillis {
    let request = capture.request();
    let extracted = WechatPayV3::new().extract(&request).expect("a well-formed request");
    UnixMillis::from_seconds(extracted.timestamp_s.expect("a timestamp"))
}

#[test]
fn every_recorded_request_is_admitted_at_its_time() {
    let captures = captures::load();
    assert!(captures.requests.len() > 20);
    for capture in &captures.requests {
        let mut gate = gate(&captures, CERTIFICATE);
        gate.now = recorded_at(capture);
        match gate.decide(capture.request()) {
            Decision::Admitted(admission) => assert_eq!(admission.merchant, captures.merchant),
            Decision::Refused(refusal) => panic!("{}: {refusal:?}", capture.id),
        }
    }
}

#[test]
fn a_recorded_refund_signed_with_a_bare_key_is_refused_and_the_rest_is_not() {
    let captures = captures::load();
    let mut refunds = 0;
    for capture in &captures.requests {
        let mut gate = gate(&captures, KeyOrigin::Bare);
        gate.now = recorded_at(capture);
        match gate.decide(capture.request()) {
            Decision::Admitted(admission) => assert_ne!(admission.operation, Operation::Refund, "{}", capture.id),
            Decision::Refused(refusal) => {
                refunds += 1;
                assert_eq!(refusal.reason, Reason::CertificateRequired, "{}", capture.id);
                assert!(capture.target.contains("refund"));
            }
        }
    }
    assert_eq!(refunds, 5);
}

#[test]
fn a_recorded_request_is_stale_five_minutes_later() {
    let captures = captures::load();
    for capture in &captures.requests {
        let mut gate = gate(&captures, CERTIFICATE);
        gate.now = UnixMillis(recorded_at(capture).0 + 301_000);
        let Decision::Refused(refusal) = gate.decide(capture.request()) else { panic!("{}", capture.id) };
        assert_eq!(refusal.reason, Reason::TimestampSkewed);
    }
}

#[test]
fn the_same_order_spelled_by_two_clients_is_charged_once() {
    let captures = captures::load();
    let mut gate = gate(&captures, CERTIFICATE);
    let orders: Vec<_> = captures.requests.iter().filter(|capture| capture.target.ends_with("/jsapi")).collect();
    let bodies: std::collections::HashSet<_> = orders.iter().map(|capture| &capture.body).collect();
    assert!(bodies.len() > 1, "spelled in more than one way");
    let mut admissions = Vec::new();
    for capture in &orders {
        gate.now = recorded_at(capture);
        let Decision::Admitted(admission) = gate.decide(capture.request()) else { panic!("{}", capture.id) };
        admissions.push(admission);
    }
    let duplicates = admissions.iter().filter(|admission| admission.duplicate).count();
    assert_eq!(duplicates, orders.len() - 1);
    assert!(admissions.iter().all(|admission| admission.id == admissions[0].id));
    let customer = ["openid", APPID, "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"];
    assert_eq!((gate.used("day", &customer, 0), gate.shared.table().used_total()), (100, 200));
}

#[test]
fn all_recorded_requests_together_are_one_batch_in_which_each_nonce_counts_once() {
    let captures = captures::load();
    let mut gate = gate(&captures, CERTIFICATE);
    let now = captures.requests.iter().map(recorded_at).min().expect("a recording");
    let near: Vec<_> = captures.requests.iter().filter(|capture| recorded_at(capture).0 - now.0 <= 300_000).collect();
    let mut batch = Batch::new();
    near.iter().chain(&near).for_each(|capture| batch.push(capture.request()));
    gate.engine.decide(&mut batch, now);
    let admitted: Vec<_> = batch.drain().map(|decision| matches!(decision, Decision::Admitted(_))).collect();
    let (first, again) = admitted.split_at(near.len());
    assert!(first.iter().all(|admitted| *admitted) && again.iter().all(|admitted| !admitted));
}
