//! Whether the gate's books say what was admitted: account by account, to the fen.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::ledger::{Ledger, Subject, Sums, Totals, Window};
use crate::scenario::Scenario;

/// What a comparison came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Accounts compared.
    pub accounts: usize,
    /// All that is used of them by the gate's export, in fen.
    pub used_fen: u64,
    /// What does not agree, each with its subject.
    pub differences: Vec<String>,
}

/// A line of the gate's export.
#[derive(Debug, Deserialize)]
struct Row {
    limit: Option<String>,
    row: String,
    windows: Vec<RowWindow>,
}

#[derive(Debug, Deserialize)]
struct RowWindow {
    window: String,
    id: u16,
    used: u64,
    held: u64,
    committed: u64,
}

/// What a comparison needs to know beside both books.
pub struct Terms<'a> {
    pub scenario: &'a Scenario,
    /// Tells the key under which the gate exports the row of a limit and subject.
    pub row_of: &'a dyn Fn(&str, &Subject) -> Option<String>,
    /// The windows that are open at the end.
    pub open: [(Window, u16); 2],
}

/// Compares what the rig believes with an export, a JSON object a line.
pub fn compare(ledger: &Ledger, export: &str, terms: &Terms<'_>) -> Verdict {
    let mut verdict = Verdict { differences: ledger.faults(), ..Verdict::default() };
    let exported = exported(export, &mut verdict.differences);
    let mut seen = BTreeSet::new();
    for ((limit, subject, window), (id, Totals { sums: own, late_fen })) in ledger.newest() {
        let Some(limit) = terms.scenario.limit.get(limit) else { continue };
        let name = || format!("{} {}: {} {id}", limit.id, describe(&subject), window.as_str());
        let Some(row) = (terms.row_of)(&limit.id, &subject) else {
            verdict.differences.push(format!("{}: the gate does not count it", name()));
            continue;
        };
        verdict.accounts += 1;
        let key = (row, window.as_str().to_owned());
        let ceiling = if window == Window::Day { limit.day_fen } else { limit.month_fen };
        let (their_id, theirs) = exported.get(&key).copied().unwrap_or((id, Sums::default()));
        seen.insert(key);
        let used = theirs.held.saturating_add(theirs.committed);
        verdict.used_fen = verdict.used_fen.saturating_add(used);
        let passed = !terms.open.contains(&(window, id));
        if their_id != id || (passed && theirs == Sums::default()) {
            // A refusal may have turned the row to a newer window: what was used of this one is not shown any more.
            if !passed {
                verdict.differences.push(format!("{}: the gate shows window {their_id}", name()));
            }
            continue;
        }
        if theirs != own {
            verdict.differences.push(format!(
                "{}: held {} and committed {} by the answers, held {} and committed {} by the gate",
                name(),
                own.held,
                own.committed,
                theirs.held,
                theirs.committed
            ));
        }
        // What was paid after its hold had run out is taken past any ceiling; nothing else is.
        if ceiling.is_some_and(|ceiling| used > ceiling.saturating_add(late_fen)) {
            verdict.differences.push(format!("{}: {used} is above the ceiling {}", name(), ceiling.unwrap_or(0)));
        }
    }
    for (key, (id, sums)) in exported.iter().filter(|(key, _)| !seen.contains(*key)) {
        let (row, window) = key;
        verdict
            .differences
            .push(format!("row {row}: {window} {id}: the gate shows {sums:?}, and no answer admitted any"));
    }
    verdict
}

/// Rows and windows of an export, by key and name: the id of the window, and what is used of it.
pub type Exported = BTreeMap<(String, String), (u16, Sums)>;

/// Reads an export; what is wrong with it goes to `faults`.
pub fn exported(export: &str, faults: &mut Vec<String>) -> Exported {
    let mut exported = Exported::new();
    for line in export.lines() {
        let row: Row = match serde_json::from_str(line) {
            Ok(row) => row,
            Err(error) => {
                faults.push(format!("a line of the export can't be read: {error}: {line}"));
                continue;
            }
        };
        for window in row.windows {
            if window.used != window.held.saturating_add(window.committed) {
                let RowWindow { used, held, committed, .. } = window;
                let limit = row.limit.as_deref().unwrap_or("?");
                faults.push(format!("{limit} {}: used {used} is not held {held} + committed {committed}", row.row));
            }
            let sums = Sums { held: window.held, committed: window.committed };
            exported.insert((row.row.clone(), window.window), (window.id, sums));
        }
    }
    exported
}

