//! Arithmetic modulo a fixed odd number of whole words, in Montgomery's form: x stands for x·R, R = 2^(64·L).

use std::array;

/// A number of `L` words of 64 bits, the least significant first.
pub(super) type Number<const L: usize> = [u64; L];

/// An odd modulus whose highest bit is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Modulus<const L: usize> {
    number: Number<L>,
    /// Minus the inverse of the modulus, modulo 2^64.
    inverse: u64,
    /// R, which stands for one.
    one: Number<L>,
    /// R², which stands for R.
    square: Number<L>,
}

impl<const L: usize> Modulus<L> {
    /// Takes a modulus: odd, its highest bit set, `L` a power of two.
    pub fn new(number: Number<L>) -> Self {
        let lowest = number.first().copied().unwrap_or_default();
        // Newton's iteration: an odd number is its own inverse modulo 8, and each step doubles the bits that hold.
        let inverse =
            (0..5).fold(lowest, |inverse, _| inverse.wrapping_mul(2_u64.wrapping_sub(lowest.wrapping_mul(inverse))));
        // R is below twice the modulus.
        let (one, _) = subtract(&[0; L], &number);
        let mut modulus = Self { number, inverse: inverse.wrapping_neg(), one, square: one };
        let word = (0..u64::BITS).fold(one, |power, _| modulus.double(&power));
        modulus.square = (0..L.ilog2()).fold(word, |power, _| modulus.multiply(&power, &power));
        modulus
    }

    /// Returns the modulus itself.
    pub const fn number(&self) -> &Number<L> {
        &self.number
    }

    /// Returns what stands for one.
    pub const fn one(&self) -> &Number<L> {
        &self.one
    }

    /// Returns what stands for minus one.
    pub fn minus_one(&self) -> Number<L> {
        subtract(&self.number, &self.one).0
    }

    /// Returns what stands for a number of any `L` words.
    pub fn enter(&self, number: &Number<L>) -> Number<L> {
        self.multiply(number, &self.square)
    }

    /// Returns the number modulo the modulus: of any `L` words, it is below twice the modulus.
    pub fn reduce(&self, number: &Number<L>) -> Number<L> {
        let (less, borrow) = subtract(number, &self.number);
        if borrow { *number } else { less }
    }

    /// Adds two numbers below the modulus.
    pub fn add(&self, left: &Number<L>, right: &Number<L>) -> Number<L> {
        let mut sum = *left;
        let mut carry = false;
        for (into, &word) in sum.iter_mut().zip(right) {
            (*into, carry) = into.carrying_add(word, carry);
        }
        let (less, borrow) = subtract(&sum, &self.number);
        if borrow && !carry { sum } else { less }
    }

    /// Multiplies, and divides by R: products of what stands for numbers stand for their products. One factor may be
    /// any `L` words, the other is below the modulus.
    #[inline]
    #[expect(clippy::indexing_slicing, reason = "all are arrays of `L` words and every index is below `L`")]
    pub fn multiply(&self, left: &Number<L>, right: &Number<L>) -> Number<L> {
        let mut sum = [0; L];
        let mut top = 0_u64;
        for &word in right {
            let mut carry = 0;
            for index in 0..L {
                (sum[index], carry) = word.carrying_mul_add(left[index], sum[index], carry);
            }
            let (high, over) = top.overflowing_add(carry);
            // What is added clears the lowest word, by which everything then moves down.
            let multiple = sum[0].wrapping_mul(self.inverse);
            let (_, mut carry) = multiple.carrying_mul_add(self.number[0], sum[0], 0);
            for index in 1..L {
                (sum[index - 1], carry) = multiple.carrying_mul_add(self.number[index], sum[index], carry);
            }
            let (high, more) = high.overflowing_add(carry);
            sum[L - 1] = high;
            top = u64::from(over) + u64::from(more);
        }
        let (less, borrow) = subtract(&sum, &self.number);
        // Which of them it is cannot be foreseen: a mask costs less than a branch that goes wrong every other time.
        let kept = u64::from(borrow && top == 0).wrapping_neg();
        array::from_fn(|index| (sum[index] & kept) | (less[index] & !kept))
    }

    /// Raises what stands for a number to a power.
    pub fn power(&self, base: &Number<L>, exponent: &Number<L>) -> Number<L> {
        let mut power = self.one;
        for word in exponent.iter().rev() {
            for bit in (0..u64::BITS).rev() {
                power = self.multiply(&power, &power);
                if word >> bit & 1 == 1 {
                    power = self.multiply(&power, base);
                }
            }
        }
        power
    }

    fn double(&self, number: &Number<L>) -> Number<L> {
        self.add(number, number)
    }
}

/// Subtracts; tells whether the result went below zero, and so around.
#[inline]
pub(super) fn subtract<const L: usize>(left: &Number<L>, right: &Number<L>) -> (Number<L>, bool) {
    let mut difference = *left;
    let mut borrow = false;
    for (into, &word) in difference.iter_mut().zip(right) {
        (*into, borrow) = into.borrowing_sub(word, borrow);
    }
    (difference, borrow)
}

#[cfg(test)]
mod tests {
    use num_bigint::BigUint;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng as _};

    use super::*;

    fn big<const L: usize>(number: &Number<L>) -> BigUint {
        BigUint::from_bytes_le(&number.map(u64::to_le_bytes).concat())
    }

    /// Words of which many are all ones or all zeros, where carries run far.
    fn number<const L: usize>(random: &mut StdRng) -> Number<L> {
        [0; L].map(|_| match random.next_u32() % 4 {
            0 => 0,
            1 => u64::MAX,
            _ => random.next_u64(),
        })
    }

    fn agrees_with_whole_numbers<const L: usize>(rounds: usize) {
        let random = &mut StdRng::seed_from_u64(1);
        let radix = BigUint::from(1_u8) << (64 * L);
        for _ in 0..rounds {
            let mut modulus = number::<L>(random);
            modulus[0] |= 1;
            modulus[L - 1] |= 1 << 63;
            let (modulus, whole) = (Modulus::new(modulus), big(&modulus));
            assert_eq!(big(modulus.one()), &radix % &whole);
            assert_eq!(big(&modulus.square), &radix * &radix % &whole);
            assert_eq!(big(&modulus.minus_one()), (&whole - 1_u8) * &radix % &whole);
            let (left, any) = (modulus.reduce(&number(random)), number(random));
            assert!(big(&left) < whole);
            assert_eq!(big(&modulus.multiply(&left, &any)) * &radix % &whole, big(&left) * big(&any) % &whole);
            assert_eq!(big(&modulus.enter(&any)), big(&any) * &radix % &whole);
            let right = modulus.reduce(&any);
            assert_eq!(big(&right), big(&any) % &whole);
            assert_eq!(big(&modulus.add(&left, &right)), (big(&left) + big(&right)) % &whole);
            let power = modulus.power(&modulus.enter(&right), &left);
            assert_eq!(big(&power), big(&right).modpow(&big(&left), &whole) * &radix % &whole);
        }
    }

    #[test]
    fn arithmetic_agrees_with_that_of_whole_numbers() {
        agrees_with_whole_numbers::<2>(500);
        agrees_with_whole_numbers::<4>(100);
        agrees_with_whole_numbers::<8>(20);
        agrees_with_whole_numbers::<16>(5);
    }
}
