//! The text, against a strict reading of OpenMetrics 1.0, and the sums, against what was counted.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use super::*;

struct Fixed(Readings);

impl Gauges for Fixed {
    fn read(&self) -> Readings {
        self.0.clone()
    }
}

fn metrics_of(workers: &[Arc<Worker>], readings: Readings) -> Metrics {
    Metrics::new(workers.to_vec(), Arc::new(Fixed(readings)))
}

fn two_workers() -> [Arc<Worker>; 2] {
    [Arc::new(Worker::new()), Arc::new(Worker::new())]
}

/// The samples of an exposition by name and labels as written. Panics where the text is not OpenMetrics.
fn scrape(metrics: &Metrics) -> BTreeMap<String, f64> {
    let text = metrics.encode().expect("text");
    assert!(text.ends_with("\n# EOF\n"), "the text ends with its mark");
    assert_eq!(text.matches("# EOF").count(), 1);
    let (mut families, mut samples) = (HashSet::new(), BTreeMap::new());
    let mut family = Described::default();
    for line in text.lines().filter(|line| *line != "# EOF") {
        if let Some(described) = line.strip_prefix("# ") {
            let (keyword, rest) = described.split_once(' ').expect("a keyword");
            let (name, value) = rest.split_once(' ').expect("a name and a text");
            assert!(!value.is_empty(), "{line}");
            if keyword == "HELP" {
                assert!(families.insert(name.to_owned()), "{name} is described twice");
                family = Described { name: name.to_owned(), kind: String::new() };
            }
            assert_eq!(family.name, name, "a family is described in one place");
            match keyword {
                "HELP" => {}
                "TYPE" => family.kind = value.to_owned(),
                "UNIT" => assert!(name.ends_with(&format!("_{value}")), "{line}"),
                _ => panic!("{line}"),
            }
        } else {
            let (series, value) = line.rsplit_once(' ').expect("a series and a value");
            family.check(series);
            let value: f64 = value.parse().expect("a number");
            assert!(samples.insert(series.to_owned(), value).is_none(), "{series} occurs twice");
        }
    }
    check_histograms(&text, &samples);
    samples
}

/// Buckets are cumulative, and the last one, without bound, counts everything.
fn check_histograms(text: &str, samples: &BTreeMap<String, f64>) {
    let mut below = 0.0;
    for series in text.lines().filter_map(|line| line.rsplit_once(' ').map(|(series, _)| series)) {
        let Some((name, labels)) = series.split_once("_bucket{le=\"") else { continue };
        let (bound, labels) = labels.split_once('"').expect("a bound");
        let count = samples[series];
        assert!(count >= below, "{series}");
        below = if bound == "+Inf" { 0.0 } else { count };
        if bound == "+Inf" {
            let labels = labels.strip_prefix(',').map_or_else(String::new, |labels| format!("{{{labels}"));
            assert_eq!(samples[&format!("{name}_count{labels}")], count, "{series}");
        }
    }
    assert_eq!(below, 0.0, "the last bucket has no bound");
}

#[derive(Default)]
struct Described {
    name: String,
    kind: String,
}

impl Described {
    fn check(&self, series: &str) {
        let (name, labels) = series.split_once('{').map_or((series, None), |(name, rest)| (name, Some(rest)));
        let suffix = name.strip_prefix(&self.name).unwrap_or_else(|| panic!("{series} is not in {}", self.name));
        let allowed: &[&str] = match self.kind.as_str() {
            "counter" => &["_total"],
            "gauge" => &[""],
            "histogram" => &["_sum", "_count", "_bucket"],
            "info" => &["_info"],
            other => panic!("{other}"),
        };
        assert!(allowed.contains(&suffix), "{series}");
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{series}");
        let Some(labels) = labels else { return };
        let labels = labels.strip_suffix('}').expect("closed");
        let mut names = HashSet::new();
        for label in labels.split(',') {
            let (name, value) = label.split_once('=').expect("a label");
            let plain = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).expect("quoted");
            assert!(!plain.contains(['"', '\\', '\n']), "{series}");
            assert!(LABELS.contains(&name) && names.insert(name), "{series}");
        }
    }
}

