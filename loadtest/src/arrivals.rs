//! When each request is to be sent.

use std::time::Duration;

use rand::{Rng, RngExt as _};

use crate::scenario::Arrivals;

/// Returns the intended instants from the start of a run, ascending, that fall before its end.
pub fn times(arrivals: &Arrivals, run: Duration, random: &mut impl Rng) -> Vec<Duration> {
    let mut times = Vec::new();
    let mut at_s = 0.0;
    while times.len() < REQUESTS_MAX {
        at_s = match arrivals {
            Arrivals::Constant { per_second } => times.len() as f64 / per_second,
            Arrivals::Poisson { per_second } => at_s - (1.0 - random.random::<f64>()).ln() / per_second,
            Arrivals::Stepped { per_second, step_ms } => {
                let step = Duration::from_secs_f64(at_s).as_millis() / u128::from(*step_ms).max(1);
                let step = usize::try_from(step).unwrap_or(usize::MAX) % per_second.len().max(1);
                let rate = per_second.get(step).copied().unwrap_or(1.0);
                if times.is_empty() { 0.0 } else { at_s + 1.0 / rate }
            }
            Arrivals::Recorded { at_ms } => recorded_s(at_ms, times.len()),
        };
        match Duration::try_from_secs_f64(at_s) {
            Ok(at) if at < run => times.push(at),
            Ok(_) | Err(_) => break,
        }
    }
    times
}

fn recorded_s(at_ms: &[f64], number: usize) -> f64 {
    let count = at_ms.len().max(1);
    let last = at_ms.last().copied().unwrap_or(f64::INFINITY);
    let at = at_ms.get(number % count).copied().unwrap_or(0.0);
    ((number / count) as f64 * last + at) / 1e3
}

/// Most requests of one run: they are signed ahead, and each takes about a kilobyte.
pub const REQUESTS_MAX: usize = 4_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    fn of(arrivals: &Arrivals, seconds: u64) -> Vec<Duration> {
        times(arrivals, Duration::from_secs(seconds), &mut StdRng::seed_from_u64(1))
    }

    #[test]
    fn constant_arrivals_are_evenly_spaced() {
        let times = of(&Arrivals::Constant { per_second: 200.0 }, 3);
        assert_eq!(times.len(), 600);
        assert!(times.windows(2).all(|pair| (pair[1] - pair[0]).as_micros().abs_diff(5000) <= 1));
    }

    #[test]
    fn poisson_arrivals_have_their_mean_and_as_much_variance() {
        let times = of(&Arrivals::Poisson { per_second: 1000.0 }, 20);
        assert!((19_000..21_000).contains(&times.len()), "{}", times.len());
        let gaps: Vec<f64> = times.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        // That of an exponential distribution is the square of its mean.
        assert!((0.9..1.1).contains(&(variance / mean.powi(2))), "{variance} {mean}");
    }

    #[test]
    fn stepped_arrivals_change_their_rate_with_each_step() {
        let times = of(&Arrivals::Stepped { per_second: vec![100.0, 1000.0], step_ms: 1000 }, 2);
        let first = times.iter().filter(|at| at.as_secs() == 0).count();
        assert!(
            (99..=101).contains(&first) && (990..=1001).contains(&(times.len() - first)),
            "{first} {}",
            times.len()
        );
    }

    #[test]
    fn recorded_arrivals_repeat() {
        let times = of(&Arrivals::Recorded { at_ms: vec![0.0, 100.0, 400.0] }, 1);
        let ms: Vec<_> = times.iter().map(Duration::as_millis).collect();
        assert_eq!(ms, [0, 100, 400, 400, 500, 800, 800, 900]);
    }
}