fn describe(subject: &Subject) -> String {
    let parts = [("customer", &subject.customer), ("merchant", &subject.merchant), ("category", &subject.category)];
    let parts = parts.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", value.as_deref()?)));
    parts.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Names, window_ids};
    use crate::traffic::Planned;

    fn scenario() -> Scenario {
        toml::from_str(include_str!("../scenarios/hot_merchant.toml")).expect("a scenario")
    }

    fn ledger(scenario: &Scenario) -> Ledger {
        let mchids = ["m-0".to_owned()];
        let names = Names { scenario, mchids: &mchids, offset_s: 0 };
        let mut ledger = Ledger::default();
        for (decision, order, amount_fen) in [(1, 1, 700), (2, 2, 42)] {
            let planned = Planned { customer: 3, amount_fen, order, ..Planned::nothing() };
            ledger.admit(decision, None, &planned, 0, names);
        }
        ledger.commit(1, false, names);
        ledger
    }

    fn row(limit: &str, subject: &Subject) -> Option<String> {
        Some(format!("{limit}/{}", describe(subject)))
    }

    fn compared(export: &str) -> Verdict {
        let scenario = scenario();
        let terms = Terms { scenario: &scenario, row_of: &row, open: window_ids(0) };
        compare(&ledger(&scenario), export, &terms)
    }

    const BALANCED: &str = r#"{"limit":"merchant UTC 0 fen","row":"merchant/merchant=m-0","windows":[{"window":"day","id":0,"used":742,"held":42,"committed":700},{"window":"month","id":0,"used":742,"held":42,"committed":700}]}
{"limit":"customer UTC 0 fen","row":"customer/customer=c-3","windows":[{"window":"day","id":0,"used":742,"held":42,"committed":700},{"window":"month","id":0,"used":742,"held":42,"committed":700}]}"#;

    #[test]
    fn books_that_agree_balance() {
        let verdict = compared(BALANCED);
        assert_eq!((verdict.accounts, verdict.used_fen, verdict.differences.len()), (4, 4 * 742, 0), "{verdict:?}");
    }

    #[test]
    fn one_fen_of_difference_is_found_and_the_subject_named() {
        for (from, to) in [
            ("\"used\":742,\"held\":42", "\"used\":743,\"held\":43"),
            ("\"used\":742,\"held\":42,\"committed\":700", "\"used\":741,\"held\":42,\"committed\":699"),
        ] {
            let verdict = compared(&BALANCED.replacen(from, to, 1));
            assert_eq!(verdict.differences.len(), 1, "{verdict:?}");
            assert!(
                verdict.differences[0].starts_with("merchant merchant=m-0: day 0: held 42 and committed 700"),
                "{verdict:?}"
            );
        }
    }

    #[test]
    fn a_row_too_many_or_too_few_and_a_sum_that_is_none_are_found() {
        let (first, second) = BALANCED.split_once('\n').expect("two lines");
        assert_eq!(compared(first).differences.len(), 2);
        let more = second.replace("customer=c-3", "customer=c-4");
        assert_eq!(compared(&format!("{BALANCED}\n{more}")).differences.len(), 2);
        assert_eq!(compared(&BALANCED.replacen("\"used\":742", "\"used\":741", 1)).differences.len(), 1);
        assert_eq!(compared(&format!("{BALANCED}\n{{}}")).differences.len(), 1);
    }

    #[test]
    fn use_above_a_ceiling_is_found_though_the_books_agree() {
        let mut scenario = scenario();
        scenario.limit[0].day_fen = Some(741);
        let terms = Terms { scenario: &scenario, row_of: &row, open: window_ids(0) };
        let verdict = compare(&ledger(&scenario), BALANCED, &terms);
        assert_eq!(verdict.differences, ["merchant merchant=m-0: day 0: 742 is above the ceiling 741"]);
    }

    #[test]
    fn a_late_payment_may_pass_the_ceiling_and_by_no_more_than_its_amount() {
        let mut scenario = scenario();
        let late = |scenario: &Scenario| {
            let names = Names { scenario, mchids: &["m-0".to_owned()], offset_s: 0 };
            let mut ledger = ledger(scenario);
            ledger.expire();
            ledger.commit(2, true, names);
            ledger
        };
        let export = BALANCED.replace("\"held\":42,\"committed\":700", "\"held\":0,\"committed\":742");
        for (ceiling, differences) in [(700, 0), (699, 1)] {
            scenario.limit[0].day_fen = Some(ceiling);
            let terms = Terms { scenario: &scenario, row_of: &row, open: window_ids(0) };
            let verdict = compare(&late(&scenario), &export, &terms);
            assert_eq!(verdict.differences.len(), differences, "{verdict:?}");
        }
    }

    #[test]
    fn a_window_that_has_passed_may_have_been_turned_over_and_an_open_one_may_not() {
        let scenario = scenario();
        let export = BALANCED.replacen(r#"{"window":"day","id":0,"used":742,"held":42,"committed":700},"#, "", 1);
        let later = Terms { scenario: &scenario, row_of: &row, open: window_ids(86_400) };
        assert_eq!(compare(&ledger(&scenario), &export, &later).differences, Vec::<String>::new());
        let now = Terms { scenario: &scenario, row_of: &row, open: window_ids(0) };
        assert_eq!(compare(&ledger(&scenario), &export, &now).differences.len(), 1);
    }
}
