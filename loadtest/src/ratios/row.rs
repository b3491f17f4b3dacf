//! Rows: what came out of the rounds of a contest, and the table of them.

use std::fmt::Write as _;

use serde::Serialize;

use super::{Contest, Pair};

/// What is said of a row.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Line {
    /// It was measured.
    Measured(Row),
    /// It was not.
    Skipped {
        /// The row.
        name: &'static str,
        /// Why.
        skipped: String,
    },
}

/// A row that was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// What was done.
    pub name: &'static str,
    /// The figure of ours: the middle of the rounds.
    pub ours: f64,
    /// The figure of the rival: the middle of the rounds.
    pub rival: f64,
    /// What ours was compared with.
    pub rival_name: &'static str,
    /// The unit of both.
    pub unit: &'static str,
    /// How many times better ours was: the middle of the rounds' ratios.
    pub ratio: f64,
    /// How far the rounds' ratios lie apart: the 90th percentile less the 10th, as a part of the middle.
    pub spread: f64,
    /// How many rounds there were.
    pub rounds: usize,
    /// What the figures of the last round are made of.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub terms: String,
}

impl Row {
    /// Makes a row of the rounds of a contest, of which there is at least one.
    pub(super) fn new(name: &'static str, contest: &dyn Contest, pairs: &[Pair]) -> Self {
        let ratios = Sorted::new(pairs.iter().map(|pair| contest.better().ratio(*pair)));
        Self {
            name,
            ours: Sorted::new(pairs.iter().map(|pair| pair.ours)).percentile(50),
            rival: Sorted::new(pairs.iter().map(|pair| pair.rival)).percentile(50),
            rival_name: contest.rival_name(),
            unit: contest.unit(),
            ratio: ratios.percentile(50),
            spread: (ratios.percentile(90) - ratios.percentile(10)) / ratios.percentile(50),
            rounds: pairs.len(),
            terms: contest.terms().to_owned(),
        }
    }
}

/// Numbers in order.
pub(super) struct Sorted(Vec<f64>);

impl Sorted {
    pub(super) fn new(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<_> = values.collect();
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    /// Returns the number that so many per cent are not above; between two, the nearer one. NaN where there is none.
    pub(super) fn percentile(&self, percent: usize) -> f64 {
        let last = self.0.len().saturating_sub(1);
        self.0.get((last * percent + 50) / 100).copied().unwrap_or(f64::NAN)
    }
}

/// Sets the rows as a table that reads well as it is and as Markdown.
pub(super) fn table(lines: &[Line]) -> String {
    let head = ["row", "ours", "rival", "unit", "ratio", "spread"].map(str::to_owned);
    let rows: Vec<_> = std::iter::once(head).chain(lines.iter().map(columns)).collect();
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: [usize; 6] = std::array::from_fn(|column| width(column).unwrap_or(0));
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        for (cell, width) in row.iter().zip(widths) {
            // Writing to a string does not fail.
            let _ = write!(text, "| {cell:width$} ");
        }
        text.push_str("|\n");
        if number == 0 {
            widths.iter().for_each(|width| text.extend(["| ", &"-".repeat(*width), " "]));
            text.push_str("|\n");
        }
    }
    for line in lines {
        if let Line::Measured(Row { name, terms, .. }) = line
            && !terms.is_empty()
        {
            let _ = write!(text, "\n`{name}`: {terms}\n");
        }
    }
    text
}

fn columns(line: &Line) -> [String; 6] {
    match line {
        Line::Measured(row) => [
            row.name.to_owned(),
            figure(row.ours),
            format!("{} ({})", figure(row.rival), row.rival_name),
            row.unit.to_owned(),
            format!("{:.2}", row.ratio),
            format!("{:.0} %", row.spread * 100.0),
        ],
        Line::Skipped { name, skipped } => {
            let empty = String::new;
            [(*name).to_owned(), empty(), format!("skipped: {skipped}"), empty(), empty(), empty()]
        }
    }
}

/// Writes a figure with three digits or more.
pub(super) fn figure(value: f64) -> String {
    let decimals = match value {
        0.0..10.0 => 2,
        10.0..100.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}
