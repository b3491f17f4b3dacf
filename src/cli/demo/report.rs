//! What the demo tells: tables for people, or one JSON object.

use std::fmt;

use serde::Serialize;

use super::books::{Books, Count, UsageShown, yuan};
use super::cases::{Refusal, Seen as SeenAnswer};
use super::presets::{Ceiling, Reached};
use super::shows::Shown;
use super::traffic::{Latency, Line, Traffic};

/// Everything that was seen, and what to make of it.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub version: &'static str,
    /// Whether every answer was the one expected, and every book balanced.
    pub ok: bool,
    #[serde(flatten)]
    pub seen: Seen,
}

/// Everything that was seen.
#[derive(Debug, Serialize)]
pub(super) struct Seen {
    pub refusals: Vec<Refusal>,
    pub admissions: Vec<Shown>,
    pub limits: Vec<Shown>,
    pub presets: Vec<Reached>,
    pub holds: Vec<Shown>,
    pub traffic: Traffic,
    pub usage: UsageShown,
    pub books: Vec<Books>,
    /// What merchants took in the traffic.
    pub counts: Vec<Count>,
}

impl Report {
    /// Judges what was seen.
    pub fn new(seen: Seen) -> Self {
        let ok = seen.refusals.iter().all(|refusal| refusal.ok)
            && seen.admissions.iter().chain(&seen.limits).chain(&seen.holds).all(|shown| shown.ok)
            && seen.presets.iter().all(|reached| reached.ok)
            && seen.traffic.ok
            && seen.books.iter().all(|books| books.ok)
            && seen.counts.iter().all(|count| count.ok);
        Self { version: env!("CARGO_PKG_VERSION"), ok, seen }
    }

    /// Lists what was not as expected, a line each.
    pub fn differences(&self) -> Vec<String> {
        let line = |name: &str, case: &str, difference: &Option<String>| {
            difference.as_ref().map(|difference| format!("{name} ({case}): {difference}"))
        };
        let seen = &self.seen;
        let refusals = seen.refusals.iter().filter_map(|one| line(one.reason, one.case, &one.difference));
        let shown = seen.admissions.iter().chain(&seen.limits).chain(&seen.holds);
        let shown = shown.filter_map(|one| line(one.kind, one.case, &one.difference));
        let presets = seen.presets.iter().filter_map(|one| line("limit", one.limit, &one.difference));
        let books = seen.books.iter().filter(|books| !books.ok).map(|books| format!("books: {books:?}"));
        let counted = seen.counts.iter().filter(|count| !count.ok).map(|count| format!("books: {count:?}"));
        let traffic = seen.traffic.differences.iter().map(|difference| format!("traffic: {difference}"));
        let wrong = seen.traffic.verdicts.iter().filter(|line| !line.is_ok());
        let counts = wrong.map(|Line { verdict, expected, seen, counted, .. }| {
            format!("traffic: {verdict}: expected {expected}, seen {seen}, counted {counted:?}")
        });
        refusals.chain(shown).chain(presets).chain(traffic).chain(counts).chain(books).chain(counted).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "\nRefused: one request for every reason\n")?;
        writeln!(formatter, "     {:<26}{:<36}{:<36}by", "reason", "expected", "seen")?;
        let seen = &self.seen;
        for refusal in &seen.refusals {
            self.refusal(formatter, refusal)?;
        }
        list(formatter, "Admitted", &seen.admissions)?;
        list(formatter, "Limits", &seen.limits)?;
        self.presets(formatter)?;
        list(formatter, "Holds, at a gate whose clock is moved", &seen.holds)?;
        self.traffic(formatter)?;
        write!(formatter, "\nUsage, as limits were used up, and of an order that is held\n\n{}", seen.usage)?;
        self.books(formatter)?;
        let differences = self.differences();
        if self.ok {
            let cases = seen.refusals.len() + seen.admissions.len() + seen.limits.len() + seen.holds.len();
            return write!(
                formatter,
                "\nAll {cases} cases, {} limits and {} requests got the answer expected, and the books balance.",
                seen.presets.len(),
                seen.traffic.requests
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
        let seen = seen
            .map_or("no answer".to_owned(), |SeenAnswer { status, code, signed, .. }| answer(*status, code, *signed));
        let Refusal { reason, case, ok, .. } = refusal;
        writeln!(formatter, "{} {reason:<26}{expected:<36}{seen:<36}{case}", mark(*ok))
    }

    fn presets(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "\nLimits that come with the gate: each ceiling used up, in yuan, and the next payment refused\n"
        )?;
        writeln!(formatter, "     {:<40}{:>6}{:>9}  ceilings reached", "limit", "paid", "refused")?;
        for Reached { limit, ceilings, paid, refused, ok, .. } in &self.seen.presets {
            let mut line = String::new();
            let mut at = "normal";
            // Those of the normal level first, as everybody reads them.
            let (normal, others): (Vec<_>, Vec<_>) = ceilings.iter().partition(|one| one.risk == at);
            for Ceiling { window, risk, fen } in normal.into_iter().chain(others) {
                if *risk != at {
                    line.push_str(&format!("; {risk} risk"));
                    at = risk;
                }
                line.push_str(&format!(" {window} {}", yuan(*fen)));
            }
            writeln!(formatter, "{} {limit:<40}{paid:>6}{refused:>9} {line}", mark(*ok))?;
        }
        Ok(())
    }

