//! Signatures by the Chinese remainder theorem over all primes at once (RFC 8017, section 5.1.2, with equal primes).
//!
//! The powers modulo the primes are worked out in step with each other: each waits for its own last product only, so
//! that the processor overlaps them.

use std::array;

use num_bigint::BigUint;
use rand::Rng;

use super::montgomery::{Modulus, Number, subtract};
use super::prime::{find, remainder};
use super::{MODULUS_BYTES, MODULUS_WORDS, PUBLIC_EXPONENT};

/// A private key of `K` primes of `L` words: `L` times `K` is [`MODULUS_WORDS`].
#[derive(Debug)]
pub(super) struct Crt<const L: usize, const K: usize> {
    modulus: Number<MODULUS_WORDS>,
    lanes: [Lane<L>; K],
    /// The private exponents in windows, the most significant first, that of each prime beside those of the others.
    windows: Vec<[u8; K]>,
}

/// What is worked out with one prime.
#[derive(Debug)]
struct Lane<const L: usize> {
    prime: Modulus<L>,
    /// The encoded message without its digest, modulo the prime.
    padding: Number<L>,
    /// The product of the other primes.
    others: Number<MODULUS_WORDS>,
    /// The inverse of that product modulo the prime.
    inverse: Number<L>,
}

impl<const L: usize, const K: usize> Crt<L, K> {
    /// Makes a key.
    pub fn generate(random: &mut impl Rng) -> Self {
        let mut primes: Vec<Modulus<L>> = Vec::with_capacity(K);
        let primes: [Modulus<L>; K] = array::from_fn(|_| {
            let mut prime = find(random);
            while primes.contains(&prime) {
                prime = find(random);
            }
            primes.push(prime.clone());
            prime
        });
        let modulus: BigUint = primes.iter().map(|prime| big(prime.number())).product();
        let exponents = primes.each_ref().map(private_exponent);
        let windows = (0..L * WINDOWS_PER_WORD).rev().map(|index| exponents.each_ref().map(|it| window(it, index)));
        let windows = windows.collect();
        Self { lanes: primes.map(|prime| Lane::new(prime, &modulus)), modulus: words(&modulus), windows }
    }

    /// Returns the modulus, the most significant byte first.
    pub fn modulus(&self) -> [u8; MODULUS_BYTES] {
        bytes(&self.modulus)
    }

    /// Signs a SHA-256 digest, encoded by EMSA-PKCS1-v1_5 (RFC 8017, section 9.2).
    pub fn sign(&self, digest: &[u8]) -> [u8; MODULUS_BYTES] {
        let digest = digest_words(digest);
        let bases = self.lanes.each_ref().map(|lane| lane.enter(&digest));
        self.combine(&self.powers(&bases))
    }

    /// Raises each base to the private exponent of its prime.
    #[expect(clippy::indexing_slicing, reason = "an index is below `K`, a window below the powers in a table")]
    fn powers(&self, bases: &[Number<L>; K]) -> [Number<L>; K] {
        let ones = self.lanes.each_ref().map(|lane| *lane.prime.one());
        let mut tables = [ones; WINDOW_VALUES];
        for value in 1..WINDOW_VALUES {
            tables[value] =
                array::from_fn(|lane| self.lanes[lane].prime.multiply(&tables[value - 1][lane], &bases[lane]));
        }
        let mut powers = ones;
        for windows in &self.windows {
            for _ in 0..WINDOW_BITS {
                for (lane, power) in self.lanes.iter().zip(&mut powers) {
                    *power = lane.prime.multiply(power, power);
                }
            }
            for index in 0..K {
                let factor = &tables[usize::from(windows[index])][index];
                powers[index] = self.lanes[index].prime.multiply(&powers[index], factor);
            }
        }
        powers
    }

    /// Finds the number below the modulus that the powers stand for.
    fn combine(&self, powers: &[Number<L>; K]) -> [u8; MODULUS_BYTES] {
        // Each term is below the modulus, so that the sum is below `K` times that.
        let mut sum = [0; MODULUS_WORDS];
        let mut top = 0;
        for (lane, power) in self.lanes.iter().zip(powers) {
            let factor = lane.prime.multiply(power, &lane.inverse);
            top += add_product(&mut sum, &factor, &lane.others);
        }
        loop {
            let (less, borrow) = subtract(&sum, &self.modulus);
            if borrow && top == 0 {
                return bytes(&sum);
            }
            top -= u64::from(borrow);
            sum = less;
        }
    }
}

impl<const L: usize> Lane<L> {
    fn new(prime: Modulus<L>, modulus: &BigUint) -> Self {
        let whole = big(prime.number());
        let others = modulus / &whole;
        // By Fermat's theorem. Not in Montgomery's form: multiplied by it, what was in that form leaves it.
        let exponent = words(&(&whole - 2_u8));
        let inverse = prime.power(&prime.enter(&words(&(&others % &whole))), &exponent);
        let inverse = prime.multiply(&inverse, &number_one());
        let padding = words(&(BigUint::from_bytes_be(&padding()) % &whole));
        Self { padding, others: words(&others), inverse, prime }
    }

