//! The search for primes: trial division, then the test of Miller and Rabin.

use std::sync::LazyLock;

use rand::Rng;

use super::PUBLIC_EXPONENT;
use super::montgomery::{Modulus, Number, subtract};

/// Finds a prime p of `L` words, its five highest bits set, so that 16 of them make a product of full length, and p - 1
/// not divisible by the public exponent.
pub(super) fn find<const L: usize>(random: &mut impl Rng) -> Modulus<L> {
    loop {
        let start = odd(random);
        let mut survivors = survivors(&start).into_iter().enumerate().filter(|(_, survives)| *survives);
        let found = survivors.find_map(|(step, _)| {
            let candidate = Modulus::new(plus(&start, 2 * u64::try_from(step).ok()?)?);
            let fits = remainder(candidate.number(), PUBLIC_EXPONENT) != 1 && is_prime(&candidate, random);
            fits.then_some(candidate)
        });
        if let Some(prime) = found {
            return prime;
        }
    }
}

/// Makes a random odd number whose five highest bits are set.
fn odd<const L: usize>(random: &mut impl Rng) -> Number<L> {
    let mut number = [0; L].map(|_| random.next_u64());
    if let Some(lowest) = number.first_mut() {
        *lowest |= 1;
    }
    if let Some(highest) = number.last_mut() {
        *highest |= HIGHEST_BITS;
    }
    number
}

/// Tells of the numbers `start`, `start + 2`, `start + 4` and on which of them no small prime divides.
fn survivors<const L: usize>(start: &Number<L>) -> [bool; CANDIDATES] {
    let mut survive = [true; CANDIDATES];
    for &(prime, step) in SMALL_PRIMES.iter() {
        let missing = prime - remainder(start, prime);
        // Half of what is missing, modulo the prime, is how many steps of two there are to a multiple.
        let first = if missing.is_multiple_of(2) { missing / 2 } else { missing.midpoint(prime) };
        let first = usize::try_from(first % prime).unwrap_or(CANDIDATES);
        survive.iter_mut().skip(first).step_by(step).for_each(|survives| *survives = false);
    }
    survive
}

/// Tests a number: a composite passes each round by chance with at most 1 in 4.
fn is_prime<const L: usize>(candidate: &Modulus<L>, random: &mut impl Rng) -> bool {
    let (even, _) = subtract(candidate.number(), &plus(&[0; L], 1).unwrap_or([0; L]));
    let zeros = trailing_zeros(&even);
    let odd = shifted_down(&even, zeros);
    let minus_one = candidate.minus_one();
    (0..ROUNDS).all(|_| {
        let mut power = candidate.power(&candidate.reduce(&[0; L].map(|_| random.next_u64())), &odd);
        if power == *candidate.one() || power == minus_one {
            return true;
        }
        (1..zeros).any(|_| {
            power = candidate.multiply(&power, &power);
            power == minus_one
        })
    })
}

/// Adds a small number; `None` where the sum does not fit.
fn plus<const L: usize>(number: &Number<L>, small: u64) -> Option<Number<L>> {
    let mut sum = *number;
    let mut carry = small;
    for into in &mut sum {
        let (word, over) = into.overflowing_add(carry);
        (*into, carry) = (word, u64::from(over));
    }
    (carry == 0).then_some(sum)
}

/// Returns the remainder of a division by a number of at most 32 bits.
pub(super) fn remainder<const L: usize>(number: &Number<L>, divisor: u64) -> u64 {
    number.iter().rev().fold(0, |rest, word| {
        let rest = ((rest << 32) | (word >> 32)) % divisor;
        ((rest << 32) | (word & u64::from(u32::MAX))) % divisor
    })
}

fn trailing_zeros<const L: usize>(number: &Number<L>) -> u32 {
    let mut zeros = 0;
    for word in number {
        zeros += word.trailing_zeros();
        if *word != 0 {
            break;
        }
    }
    zeros
}

fn shifted_down<const L: usize>(number: &Number<L>, bits: u32) -> Number<L> {
    (0..bits).fold(*number, |mut number, _| {
        let mut above = 0;
        for word in number.iter_mut().rev() {
            (*word, above) = (*word >> 1 | above << 63, *word & 1);
        }
        number
    })
}

/// Odd primes below 2,000, each also as the number of steps between its multiples.
static SMALL_PRIMES: LazyLock<Vec<(u64, usize)>> = LazyLock::new(|| {
    let odd = (3_u16..2_000).step_by(2);
    let primes = odd.filter(|number| (3..*number).step_by(2).all(|divisor| number % divisor != 0));
    primes.map(|prime| (u64::from(prime), usize::from(prime))).collect()
});

/// Numbers looked at from one start.
const CANDIDATES: usize = 512;

/// Rounds of the test: it errs with less than 2^-40.
const ROUNDS: u32 = 20;

/// With these set in each of 16 primes, their product has its highest bit set: (31/32)^16 is above one half.
const HIGHEST_BITS: u64 = 0xf8 << 56;

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;

    fn number(value: u128) -> Number<2> {
        [u64::try_from(value & u128::from(u64::MAX)).expect("low"), u64::try_from(value >> 64).expect("high")]
    }

    fn prime(value: u128) -> bool {
        is_prime(&Modulus::new(number(value)), &mut StdRng::seed_from_u64(3))
    }

    #[test]
    fn the_test_knows_primes_from_composites() {
        // The largest primes below 2^128, from the tables of primes just less than a power of two.
        for below in [159, 173, 233, 237, 275, 357, 675, 713, 797, 1193] {
            assert!(prime(u128::MAX - below + 1), "2^128 - {below}");
        }
        let taken = [159_u128, 173, 233, 237, 275, 357];
        for below in (1..400_u128).step_by(2).filter(|below| !taken.contains(below)) {
            assert!(!prime(u128::MAX - below + 1), "2^128 - {below}");
        }
        // The product of two primes of 64 bits, 2^64 - 59 and 2^64 - 83.
        assert!(!prime((u128::from(u64::MAX) - 58) * (u128::from(u64::MAX) - 82)));
    }

    #[test]
    fn trial_division_keeps_exactly_what_no_small_prime_divides() {
        let random = &mut StdRng::seed_from_u64(4);
        for _ in 0..20 {
            let start = odd::<2>(random);
            let kept = survivors(&start);
            for (step, kept) in (0..).zip(kept) {
                let Some(number) = plus(&start, 2 * step) else { break };
                let divided = SMALL_PRIMES.iter().any(|(prime, _)| remainder(&number, *prime) == 0);
                assert_eq!(kept, !divided, "step {step}");
            }
        }
        assert_eq!(SMALL_PRIMES.len(), 302, "odd primes below 2,000");
    }

    #[test]
    fn a_found_prime_has_its_highest_bits_set_and_leaves_an_exponent_to_sign_with() {
        let random = &mut StdRng::seed_from_u64(5);
        for _ in 0..50 {
            let prime = find::<2>(random);
            let [_, highest] = *prime.number();
            assert_eq!(highest & HIGHEST_BITS, HIGHEST_BITS);
            assert_ne!(remainder(prime.number(), PUBLIC_EXPONENT), 1);
        }
    }
}