    fn books(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "\nBooks, in yuan: an amount counts once for each window of each limit that it was taken from\n"
        )?;
        let [taken, back, passed, used] = ["taken", "given back", "passed", "used"];
        writeln!(formatter, "     {:<10}{taken:>16}{back:>16}{passed:>16}{used:>16}{:>8}  checked", "gate", "error")?;
        for Books { gate, taken, given_back, passed, used, error, stripes_checked, stripes, ok } in &self.seen.books {
            let [taken, back, passed, used] = [taken, given_back, passed, used].map(|fen| yuan(*fen));
            let mark = mark(*ok);
            write!(formatter, "{mark} {gate:<10}{taken:>16}{back:>16}{passed:>16}{used:>16}{error:>8}")?;
            writeln!(formatter, "  {stripes_checked} of {stripes} stripes")?;
        }
        writeln!(formatter)?;
        for Count { merchant, demo_fen, gate_fen, ok } in &self.seen.counts {
            let [demo, gate] = [demo_fen, gate_fen].map(|fen| yuan(fen.unsigned_abs()));
            let mark = mark(*ok);
            writeln!(formatter, "{mark} merchant {merchant} took {demo} yuan in the traffic; the gate counts {gate}")?;
        }
        Ok(())
    }

    fn traffic(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let build = if self.seen.traffic.debug_build { "; a debug build, which says nothing of a release" } else { "" };
        writeln!(formatter, "\nTraffic ({}{build})\n", self.seen.traffic.measured)?;
        writeln!(formatter, "     {:<26}{:>12}{:>12}{:>12}", "verdict", "expected", "seen", "counted")?;
        for line in &self.seen.traffic.verdicts {
            let Line { verdict, expected, seen, counted, .. } = line;
            let counted = counted.map_or("-".to_owned(), |counted| counted.to_string());
            let mark = mark(line.is_ok());
            writeln!(formatter, "{mark} {verdict:<26}{expected:>12}{seen:>12}{counted:>12}")?;
        }
        self.measures(formatter)
    }

    fn measures(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Traffic { connections, client_threads, seconds, requests, requests_per_second, latency_us, .. } =
            &self.seen.traffic;
        let Traffic { signed_ahead, signed_while_running, signing_threads, waits_for_signing, .. } = &self.seen.traffic;
        let Latency { p50, p99, max } = latency_us;
        let mean = self.seen.traffic.batch_requests_mean.map_or("-".to_owned(), |mean| format!("{mean:.2}"));
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

fn list(formatter: &mut fmt::Formatter<'_>, title: &str, all: &[Shown]) -> fmt::Result {
    writeln!(formatter, "\n{title}\n")?;
    all.iter().try_for_each(|Shown { kind, case, ok, .. }| writeln!(formatter, "{} {kind:<26}{case}", mark(*ok)))
}

fn answer(status: u16, code: &str, signed: bool) -> String {
    let space = if code.is_empty() { "" } else { " " };
    format!("{status}{space}{code}{}", if signed { ", signed" } else { "" })
}

const fn mark(ok: bool) -> &'static str {
    if ok { "ok  " } else { "BAD " }
}
