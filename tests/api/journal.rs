//! The journal as the operator looks at it, by the program, beside and after a gate that wrote it.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tollgate::time::{Clock as _, SystemClock};

use crate::deployment::deployment;
use crate::gate::{Settings, THOUSAND_A_DAY};
use crate::process::{Process, printed, tollgate};
use crate::request::{Request, unique};
use crate::upstream::Upstream;

/// A gate that recorded an order that is admitted, one that a limit refuses, and a commit by a settle call.
struct Recorded {
    process: Process,
    _upstream: Upstream,
    config: String,
    order: String,
    decision: String,
}

impl Recorded {
    fn new() -> Self {
        let upstream = Upstream::start();
        let mut settings = Settings::new();
        settings.upstream(&upstream).replace("limit", THOUSAND_A_DAY);
        settings.replace("journal", "[journal]\nfolder = \"journal\"\nsegment_bytes = 1048576");
        let config = settings.write().display().to_string();
        let process = Process::start(settings);
        let (order, mut client) = (unique("o"), process.connect("public"));
        assert_eq!(client.ask(&Request::order(&order, 600)).status(), 200);
        let seen = upstream.seen();
        let decision = seen[0].value("tollgate-decision").expect("a decision").to_owned();
        assert_eq!(client.ask(&Request::order(&unique("o"), 500)).status(), 403);
        let settled = Self { process, _upstream: upstream, config, order, decision };
        assert_eq!(settled.settle(), 200);
        settled
    }

    fn settle(&self) -> u16 {
        let path = format!("/v1/decisions/{}/commit", self.decision);
        let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
        self.process.connect("control").ask_raw(head.as_bytes()).status()
    }

    fn stop(&mut self) {
        self.process.signal("TERM");
        assert_eq!(self.process.wait().code(), Some(0));
    }

    fn run(&self, command: &[&str], more: &[&str]) -> String {
        printed(&[command, &["--config", &self.config], more].concat())
    }

    /// Returns the JSON lines of a command; those of labels and of the clock are left out.
    fn json(&self, command: &[&str], more: &[&str]) -> Vec<Value> {
        let printed = self.run(command, &[more, &["--json"]].concat());
        let values = printed.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        values.filter(|value| value["kind"] != "label" && value["kind"] != "clock").collect()
    }

    fn folder(&self) -> PathBuf {
        self.process.settings.folder().join("journal")
    }

    /// Starts a gate on the same journal; `Err` is what it says where it does not start.
    fn start_again(&self) -> Result<(), String> {
        let output = std::process::Command::new("timeout")
            .args(["-s", "TERM", "3", env!("CARGO_BIN_EXE_tollgate"), "serve", "--config", &self.config])
            .output()
            .expect("it runs");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        if told.contains("listening") { Ok(()) } else { Err(told) }
    }
}

fn mchid() -> &'static str {
    deployment().merchant.mchid
}

