use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn fields(document: &str) -> Result<Vec<(String, String)>, XmlError> {
    let document = read(document.as_bytes())?;
    Ok(document.fields().map(|(name, value)| (name.to_owned(), value.into_owned())).collect())
}

fn find<'a>(document: &'a str, wanted: &Wanted) -> Result<Found<'a>, XmlError> {
    read(document.as_bytes()).expect("a document").find(wanted)
}

#[track_caller]
fn assert_reads(document: &str, expected: &[(&str, &str)]) {
    let expected: Vec<_> = expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    assert_eq!(fields(document), Ok(expected), "{document}");
}

#[track_caller]
fn assert_refused(document: &str, expected: XmlError) {
    assert_eq!(fields(document), Err(expected), "{document}");
}

#[test]
fn a_document_is_read_as_clients_write_it() {
    assert_reads("<xml><a>1</a><b>x y</b></xml>", &[("a", "1"), ("b", "x y")]);
    assert_reads("<xml>\n  <b><![CDATA[<&>]]></b>\r\n\t<a>é</a>\n</xml>\n", &[("a", "é"), ("b", "<&>")]);
    assert_reads("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<root ><a >1</a ></root >", &[("a", "1")]);
    assert_reads("<?xml version='1.0' encoding='utf-8' standalone='yes' ?><xml><a/></xml>", &[("a", "")]);
    assert_reads(
        "<?xml version=\"1.0\"?><xml><a /><b></b><c><![CDATA[]]></c></xml>",
        &[("a", ""), ("b", ""), ("c", "")],
    );
    for empty in ["<xml/>", "<xml></xml>", "<x> </x>", " <x/> "] {
        assert_reads(empty, &[]);
    }
}

#[test]
fn fields_are_ordered_by_the_bytes_of_their_names() {
    let document =
        "<xml><remark>1</remark><re_openid>2</re_openid><REMARK>3</REMARK><rfc822>4</rfc822><rfc2086>5</rfc2086></xml>";
    let names: Vec<String> = fields(document).expect("a document").into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["REMARK", "re_openid", "remark", "rfc2086", "rfc822"]);
}

#[test]
fn a_value_is_what_remains_once_references_are_undone_and_is_not_trimmed() {
    assert_reads("<x><a> 1\n</a></x>", &[("a", " 1\n")]);
    assert_reads("<x><a>&lt;&gt;&amp;&quot;&apos;&#65;&#x6d4b;&#x6D4B;&#13;</a></x>", &[("a", "<>&\"'A测测\r")]);
    assert_reads("<x><a>&amp;lt;</a></x>", &[("a", "&lt;")]);
    assert_reads("<x><a><![CDATA[&lt;&#65;]]></a></x>", &[("a", "&lt;&#65;")]);
    assert_reads("<x><a>]] ></a><b><![CDATA[]>]]></b></x>", &[("a", "]] >"), ("b", "]>")]);
    assert!(matches!(read(b"<x><a>1</a></x>").expect("a document").field("a"), Some(Cow::Borrowed("1"))));
}

