//! Usage as aligned tables: one for limits of money, in yuan, and one for limits that count payments.

use std::fmt;

use super::{Usage, WindowUsage};
use crate::types::{LimitMode, Unit};

/// Usage, to be printed.
pub(super) struct Tables<'a>(pub &'a [Usage]);

impl fmt::Display for Tables<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut tables = Unit::ALL.iter().map(|unit| (*unit, rows(self.0, *unit))).filter(|(_, rows)| !rows.is_empty());
        let Some((unit, first)) = tables.next() else {
            return writeln!(formatter, "no limit counts per what is named");
        };
        write_table(formatter, unit, &first)?;
        for (unit, rows) in tables {
            writeln!(formatter)?;
            write_table(formatter, unit, &rows)?;
        }
        Ok(())
    }
}

type Row = [String; COLUMNS];

fn rows(usage: &[Usage], unit: Unit) -> Vec<Row> {
    let usage = usage.iter().filter(|usage| usage.unit == unit);
    usage.flat_map(|usage| usage.windows.iter().map(move |window| row(usage, window))).collect()
}

fn row(usage: &Usage, window: &WindowUsage) -> Row {
    let shadow = match usage.mode {
        LimitMode::Enforce => "",
        LimitMode::Shadow => " (shadow)",
    };
    let subject: Vec<_> = usage.subject.iter().map(|(part, value)| format!("{part}={value}")).collect();
    let amount = |amount: u64| match usage.unit {
        Unit::Fen => yuan(amount),
        Unit::Count => amount.to_string(),
    };
    let bound = |bound: Option<u64>| bound.map_or_else(|| "-".to_owned(), amount);
    [
        printable(&format!("{}{shadow}", usage.limit)),
        printable(&subject.join(" ")),
        window.window.to_string(),
        amount(window.used),
        amount(window.held),
        amount(window.committed),
        bound(window.ceiling),
        bound(window.room),
        printable(window.ends.as_deref().unwrap_or("never")),
    ]
}

fn write_table(formatter: &mut fmt::Formatter<'_>, unit: Unit, rows: &[Row]) -> fmt::Result {
    let header = header(unit);
    let mut widths = [0; COLUMNS];
    for row in std::iter::once(&header).chain(rows) {
        widths.iter_mut().zip(row).for_each(|(width, cell)| *width = columns(cell).max(*width));
    }
    for row in std::iter::once(&header).chain(rows) {
        let mut line = String::new();
        for (index, (cell, width)) in row.iter().zip(widths).enumerate() {
            let padding = " ".repeat(width.saturating_sub(columns(cell)));
            let (before, after) =
                if AMOUNTS.contains(&index) { (padding, String::new()) } else { (String::new(), padding) };
            line.extend([before.as_str(), cell, after.as_str(), GAP]);
        }
        writeln!(formatter, "{}", line.trim_end())?;
    }
    Ok(())
}

fn header(unit: Unit) -> Row {
    let amount = |name: &str| match unit {
        Unit::Fen => format!("{name} yuan"),
        Unit::Count => name.to_owned(),
    };
    [
        "limit".to_owned(),
        "subject".to_owned(),
        "window".to_owned(),
        amount("used"),
        amount("held"),
        amount("committed"),
        amount("ceiling"),
        amount("room"),
        "ends".to_owned(),
    ]
}

/// Writes an amount in yuan.
pub(in crate::cli) fn yuan(fen: u64) -> String {
    format!("{}.{:02}", fen / 100, fen % 100)
}

/// Replaces what would move the cursor or colour the terminal.
pub(in crate::cli) fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { char::REPLACEMENT_CHARACTER } else { letter }).collect()
}

/// Counts the columns that a terminal gives a text: two for a wide letter of East Asia (Unicode annex 11, in blocks).
fn columns(text: &str) -> usize {
    text.chars().map(|letter| if WIDE.iter().any(|wide| wide.contains(&letter)) { 2 } else { 1 }).sum()
}

/// Columns of a table.
const COLUMNS: usize = 9;

/// The columns that hold amounts; set to the right.
const AMOUNTS: std::ops::RangeInclusive<usize> = 3..=7;

/// What stands between two columns.
const GAP: &str = "  ";

/// Blocks of wide letters.
const WIDE: [std::ops::RangeInclusive<char>; 6] = [
    '\u{1100}'..='\u{115f}',
    '\u{2e80}'..='\u{a4cf}',
    '\u{ac00}'..='\u{d7a3}',
    '\u{f900}'..='\u{faff}',
    '\u{fe30}'..='\u{ff60}',
    '\u{20000}'..='\u{3fffd}',
];
