//! API v2 over sockets: what is forwarded, how refusals are written and signed, and what check mode makes of both.

use std::collections::BTreeMap;

use md5::{Digest as _, Md5};
use ring::hmac;
use tollgate::reason::Reason;
use tollgate::request::xml;

use crate::deployment::{deployment, write_secret};
use crate::gate::{Gate, Settings, THOUSAND_A_DAY};
use crate::raw::Message;
use crate::request::unique;
use crate::tls;
use crate::upstream::{Act, Upstream, answer};

/// Parameters of a request, in the order in which they are written.
#[derive(Clone)]
struct Order {
    path: &'static str,
    fields: Vec<(String, String)>,
    headers: String,
    secret: &'static str,
}

impl Order {
    fn new(path: &'static str, fields: &[(&str, &str)]) -> Self {
        let own = [
            ("appid", "wx0000000000000001"),
            ("mch_id", deployment().merchant.mchid),
            ("nonce_str", "n1"),
            ("sign_type", "HMAC-SHA256"),
        ];
        let fields = own.iter().chain(fields).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { path, fields, headers: "Content-Type: text/xml\r\n".to_owned(), secret: SECRET }
    }

    fn native(number: &str, fen: u64) -> Self {
        let fields =
            [("out_trade_no", number), ("total_fee", &fen.to_string()), ("trade_type", "NATIVE"), ("body", "<&> 茶")];
        Self::new("/pay/unifiedorder", &fields)
    }

    fn refund(number: &str) -> Self {
        Self::new(
            "/secapi/pay/refund",
            &[("out_trade_no", "T"), ("out_refund_no", number), ("refund_fee", "1"), ("total_fee", "1")],
        )
    }

    fn md5(mut self) -> Self {
        self.fields.retain(|(name, _)| name != "sign_type");
        self
    }

    fn body(&self) -> String {
        let fields: BTreeMap<_, _> = self.fields.iter().cloned().collect();
        let sign = sign(&fields, self.secret, fields.contains_key("sign_type"));
        let mut body = "<?xml version=\"1.0\"?>\n<xml>\n".to_owned();
        for (name, value) in self.fields.iter().map(|(name, value)| (&**name, &**value)).chain([("sign", &*sign)]) {
            xml::element(&mut body, name, value);
            body.push('\n');
        }
        body + "</xml>"
    }

    fn wire(&self) -> Vec<u8> {
        self.wire_with(&self.body())
    }

    fn wire_with(&self, body: &str) -> Vec<u8> {
        let Self { path, headers, .. } = self;
        format!(
            "POST {path} HTTP/1.1\r\nHost: pay.example.com\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into()
    }
}

/// Signs by other code than the gate's.
fn sign(fields: &BTreeMap<String, String>, secret: &str, hmac: bool) -> String {
    let signed = fields.iter().filter(|(name, value)| *name != "sign" && !value.is_empty());
    let pairs: String = signed.map(|(name, value)| format!("{name}={value}&")).collect();
    let message = format!("{pairs}key={secret}");
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let bytes =
        if hmac { hmac::sign(&key, message.as_bytes()).as_ref().to_vec() } else { Md5::digest(&message).to_vec() };
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// Reads an answer of API v2.
#[track_caller]
fn fields(answer: &Message) -> BTreeMap<String, String> {
    assert_eq!((answer.status(), answer.value("content-type")), (200, Some("text/xml; charset=utf-8")), "{answer:?}");
    assert!(answer.value("wechatpay-signature").is_none() && answer.value("request-id").is_some(), "{answer:?}");
    let document = xml::read(&answer.body).expect("flat XML");
    document.fields().map(|(name, value)| (name.to_owned(), value.into_owned())).collect()
}

/// Checks that a refusal is signed as its request was and repeats who asked; returns its code.
#[track_caller]
fn signed_code(answer: &Message, secret: &str, hmac: bool) -> String {
    let fields = fields(answer);
    assert_eq!(fields["sign"], sign(&fields, secret, hmac), "{fields:?}");
    let named = ["return_code", "result_code", "appid", "mch_id", "nonce_str"].map(|name| fields[name].as_str());
    assert_eq!(named, ["SUCCESS", "FAIL", "wx0000000000000001", deployment().merchant.mchid, "n1"]);
    assert!(!fields["err_code_des"].is_empty());
    fields["err_code"].clone()
}

/// Checks that a refusal tells a stranger nothing but that it failed.
#[track_caller]
fn assert_fails(answer: &Message) {
    let fields = fields(answer);
    assert_eq!((fields.len(), fields["return_code"].as_str()), (2, "FAIL"), "{fields:?}");
}

/// Gives the sample merchant an API v2 key.
fn keyed<'s>(settings: &'s mut Settings, secret: &str, more: &str) -> &'s mut Settings {
    let file = settings.folder().join(format!("{}.key", unique("apiv2")));
    write_secret(&file, secret);
    settings.add_to_merchant("key", &format!("apiv2_key_file = {file:?}\n{more}"))
}

