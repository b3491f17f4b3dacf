//! Writing fields so that every parser reads them alike.

use super::scan::is_xml;

/// Appends `<name>value</name>`, the value as CDATA where that can hold it. What XML has no character for is replaced by
/// U+FFFD.
pub fn element(out: &mut String, name: &str, value: &str) {
    out.extend(["<", name, ">"]);
    if value.contains("]]>") || value.chars().any(|character| character == '\r' || !is_xml(character)) {
        value.chars().for_each(|character| match character {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '\r' => out.push_str("&#13;"),
            _ if is_xml(character) => out.push(character),
            _ => out.push('\u{fffd}'),
        });
    } else if !value.is_empty() {
        out.extend(["<![CDATA[", value, "]]>"]);
    }
    out.extend(["</", name, ">"]);
}
