//! API v2: who is refused and why, what an order number protects where there is no nonce, and what answers settle.

use md5::{Digest as _, Md5};
use proptest::prelude::*;
use ring::hmac;
use tollgate::admission::{Decision, Detail, Outcome};
use tollgate::merchant::{CertificateDemand, KeyOrigin, KeySpec, KeyStatus, LimitSpec, MerchantSpec, SubjectPart};
use tollgate::reason::Reason;
use tollgate::request::{Request, Trust, xml};
use tollgate::signature::VerifyingKey;
use tollgate::time::UnixMillis;
use tollgate::types::{Interface, KeyId, Md5Rule};

use crate::gate::{Gate, Setup, fen, limit, merchant_day};
use crate::signer::{Draft, NOW, mchid};

const SECRET: &str = "192006250b4c09247ec02edce69f6a2d";
const OTHER: &str = "0123456789abcdef0123456789abcdef";
const NONE: [(&str, &[u8]); 0] = [];

/// Parameters of a request, in the order in which they are written.
#[derive(Clone, Debug)]
struct Order {
    path: &'static str,
    fields: Vec<(String, String)>,
    secret: &'static str,
}

impl Order {
    fn new(path: &'static str, fields: &[(&str, &str)]) -> Self {
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let order = Self { path, fields, secret: SECRET };
        order.with("mch_id", &mchid(0)).with("nonce_str", "n").with("sign_type", "HMAC-SHA256")
    }

    fn unified(trade_type: &str, appid: &str, number: &str, total_fee: &str) -> Self {
        let fields = [("appid", appid), ("out_trade_no", number), ("total_fee", total_fee), ("trade_type", trade_type)];
        Self::new("/pay/unifiedorder", &fields)
    }

    fn native(number: &str, total_fee: &str) -> Self {
        Self::unified("NATIVE", "wx-native", number, total_fee)
    }

    fn micropay(number: &str, total_fee: &str) -> Self {
        Self::new(
            "/pay/micropay",
            &[("appid", "wx-code"), ("out_trade_no", number), ("total_fee", total_fee), ("auth_code", "13")],
        )
    }

    fn refund(number: &str, original: &str, refund_fee: &str) -> Self {
        let fields = [
            ("appid", "wx-code"),
            ("out_trade_no", original),
            ("out_refund_no", number),
            ("refund_fee", refund_fee),
            ("total_fee", "100"),
        ];
        Self::new("/secapi/pay/refund", &fields)
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.fields.retain(|(known, _)| known != name);
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.fields.retain(|(known, _)| known != name);
        self
    }

    fn md5(self) -> Self {
        self.with("sign_type", "MD5")
    }

    /// Signs by other code than the library's.
    fn sign(&self) -> String {
        let mut signed: Vec<_> =
            self.fields.iter().filter(|(name, value)| name != "sign" && !value.is_empty()).collect();
        signed.sort();
        let pairs: String = signed.iter().map(|(name, value)| format!("{name}={value}&")).collect();
        let message = format!("{pairs}key={}", self.secret);
        let hmac = self.fields.iter().any(|(name, value)| name == "sign_type" && value == "HMAC-SHA256");
        let bytes = if hmac {
            let key = hmac::Key::new(hmac::HMAC_SHA256, self.secret.as_bytes());
            hmac::sign(&key, message.as_bytes()).as_ref().to_vec()
        } else {
            Md5::digest(&message).to_vec()
        };
        bytes.iter().map(|byte| format!("{byte:02X}")).collect()
    }

    fn body(&self) -> String {
        let mut body = String::from("<xml>");
        let sign = self.sign();
        let fields = self.fields.iter().map(|(name, value)| (&**name, &**value));
        fields.chain([("sign", &*sign)]).for_each(|(name, value)| xml::element(&mut body, name, value));
        body + "</xml>"
    }
}

fn request<'a>(path: &'a str, body: &'a str) -> Request<'a> {
    Request {
        method: "POST",
        target: path,
        headers: &NONE,
        body: body.as_bytes(),
        trust: Trust::Public,
        peer: None,
        client_certificate: None,
        answer_key_known: true,
    }
}

