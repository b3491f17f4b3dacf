//! The program from its start to its end: signals, reload, the control listener, and want of file descriptors.

use std::fs;
use std::net::TcpStream;

use tollgate::front::Address;

use crate::client::{Client, PATIENCE, tcp};
use crate::deployment::deployment;
use crate::gate::{Gate, Settings};
use crate::process::Process;
use crate::raw::Message;
use crate::request::{Request, unique};
use crate::upstream::{Upstream, ok};

const SUSPENDED: &str =
    "kind = \"suspended\"\nauthor = \"risk\"\nreason = \"complaints\"\nsince = 2026-11-21T09:30:00+08:00\n";

fn before(upstream: &Upstream) -> Settings {
    let mut settings = Settings::new();
    settings.upstream(upstream).set("bounds.drain_timeout_ms", 20_000);
    settings
}

fn order() -> Request {
    Request::order(&unique("o"), 1)
}

/// Returns what is answered on a new connection.
fn answer_of(address: &Address) -> Option<Message> {
    let Address::Tcp(address) = address else { panic!("a TCP address") };
    let stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
    let mut client = Client::of(stream);
    // What the kernel still took is closed with the listener.
    client.try_send(&order().wire()).then(|| client.answer_if_any()).flatten()
}

#[test]
fn sigterm_lets_what_is_under_way_finish_and_takes_nothing_new() {
    let upstream = Upstream::start();
    let mut process = Process::start(before(&upstream));
    let mut idle = process.connect("public");
    assert_eq!(idle.ask(&order()).status(), 200);
    let release = upstream.then_hold(ok("{\"slow\":true}"));
    let mut slow = process.connect("public");
    slow.send(&order().wire());
    upstream.wait_for(2);

    process.signal("TERM");
    process.wait_for_line("draining");
    idle.expect_close();
    assert_eq!(answer_of(process.address("public")), None, "new connections are refused");
    assert_eq!(process.control("GET", "/livez").status(), 200, "the control listener is there to the end");
    assert_eq!(process.control("GET", "/readyz").status(), 503);
    assert!(process.ended().is_none(), "something is under way");
    release.send(()).expect("it is waiting");
    let answer = slow.answer();
    assert_eq!((answer.status(), answer.body.as_slice()), (200, &b"{\"slow\":true}"[..]));
    slow.expect_close();
    assert_eq!(process.wait().code(), Some(0));
}

#[test]
fn sigint_ends_the_program_and_a_drain_has_an_end() {
    let upstream = Upstream::start();
    let mut settings = before(&upstream);
    settings.set("bounds.drain_timeout_ms", 200);
    let mut process = Process::start(settings);
    let _never = upstream.then_hold(ok("{}"));
    let mut slow = process.connect("public");
    slow.send(&order().wire());
    upstream.wait_for(1);
    process.signal("INT");
    assert_eq!(process.wait().code(), Some(0));
    slow.expect_close();
}

#[test]
fn sighup_takes_a_good_file_on_open_connections_and_leaves_a_broken_one() {
    let upstream = Upstream::start();
    let mut process = Process::start(before(&upstream));
    let mut client = process.connect("public");
    assert_eq!(client.ask(&order()).status(), 200);
    let good = fs::read_to_string(process.settings.write()).expect("the file");
    let broken = [
        ("not TOML", "[[[".to_owned()),
        ("an unknown key", good.replacen("[bounds]", "[bounds]\nno_such_key = 1", 1)),
        ("a file that is not there", good.replace("apiclient_cert.pem", "nowhere.pem")),
        ("nothing", String::new()),
    ];
    for (index, (what, text)) in broken.iter().enumerate() {
        fs::write(process.settings.folder().join("tollgate.toml"), text).expect("write");
        process.signal("HUP");
        process.wait_for_lines("configuration not reloaded", index + 1);
        assert_eq!(client.ask(&order()).status(), 200, "{what}: what was in force stays");
    }
    process.settings.add_to_merchant("measure", SUSPENDED);
    process.settings.write();
    process.signal("HUP");
    process.wait_for_line("limits and platform keys reloaded");
    let refusal = client.ask(&order());
    assert_eq!((refusal.status(), refusal.json()["code"].as_str()), (403, Some("NO_AUTH")));
    assert_eq!(client.ask(&Request::query("a")).status(), 200, "who is suspended may still ask");
    assert_eq!(upstream.seen().len(), 6);
    let folder = &deployment().folder;
    let apiv3_key = fs::read_to_string(folder.join("merchants/1900000001/apiv3.key")).expect("the key");
    let deployment_key = fs::read_to_string(folder.join("deployment.key")).expect("the key");
    for line in process.lines() {
        for secret in [apiv3_key.trim(), deployment_key.trim(), "o-customer", "signature=", "PRIVATE KEY"] {
            assert!(!line.contains(secret), "{line}");
        }
    }
}

