use super::*;
use crate::request::{Headers, Trust};

const GOOD: &str = r#"WECHATPAY2-SHA256-RSA2048 mchid="1900000001",nonce_str="n-1",timestamp="1795321960",serial_no="00aB",signature="QQ==""#;

/// Header lines, each with its name and its value.
struct Lines(Vec<(&'static str, Vec<u8>)>);

impl Headers for Lines {
    fn each<'a>(&'a self, name: &str, visit: &mut dyn FnMut(&'a [u8])) {
        self.0.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name)).for_each(|(_, value)| visit(value));
    }
}

fn lines(values: &[&str]) -> Lines {
    Lines(values.iter().map(|value| ("Authorization", value.as_bytes().to_vec())).collect())
}

fn request(headers: &Lines) -> Request<'_> {
    Request {
        method: "POST",
        target: "/v3/pay?x=%2F",
        headers,
        body: b"{}\n",
        trust: Trust::Public,
        peer: None,
        client_certificate: None,
        answer_key_known: true,
    }
}

/// Extracts from a header value and gives the fields and the joined message.
fn extract(header: &str) -> Result<(String, String, Option<i64>, String, String), ExtractError> {
    let headers = lines(&[header]);
    let extracted = WechatPayV3::new().extract(&request(&headers))?;
    let message = String::from_utf8(extracted.message.to_vec()).expect("text");
    let nonce = extracted.nonce.expect("a nonce").to_owned();
    Ok((extracted.merchant.to_string(), extracted.key.to_string(), extracted.timestamp_s, nonce, message))
}

#[test]
fn extract_reads_the_fields_and_takes_the_message_from_the_request() {
    let (merchant, key, timestamp_s, nonce, message) = extract(GOOD).expect("well formed");
    assert_eq!(
        (merchant.as_str(), key.as_str(), timestamp_s, nonce.as_str()),
        ("1900000001", "AB", Some(1795321960), "n-1")
    );
    assert_eq!(message, "POST\n/v3/pay?x=%2F\n1795321960\nn-1\n{}\n\n");
}

#[test]
fn extract_keeps_the_timestamp_as_sent_in_the_message() {
    let (_, _, timestamp_s, _, message) = extract(&GOOD.replace("1795321960", "007")).expect("digits");
    assert_eq!(timestamp_s, Some(7));
    assert!(message.contains("\n007\n"), "{message}");
}

#[test]
fn extract_takes_any_order_and_white_space_around_commas() {
    let (scheme, pairs) = GOOD.split_once(' ').expect("a space");
    let mut pairs: Vec<&str> = pairs.split(',').collect();
    let expected = extract(GOOD);
    for _ in 0..pairs.len() {
        pairs.rotate_left(1);
        for comma in [",", ", ", " ,", "\t , \t"] {
            assert_eq!(extract(&format!("{scheme} {}", pairs.join(comma))), expected);
        }
    }
}

#[test]
fn extract_takes_the_id_of_a_bare_key() {
    let (_, key, ..) = extract(&GOOD.replace("00aB", "PUB_KEY_ID_0119a")).expect("a key id");
    assert_eq!(key, "PUB_KEY_ID_0119a");
}