fn secret(text: &str, md5: Md5Rule, status: KeyStatus) -> KeySpec {
    let key = VerifyingKey::wechatpay_v2(text.as_bytes().try_into().expect("32 bytes"), md5);
    KeySpec { id: KeyId::API_V2, key, origin: KeyOrigin::Bare, status }
}

fn keyed(md5: Md5Rule) -> impl FnOnce(&mut MerchantSpec) {
    move |merchant| merchant.keys.push(secret(SECRET, md5, KeyStatus::Active))
}

fn gate_of(limits: impl IntoIterator<Item = LimitSpec>, md5: Md5Rule) -> Gate {
    let mut setup = Setup::limited(limits).first(keyed(md5));
    for route in ["v2.refund", "v2.reverse"] {
        assert!(setup.routes.demand(route, CertificateDemand::None));
    }
    setup.gate()
}

fn gate() -> Gate {
    gate_of([merchant_day("day", 1000)], Md5Rule::NoPayouts)
}

fn decide(gate: &mut Gate, order: &Order) -> Decision {
    gate.decide(request(order.path, &order.body()))
}

#[track_caller]
fn admit(gate: &mut Gate, order: &Order) -> tollgate::admission::Admission {
    match decide(gate, order) {
        Decision::Admitted(admission) => admission,
        Decision::Refused(refusal) => panic!("refused {refusal:?} on {order:?}"),
    }
}

#[track_caller]
fn refuse(gate: &mut Gate, order: &Order) -> (Reason, bool, String) {
    match decide(gate, order) {
        Decision::Admitted(admission) => panic!("admitted {admission:?} on {order:?}"),
        Decision::Refused(refusal) => {
            let name = if let Detail::Parameter { name } = refusal.detail { name } else { String::new() };
            (refusal.reason, refusal.authentic.is_some(), name)
        }
    }
}

fn used(gate: &Gate) -> (u64, u64, u64) {
    gate.books("day")
}

#[test]
fn an_order_is_admitted_by_either_algorithm_and_charged() {
    let mut gate = gate();
    let hmac = admit(&mut gate, &Order::native("T1", "100"));
    assert_eq!((hmac.amount, hmac.skew_ms, hmac.interfaces.to_vec()), (fen(100), None, vec![Interface::Native]));
    hmac.settle(Outcome::Done);
    admit(&mut gate, &Order::native("T2", "10").md5()).settle(Outcome::Done);
    admit(&mut gate, &Order::native("T3", "1").without("sign_type")).settle(Outcome::Done);
    assert_eq!(used(&gate), (111, 111, 0), "created, and may yet be paid");
    gate.assert_conserved();
}

#[test]
fn the_trade_type_says_which_interface_an_order_comes_in_by_and_whether_its_customer_is_known() {
    let customer = LimitSpec { day: fen(100), ..limit("customer", &[SubjectPart::Customer]) };
    let mut gate = gate_of([customer], Md5Rule::Forbid);
    for (trade_type, appid, interface) in [
        ("JSAPI", "wx-jsapi", Interface::Jsapi),
        ("JSAPI", "wx-mini", Interface::MiniProgram),
        ("NATIVE", "wx-native", Interface::Native),
        ("APP", "wx-app", Interface::App),
        ("MWEB", "wx-h5", Interface::H5),
    ] {
        let order = Order::unified(trade_type, appid, &format!("T{appid}"), "60").with("openid", "o1");
        let admission = admit(&mut gate, &order);
        assert_eq!(admission.interfaces.to_vec(), [interface]);
        admission.settle(Outcome::Done);
    }
    // Only in JSAPI the openid is that of who pays; it belongs to an appid.
    for (trade_type, appid, full) in [
        ("JSAPI", "wx-jsapi", true),
        ("JSAPI", "wx-mini", true),
        ("NATIVE", "wx-native", false),
        ("APP", "wx-app", false),
    ] {
        let order = Order::unified(trade_type, appid, &format!("U{appid}"), "60").with("openid", "o1");
        let refused =
            matches!(decide(&mut gate, &order), Decision::Refused(refusal) if refusal.reason == Reason::LimitExceeded);
        assert_eq!(refused, full, "{trade_type} {appid}");
    }
    let mut fault = |order: Order| refuse(&mut gate, &order);
    let order = Order::unified("NATIVE", "wx-native", "T9", "1");
    assert_eq!(
        fault(order.clone().with("trade_type", "FAX")),
        (Reason::ParameterInvalid, true, "/trade_type".to_owned())
    );
    assert_eq!(fault(order.clone().without("trade_type")), (Reason::ParameterMissing, true, "/trade_type".to_owned()));
    assert_eq!(
        fault(order.with("appid", "wx-app")).0,
        Reason::InterfaceDenied,
        "the appid is approved for another one"
    );
}

