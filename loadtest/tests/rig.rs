//! The rig as it is used: the program, a gate as its child, and the result that it writes.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test stops where something is missing"
)]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

fn rig() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.arg("run");
    command
}

/// Runs a scenario for a moment; returns what it printed and its result.
fn run(arguments: &[&str]) -> (Output, Value) {
    let folder = tempfile::tempdir().expect("a folder");
    let output = rig().args(arguments).arg("--out").arg(folder.path()).output().expect("it runs");
    let result = result(folder.path(), &output);
    (output, result)
}

fn result(folder: &Path, output: &Output) -> Value {
    let text = std::fs::read(folder.join("result.json"));
    let text = text.unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    let log = std::fs::read_to_string(folder.join("latency.hlog")).expect("a log");
    assert!(log.lines().any(|line| line.starts_with("#[StartTime")), "{log}");
    serde_json::from_slice(&text).expect("JSON")
}

/// The run was made, all was answered, and the books balance; on a busy machine the generator may be late.
#[track_caller]
fn assert_balanced((output, result): &(Output, Value)) {
    let printed = String::from_utf8_lossy(&output.stdout);
    assert_eq!(result["books"]["balanced"], true, "{printed}");
    assert!(result["books"]["accounts"].as_u64().expect("accounts") > 0, "{printed}");
    assert!(result["payments_admitted"].as_u64().expect("payments") > 0, "{printed}");
    assert_eq!(
        (&result["unsent"], &result["unresolved"], &result["settled_all"]),
        (&0.into(), &0.into(), &true.into()),
        "{printed}"
    );
    assert_eq!(output.status.success(), result["valid"] == true, "{printed}");
}

fn refused(result: &Value, code: &str) -> u64 {
    let refusals = result["refusals"].as_object().expect("refusals");
    let counts =
        refusals.iter().filter(|(name, _)| name.contains(code)).map(|(_, count)| count.as_u64().expect("a count"));
    counts.sum()
}

#[test]
fn the_books_of_each_scenario_balance_at_a_gate_that_checks() {
    for name in ["steady", "hot_merchant"] {
        let run = run(&["--scenario", name, "--seconds", "2", "--rate", "200"]);
        assert_balanced(&run);
        assert_eq!((&run.1["refused"], &run.1["sent"]), (&0.into(), &run.1["admitted"]), "{name}");
    }
}

#[test]
fn payments_hover_at_a_ceiling_and_never_pass_it() {
    let run = run(&["--scenario", "at_the_ceiling", "--seconds", "3", "--rate", "300"]);
    assert_balanced(&run);
    assert!(refused(&run.1, "RULE_LIMIT") > 0, "{}", run.1["refusals"]);
}

/// How often the gate gave an answer that contains this to one kind of requests.
fn answered(result: &Value, kind: &str, answer: &str) -> u64 {
    let answers = result["answers"][kind].as_object();
    let counts = answers.into_iter().flatten().filter(|(name, _)| name.contains(answer));
    counts.map(|(_, count)| count.as_u64().expect("a count")).sum()
}

#[test]
fn hostile_traffic_is_answered_kind_by_kind_as_it_deserves_and_counted_once() {
    let run = run(&["--scenario", "hostile", "--seconds", "4", "--rate", "300"]);
    assert_balanced(&run);
    let result = &run.1;
    let count = |pointer: &str| result.pointer(pointer).and_then(Value::as_u64).expect("a count");
    for kind in ["stale", "tampered", "wrong_key", "revoked", "forbidden_interface", "suspended"] {
        assert!(answered(result, kind, "40") > 0, "{kind}: {}", result["answers"]);
        assert_eq!(answered(result, kind, "admitted") + answered(result, kind, "duplicate"), 0, "{kind}");
    }
    assert!(answered(result, "duplicate", "duplicate") > 0, "{}", result["answers"]);
    assert!(answered(result, "replay", "duplicate") > 0, "{}", result["answers"]);
    let duplicates = answered(result, "duplicate", "duplicate") + answered(result, "replay", "duplicate");
    assert!(count("/repeats") >= duplicates - count("/resolved"), "{result}");
    assert!(answered(result, "refund", "admitted") > 0 && count("/refunds") > 0 && count("/refunds_fen") > 0);
    // Holds outlast the run: what is committed too late was released before.
    assert!(count("/settles/conflicts") > 0, "{}", result["settles"]);
    assert_eq!((count("/settles/committed_late"), count("/settles/expired"), count("/settles/refused")), (0, 0, 0));
}

