//! Every row that is measured in this process runs, answers rightly, and is printed as it should be.

#![expect(clippy::expect_used, clippy::panic, reason = "a test says what it found by failing")]

use std::collections::BTreeSet;

use loadtest::ratios::{Entry, Options, Size, entries, run};
use serde_json::Value;

/// What runs print.
fn printed(options: &Options) -> String {
    let mut out = Vec::new();
    run(options, entries(Size::Smoke), &mut out, &mut |_| {}).unwrap_or_else(|error| panic!("{error}"));
    String::from_utf8(out).expect("text")
}

#[test]
fn every_row_runs_and_prints_one_json_object() {
    let printed = printed(&Options { json: true, rounds: Some(2), ..Options::default() });
    let rows: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let names: Vec<_> = entries(Size::Smoke).iter().map(Entry::name).collect();
    assert_eq!(rows.iter().map(|row| row["name"].as_str().expect("a name")).collect::<Vec<_>>(), names);
    for row in &rows {
        let keys: BTreeSet<_> = row.as_object().expect("an object").keys().map(String::as_str).collect();
        if keys.contains("skipped") {
            assert_eq!(keys, BTreeSet::from(["name", "skipped"]), "{row}");
            continue;
        }
        let wanted = ["name", "ours", "rival", "rival_name", "unit", "ratio", "spread", "rounds"];
        assert_eq!(keys, BTreeSet::from(wanted), "{row}");
        assert!(
            ["ours", "rival", "ratio"].iter().all(|key| row[*key].as_f64().is_some_and(|figure| figure > 0.0)),
            "{row}"
        );
        assert!(row["spread"].as_f64().is_some_and(|spread| spread >= 0.0) && row["rounds"] == 2, "{row}");
    }
}

#[test]
fn the_rows_have_these_names() {
    let names: Vec<_> = entries(Size::Smoke).iter().map(Entry::name).collect();
    let wanted = [
        "verify.rsa2048.single_vs_ring",
        "verify.rsa2048.batch8_vs_ring",
        "verify.rsa2048.batch8_vs_awslc",
        "quota.reserve4_vs_dashmap",
        "quota.reserve4_vs_dashmap_rows",
        "quota.reserve4_vs_governor",
        "quota.hot_row_2core",
        "decide.rest_vs_ring_verify",
        "store.write_behind",
        "journal.recovery",
        "store.load_10m_rows",
    ];
    assert_eq!(names, wanted);
}

#[test]
fn without_json_there_is_a_table_of_the_rows_asked_for() {
    let only = vec!["quota".to_owned()];
    let table = printed(&Options { only, rounds: Some(1), ..Options::default() });
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(lines.len(), 2 + 4, "{table}");
    assert!(lines.iter().skip(2).all(|line| line.starts_with("| quota.")), "{table}");
    let widths: BTreeSet<_> = lines.iter().map(|line| line.chars().count()).collect();
    assert_eq!(widths.len(), 1, "{table}");
}
