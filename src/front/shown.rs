//! The certificate of a client whose TLS a trusted proxy ended, as the proxy states it in a header.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{HeaderMap, HeaderName};

use crate::certificate;
use crate::reason::Reason;

/// A header in which a trusted proxy states the certificate that its client proved to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateHeader {
    /// The name of the field.
    pub name: HeaderName,
    /// How its value is written.
    pub form: CertificateForm,
}

/// How a certificate is written in a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateForm {
    /// DER as a byte sequence of structured fields: Base64 between colons (RFC 9440, section 2.1).
    Rfc9440,
    /// PEM, with `%XX` for what a header does not take, as nginx writes `$ssl_client_escaped_cert`.
    UrlEncodedPem,
}

impl CertificateHeader {
    /// Reads the certificate; `None` where the client showed none. Whether it is of any use is judged where it is asked for.
    ///
    /// # Errors
    /// [`Reason::HeadInvalid`] where the field occurs twice, is longer than [`CERTIFICATE_HEADER_BYTES_MAX`], or does not have
    /// its form: a proxy that does not sanitise it may be passing on what its client wrote.
    pub(super) fn read(&self, headers: &HeaderMap) -> Result<Option<Vec<u8>>, Reason> {
        let mut values = headers.get_all(&self.name).iter();
        let Some(value) = values.next() else { return Ok(None) };
        if values.next().is_some() || value.len() > CERTIFICATE_HEADER_BYTES_MAX {
            return Err(Reason::HeadInvalid);
        }
        let text = value.to_str().map_err(|_| Reason::HeadInvalid)?;
        match self.form {
            CertificateForm::Rfc9440 => byte_sequence(text).map(Some),
            // Whoever has no certificate is named by an empty field.
            CertificateForm::UrlEncodedPem if text.is_empty() => Ok(None),
            CertificateForm::UrlEncodedPem => {
                let der = percent_decoded(text).and_then(|pem| certificate::pem_to_der(&pem, "CERTIFICATE").ok());
                der.map(Some).ok_or(Reason::HeadInvalid)
            }
        }
    }
}

fn byte_sequence(text: &str) -> Result<Vec<u8>, Reason> {
    let base64 = text.strip_prefix(':').and_then(|rest| rest.strip_suffix(':'));
    base64.and_then(|base64| STANDARD.decode(base64).ok()).ok_or(Reason::HeadInvalid)
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        if byte == b'%' {
            let (digits, after) = after.split_at_checked(2)?;
            let digits =
                std::str::from_utf8(digits).ok().filter(|two| two.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
            decoded.push(u8::from_str_radix(digits, 16).ok()?);
            rest = after;
        } else {
            decoded.push(byte);
            rest = after;
        }
    }
    String::from_utf8(decoded).ok()
}

/// Longest value of a header that states a certificate, in bytes: the largest certificate takes less, in either form.
pub const CERTIFICATE_HEADER_BYTES_MAX: usize = 32 * 1024;

const _: () = assert!(CERTIFICATE_HEADER_BYTES_MAX > certificate::CERTIFICATE_BYTES_MAX / 2 * 3, "room for Base64");

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    const NAME: HeaderName = HeaderName::from_static("client-cert");

    fn read(form: CertificateForm, values: &[&str]) -> Result<Option<Vec<u8>>, Reason> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(NAME, HeaderValue::from_str(value).expect("a value"));
        }
        CertificateHeader { name: NAME, form }.read(&headers)
    }

    fn pem(der: &[u8]) -> String {
        let body: Vec<_> = STANDARD.encode(der).into_bytes().chunks(64).map(<[u8]>::to_vec).collect();
        let body: Vec<_> = body.into_iter().map(|line| String::from_utf8(line).expect("Base64")).collect();
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", body.join("\n"))
    }

    /// Escapes all but letters and digits.
    fn escaped(text: &str) -> String {
        text.bytes()
            .map(
                |byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") },
            )
            .collect()
    }

    #[test]
    fn no_header_is_no_certificate() {
        assert_eq!(read(CertificateForm::Rfc9440, &[]), Ok(None));
        assert_eq!(read(CertificateForm::UrlEncodedPem, &[]), Ok(None));
        assert_eq!(read(CertificateForm::UrlEncodedPem, &[""]), Ok(None));
    }

    #[test]
    fn a_header_that_has_not_its_form_is_refused() {
        for bad in ["", ":", "MAA=", ":MAA=", "MAA=:", ":MAA:", ":MA A=:", ":MAA=:;a=1", ":MAA=:, :MAA=:", "%3AMAA=%3A"]
        {
            assert_eq!(read(CertificateForm::Rfc9440, &[bad]), Err(Reason::HeadInvalid), "{bad}");
        }
        let good = escaped(&pem(&[0x30, 0]));
        for bad in [
            &pem(&[0x30, 0]).replace('\n', " "),
            "%",
            "%2",
            "%+1",
            "%zz",
            "%ff",
            &good.repeat(2),
            &good.replace("CERTIFICATE", "PUBLIC%20KEY"),
            &format!("{good}%00"),
        ] {
            assert_eq!(read(CertificateForm::UrlEncodedPem, &[bad]), Err(Reason::HeadInvalid), "{bad}");
        }
    }

    #[test]
    fn a_header_that_occurs_twice_or_is_too_long_is_refused() {
        assert_eq!(read(CertificateForm::Rfc9440, &[":MAA=:", ":MAA=:"]), Err(Reason::HeadInvalid));
        assert_eq!(read(CertificateForm::UrlEncodedPem, &["", ""]), Err(Reason::HeadInvalid));
        let long = format!(":{}:", "A".repeat(CERTIFICATE_HEADER_BYTES_MAX));
        assert_eq!(read(CertificateForm::Rfc9440, &[&long]), Err(Reason::HeadInvalid));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_was_written_is_read(der in proptest::collection::vec(any::<u8>(), 1..600)) {
            let sequence = format!(":{}:", STANDARD.encode(&der));
            prop_assert_eq!(read(CertificateForm::Rfc9440, &[&sequence]), Ok(Some(der.clone())));
            let all = escaped(&pem(&der));
            prop_assert_eq!(read(CertificateForm::UrlEncodedPem, &[&all]), Ok(Some(der.clone())));
            // Some proxies leave what a URL takes as it is.
            let some = pem(&der).replace('\n', "%0A").replace(' ', "%20");
            prop_assert_eq!(read(CertificateForm::UrlEncodedPem, &[&some]), Ok(Some(der)));
        }

        #[test]
        fn no_value_panics(value in "[ -~]{0,80}") {
            let _ = read(CertificateForm::Rfc9440, &[&value]);
            let _ = read(CertificateForm::UrlEncodedPem, &[&value]);
        }
    }
}