#[test]
fn whoever_is_not_known_is_refused_alike() {
    let mut gate = gate();
    let order = Order::native("T1", "1");
    assert_eq!(
        refuse(&mut gate, &Order { secret: OTHER, ..order.clone() }),
        (Reason::SignatureInvalid, false, String::new())
    );
    assert_eq!(refuse(&mut gate, &order.clone().with("mch_id", "1999999999")).0, Reason::MerchantUnknown);
    assert_eq!(
        refuse(&mut gate, &order.clone().with("mch_id", &mchid(1))).0,
        Reason::KeyUnknown,
        "it has no API v2 key"
    );
    assert_eq!(refuse(&mut gate, &order.clone().without("mch_id")).0, Reason::AuthorizationMalformed);
    assert_eq!(refuse(&mut gate, &order.clone().with("sign_type", "SM3")).0, Reason::SchemeUnsupported);
    let unsigned = order.body().replace("sign>", "sing>");
    let refused = |gate: &mut Gate, body: &str| match gate.decide(request(order.path, body)) {
        Decision::Refused(refusal) => (refusal.reason, refusal.authentic),
        Decision::Admitted(admission) => panic!("admitted {admission:?}"),
    };
    assert_eq!(refused(&mut gate, &unsigned), (Reason::AuthorizationMissing, None));
    let twice = order.body().replace("<total_fee>", "<total_fee>9</total_fee><total_fee>");
    let typed = format!("<!DOCTYPE x [<!ENTITY e SYSTEM \"file:///etc/passwd\">]>{}", order.body());
    let nested = order.body().replace("<nonce_str>", "<nonce_str><b/>");
    for body in [&twice, &typed, &nested, "", "{}", &order.body()[1..]] {
        assert_eq!(refused(&mut gate, body), (Reason::BodyMalformed, None), "{body}");
    }
    assert_eq!(
        refused(&mut gate, &order.clone().with("spbill_create_ip", "1&total_fee=1").without("total_fee").body()),
        (Reason::BodyMalformed, None)
    );
    match gate.decide(request("/pay/unifiedorder?total_fee=9", &order.body())) {
        Decision::Refused(refusal) => assert_eq!((refusal.reason, refusal.authentic), (Reason::HeadInvalid, None)),
        Decision::Admitted(admission) => panic!("admitted {admission:?}"),
    }
    assert_eq!(used(&gate), (0, 0, 0));
}

#[test]
fn an_api_v3_key_signs_nothing_in_v2_and_the_secret_nothing_in_v3() {
    let mut gate = gate();
    let v3 = Draft { serial: "API_V2".to_owned(), ..Draft::native(0, "T1", 1) };
    assert_eq!(gate.reason(&v3), Reason::AuthorizationMalformed, "no request can name the secret");
    let mut without = Setup::default().gate();
    assert_eq!(refuse(&mut without, &Order::native("T1", "1")).0, Reason::KeyUnknown);
}