#[test]
fn what_parsers_read_differently_or_act_on_is_refused() {
    let at = |document: &str, text: &str| document.find(text).expect("the text");
    let nested = "<x><a><b>1</b></a></x>";
    assert_refused(nested, XmlError::Nested { offset: at(nested, "<b>") });
    assert_refused("<x><a>1<b/></a></x>", XmlError::Nested { offset: 7 });
    assert_refused("<x><a>1</a><b>2</b><a>3</a></x>", XmlError::Repeated { offset: 20 });
    assert_refused("<x><a>1</a><a/></x>", XmlError::Repeated { offset: 12 });
    assert_refused("<x><a b=\"1\">1</a></x>", XmlError::Attribute { offset: 6 });
    assert_refused("<x b='1'/>", XmlError::Attribute { offset: 3 });
    assert_refused("<x><!--1--><a>1</a></x>", XmlError::Comment { offset: 3 });
    assert_refused("<x><a>1<!--2--></a></x>", XmlError::Comment { offset: 7 });
    assert_refused("<x/><!--1-->", XmlError::Comment { offset: 4 });
    assert_refused("<x><?php 1?></x>", XmlError::Instruction { offset: 3 });
    assert_refused("<x><a>1<?php 1?></a></x>", XmlError::Instruction { offset: 7 });
    assert_refused(" <?xml version=\"1.0\"?><x/>", XmlError::Instruction { offset: 1 });
    assert_refused("<x><a>1<![CDATA[2]]></a></x>", XmlError::Mixed { offset: 7 });
    assert_refused("<x><a><![CDATA[2]]>1</a></x>", XmlError::Mixed { offset: 19 });
    assert_refused("<x><a><![CDATA[2]]> </a></x>", XmlError::Mixed { offset: 19 });
    assert_refused("<x><a><![CDATA[1]]><![CDATA[2]]></a></x>", XmlError::Mixed { offset: 19 });
    assert_refused("<x>1<a/></x>", XmlError::Mixed { offset: 3 });
    assert_refused("<x><![CDATA[1]]></x>", XmlError::Mixed { offset: 3 });
    assert_refused("1<x/>", XmlError::Mixed { offset: 0 });
    assert_refused("<x/>1", XmlError::Mixed { offset: 4 });
    assert_refused("<x/><y/>", XmlError::Syntax { offset: 4 });
    assert_refused("<x/>\0", XmlError::Mixed { offset: 4 });
    assert_refused("\u{feff}<x/>", XmlError::Mixed { offset: 0 });
    for (value, offset) in [("1\r\n", 7), ("\u{0}", 6), ("\u{b}", 6), ("é\u{fffe}", 8), ("\u{1f}", 6)] {
        assert_refused(&format!("<x><a>{value}</a></x>"), XmlError::Character { offset });
        assert_refused(&format!("<x><a><![CDATA[{value}]]></a></x>"), XmlError::Character { offset: offset + 9 });
    }
}

#[test]
fn document_types_and_entities_of_their_own_are_refused() {
    let billion = "<!DOCTYPE x [<!ENTITY a \"ha\"><!ENTITY b \"&a;&a;&a;\">]><x><a>&b;</a></x>";
    let external = "<?xml version=\"1.0\"?><!DOCTYPE x [<!ENTITY e SYSTEM \"file:///etc/passwd\">]><x><a>&e;</a></x>";
    let parameter = "<!DOCTYPE x [<!ENTITY % p SYSTEM \"http://127.0.0.1/e.dtd\">%p;]><x/>";
    assert_refused(billion, XmlError::Doctype { offset: 0 });
    assert_refused(external, XmlError::Doctype { offset: 21 });
    assert_refused(parameter, XmlError::Doctype { offset: 0 });
    assert_refused("<x><!ELEMENT a ANY></x>", XmlError::Doctype { offset: 3 });
    assert_refused("<x><a><!ENTITY a \"1\"></a></x>", XmlError::Doctype { offset: 6 });
    for reference in [
        "&e;",
        "&",
        "&;",
        "& ",
        "&#;",
        "&#x;",
        "&#0;",
        "&#xd800;",
        "&#xfffe;",
        "&#x110000;",
        "&#99999999999;",
        "&#+65;",
        "&#x+41;",
        "&#X41;",
        "&LT;",
        "&lt",
        "&#-1;",
        "&nbsp;",
        "&#000000000065;",
    ] {
        assert_refused(&format!("<x><a>1{reference}</a></x>"), XmlError::Reference { offset: 7 });
    }
}

