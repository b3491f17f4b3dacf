//! What is forwarded is what was received and verified: method, target, body and end-to-end headers, byte for byte;
//! and nothing that a peer may not state.

use std::cell::RefCell;
use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tollgate::reason::Reason;

use crate::deployment::deployment;
use crate::gate::Gate;
use crate::raw::Message;
use crate::request::{ORDER, Request, authorization, unique};
use crate::upstream::{Act, Upstream, answer};

/// Headers by name, each with its values in order.
type Fields = BTreeMap<String, Vec<Vec<u8>>>;

fn fields<'a>(headers: impl IntoIterator<Item = &'a (String, Vec<u8>)>) -> Fields {
    let mut fields = Fields::new();
    for (name, value) in headers {
        fields.entry(name.to_ascii_lowercase()).or_default().push(value.clone());
    }
    fields
}

/// Compares what the upstream saw with what was sent; returns the decision that was named to it.
fn assert_same(sent: &Request, seen: &Message) -> String {
    assert_eq!((seen.method(), seen.target()), (sent.method.as_str(), sent.target.as_str()));
    assert_eq!(seen.first_line, format!("{} {} HTTP/1.1", sent.method, sent.target));
    assert_eq!(String::from_utf8_lossy(&seen.body), String::from_utf8_lossy(&sent.body));
    assert_eq!(seen.body, sent.body);
    let mut left = fields(&seen.headers);
    let authorization = left.remove("authorization").expect("the signature goes on");
    assert!(authorization.len() == 1 && String::from_utf8_lossy(&authorization[0]).contains(&sent.nonce));
    assert_eq!(left.remove("tollgate-merchant"), Some(vec![deployment().merchant.mchid.into()]));
    let decision = left.remove("tollgate-decision").expect("the decision is named");
    assert_eq!(decision.len(), 1, "exactly once");
    assert_eq!(left.remove("accept-encoding"), Some(vec![b"identity".to_vec()]), "whatever the client takes");
    let length = left.remove("content-length");
    assert_eq!(length.is_some(), !sent.body.is_empty() || sent.method == "POST", "framed anew");
    assert_eq!(left, fields(&sent.headers), "every other header, and no more");
    String::from_utf8(decision[0].clone()).expect("text")
}

/// Targets with every character that a target may have, percent-encoded in all spellings; the query keeps its order.
fn targets() -> impl Strategy<Value = String> {
    let piece = "[A-Za-z0-9._~!$'()*+,;=:@/?&-]|%[0-9a-fA-F]{2}";
    let number = "([0-9A-Za-z_*@-]|%4[1-9]|%7[c-c]|%7C|%2[aA]|%5[fF]){1,20}";
    let query = proptest::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat());
    // Where the query names the merchant, a key that could be decoded to that name is refused.
    let value = proptest::collection::vec("[A-Za-z0-9._~!$'()*+,=:@/?-]|%[0-9a-fA-F]{2}", 0..8);
    let pair = ("[a-z0-9_.]{1,6}", value).prop_map(|(key, value)| format!("{key}_={}", value.concat()));
    let pairs = proptest::collection::vec(pair, 0..6).prop_map(|pairs| pairs.join("&"));
    let mchid = deployment().merchant.mchid;
    prop_oneof![
        (number, pairs, any::<bool>()).prop_map(move |(number, query, first)| {
            let path = "/v3/pay/transactions/out-trade-no/";
            if first {
                format!("{path}{number}?mchid={mchid}&{query}")
            } else {
                format!("{path}{number}?{query}&mchid={mchid}")
            }
        }),
        query.prop_map(|query| format!("{ORDER}?{query}")),
    ]
}