fn gate(upstream: &Upstream, more: &str) -> Gate {
    Gate::with(upstream, |settings| keyed(settings.replace("limit", THOUSAND_A_DAY), SECRET, more))
}

/// Writes out what a service of API v2 answers.
fn done(fields: &str) -> Vec<u8> {
    let body = format!("<xml><return_code>SUCCESS</return_code><result_code>SUCCESS</result_code>{fields}</xml>");
    answer(200, "Content-Type: text/plain\r\n", &body)
}

#[test]
fn an_order_is_forwarded_byte_for_byte_and_its_answer_passes_on_as_it_is() {
    let upstream = Upstream::start();
    let gate = gate(&upstream, "status = \"active\"");
    let mut client = gate.connect("public");
    for order in [Order::native(&unique("o"), 1), Order::native(&unique("o"), 1).md5()] {
        upstream.then(Act::Answer(done("<code_url>weixin://x</code_url><sign>THEIRS</sign>")));
        let order = Order { headers: String::new(), ..order };
        let answer = client.ask_raw(&order.wire());
        assert_eq!((answer.status(), answer.value("content-type")), (200, Some("text/plain")));
        assert!(answer.body.ends_with(b"<sign>THEIRS</sign></xml>") && answer.value("wechatpay-signature").is_none());
        let seen = upstream.seen().pop().expect("the order");
        assert_eq!((seen.method(), seen.target(), &*seen.body), ("POST", "/pay/unifiedorder", order.body().as_bytes()));
        assert_eq!(seen.value("tollgate-merchant"), Some(deployment().merchant.mchid));
        assert_eq!(seen.value("tollgate-decision").map(str::len), Some(32));
    }
}

#[test]
fn a_refusal_of_who_is_known_is_signed_as_its_request_was() {
    let upstream = Upstream::start();
    let gate = gate(&upstream, "md5 = \"allow\"\nstatus = \"active\"");
    let mut client = gate.connect("public");
    for (hmac, order) in [(true, Order::native(&unique("o"), 1001)), (false, Order::native(&unique("o"), 1001).md5())] {
        let refusal = client.ask_raw(&order.wire());
        assert_eq!(signed_code(&refusal, SECRET, hmac), "RULE_LIMIT");
        let field = |number: &str, name: &str, value: &str| {
            let mut order = Order { fields: order.fields.clone(), ..Order::native(number, 1) };
            order.fields.retain(|(known, _)| known != name);
            order.fields.push((name.to_owned(), value.to_owned()));
            order
        };
        for (order, code) in [
            (field("a", "out_trade_no", ""), "LACK_PARAMS"),
            (field("a", "total_fee", "1.0"), "PARAM_ERROR"),
            (field("a", "trade_type", "APP"), "NOAUTH"),
        ] {
            assert_eq!(signed_code(&client.ask_raw(&order.wire()), SECRET, hmac), code);
        }
        assert_eq!(
            signed_code(&client.ask_raw(&Order { path: "/secapi/pay/refund", ..order }.wire()), SECRET, hmac),
            "CA_ERROR"
        );
    }
    let number = unique("o");
    upstream.then(Act::Answer(done("")));
    assert_eq!(client.ask_raw(&Order::native(&number, 1).wire()).status(), 200);
    assert_eq!(signed_code(&client.ask_raw(&Order::native(&number, 2).wire()), SECRET, true), "OUT_TRADE_NO_USED");
    let english = Order { headers: "Accept-Language: en\r\n".to_owned(), ..Order::native(&unique("o"), 1001) };
    assert!(fields(&client.ask_raw(&english.wire()))["err_code_des"].contains("the amount exceeds a limit"));
    assert_eq!(upstream.seen().len(), 1);
}

#[test]
fn a_stranger_is_told_that_it_failed_and_nothing_is_signed() {
    let upstream = Upstream::start();
    let gate = Gate::with(&upstream, |settings| {
        keyed(settings.set("bounds.body_bytes_max", 1024), SECRET, "status = \"active\"")
    });
    let order = Order::native(&unique("o"), 1);
    let mut client = gate.connect("public");
    let forged = client.ask_raw(&Order { secret: OTHER, ..order.clone() }.wire());
    assert_fails(&forged);
    assert_eq!(fields(&forged)["return_msg"], "签名错误");
    let tampered = order.body().replace("<![CDATA[1]]>", "<![CDATA[2]]>");
    let twice = order.body().replace("</xml>", "<total_fee>1</total_fee></xml>");
    let typed = order.body().replace("<xml>", "<!DOCTYPE x [<!ENTITY e SYSTEM \"file:///etc/passwd\">]><xml>");
    for body in [tampered, twice, typed, "{}".to_owned(), String::new(), order.body().replace("mch_id", "mchid")] {
        assert_fails(&client.ask_raw(&order.wire_with(&body)));
    }
    assert_eq!(gate.refused(Reason::BodyMalformed), 4);
    assert_fails(&client.ask_raw(&order.wire_with(&" ".repeat(1025))));
    assert!(upstream.seen().is_empty());
    let get = String::from_utf8(order.wire()).expect("text").replacen("POST", "GET", 1);
    let refused = gate.connect("public").ask_raw(get.as_bytes());
    assert_eq!((refused.status(), refused.body.len()), (405, 0), "no route, so nobody's words");
}