/// Checks that these are the three records, in their order.
fn assert_recorded(recorded: &Recorded, records: &[Value]) {
    let [admitted, refused, settled] = records else { panic!("not three: {records:#?}") };
    let of = |record: &Value, names: &[&str]| names.iter().map(|name| record[name].clone()).collect::<Vec<_>>();
    let what = ["kind", "decision", "merchant", "operation", "verdict", "amount_fen", "duplicate", "shadowed"];
    assert_eq!(
        of(admitted, &what),
        [
            json!("decision"),
            json!(recorded.decision),
            json!(mchid()),
            json!("pay"),
            json!("admitted"),
            json!(600),
            json!(false),
            json!([])
        ]
    );
    let charge = &admitted["order"]["charges"][0];
    assert!(charge["limit"].as_str().is_some_and(|limit| limit.starts_with("merchant-day ")), "{admitted}");
    assert_eq!((charge["charged"].as_u64(), admitted["order"]["state"].as_str()), (Some(600), Some("held")));
    let why = ["kind", "merchant", "operation", "verdict", "reason", "limit", "window", "amount_fen"];
    assert_eq!(
        of(refused, &why),
        [
            json!("decision"),
            json!(mchid()),
            json!("pay"),
            json!("refused"),
            json!("limit_exceeded"),
            json!("merchant-day"),
            json!("day"),
            json!(500)
        ]
    );
    assert!(refused["order"].is_null(), "{refused}");
    assert_eq!(of(settled, &["kind", "cause"]), [json!("change"), json!("call")]);
    let order = &settled["orders"][0];
    assert_eq!(
        of(order, &["decision", "state", "amount_fen"]),
        [json!(recorded.decision), json!("committed"), json!(600)]
    );
    assert_eq!(order["charges"][0]["limit"], charge["limit"], "rows are named though the record has no label");
    // As instants: a text without its last zeros sorts elsewhere.
    let instant = |record: &Value| record["at"].as_str().expect("a time").parse().expect("RFC 3339");
    let times: Vec<jiff::Timestamp> = records.iter().map(instant).collect();
    assert!(times.is_sorted(), "{times:?}");
}

#[test]
fn what_a_gate_recorded_is_verified_dumped_and_audited_beside_it_and_after_it() {
    let mut recorded = Recorded::new();
    for running in [true, false] {
        let verified = recorded.run(&["journal", "verify"], &[]);
        let last = verified.lines().last().expect("a line");
        assert!(last.ends_with(", verified") && last.contains(" segments, "), "{verified}");
        assert!(verified.lines().count() > 3 && verified.contains("  open"), "{verified}");
        assert_recorded(&recorded, &recorded.json(&["journal", "dump"], &[]));
        let mut audited = recorded.json(&["audit"], &[]);
        let said = audited.pop().expect("a line");
        assert_eq!(said["chain"], "verified", "{said}");
        assert_recorded(&recorded, &audited);
        if running {
            recorded.stop();
        }
    }
    let lines = recorded.run(&["journal", "dump"], &[]);
    let has = |text: &str| assert!(lines.contains(text), "no `{text}` in {lines}");
    has(&format!("decision {} {} pay 6.00 admitted: held; merchant-day 6.00", recorded.decision, mchid()));
    has(&format!(" {} pay 5.00 refused limit_exceeded by merchant-day, day\n", mchid()));
    has(&format!("change by call | {} {} 6.00: committed; merchant-day 6.00\n", recorded.decision, mchid()));
    let tail = recorded.run(&["journal", "tail"], &["-n", "2"]);
    assert!(lines.ends_with(&tail) && tail.lines().count() == 2, "{tail}");
    let key = fs::read_to_string(deployment().folder.join("deployment.key")).expect("the key");
    for secret in [key.trim(), "o-customer", &recorded.order] {
        assert!(!lines.contains(secret), "{lines}");
    }
}

#[test]
fn an_audit_finds_by_merchant_order_and_time() {
    let recorded = Recorded::new();
    let count = |more: &[&str]| recorded.json(&["audit"], more).len() - 1;
    let other = "1900000999";
    assert_eq!(count(&["--merchant", mchid()]), 3);
    assert_eq!(count(&["--merchant", other]), 0);
    let of_order = recorded.json(&["audit"], &["--merchant", mchid(), "--order", &recorded.order]);
    let kinds: Vec<_> = of_order.iter().map(|record| record["kind"].as_str()).collect();
    assert_eq!(kinds, [Some("decision"), Some("change"), None], "the refused order is another");
    assert_eq!(of_order[0]["decision"], json!(recorded.decision));
    assert_eq!(count(&["--merchant", mchid(), "--order", "no-such-order"]), 0);
    assert_eq!(count(&["--merchant", other, "--order", &recorded.order]), 0);
    let now = jiff::Timestamp::from_millisecond(SystemClock.now().0 + 1).expect("an instant").to_string();
    assert_eq!((count(&["--since", &now]), count(&["--until", &now])), (0, 3));
    let table = recorded.run(&["audit"], &["--merchant", mchid()]);
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(
        rows[1][1..],
        [mchid(), "pay", "6.00", "admitted", &recorded.decision, "merchant-day", "6.00"],
        "{table}"
    );
    assert_eq!(rows[2][1..5], [mchid(), "pay", "5.00", "refused"], "{table}");
    assert_eq!(rows[2][6..], ["merchant-day,", "day"], "{table}");
    assert_eq!(
        rows[3][1..],
        [mchid(), "call", "6.00", "committed", &recorded.decision, "merchant-day", "6.00"],
        "{table}"
    );
    assert!(table.lines().last().is_some_and(|line| line.starts_with("chain verified: ")), "{table}");
    let alone = tollgate(&["audit", "--config", &recorded.config, "--order", &recorded.order]);
    assert_eq!(alone.status.code(), Some(2), "an order is a merchant's");
}