#[test]
fn room_of_holds_that_ran_out_is_given_back_and_taken_again_by_late_commits_to_the_fen() {
    for scenario in ["hostile", "at_the_ceiling"] {
        let arguments = ["--scenario", scenario, "--target", "in-process", "--seconds", "3", "--rate", "300"];
        let run = run(&arguments);
        assert_balanced(&run);
        let settles = &run.1["settles"];
        let count = |key: &str| settles[key].as_u64().expect("a count");
        assert!(count("committed_late") > 0 && count("expired") > count("committed_late"), "{scenario} {settles}");
        assert_eq!((count("conflicts"), count("refused")), (0, 0), "{scenario} {settles}");
        assert!(run.1["refunds"].as_u64().expect("a count") > 0, "{scenario} {}", run.1["answers"]);
    }
}

#[test]
fn the_books_balance_while_a_month_ends() {
    let run = run(&["--scenario", "month_end", "--target", "in-process", "--seconds", "4", "--rate", "300"]);
    assert_balanced(&run);
    assert!(run.1["decision_ns"].as_f64().expect("a time") > 0.0);
}

#[test]
fn the_books_balance_behind_a_proxy_over_tls_and_over_a_unix_socket() {
    for arguments in [&["--target", "proxy"][..], &["--tls"], &["--socket"], &["--closed", "8"], &["--primes", "2"]] {
        let mut all = vec!["--scenario", "at_the_ceiling", "--seconds", "1", "--rate", "100", "--connections", "8"];
        all.extend(arguments);
        assert_balanced(&run(&all));
    }
}

#[test]
fn a_gate_that_stalls_for_a_second_shows_it_in_the_latency_of_what_fell_due_meanwhile() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut child = rig()
        .args(["--seconds", "3", "--rate", "100", "--out"])
        .arg(folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut lines = BufReader::new(child.stderr.take().expect("standard error")).lines().map_while(Result::ok);
    let gate = lines.find_map(|line| line.strip_prefix("the gate is process ").map(str::to_owned)).expect("a gate");
    lines.find(|line| line == "sending").expect("it begins");
    std::thread::sleep(Duration::from_millis(500));
    signal("-STOP", &gate);
    std::thread::sleep(Duration::from_millis(1000));
    signal("-CONT", &gate);
    lines.for_each(drop);
    let status = child.wait().expect("it ends");
    let result = result(folder.path(), &Output { status, stdout: Vec::new(), stderr: Vec::new() });
    let p99 = result["latency_us"]["p99"].as_f64().expect("a time");
    assert!(p99 > 800_000.0, "{result}");
    assert_eq!(result["books"]["balanced"], true, "{result}");
}

#[test]
fn what_times_out_is_asked_again_and_the_books_still_balance() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut child = rig()
        .args(["--seconds", "2", "--rate", "100", "--timeout-ms", "200", "--out"])
        .arg(folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut lines = BufReader::new(child.stderr.take().expect("standard error")).lines().map_while(Result::ok);
    let gate = lines.find_map(|line| line.strip_prefix("the gate is process ").map(str::to_owned)).expect("a gate");
    lines.find(|line| line == "sending").expect("it begins");
    std::thread::sleep(Duration::from_millis(500));
    signal("-STOP", &gate);
    std::thread::sleep(Duration::from_millis(700));
    signal("-CONT", &gate);
    lines.for_each(drop);
    let status = child.wait().expect("it ends");
    let result = result(folder.path(), &Output { status, stdout: Vec::new(), stderr: Vec::new() });
    assert!(result["timed_out"].as_u64().expect("a count") > 0, "{result}");
    assert!(result["resolved"].as_u64().expect("a count") > 0, "{result}");
    assert_eq!((&result["unresolved"], &result["books"]["balanced"]), (&0.into(), &true.into()), "{result}");
}

