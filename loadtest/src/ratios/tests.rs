//! Tests of what is measured when, and of what is made of it.

use std::cell::RefCell;
use std::rc::Rc;

use super::*;

/// Whose rounds were called, in order.
type Calls = Rc<RefCell<Vec<&'static str>>>;

/// Gives one pair after the other.
struct Given {
    name: &'static str,
    calls: Calls,
    pairs: std::vec::IntoIter<Pair>,
    better: Better,
}

impl Contest for Given {
    fn rival_name(&self) -> &'static str {
        "rival"
    }

    fn unit(&self) -> &'static str {
        "ns"
    }

    fn better(&self) -> Better {
        self.better
    }

    fn round(&mut self) -> Result<Pair, RatioError> {
        self.calls.borrow_mut().push(self.name);
        self.pairs.next().ok_or(RatioError::Wrong("no pair left"))
    }
}

fn given(name: &'static str, calls: &Calls, pairs: &[(f64, f64)], better: Better) -> Entry {
    let pairs: Vec<_> = pairs.iter().map(|&(ours, rival)| Pair { ours, rival }).collect();
    let calls = Rc::clone(calls);
    Entry::new(name, move || Ok(Given { name, calls, pairs: pairs.into_iter(), better }))
}

fn rounds(rounds: u16) -> Options {
    Options { rounds: Some(rounds), ..Options::default() }
}

#[test]
fn rounds_of_all_rows_take_turns() {
    let calls = Calls::default();
    let pairs = [(1.0, 1.0); 2];
    let rows = vec![given("a", &calls, &pairs, Better::Lower), given("b", &calls, &pairs, Better::Lower)];
    measure(&rounds(2), rows, &mut |_| {}).expect("rows");
    assert_eq!(*calls.borrow(), ["a", "b", "a", "b"]);
}

#[test]
fn each_row_and_each_round_is_told_as_it_comes() {
    let mut told = Vec::new();
    let lacking = Entry::new("lost", || -> Result<Given, _> { Err(NotReady::Skipped("no nginx".to_owned())) });
    let rows = vec![given("a", &Calls::default(), &[(2.0, 3.0), (4.0, 5.0)], Better::Lower), lacking];
    measure(&rounds(2), rows, &mut |line| told.push(line.to_owned())).expect("rows");
    let wanted = [
        "making ready: a",
        "making ready: lost",
        "skipped: lost: no nginx",
        "round 1 of 2: a: ours 2.00, the rival's 3.00",
        "round 2 of 2: a: ours 4.00, the rival's 5.00",
    ];
    assert_eq!(told, wanted);
}

#[test]
fn a_row_is_the_middle_of_its_rounds() {
    let pairs: Vec<_> = (1..=11).map(|ratio| (10.0, 10.0 * f64::from(ratio))).collect();
    for (better, ratio, spread) in [(Better::Lower, 6.0, 8.0 / 6.0), (Better::Higher, 1.0 / 6.0, 0.4 * 6.0)] {
        let lines =
            measure(&rounds(11), vec![given("a", &Calls::default(), &pairs, better)], &mut |_| {}).expect("rows");
        let [Line::Measured(row)] = &lines[..] else { panic!("{lines:?}") };
        assert_eq!((row.ours, row.rival, row.rounds), (10.0, 60.0, 11));
        assert!((row.ratio - ratio).abs() < 1e-9 && (row.spread - spread).abs() < 1e-9, "{better:?} {row:?}");
    }
}

#[test]
fn an_error_ends_the_run_with_the_name_of_its_row() {
    let calls = Calls::default();
    let rows = vec![given("a.b", &calls, &[(1.0, 1.0)], Better::Lower)];
    let error = measure(&rounds(2), rows, &mut |_| {}).expect_err("no second pair");
    assert_eq!(error.to_string(), "a.b: wrong answer: no pair left");
}

