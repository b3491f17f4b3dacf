use proptest::prelude::*;
use serde_json::Value as Oracle;

use super::*;

fn wanted(pointers: &[&str]) -> Wanted {
    Wanted::new(pointers).expect("pointers")
}

/// Reads one integer.
fn amount(document: &str) -> Result<Option<u64>, JsonError> {
    read(document.as_bytes(), &wanted(&["/amount/total"]))?.integer(0)
}

/// Reads one string.
fn order(document: &str) -> Result<Option<String>, JsonError> {
    Ok(read(document.as_bytes(), &wanted(&["/out_trade_no"]))?.string(0)?.map(Cow::into_owned))
}

#[test]
fn read_finds_members_by_the_position_of_their_pointer() {
    let document = br#" {"a":1, "b":{"c":"x","d":[{"c":"no"}],"e":{"c":"no"}},"f~/":"y"} "#;
    let found = read(document, &wanted(&["/f~0~1", "/b/c", "/a", "/none", "/b/none/c", "/b/c"])).expect("an object");
    assert_eq!(found.string(0), Ok(Some("y".into())));
    assert_eq!(found.string(1), Ok(Some("x".into())));
    assert_eq!(found.string(5), Ok(Some("x".into())));
    assert_eq!(found.integer(2), Ok(Some(1)));
    assert_eq!((found.string(3), found.integer(4), found.string(16)), (Ok(None), Ok(None), Ok(None)));
    assert_eq!((found.integer(1), found.string(2)), (wrong(1), wrong(2)));
}

fn wrong<T>(index: usize) -> Result<T, JsonError> {
    Err(JsonError::WrongType { index })
}

