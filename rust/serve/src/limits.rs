//! How long streams may take.

use std::time::Duration;

/// Limits of every stream, in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamLimits {
    /// After this, and up to a tenth of it more, a stream ends, so that its client connects anew, to another replica
    /// perhaps; `None` for never.
    pub max_age: Option<Duration>,
    /// A client for which something waits, and that for so long neither takes of it nor answers what it was sent
    /// before, is cut off.
    pub max_stall: Duration,
    /// How long listeners and routes wait for a client to ask for the endpoints of clusters that it has got.
    pub max_expectation: Duration,
}

impl Default for StreamLimits {
    fn default() -> Self {
        Self {
            max_age: None,
            max_stall: Duration::from_secs(300),
            max_expectation: Duration::from_secs(2),
        }
    }
}

impl StreamLimits {
    /// The age at which the stream of a number ends. Streams that were opened together end apart from each other.
    pub(crate) fn age_of(&self, stream: u64) -> Option<Duration> {
        /// 2^64 over the golden ratio: multiples of it lie far apart for neighbours.
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let max_age = self.max_age?;
        let share = u32::try_from(stream.wrapping_mul(STEP) >> 32).unwrap_or(u32::MAX);
        let extra = max_age.as_secs_f64() / 10.0 * f64::from(share) / f64::from(u32::MAX);
        Some(max_age + Duration::try_from_secs_f64(extra).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::StreamLimits;

    #[test]
    fn streams_end_a_little_after_their_age_and_apart_from_each_other() {
        let max_age = Some(Duration::from_secs(1000));
        let limits = StreamLimits {
            max_age,
            ..StreamLimits::default()
        };
        let mut ages: Vec<f64> = (0..100)
            .filter_map(|stream| limits.age_of(stream))
            .map(|age| age.as_secs_f64())
            .collect();
        ages.sort_by(f64::total_cmp);
        assert!(ages.first() >= Some(&1000.0) && ages.last() <= Some(&1100.0));
        let gaps = ages.windows(2).map(|pair| pair[1] - pair[0]);
        let widest = gaps.fold(0.0, f64::max);
        assert!(widest < 3.0, "{widest} s without an end");
        assert_eq!(StreamLimits::default().age_of(1), None);
    }
}
