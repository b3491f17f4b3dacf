//! Whether a request's timestamp is near the gate's clock. HOT.

use crate::time::UnixMillis;

/// Proves that a timestamp was within the tolerance; only [`fresh`] makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fresh {
    timestamp_s: i64,
}

impl Fresh {
    /// Returns the timestamp, in seconds since the epoch.
    pub const fn timestamp_s(self) -> i64 {
        self.timestamp_s
    }
}

/// Refuses a timestamp that is too far from the gate's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the timestamp is {skew_ms} ms away from the gate's clock")]
pub struct Skewed {
    /// The request's time minus the gate's, saturating.
    pub skew_ms: i64,
}

/// Checks that `timestamp_s` and `now` are at most `tolerance_s` whole seconds apart, either way.
///
/// # Errors
/// [`Skewed`] where they are further apart.
pub fn fresh(timestamp_s: i64, now: UnixMillis, tolerance_s: u32) -> Result<Fresh, Skewed> {
    if timestamp_s.abs_diff(now.seconds()) <= u64::from(tolerance_s) {
        Ok(Fresh { timestamp_s })
    } else {
        Err(Skewed { skew_ms: timestamp_s.saturating_mul(1000).saturating_sub(now.0) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: UnixMillis = UnixMillis(1_700_000_000_500);

    #[test]
    fn fresh_accepts_exactly_the_tolerance_and_refuses_one_second_more() {
        for timestamp_s in [1_699_999_700, 1_700_000_000, 1_700_000_300] {
            assert_eq!(fresh(timestamp_s, NOW, 300).map(Fresh::timestamp_s), Ok(timestamp_s));
        }
        assert_eq!(fresh(1_699_999_699, NOW, 300), Err(Skewed { skew_ms: -301_500 }));
        assert_eq!(fresh(1_700_000_301, NOW, 300), Err(Skewed { skew_ms: 300_500 }));
        assert!(fresh(1_700_000_000, NOW, 0).is_ok() && fresh(1_700_000_001, NOW, 0).is_err());
    }

    #[test]
    fn fresh_refuses_extremes_without_overflow() {
        assert_eq!(fresh(i64::MAX, UnixMillis(i64::MIN), u32::MAX), Err(Skewed { skew_ms: i64::MAX }));
        assert_eq!(fresh(i64::MIN, UnixMillis(i64::MAX), u32::MAX), Err(Skewed { skew_ms: i64::MIN }));
        assert!(fresh(-1, UnixMillis(-1), 0).is_ok(), "a second before the epoch is rounded down");
    }

    proptest! {
        #[test]
        fn fresh_agrees_with_wide_arithmetic(timestamp_s: i64, now_ms: i64, near in -400_i64..400, tolerance_s: u32) {
            let now = UnixMillis(now_ms);
            for (timestamp_s, tolerance_s) in [(timestamp_s, tolerance_s), (now.seconds() + near, 300)] {
                let apart_s = (i128::from(timestamp_s) - i128::from(now.seconds())).abs();
                prop_assert_eq!(fresh(timestamp_s, now, tolerance_s).is_ok(), apart_s <= i128::from(tolerance_s));
            }
        }
    }
}