#[test]
fn a_document_that_breaks_off_or_is_not_closed_is_refused() {
    let whole = "<?xml version=\"1.0\"?><xml><a>1&amp;</a><b><![CDATA[2]]></b><c/></xml>";
    assert!(fields(whole).is_ok());
    for length in 0..whole.len() {
        assert!(fields(&whole[..length]).is_err(), "{length}");
    }
    for bad in [
        "",
        " ",
        "<",
        "<>",
        "</x>",
        "<x></y>",
        "<x><a>1</b></x>",
        "<x><a>1</A></x>",
        "<x><a>1</a/></x>",
        "<x>< a>1</a></x>",
        "<x><a>1</ a></x>",
        "<x><a>]]></a></x>",
        "<x><a><![CDATA[1]]</a></x>",
        "<x><a><![cdata[1]]></a></x>",
        "<x/ >",
        "<x><a/ ></x>",
        "{\"a\":1}",
        "a=1&b=2",
        "<x><a>1</ab></x>",
        "<x><a>1</a b></x>",
    ] {
        assert!(fields(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_name_is_ascii_letters_digits_and_few_signs() {
    assert_reads("<x><_a-b.c9>1</_a-b.c9></x>", &[("_a-b.c9", "1")]);
    for name in ["9a", "-a", ".a", "a:b", "é", "a\u{e9}", "", "a\"", "a=", &"a".repeat(NAME_BYTES_MAX + 1)] {
        assert_refused(&format!("<x><{name}>1</{name}></x>"), XmlError::Name { offset: 4 });
    }
}

#[test]
fn a_declaration_is_that_of_version_1_0_in_utf_8() {
    for bad in [
        "version=\"1.1\"",
        "encoding=\"utf-8\"",
        "version=\"1.0\" encoding=\"GBK\"",
        "version=\"1.0\" encoding=\"utf-16\"",
        "version=1.0",
        "version=\"1.0'",
        "version=\"1.0\" a=\"b\"",
        "version=\"1.0\"encoding=\"utf-8\"",
        "version=\"1.0\" standalone=\"maybe\"",
        "encoding=\"utf-8\" version=\"1.0\"",
        "version=\"1.0\" version=\"1.0\"",
        "",
    ] {
        assert_refused(&format!("<?xml {bad}?><x/>"), XmlError::Declaration);
    }
    assert_refused("<?xml-stylesheet href='a'?><x/>", XmlError::Instruction { offset: 0 });
    assert_refused("<?xml version=\"1.0\"", XmlError::Declaration);
}

#[test]
fn bytes_that_are_not_utf_8_are_refused() {
    assert_eq!(read(b"<x><a>\xb2\xe2</a></x>").err(), Some(XmlError::NotUtf8 { offset: 6 }));
    assert_eq!(read(b"\xff\xfe<\0x\0/\0>\0").err(), Some(XmlError::NotUtf8 { offset: 0 }));
}

#[test]
fn everything_has_a_bound() {
    let many = |count: usize| format!("<x>{}</x>", (0..count).map(|one| format!("<a{one}/>")).collect::<String>());
    assert_eq!(fields(&many(FIELDS_MAX)).map(|fields| fields.len()), Ok(FIELDS_MAX));
    assert_refused(&many(FIELDS_MAX + 1), XmlError::TooManyFields);
    let long = |length: usize| format!("<x><a>{}</a></x>", "1".repeat(length));
    assert!(fields(&long(VALUE_BYTES_MAX)).is_ok());
    assert_refused(&long(VALUE_BYTES_MAX + 1), XmlError::ValueTooLong { offset: 6 });
    let padded = |length: usize| format!("<x/>{}", " ".repeat(length - 4));
    assert!(fields(&padded(DOCUMENT_BYTES_MAX)).is_ok());
    assert_refused(&padded(DOCUMENT_BYTES_MAX + 1), XmlError::TooLong);
    assert!(fields(&"<a>".repeat(20_000)).is_err());
}

#[test]
fn pointers_find_fields_and_a_value_that_is_empty_counts_as_absent() {
    let wanted = Wanted::new(&["/total_fee", "/openid", "/fee_type", "/none", "/total_fee", "/a/b"]).expect("pointers");
    let one =
        find("<x><openid>o</openid><total_fee>100</total_fee><fee_type/><a>1</a></x>", &wanted).expect("not ambiguous");
    assert_eq!((one.integer(0), one.integer(4), one.string(0)), (Ok(Some(100)), Ok(Some(100)), Some("100".into())));
    assert_eq!((one.string(1), one.string(2), one.string(3), one.string(5)), (Some("o".into()), None, None, None));
    assert_eq!(
        (one.integer(2), one.integer(99), one.integer(1)),
        (Ok(None), Ok(None), Err(XmlError::Number { index: 1 }))
    );
    for number in ["01", "+1", "-1", "1.0", "1e2", "1 1", "0x1", "00", "１", "18446744073709551616"] {
        let document = format!("<x><total_fee>{number}</total_fee></x>");
        let one = find(&document, &wanted).expect("not ambiguous");
        assert_eq!(one.integer(0), Err(XmlError::Number { index: 0 }), "{number}");
    }
    assert_eq!(find("<x><total_fee>0</total_fee></x>", &wanted).expect("found").integer(0), Ok(Some(0)));
    assert_eq!(find("<x><Total_Fee>1</Total_Fee></x>", &wanted).err(), Some(XmlError::Ambiguous { offset: 4 }));
}

#[test]
fn a_wanted_value_that_some_parser_would_trim_or_leave_escaped_is_refused() {
    let wanted = Wanted::new(&["/openid"]).expect("pointers");
    for value in
        [" o1", "o1 ", "\to1", "o1\n", " ", "o1\u{3000}", "\u{a0}o1", "\u{feff}o1", "o&#49;", "&#x6f;1", "o1&amp;"]
    {
        let document = format!("<x><openid>{value}</openid></x>");
        assert_eq!(find(&document, &wanted).err(), Some(XmlError::NotLiteral { offset: 4 }), "{value:?}");
        let elsewhere = format!("<x><openid>o1</openid><body>{value}</body></x>");
        assert_eq!(find(&elsewhere, &wanted).expect("found").string(0).as_deref(), Some("o1"), "{value:?}");
    }
    for value in ["o 1", "<![CDATA[o1]]>", "<![CDATA[&#49;]]>", "é"] {
        assert!(find(&format!("<x><openid>{value}</openid></x>"), &wanted).is_ok(), "{value}");
    }
}

/// Reads a document with another parser: the name and text of each child of the root.
fn oracle(document: &str) -> Option<BTreeMap<String, String>> {
    let tree = roxmltree::Document::parse(document).ok()?;
    let children = tree.root_element().children().filter(roxmltree::Node::is_element);
    Some(children.map(|child| (child.tag_name().name().to_owned(), child.text().unwrap_or("").to_owned())).collect())
}

/// Checks that what is accepted is the same document to another parser.
fn agrees(document: &str) -> Result<bool, TestCaseError> {
    let Ok(read) = fields(document) else { return Ok(false) };
    let read: BTreeMap<_, _> = read.into_iter().collect();
    prop_assert_eq!(Some(read), oracle(document), "{}", document);
    Ok(true)
}

/// Pieces that documents are made of, good and bad.
fn piece() -> impl Strategy<Value = String> {
    let whole = [
        "<a>1</a>",
        "<b><![CDATA[x]]></b>",
        "<c/>",
        "<d> &amp; </d>",
        "<a>",
        "</a>",
        "<![CDATA[",
        "]]>",
        "<!--",
        "-->",
        "&lt;",
        "&",
        ";",
        "&#",
        "<?xml version=\"1.0\"?>",
        "<?",
        "?>",
        "<!DOCTYPE x>",
        "<",
        ">",
        "/",
        "=",
        "\"",
        " ",
        "\n",
        "\r",
        "a",
        "é",
        "\u{0}",
        "xmlns=\"u\"",
        "<x:a/>",
        "]",
        "<e f='1'/>",
    ];
    prop_oneof![prop::sample::select(whole.to_vec()).prop_map(str::to_owned), "\\PC{0,3}"]
}

proptest! {
    #[test]
    fn what_is_accepted_is_the_same_to_another_parser(pieces in prop::collection::vec(piece(), 0..8)) {
        agrees(&format!("<x>{}</x>", pieces.concat()))?;
        agrees(&pieces.concat())?;
    }

    #[test]
    fn what_is_changed_is_refused_or_the_same_to_another_parser(at: prop::sample::Index, new in piece(), cut in 0..4_usize) {
        let good = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<xml><a>1 &amp; 2</a>\n<b><![CDATA[<3>]]></b><c/><d>&#x4e2d;</d></xml>";
        prop_assert!(agrees(good)?);
        let at = at.index(good.len() + 1);
        let end = (at + cut).min(good.len());
        agrees(&format!("{}{new}{}", &good[..at], &good[end..]))?;
    }

    #[test]
    fn what_is_written_is_read_again(
        expected in prop::collection::btree_map("[A-Za-z_][A-Za-z0-9_.-]{0,12}", "([ -~\t\n\r]|\\PC|]]>|&|<){0,20}", 0..20),
        spaces in prop::collection::vec("[ \t\r\n]{0,3}", 20),
        root in "[a-z]{1,5}",
    ) {
        let mut document = format!("<{root}>");
        for ((name, value), space) in expected.iter().zip(&spaces) {
            document.push_str(space);
            element(&mut document, name, value);
        }
        document.push_str(&format!("</{root}>"));
        let kept = |text: &str| text.chars().map(|one| if scan::is_xml(one) { one } else { '\u{fffd}' }).collect::<String>();
        let expected: Vec<_> = expected.iter().map(|(name, value)| (name.clone(), kept(value))).collect();
        prop_assert_eq!(fields(&document), Ok(expected));
        prop_assert!(agrees(&document)?);
    }
}
