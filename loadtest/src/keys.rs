//! RSA keys for load: they verify like those of real merchants and sign many times faster.
//!
//! The modulus has 2048 bits and up to 16 primes (RFC 8017, section 3.1): what a signature costs falls with the square
//! of the number of primes, what its verification costs stays the same. Such short primes can be found by factoring, and
//! nothing here runs in constant time: these keys protect nothing.

mod crt;
mod montgomery;
mod prime;

use rand::Rng;
use ring::digest;

use crt::Crt;

/// A private key of 2048 bits with the public exponent 65537.
#[derive(Debug)]
pub struct LoadKey {
    parts: Parts,
}

/// The key by the number of its primes, each of as many words as fit.
#[derive(Debug)]
enum Parts {
    Two(Box<Crt<16, 2>>),
    Four(Box<Crt<8, 4>>),
    Eight(Box<Crt<4, 8>>),
    Sixteen(Box<Crt<2, 16>>),
}

impl LoadKey {
    /// Makes a key of 2, 4, 8 or 16 primes of equal size; any other number is raised to the next of these, or lowered to
    /// 16.
    pub fn generate(primes: usize, random: &mut impl Rng) -> Self {
        let parts = match primes {
            0..=2 => Parts::Two(Box::new(Crt::generate(random))),
            3..=4 => Parts::Four(Box::new(Crt::generate(random))),
            5..=8 => Parts::Eight(Box::new(Crt::generate(random))),
            _ => Parts::Sixteen(Box::new(Crt::generate(random))),
        };
        Self { parts }
    }

    /// Signs by RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017, section 8.2.1).
    pub fn sign(&self, message: &[u8]) -> [u8; MODULUS_BYTES] {
        let digest = digest::digest(&digest::SHA256, message);
        match &self.parts {
            Parts::Two(crt) => crt.sign(digest.as_ref()),
            Parts::Four(crt) => crt.sign(digest.as_ref()),
            Parts::Eight(crt) => crt.sign(digest.as_ref()),
            Parts::Sixteen(crt) => crt.sign(digest.as_ref()),
        }
    }

    /// Returns the public key in DER: an `RSAPublicKey` (RFC 8017, appendix A.1.1).
    pub fn public_key_der(&self) -> Vec<u8> {
        [&PUBLIC_KEY_HEAD[..], &self.modulus(), &PUBLIC_KEY_TAIL].concat()
    }

    /// Returns the public key in DER: a `SubjectPublicKeyInfo` (RFC 5280, section 4.1) of type `rsaEncryption`.
    pub fn spki_der(&self) -> Vec<u8> {
        [&SPKI_HEAD[..], &self.public_key_der()].concat()
    }

    /// Returns the modulus, the most significant byte first.
    fn modulus(&self) -> [u8; MODULUS_BYTES] {
        match &self.parts {
            Parts::Two(crt) => crt.modulus(),
            Parts::Four(crt) => crt.modulus(),
            Parts::Eight(crt) => crt.modulus(),
            Parts::Sixteen(crt) => crt.modulus(),
        }
    }
}

/// Length of the modulus, and of a signature.
const MODULUS_BYTES: usize = 256;

/// The modulus in words of 64 bits.
const MODULUS_WORDS: usize = 32;

/// The public exponent, a prime.
const PUBLIC_EXPONENT: u64 = 65_537;

/// What stands before the modulus in an `RSAPublicKey`: the sequence, and an integer whose first bit is set.
const PUBLIC_KEY_HEAD: [u8; 9] = [0x30, 0x82, 0x01, 0x0a, 0x02, 0x82, 0x01, 0x01, 0x00];

/// What stands after it: the exponent.
const PUBLIC_KEY_TAIL: [u8; 5] = [0x02, 0x03, 0x01, 0x00, 0x01];

/// What stands before the `RSAPublicKey` in a `SubjectPublicKeyInfo`: `rsaEncryption`, NULL, and the bit string.
const SPKI_HEAD: [u8; 24] = [
    0x30, 0x82, 0x01, 0x22, 0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00,
    0x03, 0x82, 0x01, 0x0f, 0x00,
];

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::sync::LazyLock;

    use rand::SeedableRng as _;
    use rand::rngs::StdRng;
    use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

    use super::*;

    static KEYS: LazyLock<Vec<LoadKey>> = LazyLock::new(|| {
        let random = &mut StdRng::seed_from_u64(7);
        [2, 4, 8, 16].map(|primes| LoadKey::generate(primes, random)).into()
    });

    #[test]
    fn signatures_verify_by_another_implementation_for_their_message_alone() {
        for key in KEYS.iter() {
            let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.public_key_der());
            for number in 0..200_u32 {
                let message = number.to_be_bytes();
                let signature = key.sign(&message);
                assert_eq!(public.verify(&message, &signature), Ok(()), "{} primes, {number}", key.primes());
                assert!(public.verify(&(number + 1).to_be_bytes(), &signature).is_err());
            }
        }
    }

    #[test]
    fn openssl_reads_the_key_and_verifies_what_it_signs() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        for key in KEYS.iter() {
            std::fs::write(path("key"), key.spki_der()).expect("write");
            std::fs::write(path("signature"), key.sign(b"a message")).expect("write");
            for (message, verdict) in [("a message", "Verified OK"), ("another", "Verification failure")] {
                std::fs::write(path("message"), message).expect("write");
                let arguments = ["dgst", "-sha256", "-keyform", "DER", "-verify"].map(Into::into);
                let files = [path("key"), "-signature".into(), path("signature"), path("message")];
                let told = Command::new("openssl").args(arguments.into_iter().chain(files)).output().expect("openssl");
                let told = String::from_utf8(told.stdout).expect("text");
                assert_eq!(told.lines().next(), Some(verdict), "{} primes", key.primes());
            }
        }
    }

    #[test]
    fn a_key_has_exactly_2048_bits_and_as_many_primes_as_asked_for() {
        let random = &mut StdRng::seed_from_u64(8);
        for (asked, primes) in [(8, 8), (9, 16), (16, 16), (17, 16)] {
            let key = LoadKey::generate(asked, random);
            assert_eq!(key.primes(), primes);
            assert!(key.modulus()[0] >= 0x80 && key.modulus()[255] % 2 == 1);
        }
        let counts: Vec<usize> = KEYS.iter().map(LoadKey::primes).collect();
        assert_eq!(counts, [2, 4, 8, 16]);
        assert!(KEYS.iter().all(|key| key.modulus()[0] >= 0x80));
    }

    #[test]
    fn a_seed_determines_the_key() {
        let modulus = |seed| LoadKey::generate(16, &mut StdRng::seed_from_u64(seed)).modulus();
        assert_eq!(modulus(1), modulus(1));
        assert_ne!(modulus(1), modulus(2));
    }

    /// `cargo test --release -p loadtest -- --ignored --nocapture signatures_a_second`
    impl LoadKey {
        /// Returns the number of primes.
        const fn primes(&self) -> usize {
            match &self.parts {
                Parts::Two(_) => 2,
                Parts::Four(_) => 4,
                Parts::Eight(_) => 8,
                Parts::Sixteen(_) => 16,
            }
        }
    }
}