#[test]
fn string_is_borrowed_unless_it_has_escapes() {
    let found =
        read(r#"{"a":"é","b":"\u00e9\ud83d\ude00\n\/"}"#.as_bytes(), &wanted(&["/a", "/b"])).expect("an object");
    assert!(matches!(found.string(0), Ok(Some(Cow::Borrowed("é")))));
    assert_eq!(found.string(1), Ok(Some("é😀\n/".into())));
}

#[test]
fn integer_takes_plain_integers_only() {
    let table = [
        ("0", Ok(Some(0))),
        ("100", Ok(Some(100))),
        ("18446744073709551615", Ok(Some(u64::MAX))),
        ("18446744073709551616", Err(JsonError::Number { index: 0 })),
        ("99999999999999999999999999", Err(JsonError::Number { index: 0 })),
        ("1e2", Err(JsonError::Number { index: 0 })),
        ("1E2", Err(JsonError::Number { index: 0 })),
        ("1.0", Err(JsonError::Number { index: 0 })),
        ("100.00", Err(JsonError::Number { index: 0 })),
        ("-1", Err(JsonError::Number { index: 0 })),
        ("-0", Err(JsonError::Number { index: 0 })),
        ("1e400", Err(JsonError::Number { index: 0 })),
        ("\"1\"", wrong(0)),
        ("null", wrong(0)),
        ("true", wrong(0)),
        ("[1]", wrong(0)),
        ("{}", wrong(0)),
        ("+1", Err(JsonError::Syntax { offset: 19 })),
        ("01", Err(JsonError::Syntax { offset: 20 })),
        ("1.", Err(JsonError::Syntax { offset: 21 })),
        (".5", Err(JsonError::Syntax { offset: 19 })),
        ("0x10", Err(JsonError::Syntax { offset: 20 })),
        ("NaN", Err(JsonError::Syntax { offset: 19 })),
        ("Infinity", Err(JsonError::Syntax { offset: 19 })),
        ("１", Err(JsonError::Syntax { offset: 19 })),
        ("1_000", Err(JsonError::Syntax { offset: 20 })),
    ];
    for (number, expected) in table {
        assert_eq!(amount(&format!(r#"{{"amount":{{"total":{number}}}}}"#)), expected, "{number}");
    }
}

#[test]
fn a_parent_that_is_no_object_is_a_wrong_type() {
    for parent in ["5", "null", "true", "\"total\"", "[]", r#"[{"total":1}]"#] {
        assert_eq!(amount(&format!(r#"{{"amount":{parent}}}"#)), wrong(0), "{parent}");
    }
    assert_eq!(amount(r#"{"amount":{}}"#), Ok(None));
    assert_eq!(amount("{}"), Ok(None));
}

#[test]
fn a_pointer_may_end_on_the_way_of_another() {
    let wanted = wanted(&["/amount", "/amount/total"]);
    let deep = read(br#"{"amount":{"total":7}}"#, &wanted).expect("an object");
    assert_eq!((deep.integer(0), deep.integer(1)), (wrong(0), Ok(Some(7))));
    let flat = read(br#"{"amount":7}"#, &wanted).expect("an object");
    assert_eq!((flat.integer(0), flat.integer(1)), (Ok(Some(7)), wrong(1)));
}

#[test]
fn a_repeated_key_is_refused_on_the_way_to_a_wanted_member() {
    for (document, offset) in [
        (r#"{"amount":{"total":1},"amount":{"total":2}}"#, 22),
        (r#"{"amount":{"total":1,"total":1}}"#, 21),
        (r#"{"amount":{"total":1},"amount":null}"#, 22),
        (r#"{"amount":{"total":1,"tot\u0061l":2}}"#, 21),
        (r#"{"am\u006funt":{"total":1},"amount":{"total":2}}"#, 27),
    ] {
        assert_eq!(amount(document), Err(JsonError::Repeated { offset }), "{document}");
    }
    // Elsewhere a repetition changes nothing that anybody reads.
    assert_eq!(amount(r#"{"x":{"total":3},"x":[{"total":4}],"amount":{"total":1,"y":0,"y":0}}"#), Ok(Some(1)));
}

#[test]
fn a_key_like_a_wanted_one_but_for_case_is_refused() {
    for (document, offset) in [
        (r#"{"Amount":{"total":2}}"#, 1),
        (r#"{"amount":{"total":1},"AMOUNT":{"total":2}}"#, 22),
        (r#"{"amount":{"total":1,"Total":2}}"#, 21),
        (r#"{"amount":{"total":1,"\u0054otal":2}}"#, 21),
    ] {
        assert_eq!(amount(document), Err(JsonError::Ambiguous { offset }), "{document}");
    }
    for key in ["ſub_mchid", r"\u017fub_mchid", "SUB_mchid"] {
        let document = format!(r#"{{"{key}":"1"}}"#);
        let refused = read(document.as_bytes(), &wanted(&["/sub_mchid"])).map(|_| ());
        assert_eq!(refused, Err(JsonError::Ambiguous { offset: 1 }), "{document}");
    }
    assert!(read("{\"to\u{212a}en\":1}".as_bytes(), &wanted(&["/token"])).is_err());
    assert_eq!(amount(r#"{"amounts":1,"amoun":1,"amoünt":1,"":1,"amount":{"total":1}}"#), Ok(Some(1)));
}

#[test]
fn an_escaped_key_counts_as_the_key() {
    assert_eq!(amount(r#"{"am\u006funt":{"\u0074\u006F\u0074al":9}}"#), Ok(Some(9)));
    assert_eq!(order(r#"{"out\u005ftrade_no":"\"\\\/\b\f\n\r\t\u0000"}"#), Ok(Some("\"\\/\u{8}\u{c}\n\r\t\0".into())));
}

#[test]
fn half_a_surrogate_pair_is_refused() {
    for half in [r"\ud800", r"\udc00", r"\ud800x", r"\ud800\n", r"\ud800\ud800", r"\udc00\ud800", r"\ud83d\u0041"] {
        for document in [format!(r#"{{"x":"{half}"}}"#), format!(r#"{{"{half}":1}}"#)] {
            assert!(matches!(order(&document), Err(JsonError::Surrogate { .. })), "{document}");
        }
    }
    assert_eq!(order(r#"{"out_trade_no":"\uD83D\uDE00\ud7ff\ue000"}"#), Ok(Some("😀\u{d7ff}\u{e000}".into())));
    assert_eq!(order(r#"{"out_trade_no":"\udbff\udfff\ud800\udc00"}"#), Ok(Some("\u{10ffff}\u{10000}".into())));
}

#[test]
fn nothing_but_white_space_may_follow() {
    for tail in ["{}", ",", "x", "\0", "\u{a0}", "\u{b}", "//", "]"] {
        let document = format!("{{}}{tail}");
        assert_eq!(check(document.as_bytes()), Err(JsonError::Syntax { offset: 2 }), "{document}");
        assert!(order(&document).is_err());
    }
    assert_eq!(check(b" \t\r\n{}\t\r\n "), Ok(()));
}

#[test]
fn the_whole_document_is_checked_behind_the_last_wanted_member() {
    let good = r#"{"out_trade_no":"1","x":[1,{"y":"z"}]}"#;
    assert_eq!(order(good), Ok(Some("1".into())));
    for end in 20..good.len() {
        assert_eq!(order(&good[..end]), Err(JsonError::Syntax { offset: end }), "{}", &good[..end]);
    }
}

#[test]
fn read_wants_an_object() {
    for document in ["[]", "1", "null", r#""x""#, r#"[{"out_trade_no":"1"}]"#] {
        assert_eq!(order(document), Err(JsonError::NotObject), "{document}");
        assert_eq!(check(document.as_bytes()), Ok(()));
    }
    assert_eq!(order(""), Err(JsonError::Syntax { offset: 0 }));
    assert_eq!(order("[1"), Err(JsonError::Syntax { offset: 2 }));
}

#[test]
fn depth_is_capped() {
    let nested = |open: &str, close: &str, depth: usize| format!("{}0{}", open.repeat(depth), close.repeat(depth));
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}"), (r#"[{"a":"#, "}]")] {
        let step = open.matches(['[', '{']).count();
        assert_eq!(check(nested(open, close, DEPTH_MAX / step).as_bytes()), Ok(()));
        assert_eq!(check(nested(open, close, DEPTH_MAX / step + 1).as_bytes()), Err(JsonError::Depth));
        assert_eq!(check(open.repeat(100_000).as_bytes()), Err(JsonError::Depth));
    }
}

#[test]
fn bytes_that_are_not_utf8_are_refused() {
    for (bytes, offset) in [(&b"{\"a\":\"\xff\"}"[..], 6), (b"{\"\xc0\xaf\":1}", 2), (b"\xef\xbb\xbf{\xed\xa0\x80}", 4)]
    {
        assert_eq!(check(bytes), Err(JsonError::NotUtf8 { offset }));
    }
    assert_eq!(check("\u{feff}{}".as_bytes()), Err(JsonError::Syntax { offset: 0 }));
}

#[test]
fn wanted_refuses_what_it_cannot_find() {
    let refusal = |pointers: &[&str]| Wanted::new(pointers).err();
    assert_eq!(refusal(&["/a", "b"]), Some(WantedError::Pointer { index: 1 }));
    assert_eq!(refusal(&[""]), Some(WantedError::Pointer { index: 0 }));
    assert_eq!(refusal(&["/a~2"]), Some(WantedError::Pointer { index: 0 }));
    assert_eq!(refusal(&["/a~"]), Some(WantedError::Pointer { index: 0 }));
    assert_eq!(refusal(&["/sub_orders/*/amount"]), Some(WantedError::Array { index: 0 }));
    assert_eq!(refusal(&["/a/b", "/A/c"]), Some(WantedError::Ambiguous { index: 1 }));
    assert_eq!(refusal(&[&"/a".repeat(DEPTH_MAX + 1)]), Some(WantedError::Depth { index: 0 }));
    assert_eq!(refusal(&["/a"; WANTED_MAX + 1]), Some(WantedError::TooMany));
    let long: Vec<String> = (0..WANTED_MAX).map(|first| format!("/{first}/a/b/c/d")).collect();
    let long: Vec<&str> = long.iter().map(String::as_str).collect();
    assert_eq!(refusal(&long), Some(WantedError::TooMany));
    assert_eq!(refusal(&long[..12]), None);
    assert_eq!(wanted(&["/a"; WANTED_MAX]).len(), WANTED_MAX);
}

/// Whether our oracle takes a document. It alone refuses numbers beyond a double, which the grammar allows, and it lets
/// documents be deeper.
fn oracle(document: &[u8]) -> Option<Result<Oracle, ()>> {
    match serde_json::from_slice(document) {
        Err(error) if error.to_string().starts_with("number out of range") => None,
        outcome => Some(outcome.map_err(|_| ())),
    }
}

/// Keys that are like wanted ones, or are.
fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("a".to_owned()),
        Just("b".to_owned()),
        Just("A".to_owned()),
        Just("a/~".to_owned()),
        Just("ключ".to_owned()),
        "[a-c]{0,2}",
        any::<String>()
    ]
}

fn value() -> impl Strategy<Value = Oracle> {
    let leaf = prop_oneof![
        Just(Oracle::Null),
        any::<bool>().prop_map(Oracle::from),
        any::<u64>().prop_map(Oracle::from),
        any::<i64>().prop_map(Oracle::from),
        any::<f64>().prop_map(Oracle::from),
        any::<String>().prop_map(Oracle::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Oracle::from),
            prop::collection::btree_map(key(), inner, 0..6).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

/// Writes a value with white space, and with some characters escaped.
fn write(value: &Oracle, salt: &mut u64, text: &mut String) {
    const SPACES: [&str; 8] = ["", "", "", "", " ", "\n", "\t", "\r\n"];
    let roll = |salt: &mut u64| {
        *salt = salt.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        usize::try_from(*salt >> 61).expect("3 bits")
    };
    text.push_str(SPACES[roll(salt)]);
    let string = |string: &str, salt: &mut u64, text: &mut String| {
        text.push('"');
        for character in string.chars() {
            let must = matches!(character, '"' | '\\' | '\0'..' ');
            if must || roll(salt) == 0 {
                character.encode_utf16(&mut [0; 2]).iter().for_each(|unit| text.push_str(&format!("\\u{unit:04x}")));
            } else {
                text.push(character);
            }
        }
        text.push('"');
    };
    match value {
        Oracle::String(value) => string(value, salt, text),
        Oracle::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                text.push_str(if index == 0 { "" } else { "," });
                write(item, salt, text);
            }
            text.push(']');
        }
        Oracle::Object(members) => {
            text.push('{');
            for (index, (key, member)) in members.iter().enumerate() {
                text.push_str(if index == 0 { "" } else { "," });
                string(key, salt, text);
                text.push_str(SPACES[roll(salt)]);
                text.push(':');
                write(member, salt, text);
            }
            text.push('}');
        }
        other => text.push_str(&other.to_string()),
    }
    text.push_str(SPACES[roll(salt)]);
}

/// Whether an object on the way to a wanted member has a key like a wanted one but for case.
fn ambiguous(document: &Oracle) -> bool {
    let folds = |object: &Oracle, names: &[&str]| {
        object.as_object().is_some_and(|members| {
            members.keys().any(|key| names.iter().any(|name| key != name && key.to_lowercase() == name.to_lowercase()))
        })
    };
    folds(document, &["a", "b", "a/~", "ключ"]) || document.get("a").is_some_and(|inner| folds(inner, &["a", "b"]))
}

const SIGNS: &[u8] = b"{}[],:\"\\u0123456789eE+-. tfn";

const POINTERS: [&str; 6] = ["/b", "/a/a", "/a~1~0", "/ключ", "/a/b", "/a"];

proptest! {
    #[test]
    fn read_finds_what_the_oracle_finds(document in value(), mut salt: u64) {
        let mut text = String::new();
        write(&document, &mut salt, &mut text);
        prop_assert_eq!(check(text.as_bytes()), Ok(()), "{}", text);
        prop_assert!(matches!(oracle(text.as_bytes()), Some(Ok(_))), "{}", text);
        let found = match read(text.as_bytes(), &wanted(&POINTERS)) {
            Err(refusal) => {
                let right = match refusal {
                    JsonError::NotObject => !document.is_object(),
                    JsonError::Ambiguous { .. } => ambiguous(&document),
                    _ => false,
                };
                prop_assert!(right, "{refusal} {text}");
                return Ok(());
            }
            Ok(found) => found,
        };
        for (index, pointer) in POINTERS.iter().enumerate() {
            let blocked = pointer.starts_with("/a/") && document.get("a").is_some_and(|a| !a.is_object());
            let (string, integer) = match document.pointer(pointer) {
                _ if blocked => (wrong(index), wrong(index)),
                None => (Ok(None), Ok(None)),
                Some(Oracle::String(value)) => (Ok(Some(Cow::from(value))), wrong(index)),
                Some(Oracle::Number(number)) => {
                    let integer = number.as_u64().filter(|_| number.to_string().bytes().all(|byte| byte.is_ascii_digit()));
                    (wrong(index), integer.map(Some).ok_or(JsonError::Number { index }))
                }
                Some(_) => (wrong(index), wrong(index)),
            };
            prop_assert_eq!(found.string(index), string);
            prop_assert_eq!(found.integer(index), integer);
        }
    }

    #[test]
    fn check_refuses_what_the_oracle_refuses(
        document in value(), mut salt: u64, place: prop::sample::Index, byte: u8, kind in 0..4,
    ) {
        let mut text = String::new();
        write(&document, &mut salt, &mut text);
        let mut bytes = text.into_bytes();
        let place = place.index(bytes.len());
        match kind {
            0 => bytes[place] = byte,
            1 => bytes.insert(place, byte),
            2 => bytes.truncate(place),
            _ => bytes[place] = SIGNS[usize::from(byte) % SIGNS.len()],
        }
        if let Some(outcome) = oracle(&bytes) {
            prop_assert_eq!(check(&bytes).is_ok(), outcome.is_ok(), "{}", String::from_utf8_lossy(&bytes));
        }
    }

    #[test]
    fn check_and_the_oracle_agree_on_scraps(text in r#"[\[\]{},:"\\u0d8c1eE+\-. atruflsn\x00é]{0,12}"#) {
        if let Some(outcome) = oracle(text.as_bytes()) {
            prop_assert_eq!(check(text.as_bytes()).is_ok(), outcome.is_ok(), "{}", text);
        }
    }
}