/// All labels there are; a merchant or a customer is not among them.
const LABELS: [&str; 10] =
    ["verdict", "reason", "stage", "direction", "table", "age", "event", "kind", "version", "le"];

fn refused(reason: Reason) -> String {
    format!(r#"tollgate_decisions_total{{verdict="refused",reason="{reason}"}}"#)
}

const ADMITTED: &str = r#"tollgate_decisions_total{verdict="admitted",reason=""}"#;

#[test]
fn every_reason_is_there_from_the_start() {
    let samples = scrape(&metrics_of(&two_workers(), Readings::default()));
    for reason in Reason::ALL {
        assert_eq!(samples.get(&refused(*reason)), Some(&0.0), "{reason}");
    }
    assert_eq!(samples[ADMITTED], 0.0);
    let verdicts = samples.keys().filter(|series| series.starts_with("tollgate_decisions_total")).count();
    assert_eq!(verdicts, Reason::COUNT + 1);
}

#[test]
fn counters_are_summed_over_the_workers() {
    let workers = two_workers();
    for (times, worker) in (1..=2).zip(&workers) {
        for _ in 0..times {
            worker.admitted(false);
            worker.admitted(true);
            worker.refused(Reason::NonceReplayed);
            worker.shadow_refused(2);
            worker.request();
            worker.connection_opened();
        }
    }
    let [first, second] = &workers;
    first.connection_closed();
    second.connection_refused();
    (0..2).for_each(|_| first.handshake_failed());
    (0..3).for_each(|_| second.accept_failed());
    let samples = scrape(&metrics_of(&workers, Readings::default()));
    assert_eq!(samples[ADMITTED], 6.0);
    assert_eq!(samples["tollgate_duplicates_total"], 3.0);
    assert_eq!(samples["tollgate_shadow_refusals_total"], 6.0);
    assert_eq!(samples[&refused(Reason::NonceReplayed)], 3.0);
    assert_eq!(samples[&refused(Reason::NonceTableFull)], 0.0);
    assert_eq!(samples["tollgate_requests_total"], 3.0);
    assert_eq!(samples["tollgate_connections_opened_total"], 3.0);
    assert_eq!(samples["tollgate_connections_closed_total"], 1.0);
    assert_eq!(samples["tollgate_connections_refused_total"], 1.0);
    assert_eq!(samples["tollgate_handshakes_failed_total"], 2.0);
    assert_eq!(samples["tollgate_accepts_failed_total"], 3.0);
}

#[test]
fn batches_fall_into_the_bucket_whose_bound_they_do_not_pass() {
    let [first, second] = two_workers();
    [1, 2, 3].iter().for_each(|size| first.batch(*size));
    [128, 129].iter().for_each(|size| second.batch(*size));
    let samples = scrape(&metrics_of(&[first, second], Readings::default()));
    let bucket = |bound: &str| samples[&format!("tollgate_batch_requests_bucket{{le=\"{bound}\"}}")];
    let cumulative = ["1.0", "2.0", "4.0", "64.0", "128.0", "+Inf"].map(bucket);
    assert_eq!(cumulative, [1.0, 2.0, 3.0, 3.0, 4.0, 5.0]);
    assert_eq!(samples["tollgate_batch_requests_sum"], 263.0);
    assert_eq!(samples["tollgate_batch_requests_count"], 5.0);
}

#[test]
fn each_stage_has_its_own_times_in_seconds() {
    let [first, second] = two_workers();
    first.stage(Stage::Decide, Duration::from_micros(1));
    second.stage(Stage::Decide, Duration::from_nanos(1_001));
    second.stage(Stage::Sign, Duration::from_millis(2_500));
    second.stage(Stage::Total, Duration::MAX);
    let samples = scrape(&metrics_of(&[first, second], Readings::default()));
    let bucket = |stage: Stage, bound: &str| {
        samples[&format!("tollgate_stage_seconds_bucket{{le=\"{bound}\",stage=\"{}\"}}", stage.as_str())]
    };
    assert_eq!((bucket(Stage::Decide, "0.000001"), bucket(Stage::Decide, "0.000002")), (1.0, 2.0));
    assert_eq!((bucket(Stage::Sign, "2.0"), bucket(Stage::Sign, "5.0")), (0.0, 1.0));
    assert_eq!((bucket(Stage::Total, "10.0"), bucket(Stage::Total, "+Inf")), (0.0, 1.0));
    assert_eq!(samples["tollgate_stage_seconds_sum{stage=\"sign\"}"], 2.5);
    for stage in Stage::ALL {
        assert!(samples.contains_key(&format!("tollgate_stage_seconds_count{{stage=\"{}\"}}", stage.as_str())));
    }
}

#[test]
fn skew_is_told_apart_by_direction() {
    let worker = Arc::new(Worker::new());
    [0, 1_000, 1_001, -1, -400_000, i64::MIN].iter().for_each(|skew_ms| worker.skew(*skew_ms));
    let samples = scrape(&metrics_of(&[worker], Readings::default()));
    let bucket = |direction: &str, bound: &str| {
        samples[&format!("tollgate_clock_skew_seconds_bucket{{le=\"{bound}\",direction=\"{direction}\"}}")]
    };
    assert_eq!(["1.0", "2.0", "+Inf"].map(|bound| bucket("ahead", bound)), [2.0, 3.0, 3.0]);
    assert_eq!(["1.0", "300.0", "600.0", "+Inf"].map(|bound| bucket("behind", bound)), [1.0, 1.0, 2.0, 3.0]);
}

#[test]
fn readings_are_shown_as_they_are_when_scraped() {
    let readings = Readings {
        nonces: 1,
        nonces_max: 2,
        orders: 3,
        orders_max: 4,
        rows: 5,
        rows_max: 6,
        rows_bytes: 7,
        rows_sliced: 14,
        cells_used: 24,
        conservation_error: Some(15),
        holds: vec![("young", 16, 17), ("old", 18, 19)],
        settlements: vec![("a", 20, 21), ("b", 22, 23)],
        merchant_certificate_days_left_min: Some(-0.5),
        platform_certificate_days_left_min: None,
        revocation_list_days_left_min: Some(1.5),
        merchants: 8,
        bodies_bytes: 9,
        answers_bytes: 13,
        connections: 10,
        ready: true,
        signing_queue: 11,
        journal: Some(JournalReadings {
            exposed_fen: 25,
            exposed_seconds: 26.5,
            give_backs_waiting: 27,
            behind_records: 28,
            behind_fen: 30,
            behind_seconds: 29.5,
            full: true,
            failed: false,
        }),
    };
    let samples = scrape(&metrics_of(&[], readings));
    let entries =
        |name: &str| ["nonces", "orders", "limit_rows"].map(|table| samples[&format!("{name}{{table=\"{table}\"}}")]);
    assert_eq!(entries("tollgate_table_entries"), [1.0, 3.0, 5.0]);
    assert_eq!(entries("tollgate_table_entries_max"), [2.0, 4.0, 6.0]);
    assert_eq!(samples["tollgate_certificate_days_left{kind=\"merchant\"}"], -0.5);
    assert!(!samples.contains_key("tollgate_certificate_days_left{kind=\"platform\"}"));
    assert_eq!(samples["tollgate_revocation_list_days_left"], 1.5);
    let plain =
        ["limit_rows_bytes", "merchants", "bodies_bytes", "answers_bytes", "connections", "ready", "signing_queue"];
    assert_eq!(plain.map(|name| samples[&format!("tollgate_{name}")]), [7.0, 8.0, 9.0, 13.0, 10.0, 1.0, 11.0]);
    assert_eq!(
        ["limit_rows_sliced", "conservation_error", "limit_cells_used"]
            .map(|name| samples[&format!("tollgate_{name}")]),
        [14.0, 15.0, 24.0]
    );
    let journal = ["exposed_fen", "exposed_seconds", "give_backs_waiting", "full", "failed"];
    assert_eq!(journal.map(|name| samples[&format!("tollgate_journal_{name}")]), [25.0, 26.5, 27.0, 1.0, 0.0]);
    assert_eq!(
        ["records", "fen", "seconds"].map(|name| samples[&format!("tollgate_store_behind_{name}")]),
        [28.0, 30.0, 29.5]
    );
    let of_age = |name: &str| ["young", "old"].map(|age| samples[&format!("tollgate_{name}{{age=\"{age}\"}}")]);
    assert_eq!((of_age("holds"), of_age("holds_fen")), ([16.0, 18.0], [17.0, 19.0]));
    let of_event = |name: &str| ["a", "b"].map(|event| samples[&format!("tollgate_{name}{{event=\"{event}\"}}")]);
    assert_eq!(of_event("settlements_total"), [20.0, 22.0]);
    assert_eq!(of_event("settlements_fen_total"), [21.0, 23.0]);
    assert_eq!(samples[concat!("tollgate_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}")], 1.0);
}

#[test]
fn names_and_units_are_scraped_as_declared() {
    let readings = Readings { journal: Some(JournalReadings::default()), ..Readings::default() };
    let text = metrics_of(&two_workers(), readings).encode().expect("text");
    for family in families::ALL {
        let stem = family.stem();
        let described = match &family.unit {
            Some(unit) => format!("{stem}_{}", unit.as_str()),
            None => stem.to_owned(),
        };
        assert!(text.contains(&format!("# HELP {described} {}\n", family.help)), "{}", family.name);
        assert!(text.contains(&format!("# TYPE {described} {}\n", family.kind.as_str())), "{}", family.name);
        assert!(family.name.starts_with(&described), "{}", family.name);
        assert!(family.help.ends_with('.') && !family.help.contains('\n') && !family.help.contains("  "));
    }
    assert_eq!(text.matches("# HELP ").count(), families::ALL.len());
}

#[test]
fn a_snapshot_sums_decisions_and_leaves_out_what_never_occurred() {
    let workers = two_workers();
    let metrics = metrics_of(&workers, Readings::default());
    assert_eq!(metrics.snapshot().batch_requests_mean(), None);
    let [first, second] = &workers;
    first.admitted(true);
    second.admitted(false);
    second.refused(Reason::LimitExceeded);
    first.refused(Reason::LimitExceeded);
    first.refused(Reason::RouteUnknown);
    first.batch(1);
    second.batch(4);
    let snapshot = metrics.snapshot();
    let refused = vec![(Reason::RouteUnknown, 1), (Reason::LimitExceeded, 2)];
    let expected = Snapshot { admitted: 2, duplicates: 1, refused, batches: 2, batched_requests: 5 };
    assert_eq!(snapshot, expected);
    assert_eq!(snapshot.batch_requests_mean(), Some(2.5));
}

#[test]
fn nothing_is_lost_and_counts_only_rise_while_being_scraped() {
    let worker = Arc::new(Worker::new());
    let metrics = metrics_of(&[Arc::clone(&worker)], Readings::default());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for size in 0..10_000 {
                    worker.batch(size);
                    worker.admitted(false);
                }
            });
        }
        let mut before = 0.0;
        for _ in 0..20 {
            let now = scrape(&metrics)["tollgate_batch_requests_count"];
            assert!(now >= before);
            before = now;
        }
    });
    let snapshot = metrics.snapshot();
    assert_eq!((snapshot.admitted, snapshot.batches, snapshot.batched_requests), (40_000, 40_000, 4 * 49_995_000));
}