#[test]
fn a_reload_over_the_control_listener_says_what_is_wrong() {
    let upstream = Upstream::start();
    let mut gate = Gate::before(&upstream);
    let ask = |gate: &Gate, method: &str| {
        let wire = format!("{method} /v1/reload HTTP/1.1\r\nHost: localhost\r\n\r\n");
        gate.connect("control").ask_raw(wire.as_bytes())
    };
    assert_eq!(ask(&gate, "POST").status(), 204);
    assert_eq!(ask(&gate, "GET").status(), 405);
    let wrong = gate.reload(|settings| settings.set("bounds.headers_max", 1));
    assert!(wrong.is_err());
    let answer = ask(&gate, "POST");
    let message = String::from_utf8_lossy(&answer.body).into_owned();
    assert!(answer.status() == 409 && message.contains("headers_max"), "{message}");
    assert_eq!(gate.connect("public").ask(&order()).status(), 200);
}

#[test]
fn limits_in_force_survive_a_reload() {
    let upstream = Upstream::start();
    let mut gate = Gate::with(&upstream, |settings| settings.replace("limit", crate::gate::THOUSAND_A_DAY));
    let mut client = gate.connect("public");
    assert_eq!(client.ask(&Request::order(&unique("o"), 600)).status(), 200);
    let spent = order();
    assert_eq!(client.ask(&spent).status(), 200);
    let raise = gate.reload(|settings| settings.replace("limit", &crate::gate::THOUSAND_A_DAY.replace("1000", "1001")));
    raise.expect("reload");
    assert_eq!(client.ask(&Request::order(&unique("o"), 401)).status(), 403, "601 were taken before");
    assert_eq!(client.ask(&Request::order(&unique("o"), 400)).status(), 200);
    assert_eq!(client.ask(&spent).status(), 401, "and the nonces are known");
}

#[test]
fn the_control_plane_is_on_the_control_listener_only() {
    let upstream = Upstream::start();
    let gate = Gate::before(&upstream);
    let ask = |listener: &str, path: &str| {
        gate.connect(listener).ask_raw(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())
    };
    assert_eq!(gate.connect("check").ask(&order()).status(), 200);
    for path in ["/livez", "/readyz", "/metrics", "/v1/decisions"] {
        assert_eq!(ask("control", path).status(), 200, "{path}");
        for listener in ["public", "hop", "check", "open"] {
            let answer = ask(listener, path);
            assert_eq!((answer.status(), answer.body.len()), (404, 0), "{listener}{path}");
        }
    }
    let metrics = String::from_utf8(ask("control", "/metrics").body).expect("text");
    assert!(metrics.contains("\ntollgate_ready 1\n") && metrics.ends_with("# EOF\n"), "{metrics}");
    let decisions = String::from_utf8(ask("control", "/v1/decisions").body).expect("text");
    assert!(decisions.contains("\"verdict\":\"admitted\""), "{decisions}");
    for secret in ["o-customer", "PRIVATE KEY", "signature"] {
        assert!(!decisions.contains(secret), "{decisions}");
    }
    assert_eq!(ask("control", crate::request::ORDER).status(), 404, "and no payment is made there");
}

#[test]
fn want_of_file_descriptors_passes() {
    let upstream = Upstream::start();
    let process = Process::start_within(before(&upstream), "ulimit -n 64");
    let mut probe = process.connect("check");
    assert_eq!(probe.ask(&order()).status(), 200);
    // More than there are descriptors for: the kernel takes them, the gate cannot.
    let flood: Vec<_> = (0..100).map(|_| tcp(process.address("public"))).collect();
    assert_eq!(probe.ask(&order()).status(), 200, "who is in is served");
    let mut waiting = process.connect("check");
    waiting.send(&order().wire());
    process.wait_for_descriptors(64);
    assert_eq!(probe.ask(&order()).status(), 200, "at the bound, too");
    drop(flood);
    assert_eq!(waiting.answer().status(), 200, "who waited gets in");
    assert_eq!(process.connect("public").ask(&order()).status(), 200);
    let metrics = String::from_utf8(process.control("GET", "/metrics").body).expect("text");
    let failed = metrics.lines().find_map(|line| line.strip_prefix("tollgate_accepts_failed_total ")).expect("a line");
    assert!(failed.parse::<u64>().expect("a number") > 0);
}

#[test]
fn a_second_gate_on_the_same_address_does_not_start() {
    let upstream = Upstream::start();
    let first = Process::start(before(&upstream));
    for listener in ["public", "check", "control"] {
        let mut settings = before(&upstream);
        settings.listener(listener).insert("address".to_owned(), first.address(listener).to_string().into());
        // It would count the same limits in tables of its own.
        let output = std::process::Command::new("timeout")
            .args(["10", env!("CARGO_BIN_EXE_tollgate"), "serve", "--config"])
            .arg(settings.write())
            .output()
            .expect("it runs");
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{listener}: {message}");
        assert!(message.contains("cannot listen on"), "{listener}: {message}");
    }
    assert_eq!(first.connect("public").ask(&order()).status(), 200);
}

#[test]
fn a_configuration_that_does_not_check_starts_nothing() {
    let mut settings = Settings::new();
    settings.set("bounds.no_such_key", 1);
    let run = |command: &[&str]| {
        let file = settings.write();
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_tollgate")).args(command).arg(file).output();
        output.expect("it runs")
    };
    for command in [&["serve", "--config"][..], &["check-config"]] {
        let output = run(command);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && message.contains("no_such_key"), "{command:?}: {message}");
    }
}