#[test]
fn what_becomes_of_an_admitted_order_that_cannot_be_forwarded_is_told_signed() {
    let mut settings = Settings::new();
    keyed(&mut settings, SECRET, "status = \"active\"");
    let gate = Gate::start(settings);
    let answer = gate.connect("public").ask_raw(&Order::native(&unique("o"), 1).wire());
    assert_eq!(signed_code(&answer, SECRET, true), "SYSTEMERROR");
    assert_eq!(gate.refused(Reason::UpstreamUnreachable), 1);
}

#[test]
fn check_mode_answers_by_the_status_and_in_json_whatever_the_scheme() {
    let upstream = Upstream::start();
    let gate = gate(&upstream, "md5 = \"forbid\"\nstatus = \"active\"");
    for listener in ["check", "open"] {
        let mut client = gate.connect(listener);
        let order = Order::native(&unique("o"), 1);
        let verdicts = [client.ask_raw(&order.wire()), client.ask_raw(&order.wire())];
        let [first, second] = verdicts.map(|verdict| {
            assert_eq!(verdict.status(), 200, "{verdict:?}");
            verdict.json()
        });
        assert_eq!(
            (&first["decision"], &second["duplicate"]),
            (&second["decision"], &true.into()),
            "one order, one decision"
        );
        for (order, status, code) in [
            (Order { secret: OTHER, ..order.clone() }, 401, "SIGN_ERROR"),
            (order.clone().md5(), 401, "SIGN_ERROR"),
            (Order::native(&unique("o"), 1001), 403, "RULE_LIMIT"),
            (Order::refund("R"), 403, "NO_AUTH"),
        ] {
            let refusal = client.ask_raw(&order.wire());
            assert_eq!((refusal.status(), refusal.json()["code"].as_str()), (status, Some(code)), "{refusal:?}");
            assert!(refusal.json()["message"].as_str().is_some_and(|told| !told.contains("Authorization")));
        }
    }
    assert!(gate.refused(Reason::SignTypeForbidden) == 2 && upstream.seen().is_empty());
}

#[test]
fn a_refund_is_forwarded_of_who_shows_its_certificate_by_tls() {
    let upstream = Upstream::start();
    let gate = gate(&upstream, "status = \"active\"");
    upstream.then(Act::Answer(done("<refund_id>1</refund_id>")));
    let mut client = tls::connect(&gate, &tls::of(&deployment().merchant));
    let answer = client.ask_raw(&Order::refund(&unique("R")).wire());
    assert!(answer.status() == 200 && crate::raw::find(&answer.body, b"refund_id").is_some(), "{answer:?}");
    assert_eq!(
        signed_code(&client.ask_raw(&Order::refund(&unique("R")).md5().wire()), SECRET, false),
        "SIGNERROR",
        "it pays out"
    );
    let mut without = tls::connect(&gate, &tls::options());
    assert_eq!(signed_code(&without.ask_raw(&Order::refund(&unique("R")).wire()), SECRET, true), "CA_ERROR");
    assert_eq!(upstream.seen().len(), 1);
}

#[test]
fn a_secret_is_replaced_by_a_reload_and_answers_are_signed_with_the_one_that_was_used() {
    let upstream = Upstream::start();
    let mut gate = gate(&upstream, "status = \"retiring\"\nuntil = \"2999-01-01T00:00:00Z\"");
    let new = || Order { secret: OTHER, ..Order::native(&unique("o"), 1001) };
    assert_fails(&gate.connect("public").ask_raw(&new().wire()));
    gate.reload(|settings| keyed(settings, OTHER, "status = \"active\"")).expect("a reload");
    let mut client = gate.connect("public");
    assert_eq!(signed_code(&client.ask_raw(&new().wire()), OTHER, true), "RULE_LIMIT");
    assert_eq!(signed_code(&client.ask_raw(&Order::native(&unique("o"), 1001).wire()), SECRET, true), "RULE_LIMIT");
}

#[test]
fn an_order_number_counts_once_after_a_restart_too() {
    let upstream = Upstream::start();
    let mut gate = gate(&upstream, "status = \"active\"");
    let wire = Order::native(&unique("o"), 600).wire();
    let first = gate.connect("check").ask_raw(&wire).json();
    gate.restart();
    let second = gate.connect("check").ask_raw(&wire).json();
    assert_eq!((&first["decision"], &second["duplicate"]), (&second["decision"], &true.into()));
    assert_eq!(gate.connect("check").ask_raw(&Order::native(&unique("o"), 401).wire()).status(), 403, "600 are taken");
}

const SECRET: &str = "192006250b4c09247ec02edce69f6a2d";
const OTHER: &str = "0123456789abcdef0123456789abcdef";