    /// Reduces the encoded message modulo the prime, and takes it to Montgomery's form.
    fn enter(&self, digest: &Number<DIGEST_WORDS>) -> Number<L> {
        // Horner's scheme: to enter is to multiply by R.
        let mut chunks = digest.chunks(L).rev().map(|chunk| self.prime.reduce(&padded(chunk)));
        let highest = chunks.next().unwrap_or([0; L]);
        let digest = chunks.fold(highest, |above, chunk| self.prime.add(&self.prime.enter(&above), &chunk));
        self.prime.enter(&self.prime.add(&digest, &self.padding))
    }
}

/// Works out the private exponent of a prime, the inverse of the public one modulo p - 1.
fn private_exponent<const L: usize>(prime: &Modulus<L>) -> Number<L> {
    // The exponent e is a prime, so that r^(e-2) is the inverse of r modulo it; with k = -1/(p-1), e divides 1 + k(p-1).
    let rest = (remainder(prime.number(), PUBLIC_EXPONENT) + PUBLIC_EXPONENT - 1) % PUBLIC_EXPONENT;
    // All 16 bits of e - 2 are ones.
    let inverse = (0..16).fold(1, |power, _| power * power % PUBLIC_EXPONENT * rest % PUBLIC_EXPONENT);
    let factor = PUBLIC_EXPONENT - inverse;
    words(&(((big(prime.number()) - 1_u8) * factor + 1_u8) / PUBLIC_EXPONENT))
}

/// Returns a window of an exponent; the first is the least significant.
fn window<const L: usize>(exponent: &Number<L>, index: usize) -> u8 {
    let word = exponent.get(index / WINDOWS_PER_WORD).copied().unwrap_or_default();
    let byte = word.to_le_bytes().get(index % WINDOWS_PER_WORD / 2).copied().unwrap_or_default();
    if index.is_multiple_of(2) { byte & 0x0f } else { byte >> 4 }
}

/// Adds a product to a sum; returns what is carried out of it.
#[inline]
fn add_product<const L: usize>(
    sum: &mut Number<MODULUS_WORDS>,
    factor: &Number<L>,
    others: &Number<MODULUS_WORDS>,
) -> u64 {
    let mut over = 0;
    for (index, &word) in factor.iter().enumerate() {
        let mut carry = 0;
        // The highest words of the product of the other primes are zero: as many as there are in the factor. The iterator
        // that goes on after this one comes second: of the first, one more item would be taken.
        let mut into = sum.iter_mut().skip(index);
        for (&other, into) in others.iter().take(MODULUS_WORDS - L).zip(into.by_ref()) {
            (*into, carry) = word.carrying_mul_add(other, *into, carry);
        }
        for into in into {
            let (sum, more) = into.overflowing_add(carry);
            (*into, carry) = (sum, u64::from(more));
        }
        over += carry;
    }
    over
}

/// Returns the encoded message with a digest of zeros.
fn padding() -> [u8; MODULUS_BYTES] {
    let mut padding = [0xff; MODULUS_BYTES];
    let (head, tail) = padding.split_at_mut(MODULUS_BYTES - DIGEST_INFO.len() - 8 * DIGEST_WORDS);
    head.iter_mut().zip([0, 1]).for_each(|(into, byte)| *into = byte);
    if let Some(last) = head.last_mut() {
        *last = 0;
    }
    tail.iter_mut().zip(DIGEST_INFO.into_iter().chain([0; 8 * DIGEST_WORDS])).for_each(|(into, byte)| *into = byte);
    padding
}

/// Reads a digest as a number.
fn digest_words(digest: &[u8]) -> Number<DIGEST_WORDS> {
    let mut words = [0; DIGEST_WORDS];
    for (into, &word) in words.iter_mut().rev().zip(digest.as_chunks().0) {
        *into = u64::from_be_bytes(word);
    }
    words
}

fn padded<const L: usize>(words: &[u64]) -> Number<L> {
    let mut padded = [0; L];
    padded.iter_mut().zip(words).for_each(|(into, word)| *into = *word);
    padded
}

fn number_one<const L: usize>() -> Number<L> {
    padded(&[1])
}

fn big<const L: usize>(number: &Number<L>) -> BigUint {
    BigUint::from_bytes_le(&number.map(u64::to_le_bytes).concat())
}

/// Returns the lowest words of a number.
fn words<const L: usize>(number: &BigUint) -> Number<L> {
    let mut words = [0; L];
    words.iter_mut().zip(number.iter_u64_digits()).for_each(|(into, word)| *into = word);
    words
}

fn bytes(number: &Number<MODULUS_WORDS>) -> [u8; MODULUS_BYTES] {
    let mut bytes = [0; MODULUS_BYTES];
    for (into, word) in bytes.as_chunks_mut().0.iter_mut().zip(number.iter().rev()) {
        *into = word.to_be_bytes();
    }
    bytes
}

/// Length of a window of an exponent.
const WINDOW_BITS: usize = 4;

/// How many values a window can have.
const WINDOW_VALUES: usize = 1 << WINDOW_BITS;

const WINDOWS_PER_WORD: usize = 64 / WINDOW_BITS;

/// Length of a SHA-256 digest in words.
const DIGEST_WORDS: usize = 4;

/// What stands before a SHA-256 digest in a `DigestInfo` (RFC 8017, section 9.2, note 1).
const DIGEST_INFO: [u8; 19] =
    [0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20];
