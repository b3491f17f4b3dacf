//! The table in a README: between two marks, with what it was measured on.

use std::fs;
use std::path::Path;

use super::row::table;
use super::{Line, RatioError};
use crate::machine::Machine;

/// Checks that a file can be read and has its marks.
pub(super) fn check(path: &Path) -> Result<(), RatioError> {
    replaced(path, "").map(drop)
}

/// Replaces what is between the marks of a file by these rows.
pub(super) fn replace(path: &Path, lines: &[Line], machine: &Machine) -> Result<(), RatioError> {
    let text = replaced(path, &section(lines, machine))?;
    fs::write(path, text).map_err(|source| RatioError::Readme { path: path.to_owned(), source })
}

fn replaced(path: &Path, section: &str) -> Result<String, RatioError> {
    let text = fs::read_to_string(path).map_err(|source| RatioError::Readme { path: path.to_owned(), source })?;
    let no_marks = || RatioError::NoMarks { path: path.to_owned(), begin: BEGIN, end: END };
    between_marks(&text, section).ok_or_else(no_marks)
}

/// Returns the text with another section between its marks; `None` where it does not have both, in order.
fn between_marks(text: &str, section: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{section}{END}{after}"))
}

fn section(lines: &[Line], machine: &Machine) -> String {
    let rounds = lines.iter().filter_map(|line| match line {
        Line::Measured(row) => Some(row.rounds),
        Line::Skipped { .. } => None,
    });
    let rounds = rounds.max().unwrap_or(0);
    format!("Measured on {machine}; {rounds} rounds.\n\n{}", table(lines))
}

const BEGIN: &str = "<!-- ratios: begin -->";
const END: &str = "<!-- ratios: end -->";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_is_replaced() {
        let text = format!("above\n\n{BEGIN}\nold\nolder\n{END}\n\nbelow\n");
        let replaced = between_marks(&text, "new\n").expect("both marks");
        assert_eq!(replaced, format!("above\n\n{BEGIN}\nnew\n{END}\n\nbelow\n"));
        assert_eq!(between_marks(&replaced, "new\n").as_deref(), Some(&*replaced), "again");
    }

    #[test]
    fn a_text_without_both_marks_in_order_is_left_alone() {
        for text in ["", BEGIN, END, &format!("{END}\n{BEGIN}")] {
            assert_eq!(between_marks(text, "new\n"), None, "{text}");
        }
    }
}