/// Flips a bit of a file.
fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).expect("the file");
    bytes[at] ^= 1;
    fs::write(file, bytes).expect("written");
}

#[test]
fn a_flipped_byte_in_a_sealed_segment_is_found_and_cut_and_the_gate_starts_again() {
    let mut recorded = Recorded::new();
    recorded.stop();
    // A start seals what the gate before it left open.
    recorded.start_again().expect("it starts");
    let verified = recorded.run(&["journal", "verify"], &[]);
    let sealed: Vec<&str> = verified.lines().filter(|line| line.ends_with("sealed")).collect();
    assert_eq!(sealed.len(), 2, "the worker's and the gate's own: {verified}");
    flip(&recorded.folder().join("000-0000000001.journal"), 4096 + 60);

    let refused = tollgate(&["journal", "verify", "--config", &recorded.config]);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1));
    assert!(told.contains("000-0000000001.journal: damaged at byte 4096: "), "{told}");
    let shown = String::from_utf8_lossy(&refused.stdout).into_owned();
    assert!(shown.contains("damaged at byte 4096") && !shown.contains("verified"), "{shown}");
    for command in [&["audit"][..], &["journal", "dump"]] {
        let output = tollgate(&[command, &["--config", &recorded.config]].concat());
        assert_eq!(output.status.code(), Some(1), "{command:?}");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!text.contains(" admitted") && !text.contains("verified"), "{text}");
    }
    let told = recorded.start_again().expect_err("a start is refused");
    assert!(told.contains("damaged at byte 4096") && told.contains("tollgate journal cut"), "{told}");

    let cut = ["--writer", "0", "--segment", "1", "--at", "4096"];
    let plan = recorded.run(&["journal", "cut"], &cut);
    assert!(plan.contains("nothing is done yet: ") && plan.contains("add --yes"), "{plan}");
    assert!(recorded.start_again().is_err(), "a plan changes nothing");
    let done = recorded.run(&["journal", "cut"], &[&cut[..], &["--yes"]].concat());
    assert!(done.lines().last().is_some_and(|line| line.starts_with("cut: ")), "{done}");
    assert!(recorded.run(&["journal", "verify"], &[]).ends_with("verified\n"));
    recorded.start_again().unwrap_or_else(|told| panic!("it starts: {told}"));
    let again = tollgate(&[&["journal", "cut", "--config", &recorded.config][..], &cut].concat());
    assert_eq!(again.status.code(), Some(1), "nothing is damaged any more");
}

#[test]
fn a_cut_is_refused_while_a_gate_runs() {
    let recorded = Recorded::new();
    let cut =
        ["journal", "cut", "--config", &recorded.config, "--writer", "0", "--segment", "1", "--at", "4096", "--yes"];
    let refused = tollgate(&cut);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && told.contains("another gate has this journal open"), "{told}");
    assert_eq!(recorded.settle(), 200, "the gate goes on");
}