#[test]
fn md5_is_refused_where_the_key_or_the_route_says_so_once_the_signature_held() {
    let pay = Order::native("T1", "1").md5();
    let refund = Order::refund("R1", "T1", "1").md5();
    let reverse = Order::new("/secapi/pay/reverse", &[("out_trade_no", "T1")]).md5();
    for (rule, refused) in
        [(Md5Rule::Forbid, [true, true, true]), (Md5Rule::NoPayouts, [false, true, true]), (Md5Rule::Allow, [false; 3])]
    {
        let mut gate = gate_of([], rule);
        for (order, refused) in [&pay, &refund, &reverse].into_iter().zip(refused) {
            if refused {
                assert_eq!(
                    refuse(&mut gate, order),
                    (Reason::SignTypeForbidden, true, String::new()),
                    "{rule} {order:?}"
                );
                let forged = Order { secret: OTHER, ..order.clone() };
                assert_eq!(refuse(&mut gate, &forged).0, Reason::SignatureInvalid);
            } else {
                admit(&mut gate, order).settle(Outcome::Refused);
            }
            admit(&mut gate, &order.clone().with("sign_type", "HMAC-SHA256")).settle(Outcome::Refused);
        }
    }
    let mut gate = gate_of([], Md5Rule::Allow);
    let face = Order::new("/pay/facepay", &[("appid", "wx-face"), ("out_trade_no", "T1"), ("total_fee", "1")]);
    assert_eq!(refuse(&mut gate, &face.clone().md5()).0, Reason::SchemeUnsupported, "the protocol knows no MD5 there");
    assert_eq!(refuse(&mut gate, &face).0, Reason::AppidUnknown);
}

#[test]
fn a_new_secret_and_one_that_is_retiring_both_sign_until_the_instant_named() {
    let until = UnixMillis(NOW.0 + 60_000);
    let keys = [
        secret(SECRET, Md5Rule::Forbid, KeyStatus::Retiring { until }),
        secret(OTHER, Md5Rule::Allow, KeyStatus::Active),
    ];
    let mut gate = Setup::default().first(|merchant| merchant.keys.extend(keys)).gate();
    let (old, new) = (Order::native("T1", "1"), Order { secret: OTHER, ..Order::native("T2", "1") });
    admit(&mut gate, &old).settle(Outcome::Refused);
    admit(&mut gate, &new).settle(Outcome::Refused);
    admit(&mut gate, &new.clone().md5()).settle(Outcome::Refused);
    assert_eq!(refuse(&mut gate, &old.clone().md5()).0, Reason::SignTypeForbidden, "each key has a rule of its own");
    gate.pass(60);
    assert_eq!(refuse(&mut gate, &old).0, Reason::CertificateExpired);
    admit(&mut gate, &new).settle(Outcome::Refused);
    assert_eq!(
        refuse(&mut gate, &Order { secret: "x2006250b4c09247ec02edce69f6a2dx", ..old }).0,
        Reason::SignatureInvalid
    );
}

#[test]
fn a_route_that_demands_tls_certificates_demands_them_of_those_who_sign_with_a_secret() {
    let mut gate = Setup::default().first(keyed(Md5Rule::Allow)).gate();
    assert_eq!(refuse(&mut gate, &Order::refund("R1", "T1", "1")), (Reason::CertificateRequired, true, String::new()));
}

#[test]
fn an_order_number_is_what_protects_from_replay_and_so_it_must_be_there() {
    let mut gate = gate();
    let order = Order::native("T1", "100");
    let first = admit(&mut gate, &order);
    let (id, duplicate) = (first.id, first.duplicate);
    first.settle(Outcome::Done);
    for again in [order.clone(), order.clone().with("nonce_str", "other"), order.clone().md5()] {
        let admission = admit(&mut gate, &again);
        assert_eq!((admission.id, admission.duplicate, duplicate), (id, true, false));
        admission.settle(Outcome::Done);
    }
    assert_eq!(used(&gate), (100, 100, 0), "counted once");
    assert_eq!(refuse(&mut gate, &order.clone().with("total_fee", "101")).0, Reason::OrderNumberUsed);
    assert_eq!(
        refuse(&mut gate, &order.clone().with("trade_type", "APP").with("appid", "wx-app")).0,
        Reason::OrderNumberUsed
    );
    for missing in [order.clone().without("out_trade_no"), order.clone().with("out_trade_no", "")] {
        assert_eq!(refuse(&mut gate, &missing), (Reason::ParameterMissing, true, "/out_trade_no".to_owned()));
    }
    let refund = Order::refund("R1", "T1", "1").without("out_refund_no");
    assert_eq!(refuse(&mut gate, &refund), (Reason::ParameterMissing, true, "/out_refund_no".to_owned()));
    assert_eq!(gate.shared.nonces().len(), 0, "no nonce is kept of a scheme that has none");
}

