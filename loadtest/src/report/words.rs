//! A report in words, for people: a line for each thing.

use super::{Quantiles, Report, Settles};

impl Report {
    /// Writes the result in words.
    pub fn describe(&self) -> String {
        let mut lines = Lines::default();
        self.describe_target(&mut lines);
        self.describe_answers(&mut lines);
        self.describe_times(&mut lines);
        self.describe_books(&mut lines);
        if !self.valid {
            lines.add("INVALID", "the generator did not keep up: the latencies say nothing of what was driven");
        }
        lines.0
    }

    fn describe_target(&self, lines: &mut Lines) {
        let Self { target, loop_kind, connections, .. } = self;
        if let Some(scenario) = &self.scenario {
            lines.add("scenario", &scenario.about);
        }
        let keys = self.key_primes.map_or_else(String::new, |primes| format!(", keys of {primes} primes"));
        lines.add("target", &format!("{target}, {loop_kind} loop, {connections} connections{keys}"));
    }

    fn describe_answers(&self, lines: &mut Lines) {
        let Self { sent, took_s, per_second, unsent, .. } = self;
        lines.add("requests", &format!("{sent} sent in {took_s:.1} s, {per_second:.0} a second; {unsent} unsent"));
        let Self { admitted, answered, refused, timed_out, failed, .. } = self;
        let passed = if self.books.is_some() { format!("{admitted} admitted") } else { format!("{answered} answered") };
        lines.add("answers", &format!("{passed}, {refused} refused, {timed_out} timed out, {failed} failed"));
        for (kind, answers) in &self.answers {
            let answers: Vec<_> = answers.iter().map(|(answer, count)| format!("{count} {answer}")).collect();
            lines.add("", &format!("{kind}: {}", answers.join(", ")));
        }
        if self.withheld > 0 {
            lines.add("", &format!("{} refunds left out: their payments were not committed", self.withheld));
        }
    }

    fn describe_times(&self, lines: &mut Lines) {
        lines.add("latency", &spread(&self.latency_us));
        lines.add("service", &spread(&self.service_us));
        if self.loop_kind == "open" {
            lines.add("lateness", &spread(&self.lateness_us));
        }
        if let Some(cpu_s) = self.server_cpu_s {
            let each = cpu_s * 1e6 / (self.admitted + self.refused + self.answered).max(1) as f64;
            lines.add("server", &format!("{cpu_s:.2} s of processor time, {each:.1} us a request"));
        }
        if let Some(decision_ns) = self.decision_ns {
            lines.add("decision", &format!("{:.1} us, signature included", decision_ns / 1e3));
        }
        let [start, warm, middle, end] = {
            let resident = self.resident_kib;
            [resident.start, resident.warm, resident.middle, resident.end].map(|kib| kib / 1024)
        };
        lines
            .add("memory", &format!("{start} MiB at the start, {warm} warm, {middle} in the middle, {end} at the end"));
    }

    fn describe_books(&self, lines: &mut Lines) {
        if self.resolved > 0 {
            lines.add("unknown", &format!("{} asked again, {} still unknown", self.resolved, self.unresolved));
        }
        let Some(books) = &self.books else { return };
        let verdict =
            if books.balanced { "balanced".to_owned() } else { format!("{} DIFFERENCES", books.differences_count) };
        let (accounts, used_fen) = (books.accounts, books.used_fen);
        let Self { payments_admitted, payments_fen, .. } = self;
        let payments = format!("{payments_admitted} payments of {payments_fen} fen");
        lines.add("books", &format!("{verdict}: {accounts} accounts, {used_fen} fen in them; {payments}"));
        books.differences.iter().for_each(|difference| lines.add("", difference));
        let Self { refunds, refunds_fen, repeats, .. } = self;
        if *refunds > 0 || *repeats > 0 {
            let repeated = format!("{repeats} answers of decisions known before");
            lines.add("", &format!("{refunds} refunds of {refunds_fen} fen; {repeated}"));
        }
        let Settles { committed, released, committed_late, conflicts, repeated, expired, refused } = self.settles;
        let late = format!("{committed_late} late, {conflicts} after a release and refused");
        lines.add("settles", &format!("{committed} committed, {released} released, {expired} holds ran out; {late}"));
        if repeated > 0 {
            lines.add("", &format!("{repeated} releases waited for an answer under way, and were asked for again"));
        }
        if refused > 0 || !self.settled_all {
            lines.add("", &format!("REFUSED by the gate: {refused}; all done: {}", self.settled_all));
        }
    }
}

fn spread(of: &Quantiles) -> String {
    let Quantiles { p50, p90, p99, p999, max } = of;
    format!("p50 {p50:.0} us, p90 {p90:.0}, p99 {p99:.0}, p99.9 {p999:.0}, max {max:.0}")
}

#[derive(Default)]
struct Lines(String);

impl Lines {
    fn add(&mut self, name: &str, value: &str) {
        self.0.push_str(&format!("{name:<12} {value}\n"));
    }
}