#[test]
fn a_rate_that_nobody_can_send_makes_the_run_invalid_and_fails_it() {
    let folder: TempDir = tempfile::tempdir().expect("a folder");
    let path: PathBuf = folder.path().join("swarm.toml");
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/steady.toml"))
        .expect("a scenario");
    let text = text.replace("kind = \"poisson\"\nper_second = 1000", "kind = \"recorded\"\nat_ms = [0, 1, 1, 1]");
    std::fs::write(&path, text.replace("at_ms = [0, 1, 1, 1]", &format!("at_ms = [{}]", vec!["1"; 3000].join(","))))
        .expect("written");
    let (output, result) = run(&[
        "--scenario",
        path.to_str().expect("a path"),
        "--seconds",
        "0.002",
        "--connections",
        "1",
        "--timeout-ms",
        "100",
    ]);
    assert_eq!(result["valid"], false, "{result}");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("INVALID"));
}

#[test]
fn the_default_scenario_is_found_from_any_folder_and_progress_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = rig().current_dir(&folder).args(["--seconds", "3", "--rate", "100"]).output().expect("it runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.lines().any(|line| line.starts_with("   2 s: ") && line.contains(" answered, 0 refused")), "{told}");
    let result = result(&folder.path().join("target/loadtest"), &output);
    assert!(result["scenario"]["about"].as_str().expect("a scenario").starts_with("payments of many"), "{result}");
    assert_balanced(&(output, result));
}

#[test]
fn a_run_against_a_bare_server_takes_no_more_memory_the_longer_it_lasts() {
    let (output, result) = run(&["--target", "bare", "--closed", "8", "--connections", "8", "--seconds", "4"]);
    assert!(output.status.success(), "{result}");
    let resident = |when: &str| result["resident_kib"][when].as_u64().expect("a size");
    let answered = result["answered"].as_u64().expect("a count");
    assert!(answered > 2000, "too few to tell: {result}");
    // By the middle every buffer has been used; what a request left behind would show after thousands more. The system may
    // make a large page or two resident late.
    assert!(resident("warm") > 0 && resident("end") <= resident("middle") + 4608, "{answered} {result}");
}

#[test]
fn what_makes_no_sense_is_refused_and_it_is_said_what_to_write() {
    for (arguments, what) in [
        (&["--seconds=-1"][..], "write a number above 0, at most 86400"),
        (&["--seconds", "inf"], "write a number above 0"),
        (&["--rate", "0"], "write a number above 0, at most 10000000"),
        (&["--closed", "0"], "write 1 to 20000"),
        (&["--connections", "0"], "write 1 to 20000"),
        (&["--closed", "65"], "write --connections 65"),
        (&["--closed", "1", "--seconds", "171"], "write --seconds 170 or less"),
        (&["--primes", "3"], "write 2, 4, 8 or 16"),
        (&["--timeout-ms", "0"], "1..=120000"),
        (&["--scenario", "steady", "--wait-for-holds"], "write it there, or leave the option out"),
        (&["--scenario", "stedy"], "write one of steady, hot_merchant"),
        (&["--target", "bare"], "needs --rate N or --closed N"),
        (&["--target", "bare", "--closed", "1", "--tls"], "leave them out"),
        (&["--target", "bare", "--closed", "1", "--scenario", "steady"], "leave it out"),
        (&["--seconds", "86400", "--rate", "1000"], "shorten --seconds, or lower --rate"),
    ] {
        let output = rig().args(arguments).output().expect("it runs");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && told.contains(what), "{arguments:?}: {told}");
    }
}

#[test]
fn a_scenario_that_sets_the_clock_is_refused_for_a_gate_that_has_its_own() {
    let output = rig().args(["--scenario", "month_end"]).output().expect("it runs");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("--target in-process"));
}

fn signal(name: &str, process: &str) {
    assert!(Command::new("kill").args([name, process]).status().expect("kill").success());
}