#[test]
fn each_parameter_at_fault_is_named() {
    let mut gate = gate();
    let order = Order::native("T1", "100");
    let name = |order: &Order, gate: &mut Gate| refuse(gate, order);
    for amount in ["0", "01", "1.0", "+1", "-1", "1e2", "1 1", "x", "281474976710656"] {
        let fault = name(&order.clone().with("total_fee", amount), &mut gate);
        assert_eq!(fault, (Reason::ParameterInvalid, true, "/total_fee".to_owned()), "{amount}");
    }
    for (changed, reason, at) in [
        (order.clone().without("total_fee"), Reason::ParameterMissing, "/total_fee"),
        (order.clone().with("total_fee", ""), Reason::ParameterMissing, "/total_fee"),
        (order.clone().with("fee_type", "USD"), Reason::CurrencyUnsupported, "/fee_type"),
        (order.clone().without("appid"), Reason::ParameterMissing, "/appid"),
        (order.clone().with("out_trade_no", "a b"), Reason::ParameterInvalid, "order number"),
        (order.clone().with("sub_mch_id", "1900000009"), Reason::ParameterInvalid, "/sub_mch_id"),
        (order.clone().with("time_expire", "2026-11-22T12:00:00+08:00"), Reason::ParameterInvalid, "/time_expire"),
        (order.clone().with("time_expire", "20270122120001"), Reason::ParameterInvalid, "/time_expire"),
    ] {
        assert_eq!(name(&changed, &mut gate), (reason, true, at.to_owned()), "{changed:?}");
    }
    for (field, value) in [("total_fee", " 1"), ("openid", "o1 "), ("out_trade_no", "T1\n"), ("fee_type", " ")] {
        let trimmed = name(&order.clone().with(field, value), &mut gate);
        assert_eq!((trimmed.0, trimmed.1), (Reason::BodyMalformed, true), "some parsers trim it: {field}");
    }
    let folded = name(&order.clone().with("Total_fee", "1"), &mut gate);
    assert_eq!((folded.0, folded.1), (Reason::BodyMalformed, true), "some parsers take it for the amount");
    assert_eq!(refuse(&mut gate, &order.clone().with("appid", "wx-x")).0, Reason::AppidUnknown);
    assert_eq!(refuse(&mut gate, &order.clone().with("total_fee", "1001")).0, Reason::LimitExceeded);
    admit(&mut gate, &order.with("fee_type", "CNY").with("sub_mch_id", "").with("time_expire", "20261122130000"))
        .settle(Outcome::Refused);
}

/// Admits a request and lets the upstream answer it.
#[track_caller]
fn answer(gate: &mut Gate, order: &Order, body: &str) {
    admit(gate, order).answered(200, format!("<xml>{body}</xml>").as_bytes());
}

const DONE: &str = "<return_code>SUCCESS</return_code><result_code>SUCCESS</result_code>";

