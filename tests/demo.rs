//! The demo, run as a newcomer runs it: every reason of refusal was provoked and answered as expected, every limit that
//! comes with the gate run into, and the books balance.

#![expect(clippy::expect_used, reason = "a test says what it relies on")]

use std::collections::HashMap;
use std::process::Command;

use serde_json::Value;
use tollgate::front::wire;
use tollgate::reason::Reason;
use tollgate::types::Interface;

#[test]
fn the_demo_sees_every_reason_interface_and_limit_as_expected_and_balanced_books() {
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

    let holds = by(&report, "/holds", "kind");
    for kind in
        ["held, committed", "channel learned", "released", "settled by hand", "refunded", "expired", "committed late"]
    {
        assert_eq!(holds.get(kind).and_then(|hold| hold.pointer("/ok")), Some(&Value::Bool(true)), "{kind}");
    }
    assert_every_preset_was_run_into(&by(&report, "/presets", "limit"));
    assert!(report.pointer("/usage/0/windows/0/used").is_some());
    assert_books_balance(&report);
}

/// The presets are read again here, so that a limit or a ceiling that nobody runs into is noticed.
fn assert_every_preset_was_run_into(reached: &HashMap<&str, &Value>) {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/presets");
    let mut limits = 0;
    for file in std::fs::read_dir(folder).expect("a folder") {
        let text = std::fs::read_to_string(file.expect("a file").path()).expect("text");
        let preset: toml::Table = text.parse().expect("TOML");
        for limit in preset.get("limit").and_then(toml::Value::as_array).expect("limits") {
            let id = limit.get("id").and_then(toml::Value::as_str).expect("an id");
            let seen = reached.get(id).expect("run into");
            assert_eq!(seen.pointer("/ok"), Some(&Value::Bool(true)), "{id}");
            let ceilings = seen.pointer("/ceilings").and_then(Value::as_array).expect("a list");
            for window in ["transaction", "day", "month", "year", "lifetime"] {
                let ceiling = limit.get(format!("{window}_fen")).and_then(toml::Value::as_integer);
                let normal = |one: &&Value| {
                    one.pointer("/window") == Some(&Value::from(window))
                        && one.pointer("/risk") == Some(&Value::from("normal"))
                };
                let seen = ceilings.iter().find(normal).and_then(|one| one.pointer("/fen")?.as_i64());
                assert_eq!(seen, ceiling, "{id} {window}");
            }
            limits += 1;
        }
    }
    assert_eq!((limits, reached.len()), (21, 21));
}

fn assert_books_balance(report: &Value) {
    let all = report.pointer("/books").and_then(Value::as_array).expect("a list");
    assert_eq!(all.len(), 3);
    for books in all {
        let [taken, given_back, passed, used, error, checked] =
            ["taken", "given_back", "passed", "used", "error", "stripes_checked"]
                .map(|name| books.get(name).and_then(Value::as_u64).expect("a count"));
        assert!(taken > 0 && given_back > 0 && checked > 0, "{books}");
        assert_eq!((error, taken - given_back - passed), (0, used), "{books}");
    }
    let counts = report.pointer("/counts").and_then(Value::as_array).expect("a list");
    assert_eq!(counts.len(), 2);
    for count in counts {
        let fen = |name| count.get(name).and_then(Value::as_i64).expect("an amount");
        assert!(fen("demo_fen") > 0, "{count}");
        assert_eq!(fen("demo_fen"), fen("gate_fen"), "{count}");
    }
}

fn by<'r>(report: &'r Value, list: &str, name: &str) -> HashMap<&'r str, &'r Value> {
    let list = report.pointer(list).and_then(Value::as_array).expect("a list");
    list.iter().filter_map(|item| Some((item.get(name)?.as_str()?, item))).collect()
}
