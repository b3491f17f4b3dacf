//! From the command line to the table.

use super::*;
use crate::admin::tests::{Asked, Running};
use crate::admission::UsageQuery;
use crate::cli::tests::output;

#[test]
fn money_is_shown_in_yuan_and_payments_as_a_count() {
    let gate = Running::usual();
    let table = output(&["usage", "--control", &gate.address.to_string()]).expect("a table");
    let expected = "\
limit         subject                            window    used yuan  held yuan  committed yuan  ceiling yuan  room yuan  ends
customer-day  customer=张三 merchant=1900000001  day         1234.56      34.56         1200.00       2000.00     765.44  2026-11-23T00:00:00+08:00
customer-day  customer=张三 merchant=1900000001  lifetime    1234.56      34.56         1200.00             -          -  never

limit           subject          window  used  held  committed  ceiling  room  ends
often (shadow)  customer=a\u{fffd}[31m  month      7     0          7        5     0  2026-12-01T00:00:00+08:00
";
    assert_eq!(table, expected);
    gate.stop();
}

#[test]
fn no_usage_is_said_so() {
    let mut out = Vec::new();
    show(b"[]", false, &mut out).expect("shown");
    assert_eq!(out, b"no limit counts per what is named\n");
}

#[test]
fn a_subject_is_named_to_the_gate_whatever_letters_it_has() {
    let gate = Running::usual();
    let at = gate.address.to_string();
    let subject = ["--customer", "张 &三=%+", "--merchant", "1900000001", "--category", "a/b?c#d"];
    let line = ["usage", "--control", &at, "--limit", "x y", "--appid", "wx", "--openid", "o\"1", "--json"];
    let json = output(&[line.as_slice(), &subject].concat()).expect("an answer");
    assert!(json.starts_with(r#"[{"limit":"customer-day""#) && json.ends_with("}]}]\n"), "{json}");
    let asked = UsageQuery {
        limit: Some("x y".to_owned()),
        customer: Some("张 &三=%+".to_owned()),
        merchant: Some("1900000001".parse().expect("merchant")),
        category: Some("a/b?c#d".to_owned()),
        appid: Some("wx".to_owned()),
        openid: Some("o\"1".to_owned()),
    };
    assert_eq!(gate.control.asked(), [Asked::Usage(asked)]);
    gate.stop();
}

#[test]
fn an_export_is_passed_on_as_it_comes() {
    let gate = Running::usual();
    let pages: Vec<_> = (0..100).map(|page| format!("{{\"page\":{page}}}\n").repeat(1000).into_bytes()).collect();
    gate.control.set_pages(pages.clone());
    let lines = output(&["usage", "--control", &gate.address.to_string(), "--export"]).expect("all rows");
    assert_eq!(lines.into_bytes(), pages.concat());
    gate.stop();
}

#[test]
fn a_reader_that_has_enough_ends_an_export_without_an_error() {
    struct Enough;
    impl Write for Enough {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let gate = Running::usual();
    gate.control.set_pages(vec![b"a\n".to_vec()]);
    let place = Place { control: Some(crate::front::Address::Tcp(gate.address)), config: None };
    let mut options = Options {
        place,
        limit: None,
        customer: None,
        merchant: None,
        category: None,
        appid: None,
        openid: None,
        json: false,
        export: true,
    };
    assert!(run(&options, &mut Enough).is_ok());
    options.export = false;
    assert!(run(&options, &mut Enough).is_ok());
    gate.stop();
}

#[test]
fn options_that_contradict_each_other_are_refused() {
    let place = ["usage", "--control", "127.0.0.1:1"];
    for rest in [
        ["--export", "--json"].as_slice(),
        &["--export", "--limit", "a"],
        &["--appid", "a"],
        &["--openid", "a"],
        &["--merchant", "a b"],
        &["--config", "tollgate.toml"],
    ] {
        let refused = output(&[place.as_slice(), rest].concat()).expect_err("refused");
        assert!(refused.starts_with("error: "), "{refused}");
    }
    let nowhere = output(&["usage"]).expect_err("refused");
    assert!(nowhere.contains("--control <ADDR>|--config <FILE>"), "{nowhere}");
}