#[test]
fn an_answer_settles_by_its_codes_though_its_status_is_always_200() {
    let failed = |code: &str| {
        format!("<return_code>SUCCESS</return_code><result_code>FAIL</result_code><err_code>{code}</err_code>")
    };
    let mut gate = gate();
    answer(&mut gate, &Order::micropay("T1", "1"), DONE);
    assert_eq!(used(&gate), (1, 0, 1));
    answer(&mut gate, &Order::micropay("T2", "10"), &failed("AUTHCODEEXPIRE"));
    assert_eq!(used(&gate), (1, 0, 1), "given back");
    answer(&mut gate, &Order::micropay("T3", "100"), &failed("USERPAYING"));
    assert_eq!(used(&gate), (101, 100, 1), "held: it may yet be paid");
    let query = |number: &str| Order::new("/pay/orderquery", &[("appid", "wx-code"), ("out_trade_no", number)]);
    answer(
        &mut gate,
        &query("T3"),
        &format!("{DONE}<out_trade_no>T3</out_trade_no><trade_state>USERPAYING</trade_state>"),
    );
    assert_eq!(used(&gate), (101, 100, 1));
    answer(
        &mut gate,
        &query("T3"),
        &format!("{DONE}<out_trade_no>T3</out_trade_no><trade_state>SUCCESS</trade_state>"),
    );
    assert_eq!(used(&gate), (101, 0, 101));
    let reverse = Order::new("/secapi/pay/reverse", &[("appid", "wx-code"), ("out_trade_no", "T3")]);
    answer(&mut gate, &reverse, &failed("SYSTEMERROR"));
    assert_eq!(used(&gate), (101, 0, 101));
    answer(&mut gate, &reverse.clone().with("transaction_id", "42"), DONE);
    assert_eq!(used(&gate), (101, 0, 101), "it is the platform's id that counts, and that may be another payment's");
    answer(&mut gate, &reverse, DONE);
    assert_eq!(used(&gate), (1, 0, 1));
    gate.assert_conserved();
}

#[test]
fn a_close_releases_and_a_refund_gives_room_back_once_it_is_said_to_be_done() {
    let mut gate = gate();
    answer(&mut gate, &Order::native("T1", "100"), DONE);
    let close = Order::new("/pay/closeorder", &[("appid", "wx-native"), ("out_trade_no", "T1")]);
    answer(&mut gate, &close, "<return_code>FAIL</return_code><return_msg>x</return_msg>");
    assert_eq!(used(&gate), (100, 100, 0));
    answer(&mut gate, &close, DONE);
    assert_eq!(used(&gate), (0, 0, 0));
    answer(&mut gate, &Order::micropay("T2", "300"), DONE);
    answer(&mut gate, &Order::refund("R1", "T2", "100"), DONE);
    assert_eq!(used(&gate).0, 300, "it is asked for");
    let query = Order::new("/pay/refundquery", &[("appid", "wx-code"), ("out_refund_no", "R1")]);
    for _ in 0..2 {
        answer(
            &mut gate,
            &query,
            &format!("{DONE}<out_refund_no_0>R1</out_refund_no_0><refund_status_0>SUCCESS</refund_status_0>"),
        );
        assert_eq!(used(&gate).0, 200);
    }
    gate.assert_conserved();
}

#[test]
fn an_explanation_shows_what_is_signed_and_never_the_secret() {
    let gate = gate();
    let order = Order::native("T1", "100");
    let told = gate.shared.explain(&request(order.path, &order.body()), gate.now).to_string();
    assert!(told.contains("verdict: admitted") && told.contains("| appid=wx-native&mch_id=1900000000&"), "{told}");
    assert!(!told.contains(SECRET), "{told}");
    let md5 = Order::refund("R1", "T1", "1").md5();
    let told = gate.shared.explain(&request(md5.path, &md5.body()), gate.now).to_string();
    assert!(told.contains("REFUSED sign_type_forbidden"), "{told}");
    assert!(gate.shared.check_head(&request(order.path, ""), gate.now).is_ok(), "the head says nothing of who signed");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn whatever_byte_of_a_signed_body_is_changed_it_is_refused_or_says_the_very_same(
        at: prop::sample::Index, mask in 1..=u8::MAX, md5: bool,
    ) {
        let mut gate = gate();
        let order = Order::unified("JSAPI", "wx-jsapi", "T1", "100").with("openid", "o1").with("body", "<&> é");
        let order = if md5 { order.md5() } else { order };
        let original = admit(&mut gate, &order);
        let said = (original.id, original.amount, original.interfaces.to_vec());
        original.settle(Outcome::Done);
        let mut body = order.body().into_bytes();
        let at = at.index(body.len());
        body[at] ^= mask;
        let request = Request { body: &body, ..request(order.path, "") };
        if let Decision::Admitted(changed) = gate.decide(request) {
            prop_assert_eq!((changed.id, changed.amount, changed.interfaces.to_vec()), said);
            changed.settle(Outcome::Done);
        }
        prop_assert_eq!(used(&gate), (100, 100, 0));
    }
}
