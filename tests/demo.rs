//! The demo, run as a newcomer runs it: every reason of refusal was provoked and answered as expected.

#![expect(clippy::expect_used, reason = "a test says what it relies on")]

use std::collections::HashMap;
use std::process::Command;

use serde_json::Value;
use tollgate::front::wire;
use tollgate::reason::Reason;
use tollgate::types::Interface;

#[test]
fn the_demo_sees_every_reason_and_every_interface_as_expected() {
    let demo = Command::new(env!("CARGO_BIN_EXE_tollgate")).args(["demo", "--seconds", "1", "--json"]).output();
    let demo = demo.expect("the binary runs");
    let report = String::from_utf8_lossy(&demo.stdout);
    assert!(demo.status.success(), "{report}\n{}", String::from_utf8_lossy(&demo.stderr));
    let report: Value = serde_json::from_str(&report).expect("one JSON object");
    assert_eq!(report.pointer("/ok"), Some(&Value::Bool(true)));

    let refusals = by(&report, "/refusals", "reason");
    assert_eq!(refusals.len(), Reason::COUNT);
    for reason in Reason::ALL {
        let refusal = refusals.get(reason.as_str()).expect("a case for each reason");
        let wire = wire(*reason);
        let seen = |member: &str| refusal.pointer(&format!("/seen/{member}")).cloned().unwrap_or_default();
        assert_eq!(seen("status"), Value::from(wire.status), "{reason}");
        assert_eq!(seen("code"), Value::from(wire.code), "{reason}");
        assert_eq!(seen("signed"), Value::from(wire.signed), "{reason}");
        let counted = seen("counted");
        let counted = counted.as_array().expect("a list");
        assert_eq!(counted.len(), 1, "{reason}: {counted:?}");
        assert_eq!(refusal.pointer("/seen/counted/0/0"), Some(&Value::from(reason.as_str())));
    }

    let admissions = by(&report, "/admissions", "kind");
    let kinds = Interface::ALL.iter().map(|interface| interface.as_str());
    for kind in kinds.chain(["query", "close", "refund", "certificates", "echo", "duplicate", "check"]) {
        let admission = admissions.get(kind).expect("each kind is admitted");
        assert_eq!(admission.pointer("/ok"), Some(&Value::Bool(true)), "{kind}");
    }
    assert!(report.pointer("/traffic/requests").and_then(Value::as_u64).is_some_and(|requests| requests > 0));
}

fn by<'r>(report: &'r Value, list: &str, name: &str) -> HashMap<&'r str, &'r Value> {
    let list = report.pointer(list).and_then(Value::as_array).expect("a list");
    list.iter().filter_map(|item| Some((item.get(name)?.as_str()?, item))).collect()
}
