use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand::SeedableRng as _;
use rustls::{ClientConnection, StreamOwned};
use tollgate::front::Address;
use tollgate::server::{self, Running};

use super::configuration::{APPROVED, Approved};
use super::*;
use crate::wire;

fn plan() -> Plan {
    Plan {
        merchants: vec![merchant("1900000001"), merchant("1900000002")],
        limits: limits(),
        presets: Vec::new(),
        workers: 1,
        upstream: None,
        time_zone: "UTC".to_owned(),
        tls: false,
        socket: false,
        bounds: toml::Table::new(),
    }
}

fn merchant(mchid: &str) -> MerchantPlan {
    MerchantPlan {
        mchid: mchid.to_owned(),
        kind: "ordinary".to_owned(),
        category: "retail".to_owned(),
        risk: "normal".to_owned(),
        suspended: false,
        revoked: false,
    }
}

fn limits() -> toml::value::Array {
    let table: toml::Table = "[[limit]]\nid = \"day\"\nper = [\"merchant\"]\nday_fen = 1000".parse().expect("TOML");
    table["limit"].as_array().expect("an array").clone()
}

fn deployment(plan: &Plan) -> Deployment {
    Deployment::write(plan, 16, &mut StdRng::seed_from_u64(6)).expect("a deployment")
}

fn start(deployment: &Deployment) -> Running {
    let config = deployment.load(SystemClock.now()).unwrap_or_else(|error| panic!("{error}"));
    server::start(config, None, Arc::new(SystemClock)).expect("it starts")
}

/// Writes an order out, signed by its merchant.
fn order(merchant: &Merchant, approved: &Approved, target: &str, fen: u64) -> String {
    static ORDERS: AtomicU64 = AtomicU64::new(0);
    let nonce = format!("{:032x}", ORDERS.fetch_add(1, Ordering::Relaxed));
    let Merchant { mchid, serial, key } = merchant;
    let body = format!(
        r#"{{"appid":"{}","mchid":"{mchid}","description":"tea","out_trade_no":"{nonce}","notify_url":"https://a.example/","amount":{{"total":{fen},"currency":"CNY"}},"payer":{{"openid":"o-1"}}}}"#,
        approved.appid
    );
    let timestamp = SystemClock.now().seconds();
    let signature = key.sign(format!("POST\n{target}\n{timestamp}\n{nonce}\n{body}\n").as_bytes());
    let signature = STANDARD.encode(signature);
    format!(
        "POST {target} HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\nUser-Agent: test\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\
         Authorization: WECHATPAY2-SHA256-RSA2048 mchid=\"{mchid}\",nonce_str=\"{nonce}\",\
         timestamp=\"{timestamp}\",serial_no=\"{serial}\",signature=\"{signature}\"\r\n\r\n{body}",
        body.len()
    )
}

fn ask(mut stream: impl Read + Write, request: &str) -> String {
    stream.write_all(request.as_bytes()).expect("write");
    let mut answer = Vec::new();
    // Over TLS a peer may close without saying so first.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).expect("text")
}

fn tcp(running: &Running, listener: &str) -> TcpStream {
    let Some(Address::Tcp(address)) = running.address(listener) else { panic!("a port of {listener}") };
    TcpStream::connect(address).expect("connect")
}

#[test]
fn orders_of_every_merchant_are_admitted_until_its_limit() {
    let deployment = deployment(&plan());
    let running = start(&deployment);
    for merchant in &deployment.merchants {
        let order = |fen| order(merchant, &APPROVED[0], JSAPI, fen);
        let answer = ask(tcp(&running, "open"), &order(1000));
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let answer = ask(tcp(&running, "open"), &order(1));
        assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
        let answer = ask(tcp(&running, "check"), &order(1).replace("tea", "pie"));
        assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    }
    assert!(running.address("public").is_none() && running.address("control").is_some());
    running.stop().expect("it stops");
}

#[test]
fn every_approved_interface_takes_orders() {
    let deployment = deployment(&plan());
    let running = start(&deployment);
    for approved in APPROVED.iter().filter(|approved| !matches!(approved.kind, "payment_code" | "face")) {
        let target = match approved.kind {
            "mini_program" => JSAPI.to_owned(),
            kind => format!("/v3/pay/transactions/{kind}"),
        };
        let request = order(&deployment.merchants[0], approved, &target, 1);
        let answer = ask(tcp(&running, "open"), &request);
        assert!(answer.starts_with("HTTP/1.1 200"), "{approved:?}: {answer}");
    }
    running.stop().expect("it stops");
}

