//! Why a certificate is refused; each message tells an operator what to change.

use super::{
    CERTIFICATE_BYTES_MAX, CHAIN_CERTIFICATES_MAX, EXTENSIONS_MAX, LIST_BYTES_MAX, LIST_ENTRIES_MAX, SERIAL_OCTETS_MAX,
    SIGNATURE_CHECKS_MAX,
};
use crate::time::UnixMillis;

/// Refuses a certificate, a bundle of them, or the PEM around them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The text has no block of the label.
    #[error("the text has no `-----BEGIN {label}-----` block; give the file in PEM form")]
    PemMissing {
        /// The label asked for.
        label: &'static str,
    },
    /// The text has more blocks than are read.
    #[error("the text has more than {blocks_max} PEM block(s); keep only those that are needed")]
    PemTooMany {
        /// How many are allowed.
        blocks_max: usize,
    },
    /// A BEGIN or END line stands where it must not, or names another label.
    #[error("line {line} begins or ends another PEM block than `{label}`; remove that block or repair the line")]
    PemBoundary {
        /// The line, counted from 1.
        line: usize,
        /// The label asked for.
        label: &'static str,
    },
    /// The last block has no END line.
    #[error("the PEM block has no `-----END {label}-----` line; the file is cut off")]
    PemUnterminated {
        /// The label asked for.
        label: &'static str,
    },
    /// The body of a block is not Base64.
    #[error("the PEM block that ends in line {line} is not padded standard Base64; export it again")]
    PemBase64 {
        /// The line of its END, counted from 1.
        line: usize,
    },
    /// What stands around the block is not text.
    #[error("line {line} outside the PEM block holds control characters; remove it")]
    PemNotText {
        /// The line, counted from 1.
        line: usize,
    },
    /// The text is too long.
    #[error("the PEM text has {bytes} bytes, more than {bytes_max}; keep only the blocks that are needed")]
    PemTooLarge {
        /// Its length.
        bytes: usize,
        /// The longest that is read.
        bytes_max: usize,
    },

    /// The certificate is too large.
    #[error("the certificate has {bytes} bytes of DER, more than {CERTIFICATE_BYTES_MAX}; issue a smaller one")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Something follows the certificate.
    #[error("{bytes} byte(s) follow the certificate; remove them")]
    TrailingBytes {
        /// How many.
        bytes: usize,
    },
    /// The bytes are not the distinguished encoding of a certificate.
    #[error("the certificate is not strict DER of the X.509 form; export or issue it again")]
    Malformed,
    /// The certificate is not of version 3.
    #[error("the certificate is not X.509 version 3; issue it as version 3")]
    Version,
    /// The serial number is negative, zero or too long.
    #[error("the serial number is not positive or has more than {SERIAL_OCTETS_MAX} octets; issue with another one")]
    Serial,
    /// The signed and the unsigned name of the signature algorithm differ.
    #[error("the two signature algorithms of the certificate differ; issue it again")]
    SignatureAlgorithmMismatch,
    /// The certificate is signed with another algorithm than RSA PKCS #1 with SHA-256, SHA-384 or SHA-512.
    #[error("the certificate is not signed with RSA (PKCS #1) and SHA-256, SHA-384 or SHA-512; issue it so")]
    SignatureAlgorithm,
    /// The certificate ends before it begins.
    #[error("the certificate's notAfter is before its notBefore; issue it again")]
    ValidityReversed,

    /// An extension is there twice.
    #[error("the certificate has an extension twice; issue it with one of each")]
    DuplicateExtension,
    /// There are too many extensions.
    #[error("the certificate has {extensions} extensions, more than {EXTENSIONS_MAX}; issue it with fewer")]
    TooManyExtensions {
        /// How many.
        extensions: usize,
    },
    /// An extension that decides something cannot be read.
    #[error("the certificate's {extension} extension cannot be read; issue it again")]
    MalformedExtension {
        /// Its name in RFC 5280.
        extension: &'static str,
    },
    /// A critical extension is not known here.
    #[error("the certificate has a critical extension that is not evaluated here; issue it without")]
    UnknownCriticalExtension,

    /// The key is not an RSA key.
    #[error("the public key is not RSA (rsaEncryption); issue the certificate for an RSA key")]
    KeyType,
    /// The key cannot be read.
    #[error("the RSA public key cannot be read; make a new key and certificate")]
    KeyMalformed,
    /// The key is too short or too long.
    #[error("the RSA key has {bits} bits, not 2048 to 8192; make a new key and certificate")]
    KeySize {
        /// Its length.
        bits: usize,
    },
    /// The modulus is even, so that it is no product of two odd primes.
    #[error("the RSA modulus is even; make a new key and certificate")]
    KeyModulus,
    /// The exponent is even, below 65537 or above 32 bits.
    #[error("the RSA exponent is not an odd number from 65537 to 2^32 - 1; make a new key (65537 is usual)")]
    KeyExponent,

    /// The certificate may issue others.
    #[error("the certificate is an authority's (CA or keyCertSign); give the one issued to the merchant")]
    LeafIsAuthority,
    /// The certificate's key may not sign.
    #[error("the keyUsage does not allow digitalSignature; issue the certificate with it")]
    LeafKeyUsage,
    /// The certificate's purposes lack that of a client.
    #[error("the extKeyUsage does not allow clientAuth; issue the certificate with it")]
    ExtendedKeyUsage,
    /// The subject has no common name, several, or one that is not a merchant's.
    #[error("the subject needs exactly one CN, the merchant id of 1 to 32 letters, digits, `_` or `-`")]
    Subject,
    /// The certificate is not valid yet.
    #[error("the certificate is not valid before {}; check the clock, or wait", moment(*not_before))]
    NotYetValid {
        /// First instant of validity.
        not_before: UnixMillis,
    },
    /// The certificate is not valid any more.
    #[error("the certificate expired at {}; issue a new one", moment(*not_after))]
    Expired {
        /// Last instant of validity.
        not_after: UnixMillis,
    },

    /// A certificate of the authority's bundle is refused.
    #[error("certificate {position} of the authority's bundle: {source}")]
    InAuthority {
        /// Its place in the bundle, counted from 1.
        position: usize,
        /// Why.
        source: Box<Error>,
    },
    /// The authority's bundle has no certificate to anchor a chain.
    #[error("the authority's bundle has no self-signed certificate; add the root")]
    NoAnchor,
    /// A certificate names itself as its issuer but is not signed by its own key.
    #[error("the certificate names itself as issuer, but its own key did not sign it; it is damaged or no root")]
    NotSelfSigned,
    /// An issuer has no name, so that none could name it.
    #[error("an issuer has an empty subject; issue it with a name")]
    IssuerUnnamed,
    /// An issuer is not marked as one, or not critically so.
    #[error("an issuer needs critical basicConstraints with CA true; issue it so")]
    IssuerNotAuthority,
    /// An issuer's key may not sign certificates.
    #[error("the keyUsage of an issuer does not allow keyCertSign; issue it with it")]
    IssuerKeyUsage,
    /// An issuer constrains names, which is not evaluated here; or the merchant's certificate does, which only an issuer may.
    #[error("the certificate has nameConstraints, which are not evaluated here; use one without")]
    NameConstraints,

    /// No certificate of the authority bears the issuer's name (and key id, where both have one).
    #[error("the issuer is not in the authority's bundle; add it, or issue the certificate with a known one")]
    UnknownIssuer,
    /// An issuer's key did not make the signature.
    #[error("the signature is not the issuer's; the certificate is damaged or forged")]
    Signature,
    /// An issuer is not valid yet.
    #[error("an issuer is not valid before {}; check the clock, or wait", moment(*not_before))]
    IssuerNotYetValid {
        /// First instant of validity.
        not_before: UnixMillis,
    },
    /// An issuer is not valid any more.
    #[error("an issuer expired at {}; renew it in the authority's bundle", moment(*not_after))]
    IssuerExpired {
        /// Last instant of validity.
        not_after: UnixMillis,
    },
    /// More intermediates follow an issuer than it allows.
    #[error("an issuer allows {intermediates_max} intermediate(s) below it (pathLenConstraint), the chain has more")]
    PathLength {
        /// How many it allows.
        intermediates_max: u32,
    },
    /// The chain is longer than is followed.
    #[error("the chain has more than {CHAIN_CERTIFICATES_MAX} certificates; issue from nearer to the root")]
    ChainTooLong,
    /// The search for a chain was given up.
    #[error("no chain found in {SIGNATURE_CHECKS_MAX} signature checks; remove authorities of equal names")]
    SignatureChecks,

    /// The certificate, or one between it and the root, is revoked.
    #[error("the certificate or an issuer of it is revoked; issue a new one")]
    Revoked,
    /// No list tells whether the certificate, or one between it and the root, is revoked.
    #[error("no revocation list covers the certificate or an issuer of it; add the list of who issued it")]
    Unlisted,
    /// The list that covers the certificate is out of date.
    #[error("the revocation list that covers the certificate counted until {}; get a newer one", moment(*until))]
    ListStale {
        /// Until when it counted.
        until: UnixMillis,
    },
    /// The list is too large.
    #[error("the list has {bytes} bytes of DER, more than {LIST_BYTES_MAX}; drop certificates that expired from it")]
    ListTooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The list has too many entries.
    #[error("the list has more than {LIST_ENTRIES_MAX} entries; drop certificates that expired from it")]
    ListTooLong,
    /// The bytes are not the distinguished encoding of a list.
    #[error("the list is not strict DER of X.509 CRL version 2 with nextUpdate and extensions; issue it again")]
    ListMalformed,
    /// The list has no number, or one that is negative or too long.
    #[error("the list has no usable cRLNumber (not critical, 0 to 20 octets); issue it with one")]
    ListNumber,
    /// The list is to take effect later, or its dates are in the wrong order.
    #[error("the list begins at {} and ends at {}; check the clock, or issue it again", moment(*begins), moment(*ends))]
    ListDates {
        /// Its thisUpdate.
        begins: UnixMillis,
        /// Its nextUpdate.
        ends: UnixMillis,
    },
    /// The list tells only a part: some certificates, some reasons, the changes since another list, or other issuers'.
    #[error("the list is partial, indirect or a delta; give the complete list of the issuer itself")]
    ListPartial,
    /// Nobody in the authority's bundle may have made the list.
    #[error("the list's issuer is not in the authority's bundle, or its keyUsage lacks cRLSign; add it to the bundle")]
    ListUnknownIssuer,
    /// The issuer's key did not sign the list.
    #[error("the signature of the list is not its issuer's; the list is damaged or forged")]
    ListSignature,
    /// There is a list of this issuer already.
    #[error("there is another list of {issuer}; keep the newest")]
    ListRepeated {
        /// The issuer's name.
        issuer: String,
    },
    /// A list is older than the one in force.
    #[error("the revocation list of {issuer} has number {found}, and {in_force} is in force; give the newest list")]
    ListOlder {
        /// The issuer's name.
        issuer: String,
        /// Its number, in hexadecimal.
        found: String,
        /// The number of the one in force, in hexadecimal.
        in_force: String,
    },
    /// Two different lists have one number.
    #[error("the revocation list of {issuer} has number {number}, as the one in force, but says something else")]
    ListAmbiguous {
        /// The issuer's name.
        issuer: String,
        /// Their number, in hexadecimal.
        number: String,
    },
}

/// Writes an instant as RFC 3339 does; its milliseconds where it is in no year that has a number there.
fn moment(instant: UnixMillis) -> String {
    jiff::Timestamp::from_millisecond(instant.0).map_or_else(|_| format!("{} ms", instant.0), |stamp| stamp.to_string())
}
