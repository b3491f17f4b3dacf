//! Which RSA keys are accepted: large enough to be safe, small enough to be verified fast, and not absurd.

use x509_parser::der_parser::asn1_rs::{FromDer, Tag};
use x509_parser::oid_registry::OID_PKCS1_RSAENCRYPTION;
use x509_parser::public_key::RSAPublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::{Error, der, shape};

/// Checks that a public key is RSA (RFC 3279, section 2.3.1), its size, and that modulus and exponent are possible.
pub(super) fn check(spki: &SubjectPublicKeyInfo<'_>) -> Result<(), Error> {
    let null = spki.algorithm.parameters.as_ref().is_some_and(|parameters| parameters.tag() == Tag::Null);
    if spki.algorithm.algorithm != OID_PKCS1_RSAENCRYPTION || !null {
        return Err(Error::KeyType);
    }
    let bytes: &[u8] = &spki.subject_public_key.data;
    if !der::is_strict(bytes) || !shape::is_rsa_public_key(bytes) {
        return Err(Error::KeyMalformed);
    }
    let (_, key) = RSAPublicKey::from_der(bytes).map_err(|_| Error::KeyMalformed)?;
    check_modulus(key.modulus)?;
    check_exponent(key.exponent)
}

fn check_modulus(modulus: &[u8]) -> Result<(), Error> {
    let bits = bit_length(modulus).ok_or(Error::KeyMalformed)?;
    if !(MODULUS_BITS_MIN..=MODULUS_BITS_MAX).contains(&bits) {
        return Err(Error::KeySize { bits });
    }
    if is_odd(modulus) { Ok(()) } else { Err(Error::KeyModulus) }
}

fn check_exponent(exponent: &[u8]) -> Result<(), Error> {
    let bits = bit_length(exponent).ok_or(Error::KeyExponent)?;
    // The least odd number of 17 bits is 65537.
    let fits = (EXPONENT_BITS_MIN..=EXPONENT_BITS_MAX).contains(&bits);
    if fits && is_odd(exponent) { Ok(()) } else { Err(Error::KeyExponent) }
}

/// Counts the bits of a strictly encoded integer; `None` where it is negative.
fn bit_length(integer: &[u8]) -> Option<usize> {
    let (&first, rest) = integer.split_first()?;
    let ones = usize::try_from(u8::BITS - first.leading_zeros()).ok()?;
    match first {
        0x80..=0xff => None,
        // One zero octet stands before a number whose first bit is set.
        0 => Some(rest.len() * 8),
        _ => Some(rest.len() * 8 + ones),
    }
}

fn is_odd(integer: &[u8]) -> bool {
    integer.last().is_some_and(|last| last & 1 == 1)
}

const MODULUS_BITS_MIN: usize = 2048;
const MODULUS_BITS_MAX: usize = 8192;
const EXPONENT_BITS_MIN: usize = 17;
const EXPONENT_BITS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_modulus_has_2048_to_8192_bits_and_is_odd() {
        let modulus = |octets: usize, first: u8, last: u8| {
            let mut octets = vec![0; octets];
            octets[0] = first;
            *octets.last_mut().expect("some") |= last;
            if first & 0x80 != 0 {
                octets.insert(0, 0);
            }
            check_modulus(&octets)
        };
        assert_eq!(modulus(256, 0x80, 1), Ok(()));
        assert_eq!(modulus(256, 0x7f, 1), Err(Error::KeySize { bits: 2047 }));
        assert_eq!(modulus(128, 0x80, 1), Err(Error::KeySize { bits: 1024 }));
        assert_eq!(modulus(1024, 0x80, 1), Ok(()));
        assert_eq!(modulus(1025, 0x01, 1), Err(Error::KeySize { bits: 8193 }));
        assert_eq!(modulus(256, 0x80, 0), Err(Error::KeyModulus));
        assert_eq!(check_modulus(&[0xff; 256]), Err(Error::KeyMalformed));
    }

    #[test]
    fn an_exponent_is_odd_and_from_65537_to_32_bits() {
        for good in [&[1, 0, 1][..], &[0, 0xff, 0xff, 0xff, 0xff], &[1, 0, 3]] {
            assert_eq!(check_exponent(good), Ok(()), "{good:02x?}");
        }
        for bad in [&[][..], &[0], &[1], &[2], &[3], &[0, 0xff, 0xff], &[1, 0, 0], &[1, 0, 0, 0, 1], &[0xff, 0, 1]] {
            assert_eq!(check_exponent(bad), Err(Error::KeyExponent), "{bad:02x?}");
        }
    }
}