#[test]
fn figures_that_are_no_numbers_above_zero_make_no_row() {
    for pair in [(0.0, 1.0), (1.0, 0.0), (f64::NAN, 1.0), (1.0, f64::INFINITY), (-1.0, 1.0)] {
        let rows = vec![given("a", &Calls::default(), &[pair], Better::Lower)];
        let error = measure(&rounds(1), rows, &mut |_| {}).expect_err("no ratio");
        assert!(
            matches!(&error, RatioError::InRow { source, .. } if matches!(**source, RatioError::Immeasurable { .. }))
        );
    }
}

#[test]
fn only_the_rows_asked_for_are_made() {
    let calls = Calls::default();
    let forbidden = |name| Entry::new(name, || -> Result<Given, _> { Err(RatioError::Wrong("was made").into()) });
    let rows = || vec![given("a.b", &calls, &[(1.0, 1.0)], Better::Lower), forbidden("a.bc"), forbidden("ab")];
    for only in ["a.b", "a"] {
        let options = Options { only: vec![only.to_owned()], ..rounds(1) };
        let made = measure(&options, rows(), &mut |_| {});
        assert_eq!(made.is_ok(), only == "a.b", "{only}");
    }
    let options = Options { only: vec!["a.b".to_owned(), "c".to_owned()], ..rounds(1) };
    let error = measure(&options, rows(), &mut |_| {}).expect_err("no such row");
    assert_eq!(error.to_string(), "there is no row `c`; write one of: a.b, a.bc, ab");
}

#[test]
fn a_row_that_lacks_something_is_left_out_with_the_reason() {
    let lacking = Entry::new("a", || -> Result<Given, _> { Err(NotReady::Skipped("no nginx".to_owned())) });
    let rows = vec![lacking, given("b", &Calls::default(), &[(1.0, 2.0)], Better::Lower)];
    let mut out = Vec::new();
    run(&Options { json: true, ..rounds(1) }, rows, &mut out, &mut |_| {}).expect("rows");
    let text = String::from_utf8(out).expect("text");
    assert!(text.starts_with("{\"name\":\"a\",\"skipped\":\"no nginx\"}\n{\"name\":\"b\",\"ours\":1.0,"), "{text}");
}

#[test]
fn the_table_goes_into_the_file_between_its_marks() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("README.md");
    let options = Options { readme: Some(path.clone()), ..rounds(1) };
    let rows = || vec![given("a.b", &Calls::default(), &[(2.0, 250.0)], Better::Lower)];
    std::fs::write(&path, "no marks").expect("written");
    let mut told = 0;
    let error = run(&options, rows(), &mut Vec::new(), &mut |_| told += 1).expect_err("no marks");
    assert!(matches!(error, RatioError::NoMarks { .. }) && told == 0, "before anything is measured: {error}");
    std::fs::write(&path, "above\n<!-- ratios: begin -->\nold\n<!-- ratios: end -->\nbelow\n").expect("written");
    run(&options, rows(), &mut Vec::new(), &mut |_| {}).expect("replaced");
    let text = std::fs::read_to_string(&path).expect("text");
    assert!(text.starts_with("above\n<!-- ratios: begin -->\nMeasured on ") && text.ends_with("end -->\nbelow\n"));
    assert!(text.contains("| a.b | 2.00 | 250 (rival) | ns   | 125.00 | 0 %    |\n"), "{text}");
}

#[test]
fn options_are_read_as_they_are_documented() {
    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        options: Options,
    }
    let parse = |line: &str| <Command as clap::Parser>::try_parse_from(line.split(' ')).map(|command| command.options);
    let options = parse("ratios --only quota,verify.rsa2048 --json --install --rounds 3").expect("options");
    assert_eq!(options.only, ["quota", "verify.rsa2048"]);
    assert!(options.json && options.install && options.rounds == Some(3) && options.readme.is_none());
    let readme = |line| parse(line).expect("options").readme;
    assert_eq!(readme("ratios --readme"), Some("README.md".into()));
    assert_eq!(readme("ratios --readme docs/ratios.md"), Some("docs/ratios.md".into()));
    assert!(parse("ratios --rounds 0").is_err(), "nothing follows from no rounds");
    assert!(parse("ratios --readme --only quota").is_err(), "the table would lose its other rows");
}