#[test]
fn suspended_merchants_and_revoked_keys_are_refused() {
    let mut plan = plan();
    plan.merchants[0].suspended = true;
    plan.merchants[1].revoked = true;
    let deployment = deployment(&plan);
    let running = start(&deployment);
    for (merchant, status) in deployment.merchants.iter().zip(["403", "401"]) {
        let answer = ask(tcp(&running, "open"), &order(merchant, &APPROVED[0], JSAPI, 1));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
    }
    running.stop().expect("it stops");
}

#[test]
fn the_public_listeners_speak_tls_that_the_client_trusts() {
    let deployment = deployment(&Plan { tls: true, upstream: Some("127.0.0.1:9".to_owned()), ..plan() });
    let running = start(&deployment);
    let name = "localhost".try_into().expect("a name");
    let tls = ClientConnection::new(Arc::clone(&deployment.tls_client), name).expect("a client");
    let request = order(&deployment.merchants[0], &APPROVED[0], JSAPI, 1);
    let answer = ask(StreamOwned::new(tls, tcp(&running, "open")), &request);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    for listener in ["public", "hop", "check", "open", "control"] {
        assert!(running.address(listener).is_some(), "{listener}");
    }
    running.stop().expect("it stops");
}

#[test]
fn all_listen_on_sockets_where_planned() {
    let deployment = deployment(&Plan { socket: true, ..plan() });
    let running = start(&deployment);
    let Some(Address::Unix(path)) = running.address("open") else { panic!("a socket") };
    let request = order(&deployment.merchants[0], &APPROVED[0], JSAPI, 1);
    let answer = ask(UnixStream::connect(path).expect("connect"), &request);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    running.stop().expect("it stops");
}

#[test]
fn bounds_and_presets_of_the_plan_are_in_force() {
    let bounds = "[replay]\nnonces_max = 5000\n[orders]\norders_max = 6000\n[rows]\nrows_max = 70000";
    let per_merchant = "[replay]\nnonces_per_merchant_max = 5000\n[orders]\norders_per_merchant_max = 6000\n\
                        [rows]\nrows_per_merchant_max = 70000";
    let mut bounds: toml::Table = bounds.parse().expect("TOML");
    let per_merchant: toml::Table = per_merchant.parse().expect("TOML");
    for (name, keys) in per_merchant {
        bounds[&name].as_table_mut().expect("a section").extend(keys.as_table().expect("a section").clone());
    }
    let plan = Plan { bounds, presets: vec!["t8_categories".to_owned()], workers: 3, ..plan() };
    let config = deployment(&plan).load(SystemClock.now()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((config.nonces.entries_max, config.orders.entries_max, config.quota.rows_max), (5000, 6000, 70000));
    assert_eq!((config.workers, config.policy.merchants().count()), (3, 2));
    let misplaced = Plan { bounds: "rows_max = 1".parse().expect("TOML"), ..plan };
    let refused = Deployment::write(&misplaced, 16, &mut StdRng::seed_from_u64(6));
    assert!(matches!(refused, Err(DeploymentError::NoSection(name)) if name == "rows_max"));
}

#[test]
fn a_gate_has_started_when_it_has_said_where_all_listen() {
    let deployment = deployment(&plan());
    let program = deployment.folder.path().join("program");
    let log = ["open\" address=127.0.0.1:8001", "control\" address=unix:/a/control.sock"];
    let log = log.map(|line| format!("echo 'INFO listening listener=\"{line}' >&2\n")).concat();
    let condition = "[ \"$1 $2 $3\" = 'gate serve --config' ] && [ -f \"$4\" ] || exit 1";
    std::fs::write(&program, format!("#!/bin/sh\n{condition}\n{log}exec sleep 60\n")).expect("write");
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o700)).expect("mode");
    let gate = Gate::start(&program, &deployment, Some(0)).expect("it starts");
    assert_eq!(gate.address("open"), Some(&wire::Address::Tcp(([127, 0, 0, 1], 8001).into())));
    assert_eq!(gate.address("control"), Some(&wire::Address::Unix("/a/control.sock".into())));
    assert_eq!(gate.address("public"), None);
    assert!(gate.cpu_seconds().is_ok_and(|seconds| seconds < 10.0));
    let process = Path::new("/proc").join(gate.pid().to_string());
    assert!(process.exists());
    drop(gate);
    assert!(!process.exists(), "it ended with its owner");
}

/// `cargo test --release -p loadtest -- --ignored --nocapture a_thousand_merchants`
const JSAPI: &str = "/v3/pay/transactions/jsapi";
