//! PEM (RFC 7468): blocks of one label, with text around them allowed and nothing else.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Error, PEM_BYTES_MAX};

/// Decodes the one PEM block of a text, which must have the label (`CERTIFICATE`, `PUBLIC KEY`).
///
/// Explanatory text may stand before and after the block.
///
/// # Errors
/// [`Error`] where the text has no block or more than one, another label, control characters outside the block, a
/// body that is not padded Base64, or more than [`PEM_BYTES_MAX`] bytes.
pub fn pem_to_der(pem: &str, label: &'static str) -> Result<Vec<u8>, Error> {
    blocks(pem, label, 1, PEM_BYTES_MAX)?.pop().ok_or(Error::PemMissing { label })
}

/// Decodes all blocks of a text, at least one, in their order.
pub(super) fn blocks(
    pem: &str,
    label: &'static str,
    blocks_max: usize,
    bytes_max: usize,
) -> Result<Vec<Vec<u8>>, Error> {
    if pem.len() > bytes_max {
        return Err(Error::PemTooLarge { bytes: pem.len(), bytes_max });
    }
    let mut decoded = Vec::new();
    let mut body: Option<String> = None;
    for (line, text) in (1..).zip(pem.lines()) {
        match (boundary(text, label), &mut body) {
            (Boundary::Begin, None) if decoded.len() == blocks_max => return Err(Error::PemTooMany { blocks_max }),
            (Boundary::Begin, None) => body = Some(String::new()),
            (Boundary::End, Some(base64)) => {
                decoded.push(STANDARD.decode(base64).map_err(|_| Error::PemBase64 { line })?);
                body = None;
            }
            (Boundary::None, Some(base64)) => base64.push_str(text.trim()),
            (Boundary::None, None) if text.chars().any(|c| c.is_control() && c != '\t') => {
                return Err(Error::PemNotText { line });
            }
            (Boundary::None, None) => {}
            (Boundary::Begin, Some(_)) | (Boundary::End, None) | (Boundary::Other, _) => {
                return Err(Error::PemBoundary { line, label });
            }
        }
    }
    match body {
        Some(_) => Err(Error::PemUnterminated { label }),
        None if decoded.is_empty() => Err(Error::PemMissing { label }),
        None => Ok(decoded),
    }
}

/// What a line says about blocks.
enum Boundary {
    Begin,
    End,
    /// A boundary of another label, or one with something before or after it.
    Other,
    None,
}

fn boundary(line: &str, label: &str) -> Boundary {
    let inner = |prefix| line.trim().strip_prefix(prefix)?.strip_suffix("-----");
    if inner("-----BEGIN ") == Some(label) {
        Boundary::Begin
    } else if inner("-----END ") == Some(label) {
        Boundary::End
    } else if line.contains("-----BEGIN") || line.contains("-----END") {
        Boundary::Other
    } else {
        Boundary::None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: &str = "-----BEGIN PUBLIC KEY-----\nAQID\nBA==\n-----END PUBLIC KEY-----\n";

    fn decode(pem: &str) -> Result<Vec<u8>, Error> {
        pem_to_der(pem, "PUBLIC KEY")
    }

    #[test]
    fn one_block_is_decoded_with_text_around_it() {
        assert_eq!(decode(BLOCK), Ok(vec![1, 2, 3, 4]));
        assert_eq!(decode(&BLOCK.replace('\n', "\r\n")), Ok(vec![1, 2, 3, 4]));
        assert_eq!(decode(&format!("\tsubject=商户\n\n{BLOCK}\n2026 until 2031 ----\n")), Ok(vec![1, 2, 3, 4]));
        assert_eq!(decode(BLOCK.trim_end()), Ok(vec![1, 2, 3, 4]));
    }

    #[test]
    fn anything_but_one_block_and_text_is_refused() {
        let label = "PUBLIC KEY";
        assert_eq!(decode("no block"), Err(Error::PemMissing { label }));
        assert_eq!(decode(&BLOCK.repeat(2)), Err(Error::PemTooMany { blocks_max: 1 }));
        assert_eq!(decode(&BLOCK.replace("PUBLIC", "PRIVATE")), Err(Error::PemBoundary { line: 1, label }));
        assert_eq!(decode(&format!("{BLOCK}-----BEGIN X-----")), Err(Error::PemBoundary { line: 5, label }));
        assert_eq!(decode(&format!("x{BLOCK}")), Err(Error::PemBoundary { line: 1, label }));
        assert_eq!(decode(&format!("-----END {label}-----\n{BLOCK}")), Err(Error::PemBoundary { line: 1, label }));
        assert_eq!(
            decode(&BLOCK.replace("BA==\n-----END", "BA==\n-----BEGIN")),
            Err(Error::PemBoundary { line: 4, label })
        );
        assert_eq!(decode(&BLOCK.replace("-----END", "")), Err(Error::PemUnterminated { label }));
        assert_eq!(decode(&format!("{BLOCK}\u{0}")), Err(Error::PemNotText { line: 5 }));
        let bytes = PEM_BYTES_MAX + 1;
        assert_eq!(decode(&" ".repeat(bytes)), Err(Error::PemTooLarge { bytes, bytes_max: PEM_BYTES_MAX }));
    }

    #[test]
    fn the_body_is_padded_standard_base64_and_nothing_else() {
        for body in ["AQID\nBA", "AQID\nBB==", "AQI D\nBA==", "AQ-_\nBA==", "A: b\n\nAQID", "BA==\nAQID", "AQID\nBA==="]
        {
            assert_eq!(
                decode(&BLOCK.replace("AQID\nBA==", body)).map_err(|error| matches!(error, Error::PemBase64 { .. })),
                Err(true),
                "{body}"
            );
        }
    }
}
