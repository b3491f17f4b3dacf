//! What the demo tells: a table for people, or one JSON object.

use std::fmt;

use serde::Serialize;

use super::cases::{Refusal, Seen};
use super::shows::Shown;
use super::traffic::{Latency, Line, Traffic};

/// Everything that was seen.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub version: &'static str,
    /// Whether every answer was the one expected.
    pub ok: bool,
    pub refusals: Vec<Refusal>,
    pub admissions: Vec<Shown>,
    pub limits: Vec<Shown>,
    pub traffic: Traffic,
}

impl Report {
    /// Puts the parts together and judges them.
    pub fn new(refusals: Vec<Refusal>, admissions: Vec<Shown>, limits: Vec<Shown>, traffic: Traffic) -> Self {
        let ok = refusals.iter().all(|refusal| refusal.ok)
            && admissions.iter().chain(&limits).all(|shown| shown.ok)
            && traffic.ok;
        Self { version: env!("CARGO_PKG_VERSION"), ok, refusals, admissions, limits, traffic }
    }

    /// Lists what was not as expected, a line each.
    pub fn differences(&self) -> Vec<String> {
        let line = |name: &str, case: &str, difference: &Option<String>| {
            difference.as_ref().map(|difference| format!("{name} ({case}): {difference}"))
        };
        let refusals = self.refusals.iter().filter_map(|one| line(one.reason, one.case, &one.difference));
        let shown = self.admissions.iter().chain(&self.limits);
        let shown = shown.filter_map(|one| line(one.kind, one.case, &one.difference));
        let traffic = self.traffic.differences.iter().map(|difference| format!("traffic: {difference}"));
        let wrong = self.traffic.verdicts.iter().filter(|line| !line.is_ok());
        let counts = wrong.map(|Line { verdict, expected, seen, counted, .. }| {
            format!("traffic: {verdict}: expected {expected}, seen {seen}, counted {counted:?}")
        });
        refusals.chain(shown).chain(traffic).chain(counts).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "\nRefused: one request for every reason\n")?;
        writeln!(formatter, "     {:<26}{:<36}{:<36}by", "reason", "expected", "seen")?;
        for refusal in &self.refusals {
            self.refusal(formatter, refusal)?;
        }
        for (title, all) in [("Admitted", &self.admissions), ("Limits", &self.limits)] {
            writeln!(formatter, "\n{title}\n")?;
            for Shown { kind, case, ok, .. } in all {
                writeln!(formatter, "{} {kind:<26}{case}", mark(*ok))?;
            }
        }
        self.traffic(formatter)?;
        let differences = self.differences();
        if self.ok {
            let cases = self.refusals.len() + self.admissions.len() + self.limits.len();
            return write!(
                formatter,
                "\nAll {cases} cases and {} requests got the answer expected.",
                self.traffic.requests
            );
        }
        write!(formatter, "\nNot as expected:")?;
        differences.iter().try_for_each(|difference| write!(formatter, "\n  {difference}"))
    }
}

impl Report {
    fn refusal(&self, formatter: &mut fmt::Formatter<'_>, refusal: &Refusal) -> fmt::Result {
        let expected = &refusal.expected;
        let expected = answer(expected.status, expected.code, expected.signed);
        let seen = refusal.seen.as_ref();
        let seen =
            seen.map_or("no answer".to_owned(), |Seen { status, code, signed, .. }| answer(*status, code, *signed));
        let Refusal { reason, case, ok, .. } = refusal;
        writeln!(formatter, "{} {reason:<26}{expected:<36}{seen:<36}{case}", mark(*ok))
    }

    fn traffic(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let build = if self.traffic.debug_build { "; a debug build, which says nothing of a release" } else { "" };
        writeln!(formatter, "\nTraffic ({}{build})\n", self.traffic.measured)?;
        writeln!(formatter, "     {:<26}{:>12}{:>12}{:>12}", "verdict", "expected", "seen", "counted")?;
        for line in &self.traffic.verdicts {
            let Line { verdict, expected, seen, counted, .. } = line;
            let counted = counted.map_or("-".to_owned(), |counted| counted.to_string());
            let mark = mark(line.is_ok());
            writeln!(formatter, "{mark} {verdict:<26}{expected:>12}{seen:>12}{counted:>12}")?;
        }
        self.measures(formatter)
    }

    fn measures(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Traffic { connections, client_threads, seconds, requests, requests_per_second, latency_us, .. } =
            &self.traffic;
        let Traffic { signed_ahead, signed_while_running, signing_threads, waits_for_signing, .. } = &self.traffic;
        let Latency { p50, p99, max } = latency_us;
        let mean = self.traffic.batch_requests_mean.map_or("-".to_owned(), |mean| format!("{mean:.2}"));
        let lines = [
            ("connections", format!("{connections}, keep-alive, TLS 1.3, on {client_threads} client threads")),
            (
                "signed",
                format!("{signed_ahead} ahead, {signed_while_running} while running, on {signing_threads} threads"),
            ),
            ("", "(a signature costs about 25 verifications, so merchants sign before the clock starts)".to_owned()),
            ("waited", format!("{waits_for_signing} times for a signed request")),
            ("rate", format!("{requests_per_second:.0} requests/s ({requests} in {seconds:.2} s)")),
            ("", "(the signature of each answer is made by the gate and verified by the merchant)".to_owned()),
            ("latency", format!("p50 {p50} us, p99 {p99} us, max {max} us")),
            ("batches", format!("{mean} requests decided together, on average")),
        ];
        writeln!(formatter)?;
        lines.iter().try_for_each(|(name, text)| writeln!(formatter, "     {name:<12}{text}"))
    }
}

fn answer(status: u16, code: &str, signed: bool) -> String {
    let space = if code.is_empty() { "" } else { " " };
    format!("{status}{space}{code}{}", if signed { ", signed" } else { "" })
}

const fn mark(ok: bool) -> &'static str {
    if ok { "ok  " } else { "BAD " }
}