/// Orders as JSON that means the same in many spellings: members in any order, blanks, escapes, unknown members.
fn orders() -> impl Strategy<Value = Vec<u8>> {
    let blank = || "[ \t\r\n]{0,3}";
    let text = "([ !#-\\[\\]-~\u{80}-\u{ffff}]|\\\\u[0-9a-cA-C][0-9a-f]{3}|\\\\[\"\\\\/bfnrt]){0,20}";
    let member = (text, text, blank(), blank());
    let extra = proptest::collection::vec(member, 0..4).prop_map(|members| {
        let numbered = members.into_iter().enumerate();
        let members =
            numbered.map(|(index, (name, value, one, other))| format!("\"{index}{name}\"{one}:{other}\"{value}\""));
        members.collect::<Vec<_>>()
    });
    let merchant = deployment().merchant.mchid;
    (extra, blank(), blank(), any::<prop::sample::Index>(), any::<bool>()).prop_map(
        move |(extra, one, other, turn, escaped)| {
            let appid = if escaped { "\\u0077x0000000000000001" } else { "wx0000000000000001" };
            let mut members = vec![
                format!("\"appid\":{one}\"{appid}\""),
                format!("\"mchid\"{one}:\"{merchant}\""),
                format!("\"out_trade_no\":\"{}\"", unique("p")),
                format!("\"amount\":{{\"currency\":\"CNY\",{other}\"total\"{one}:1{one}}}"),
                format!("{other}\"payer\":{{\"openid\":\"o\"}}"),
            ];
            members.extend(extra);
            let turn = turn.index(members.len());
            members.rotate_left(turn);
            format!("{one}{{{}}}{other}", members.join(&format!("{one},{other}"))).into_bytes()
        },
    )
}

/// End-to-end headers: some repeated, in any case, with any byte that a value may have.
fn headers() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
    let name = "(X-One|x-two|X_Three|Traceparent|Cookie|wechatpay-x|Content-Md5|ETag)";
    let byte = prop_oneof![0x20u8..=0x7e, 0x80u8..=0xff, Just(b'\t')];
    let value = proptest::collection::vec(byte, 0..40).prop_map(|value| value.trim_ascii().to_vec());
    proptest::collection::vec((name, value), 0..10)
}

