//! The language of messages: `Accept-Language` (RFC 9110, section 12.5.4) over the two languages there are.

/// The language of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Language {
    /// Chinese, the platform's own.
    #[default]
    Chinese,
    /// English.
    English,
}

impl Language {
    /// Chooses by the value of `Accept-Language`: the most preferred range that names one of the two, the first of
    /// equals. Chinese where it is absent, unreadable, or names neither.
    pub fn accepted(accept_language: Option<&[u8]>) -> Self {
        let text = accept_language.and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or("");
        let mut chosen = (0, Self::default());
        for (quality, language) in text.split(',').take(RANGES_MAX).filter_map(preference) {
            if quality > chosen.0 {
                chosen = (quality, language);
            }
        }
        chosen.1
    }
}

/// Reads one range with its weight in thousandths; `None` where it names no language of ours or is malformed.
fn preference(range: &str) -> Option<(u16, Language)> {
    let (tag, parameters) = range.split_once(';').unwrap_or((range, "q=1"));
    let tag = tag.trim();
    let primary = tag.split_once('-').map_or(tag, |(primary, _)| primary);
    let language = if primary.eq_ignore_ascii_case("zh") || primary == "*" {
        Language::Chinese
    } else if primary.eq_ignore_ascii_case("en") {
        Language::English
    } else {
        return None;
    };
    let parameter = parameters.trim();
    let weight = parameter.strip_prefix("q=").or_else(|| parameter.strip_prefix("Q="))?;
    Some((thousandths(weight)?, language))
}

/// Reads a weight: `0` to `1`, with at most three decimals.
fn thousandths(weight: &str) -> Option<u16> {
    let (whole, decimals) = weight.split_once('.').unwrap_or((weight, ""));
    if !matches!(whole, "0" | "1") || decimals.len() > 3 || !decimals.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let padded: u16 = format!("{whole}{decimals:0<3}").parse().ok()?;
    (padded <= 1000).then_some(padded)
}

/// How many ranges are read, so that a long header costs no more than a short one.
const RANGES_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_preferred_of_our_languages_is_chosen() {
        use Language::{Chinese, English};
        for (header, language) in [
            ("", Chinese),
            ("zh-CN", Chinese),
            ("zh-HK", Chinese),
            ("zh-TW, en;q=0.9", Chinese),
            ("en", English),
            ("EN-us", English),
            ("en-GB,en;q=0.9,zh;q=0.8", English),
            ("zh;q=0.7, en;q=0.8", English),
            ("zh;q=0.801, en;q=0.8", Chinese),
            ("en, zh", English),
            ("zh, en", Chinese),
            ("fr", Chinese),
            ("fr, en;q=0.5", English),
            ("fr, *;q=0.1", Chinese),
            ("en;q=0", Chinese),
            ("en;q=0.000, zh;q=0.1", Chinese),
            ("*", Chinese),
            ("*;q=0.5, en ; q=0.6", English),
            ("english", Chinese),
            ("en;q=2", Chinese),
            ("en;q=1.001", Chinese),
            ("en;q=0.1234", Chinese),
            ("en;q=", Chinese),
            ("en;level=1", Chinese),
            (";;,,;q=1,en", English),
        ] {
            assert_eq!(Language::accepted(Some(header.as_bytes())), language, "{header}");
        }
        assert_eq!(Language::accepted(None), Chinese);
        assert_eq!(Language::accepted(Some(b"\xff\xfe")), Chinese);
    }

    #[test]
    fn only_so_many_ranges_are_read() {
        let header = "fr,".repeat(RANGES_MAX) + "en";
        assert_eq!(Language::accepted(Some(header.as_bytes())), Language::Chinese);
    }
}