#[test]
fn extract_refuses_what_could_be_read_in_two_ways() {
    let long = |text: &str, count: usize| text.repeat(count);
    let bad = [
        GOOD.replace(r#"mchid="1900000001","#, ""),
        GOOD.replace(r#"mchid="#, r#"mchid="1900000002",mchid="#),
        GOOD.replace(r#"mchid="#, r#"brand_id="1",mchid="#),
        GOOD.replace("mchid", "MCHID"),
        GOOD.replace(r#""1900000001""#, "1900000001"),
        GOOD.replace(r#""1900000001""#, "'1900000001'"),
        GOOD.replace("1900000001", ""),
        GOOD.replace("1900000001", "19 00"),
        GOOD.replace("1900000001", "19é"),
        GOOD.replace("n-1", r#"n\"1"#),
        GOOD.replace("n-1", r"n\1"),
        GOOD.replace("n-1", "n 1"),
        GOOD.replace("n-1", ""),
        GOOD.replace("n-1", &long("n", NONCE_BYTES_MAX + 1)),
        GOOD.replace("1795321960", "+1795321960"),
        GOOD.replace("1795321960", "-1"),
        GOOD.replace("1795321960", "1.5"),
        GOOD.replace("1795321960", "1234567890123"),
        GOOD.replace("1795321960", ""),
        GOOD.replace("00aB", "xyz"),
        GOOD.replace("00aB", "0"),
        GOOD.replace("QQ==", ""),
        GOOD.replace("QQ==", &long("A", SIGNATURE_BYTES_MAX + 1)),
        GOOD.replace("QQ==", &long("A", AUTHORIZATION_BYTES_MAX)),
        GOOD.replace(',', ",,"),
        GOOD.replace(',', ";"),
        GOOD.replace(',', " "),
        GOOD.replace("mchid=", "mchid ="),
        GOOD.replace("mchid=", " mchid="),
        format!("{GOOD},"),
        format!("{GOOD} "),
        format!("{GOOD}, Bearer x"),
        SCHEME.to_owned(),
        format!("{SCHEME} "),
        String::new(),
    ];
    for header in &bad {
        assert_eq!(extract(header), Err(ExtractError::Malformed), "{header}");
    }
}

#[test]
fn extract_takes_the_longest_nonce_and_signature_allowed() {
    for good in [
        GOOD.replace("n-1", &"n".repeat(NONCE_BYTES_MAX)),
        GOOD.replace("QQ==", &"A".repeat(SIGNATURE_BYTES_MAX)),
        GOOD.replace("1795321960", "123456789012"),
    ] {
        assert!(extract(&good).is_ok(), "{good}");
    }
}

#[test]
fn extract_tells_another_scheme_from_a_malformed_header() {
    for other in [
        "Bearer abc".to_owned(),
        "Bearer".to_owned(),
        " ".to_owned(),
        GOOD.replace("RSA2048", "RSA4096"),
        GOOD.replace("WECHATPAY2-SHA256-RSA2048", "WECHATPAY-BRAND-SHA256-RSA2048"),
        GOOD.replace("WECHATPAY2-SHA256-RSA2048", "WECHATPAY2-SM2-WITH-SM3"),
        GOOD.replace("WECHATPAY2", "wechatpay2"),
    ] {
        assert_eq!(extract(&other), Err(ExtractError::Unsupported), "{other}");
    }
}

#[test]
fn extract_wants_exactly_one_header() {
    let refusal = |headers: &Lines| WechatPayV3::new().extract(&request(headers)).err();
    assert_eq!(refusal(&lines(&[])), Some(ExtractError::Missing));
    assert_eq!(refusal(&lines(&[GOOD])), None);
    assert_eq!(refusal(&lines(&[GOOD, GOOD])), Some(ExtractError::Malformed));
    assert_eq!(refusal(&lines(&["", GOOD])), Some(ExtractError::Malformed));
    assert_eq!(refusal(&Lines(vec![("authorization", b"\xff\xfe".to_vec())])), Some(ExtractError::Malformed));
}

#[test]
fn extract_refuses_a_line_feed_that_would_move_the_lines() {
    let headers = lines(&[GOOD]);
    let scheme = WechatPayV3::new();
    let target = Request { target: "/a\n1795321960", ..request(&headers) };
    let method = Request { method: "POST\n/b", ..request(&headers) };
    assert_eq!(scheme.extract(&target).err(), Some(ExtractError::Malformed));
    assert_eq!(scheme.extract(&method).err(), Some(ExtractError::Malformed));
}

#[test]
fn sign_information_counts_bytes_and_shows_eight_characters() {
    let body = r#"{"微信支付":"图"}"#.as_bytes();
    let information = SignInformation::new("POST", "/v3/x", "1722492232", "n", body);
    assert_eq!(information.truncated_sign_message, "POST\n/v3/x\n1722492232\nn\n{\"微信支付\":\n");
    assert_eq!(information.sign_message_length, "POST\n/v3/x\n1722492232\nn\n\n".len() + body.len());

    let short = SignInformation::new("GET", "/v3/x", "1", "n", b"");
    assert_eq!((short.sign_message_length, short.truncated_sign_message.as_str()), (15, "GET\n/v3/x\n1\nn\n\n"));

    let emoji = SignInformation::new("POST", "/", "1", "n", "😀😀😀😀😀😀😀😀😀".as_bytes());
    assert!(emoji.truncated_sign_message.ends_with("\n😀😀😀😀😀😀😀😀\n"));
    let broken = SignInformation::new("POST", "/", "1", "n", &[0xff; 40]);
    assert!(broken.truncated_sign_message.ends_with(&format!("\n{}\n", "\u{fffd}".repeat(8))));
}

#[test]
fn answer_message_is_three_lines() {
    let message = answer_message("1", "n", b"");
    assert_eq!(message.to_vec(), b"1\nn\n\n");
}
