//! Usage.

use super::*;

#[test]
fn usage_is_json_with_the_subject_as_an_object() {
    let gate = Running::usual();
    let query =
        "limit=customer-day&customer=%E5%BC%A0%E4%B8%89&merchant=1900000001&category=a%20b&appid=wx&openid=o%2B1";
    let answer = gate.get(&format!("/v1/usage?{query}"));
    assert_eq!(status(&answer), "200");
    assert!(answer.contains("content-type: application/json\r\n"));
    let expected = concat!(
        r#"[{"limit":"customer-day","unit":"fen","mode":"enforce","row":"0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f","#,
        r#""subject":{"merchant":"1900000001","customer":"张三"},"windows":["#,
        r#"{"window":"day","used":123456,"held":3456,"committed":120000,"ceiling":200000,"room":76544,"#,
        r#""ends":"2026-11-23T00:00:00+08:00"},"#,
        r#"{"window":"lifetime","used":123456,"held":3456,"committed":120000,"ceiling":null,"room":null,"ends":null}]},"#,
        r#"{"limit":"often","unit":"count","mode":"shadow","row":"1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e","#,
        r#""subject":{"customer":"a\u001b[31m"},"windows":["#,
        r#"{"window":"month","used":7,"held":0,"committed":7,"ceiling":5,"room":0,"ends":"2026-12-01T00:00:00+08:00"}]}]"#,
    );
    assert_eq!(body(&answer), expected);
    let asked = UsageQuery {
        limit: Some("customer-day".to_owned()),
        customer: Some("张三".to_owned()),
        merchant: Some("1900000001".parse().expect("merchant")),
        category: Some("a b".to_owned()),
        appid: Some("wx".to_owned()),
        openid: Some("o+1".to_owned()),
    };
    assert_eq!(gate.control.asked(), [Asked::Usage(asked)]);
    assert_eq!(status(&gate.get("/v1/usage")), "200");
    assert_eq!(gate.control.asked(), [Asked::Usage(UsageQuery::default())]);
    gate.stop();
}

#[test]
fn a_usage_that_cannot_be_told_says_what_to_change() {
    let gate = Running::usual();
    let merchant = "1900000009".parse().expect("merchant");
    for (fault, expected) in [
        (UsageFault::LimitUnknown("x".to_owned()), "404"),
        (UsageFault::MerchantUnknown(merchant), "404"),
        (UsageFault::SubjectMissing { limit: "x".to_owned(), part: "customer" }, "400"),
        (UsageFault::ClockOutOfRange, "503"),
    ] {
        *gate.control.usage_fault.lock().expect("lock") = Some(fault.clone());
        let answer = gate.get("/v1/usage?limit=x");
        assert_eq!((status(&answer), body(&answer)), (expected, format!("{fault}\n").as_str()));
        assert!(answer.contains("content-type: text/plain; charset=utf-8\r\n"));
    }
    gate.stop();
}

#[test]
fn a_query_that_is_not_understood_never_reaches_the_gate() {
    let gate = Running::usual();
    for query in ["?", "?limits=a", "?limit=a&limit=a", "?merchant=a%20b", "?limit=%zz", "?appid=a"] {
        let answer = gate.get(&format!("/v1/usage{query}"));
        assert_eq!(status(&answer), "400", "{query}");
    }
    let unknown = gate.get("/v1/usage?user=a");
    assert!(body(&unknown).contains("limit, customer, merchant, category, appid, openid"), "{unknown}");
    assert_eq!(status(&gate.ask("GET /v1/usage HTTP/1.1\r\nhost: gate\r\ncontent-length: 1\r\n\r\nx")), "413");
    assert_eq!(gate.control.asked(), []);
    gate.stop();
}
