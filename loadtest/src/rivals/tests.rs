use std::cell::Cell;
use std::io::{Read, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};

use super::*;

const SERIAL: &str = "408B07E79B8269FEC3D5D3E6AB8ED163A6A380DB";

/// A merchant and a running rival that knows its key; every request has a nonce of its own.
struct Bench {
    rival: Rival,
    key: KeyPair,
    nonces: Cell<u32>,
    folder: tempfile::TempDir,
}

struct Request {
    body: String,
    authorization: String,
}

impl Bench {
    /// `None` where the packages are not installed.
    fn start(kind: Kind) -> Option<Self> {
        if let Some(reason) = Rival::missing() {
            eprintln!("skipped: {reason}");
            return None;
        }
        let key = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let spki: PublicKeyX509Der<'_> = key.public_key().as_der().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let keys = [(SERIAL.to_owned(), spki.as_ref().to_vec())];
        let rival = Rival::start(kind, Some(0), &keys, folder.path()).unwrap();
        Some(Self { rival, key, nonces: Cell::new(0), folder })
    }

    fn request(&self, amount_fen: u64, age_s: u64) -> Request {
        let nonce = format!("nonce{}", self.nonces.replace(self.nonces.get() + 1));
        let timestamp = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() - age_s;
        let body =
            format!(r#"{{"mchid":"1900007291","amount":{{"total":{amount_fen}}},"payer":{{"openid":"oUpF8"}}}}"#);
        let message = format!("POST\n/v3/pay/transactions/jsapi\n{timestamp}\n{nonce}\n{body}\n");
        let mut signature = [0; 256];
        self.key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature).unwrap();
        let authorization = format!(
            "WECHATPAY2-SHA256-RSA2048 mchid=\"1900007291\",nonce_str=\"{nonce}\",signature=\"{}\",\
             timestamp=\"{timestamp}\",serial_no=\"{SERIAL}\"",
            STANDARD.encode(signature)
        );
        Request { body, authorization }
    }

    fn send(&self, request: &Request) -> String {
        let mut stream = TcpStream::connect(self.rival.address()).unwrap();
        let Request { body, authorization } = request;
        write!(
            stream,
            "POST /v3/pay/transactions/jsapi HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Length: {}\r\nAuthorization: {authorization}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn status(&self, request: &Request) -> String {
        self.send(request).get(9..12).unwrap().to_owned()
    }

    fn pay(&self, amount_fen: u64) -> String {
        self.status(&self.request(amount_fen, 0))
    }
}

#[track_caller]
fn answers_as_a_gate_would(kind: Kind) {
    let Some(bench) = Bench::start(kind) else { return };
    let request = bench.request(100, 0);
    assert_eq!(bench.status(&request), "200");
    assert_eq!(bench.status(&request), "409", "the nonce was used");
    let mut forged = bench.request(100, 0);
    forged.body = forged.body.replace("100", "900");
    assert_eq!(bench.status(&forged), "401", "another body was signed");
    assert_eq!(bench.status(&bench.request(100, 310)), "401", "older than 300 seconds");
    assert_eq!(bench.status(&bench.request(100, 290)), "200");
    let refusal = bench.send(&bench.request(CEILINGS.customer_day_fen + 1, 0));
    assert!(refusal.starts_with("HTTP/1.1 403 ") && refusal.contains("RULE_LIMIT"), "{refusal}");
}

#[track_caller]
fn counts_what_was_admitted_and_nothing_else(kind: Kind) {
    let Some(bench) = Bench::start(kind) else { return };
    assert_eq!(bench.pay(CEILINGS.customer_day_fen - 5), "200");
    assert_eq!(bench.pay(6), "403");
    assert_eq!(bench.pay(5), "200", "a refused payment takes nothing");
    assert_eq!(bench.pay(1), "403");
}

#[test]
fn redis_answers_as_a_gate_would() {
    answers_as_a_gate_would(Kind::Redis);
}

#[test]
fn shared_dict_answers_as_a_gate_would() {
    answers_as_a_gate_would(Kind::SharedDict);
}

#[test]
fn redis_counts_what_was_admitted_and_nothing_else() {
    counts_what_was_admitted_and_nothing_else(Kind::Redis);
}

#[test]
fn shared_dict_counts_what_was_admitted_and_nothing_else() {
    counts_what_was_admitted_and_nothing_else(Kind::SharedDict);
}

#[test]
fn processor_time_includes_the_worker_and_redis() {
    let Some(bench) = Bench::start(Kind::Redis) else { return };
    let redis_before = bench.rival.redis.as_ref().unwrap().cpu_seconds().unwrap();
    let (nginx_before, before) = (bench.rival.nginx.cpu_seconds().unwrap(), bench.rival.cpu_seconds().unwrap());
    assert!(before >= nginx_before + redis_before);
    for _ in 0..20 {
        assert_eq!(bench.pay(1), "200");
    }
    assert!(bench.rival.redis.as_ref().unwrap().cpu_seconds().unwrap() > redis_before);
    // The master sleeps: what is added comes from the worker, which does 20 verifications.
    assert!(bench.rival.nginx.cpu_seconds().unwrap() > nginx_before + 20.0 * 20e-6);
}

#[test]
fn a_dropped_rival_listens_no_more() {
    let Some(bench) = Bench::start(Kind::Redis) else { return };
    let (address, socket) = (bench.rival.address(), bench.folder.path().join("redis.sock"));
    drop(bench.rival);
    assert!(TcpStream::connect(address).is_err());
    assert!(UnixStream::connect(socket).is_err());
}

#[test]
fn templates_leave_no_placeholder() {
    for kind in [Kind::Redis, Kind::SharedDict] {
        let nginx = nginx_conf(kind, SocketAddr::from((Ipv4Addr::LOCALHOST, 80)), "/tmp/rival");
        for text in [nginx, redis_conf("/tmp/rival")] {
            assert!(text.contains("/tmp/rival"));
            assert!(!text.contains('@'), "{text}");
        }
    }
    assert!(SCRIPTS.iter().all(|(_, text)| !text.contains('@')));
}

#[test]
fn public_keys_are_written_as_pem_of_64_columns() {
    let pem = public_key_pem(&[0; 49]);
    let line = "A".repeat(64);
    assert_eq!(pem, format!("-----BEGIN PUBLIC KEY-----\n{line}\nAA==\n-----END PUBLIC KEY-----\n"));
}

#[test]
fn names_that_would_need_quoting_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 80));
    let spaced = folder.path().join("a b");
    assert!(matches!(write_files(Kind::Redis, address, &[], &spaced), Err(RivalError::Folder { .. })));
    let key = [("../AB".to_owned(), vec![0; 4])];
    assert!(matches!(write_files(Kind::Redis, address, &key, folder.path()), Err(RivalError::Serial { .. })));
}
