//! Limits that come with the gate: tables of the rules it is made for, each documented in its file.

use super::fault::{At, Fault, Problem};
use super::shape::{self, Preset, Table};

/// Reads the limits of the presets that `gate` names. Their ids begin with the name of the preset.
pub(super) fn limits(at: &At<'_>, presets: &[Preset]) -> Result<Vec<Table<shape::Limit>>, Fault> {
    let mut limits = Vec::new();
    for (index, preset) in presets.iter().enumerate() {
        let at_item = at.item("presets", index);
        if let Some(first) = presets.iter().take(index).position(|earlier| earlier == preset) {
            let first = at.item("presets", first).to_string();
            return Err(at_item.refuse(Problem::Duplicate { value: name(*preset).to_owned(), first }));
        }
        let read: shape::Limits = toml::from_str(text(*preset))
            .map_err(|error| at_item.refuse(Problem::Syntax { message: error.message().to_owned() }))?;
        limits.extend(read.limit);
    }
    Ok(limits)
}

const fn name(preset: Preset) -> &'static str {
    match preset {
        Preset::T10MicroMerchants => "t10_micro_merchants",
        Preset::T8Categories => "t8_categories",
        Preset::Pboc43 => "pboc_43",
        Preset::BarCodeGrades => "bar_code_grades",
    }
}

const fn text(preset: Preset) -> &'static str {
    match preset {
        Preset::T10MicroMerchants => include_str!("presets/t10_micro_merchants.toml"),
        Preset::T8Categories => include_str!("presets/t8_categories.toml"),
        Preset::Pboc43 => include_str!("presets/pboc_43.toml"),
        Preset::BarCodeGrades => include_str!("presets/bar_code_grades.toml"),
    }
}