#[test]
fn what_is_forwarded_is_what_was_received() {
    let upstream = Upstream::start();
    let gate = Gate::with(&upstream, |settings| settings.replace("limit", ""));
    let client = RefCell::new(gate.connect("public"));
    let body = prop_oneof![Just(Vec::new()), proptest::collection::vec(any::<u8>(), 1..200)];
    let strategy = (targets(), orders(), body, headers(), any::<bool>());
    let config = Config { cases: 96, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&strategy, |(target, order, any_bytes, headers, chunked)| {
        let request = if target.starts_with(ORDER) {
            Request::new("POST", &target, order)
        } else {
            Request::new("GET", &target, any_bytes)
        };
        let request = headers.into_iter().fold(request, |request, (name, value)| request.header(&name, value));
        let wire = if chunked { request.wire_in_chunks(7) } else { request.wire() };
        let before = upstream.seen().len();
        let reply = client.borrow_mut().ask_raw(&wire);
        prop_assert_eq!(reply.status(), 200, "{:?} {:?}", reply, request.target);
        let seen = upstream.seen();
        prop_assert_eq!(seen.len(), before + 1);
        assert_same(&request, &seen[before]);
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn characters_that_are_unusual_in_a_target_go_on_as_they_came_or_not_at_all() {
    let upstream = Upstream::start();
    let gate = Gate::before(&upstream);
    for unusual in
        ["{", "}", "|", "\"", "^", "\\", "`", "<", ">", "[", "]", "#", "%", "%zz", "é", "\u{7f}", ";", "//", "/../"]
    {
        let mut request = Request::query("a");
        request.target.push_str(&format!("&x={unusual}"));
        let mut client = gate.connect("public");
        client.send(&request.wire());
        let admitted = client.answer_if_any().is_some_and(|answer| answer.status() == 200);
        let seen = upstream.seen();
        assert_eq!(seen.iter().any(|message| message.target() == request.target), admitted, "{unusual:?}");
        assert!(seen.iter().all(|message| !message.target().contains('#')), "{unusual:?}");
    }
    let plain = upstream.seen().len();
    assert!(plain > 5, "only {plain} of them were forwarded");
}

#[test]
fn a_fragment_is_never_part_of_what_is_verified_or_forwarded() {
    let upstream = Upstream::start();
    let gate = Gate::before(&upstream);
    let with = Request { target: Request::query("a").target + "#fragment", ..Request::query("a") };
    let mut client = gate.connect("public");
    assert_eq!(client.ask(&with).status(), 401, "signed with the fragment");
    // Signed without it. hyper drops the fragment before the gate sees the target, which is then what was signed.
    let without = Request::query("a");
    let wire = String::from_utf8(without.wire()).expect("text").replacen(" HTTP/1.1", "#fragment HTTP/1.1", 1);
    assert_eq!(client.ask_raw(wire.as_bytes()).status(), 200);
    assert_eq!(upstream.seen().len(), 1);
    assert_same(&without, &upstream.seen()[0]);
}

#[test]
fn a_change_of_any_byte_that_was_signed_is_refused() {
    let upstream = Upstream::start();
    let gate = Gate::before(&upstream);
    let request = Request { body: b"0123456789".to_vec(), ..Request::query("bdf") };
    let wire = request.wire();
    let mut client = gate.connect("public");
    let head = wire.len() - request.body.len();
    let target = 4 + "/v3/pay/transactions/out-trade-no/".len();
    let in_target = target..target + 3;
    for index in in_target.chain(head..wire.len()) {
        let mut changed = wire.clone();
        changed[index] ^= 1;
        assert_eq!(client.ask_raw(&changed).status(), 401, "byte {index}");
    }
    let unsigned_body = Request { body: Vec::new(), ..Request::query("bdf") };
    let mut with_body = unsigned_body.wire();
    with_body.truncate(with_body.len() - 2);
    with_body.extend(b"Content-Length: 5\r\n\r\nhello");
    assert_eq!(client.ask_raw(&with_body).status(), 401, "a body that was not signed");
    assert!(upstream.seen().is_empty());
    assert_eq!(client.ask_raw(&wire).status(), 200, "none of these spent the nonce");
}

#[test]
fn forged_headers_are_stripped_and_the_gates_own_are_added_once() {
    let upstream = Upstream::start();
    let gate = Gate::before(&upstream);
    let facts = [
        ("Customer", "c-20018"),
        ("Channel", "quick_pay"),
        ("Instrument", "debit_card"),
        ("Account-Class", "ii"),
        ("Code-Grade", "b"),
        ("Authentication", "two_factors"),
        ("Scenario", "official_account"),
    ];
    let ask = |listener: &str, kept: &[(&str, &str)]| {
        let plain = Request::query("a");
        let mut request = plain.clone();
        for (name, value) in facts {
            request = request.header(&format!("Tollgate-{name}"), value).header(&format!("tollgate_{name}"), value);
        }
        for name in ["Decision", "Merchant", "Channel-Excluded", "Anything"] {
            request =
                request.header(&format!("Tollgate-{name}"), "forged").header(&format!("tollgate_{name}"), "forged");
        }
        request =
            request.header("TOLLGATE_Decision", "forged").header("Tollgate", "other").header("X-Tollgate-Y", "other");
        let before = upstream.seen().len();
        assert_eq!(gate.connect(listener).ask(&request).status(), 200);
        let seen = &upstream.seen()[before];
        let plain = plain.header("Tollgate", "other").header("X-Tollgate-Y", "other");
        let kept = kept.iter().fold(plain, |kept, (name, value)| kept.header(&format!("Tollgate-{name}"), value));
        assert_same(&kept, seen)
    };
    let one = ask("public", &[]);
    let other = ask("hop", &facts);
    assert!(one != other && one.len() >= 32, "decisions have ids of their own that cannot be guessed: {one} {other}");
}

#[test]
fn headers_that_concern_the_connection_only_stay_behind() {
    let upstream = Upstream::start();
    let gate = Gate::before(&upstream);
    let kept = Request::query("a").header("Wechatpay-Serial", deployment().platform_serial());
    let request = kept
        .clone()
        .header("Connection", "authorization, X-Private , Tollgate-Decision, host,user-agent")
        .header("Connection", "wechatpay-serial, accept, keep-alive")
        .header("X-Private", "1")
        .header("Keep-Alive", "timeout=5")
        .header("Proxy-Connection", "keep-alive")
        .header("Proxy-Authorization", "Basic x")
        .header("TE", "trailers")
        .header("Trailer", "X-Later")
        .header("Upgrade", "h2c")
        .header("HTTP2-Settings", "AAMAAABkAAQAAP__");
    assert_eq!(gate.connect("public").ask(&request).status(), 200);
    assert_same(&kept, &upstream.seen()[0]);
}

#[test]
fn answers_are_asked_for_uncompressed_since_they_are_read_and_signed() {
    let upstream = Upstream::start();
    let gate = Gate::before(&upstream);
    let plain = Request::query("a");
    let request = plain.clone().header("Accept-Encoding", "gzip, br").header("accept-encoding", "zstd, identity;q=0");
    assert_eq!(gate.connect("public").ask(&request).status(), 200);
    assert_same(&plain, &upstream.seen()[0]);
}

#[test]
fn trailers_are_dropped() {
    let upstream = Upstream::start();
    let gate = Gate::before(&upstream);
    let request = Request { body: b"hello".to_vec(), ..Request::query("a") };
    let mut wire = request.header("Trailer", "Tollgate-Decision").wire_in_chunks(2);
    wire.truncate(wire.len() - 2);
    wire.extend(b"Tollgate-Decision: forged\r\nHost: other\r\nX-Later: 1\r\n\r\n");
    let mut client = gate.connect("public");
    assert_eq!(client.ask_raw(&wire).status(), 200);
    assert_eq!(client.ask(&Request::query("b")).status(), 200, "the connection goes on behind them");
    assert_same(
        &Request { nonce: nonce_of(&wire), body: b"hello".to_vec(), ..Request::query("a") },
        &upstream.seen()[0],
    );
}

fn nonce_of(wire: &[u8]) -> String {
    let text = String::from_utf8_lossy(wire);
    text.split("nonce_str=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a nonce").to_owned()
}

#[test]
fn exactly_one_signature_header_is_taken() {
    let upstream = Upstream::start();
    let gate = Gate::before(&upstream);
    let signed = |nonce: &str| {
        let Request { method, target, body, .. } = Request::query("a");
        authorization(&deployment().merchant, &method, &target, nonce, &body)
    };
    let head = "GET /v3/pay/transactions/out-trade-no/a?mchid=1900000001 HTTP/1.1\r\nHost: a\r\n";
    let mut client = gate.connect("public");
    let mut ask = |headers: &str| client.ask_raw(format!("{head}{headers}\r\n").as_bytes()).status();
    assert_eq!(ask(&format!("Authorization: {}\r\n", signed(&unique("n")))), 200);
    let (one, other) = (signed(&unique("n")), signed(&unique("n")));
    for headers in [
        format!("Authorization: {one}\r\nAuthorization: {other}\r\n"),
        format!("Authorization: {one}\r\nAuthorization: {one}\r\n"),
        format!("Authorization: {one}\r\nauthorization: \r\n"),
        format!("Authorization: {one}, {other}\r\n"),
        format!("Authorization: Basic eA==, {one}\r\n"),
        format!("Proxy-Authorization: {one}\r\n"),
        format!("Authorization: {}\r\n", one.replace("mchid=", "mchid=\"1900000002\",mchid=")),
        String::new(),
    ] {
        assert_eq!(ask(&headers), 401, "{headers}");
    }
    assert_eq!(ask(&format!("Authorization: {one}\r\n")), 200, "none of these spent the nonce");
    assert_eq!(upstream.seen().len(), 2);
}

#[test]
fn a_path_that_is_not_a_routes_to_the_byte_is_not_forwarded() {
    let upstream = Upstream::start();
    let gate = Gate::before(&upstream);
    let mut client = gate.connect("public");
    for path in [
        "/v3/pay/transactions/%6asapi",
        "/v3/pay//transactions/jsapi",
        "/v3/pay/transactions/jsapi/",
        "/v3/pay/./transactions/jsapi",
        "/v3/pay/x/../transactions/jsapi",
        "/V3/pay/transactions/jsapi",
        "/v3%2fpay/transactions/jsapi",
        "/v3/pay/transactions/jsapi;x=1",
    ] {
        let request = Request { target: path.to_owned(), ..Request::order(&unique("o"), 1) };
        let refusal = client.ask(&request);
        assert_eq!((refusal.status(), refusal.body.len()), (404, 0), "{path}");
    }
    let request = Request { method: "PUT".to_owned(), ..Request::order(&unique("o"), 1) };
    let refusal = client.ask(&request);
    assert_eq!((refusal.status(), refusal.body.len()), (405, 0));
    assert!(upstream.seen().is_empty());
    assert_eq!((gate.refused(Reason::RouteUnknown), gate.refused(Reason::MethodNotAllowed)), (8, 1));
}

#[test]
fn the_upstream_is_told_the_host_that_is_configured() {
    let upstream = Upstream::start();
    let gate = Gate::with(&upstream, |settings| settings.set("upstream.host", "inside.example.com:81"));
    assert_eq!(gate.connect("public").ask(&Request::query("a")).status(), 200);
    assert_eq!(upstream.seen()[0].value("host"), Some("inside.example.com:81"));
}

#[test]
fn an_answer_comes_back_as_the_upstream_gave_it_but_for_what_concerns_its_connection() {
    let upstream = Upstream::start();
    let gate = Gate::before(&upstream);
    let headers = "Content-Type: text/plain\r\nX-One: 1\r\nX-One: 2\r\nRequest-ID: theirs\r\nConnection: x-hop\r\nX-Hop: 1\r\n\
                   Keep-Alive: timeout=5\r\nTrailer: X\r\n";
    upstream.then(Act::Answer(answer(202, headers, "{\"a\": 1 }\n")));
    let mut client = gate.connect("public");
    let came = client.ask(&Request::query("a"));
    assert_eq!((came.status(), came.body.as_slice()), (202, &b"{\"a\": 1 }\n"[..]));
    assert_eq!(came.values("x-one").collect::<Vec<_>>(), [b"1", b"2"]);
    assert_eq!((came.value("content-type"), came.value("request-id")), (Some("text/plain"), Some("theirs")));
    for name in ["x-hop", "keep-alive", "trailer", "connection"] {
        assert_eq!(came.value(name), None, "{name} is the upstream's affair");
    }
    assert_eq!(client.ask(&Request::query("b")).status(), 200, "the connection of the client goes on");
}

#[test]
fn a_change_of_protocols_by_the_upstream_is_not_passed_on() {
    let upstream = Upstream::start();
    let gate = Gate::before(&upstream);
    upstream
        .then(Act::Answer(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n".to_vec()));
    let mut client = gate.connect("public");
    client.send(&Request::query("a").wire());
    let answer = client.answer_if_any();
    assert!(answer.as_ref().is_none_or(|answer| answer.status() == 502), "{answer:?}");
    upstream.then(Act::Answer([&b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"[..], &answer_ok()].concat()));
    assert_eq!(gate.connect("public").ask(&Request::query("a")).status(), 200, "interim answers are passed over");
}

fn answer_ok() -> Vec<u8> {
    answer(200, "", "{}")
}
