//! When the first, the median and the last of many sidecars had something.

use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

/// Turns instants into the time of day, which the one who changes files reads as well.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    instant: Instant,
    since_epoch: Duration,
}

impl Clock {
    pub(crate) fn start() -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "the one place that reads the time of day"
        )]
        let now = SystemTime::now();
        Self {
            instant: Instant::now(),
            since_epoch: now
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap_or_default(),
        }
    }

    /// Seconds since 1970.
    pub(crate) fn unix_seconds(&self, at: Instant) -> f64 {
        (self.since_epoch + at.saturating_duration_since(self.instant)).as_secs_f64()
    }
}

/// The times of `at` in seconds since 1970: first, median, 99th percentile, last.
pub(crate) fn describe(clock: &Clock, at: &mut [Instant]) -> Value {
    at.sort_unstable();
    let rank = |percent: usize| {
        let i = (at.len() * percent).div_ceil(100).saturating_sub(1);
        at.get(i).map(|at| clock.unix_seconds(*at))
    };
    json!({"n": at.len(), "first": rank(0), "median": rank(50), "p99": rank(99), "last": rank(100)})
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Clock, describe};

    #[test]
    fn ranks_are_those_of_the_sorted_times() {
        let clock = Clock::start();
        let at = |ms| clock.instant + Duration::from_millis(ms);
        let mut times: Vec<_> = (1..=200).rev().map(at).collect();
        let told = describe(&clock, &mut times);
        let ms = |name: &str| {
            let seconds = told[name].as_f64().unwrap() - clock.since_epoch.as_secs_f64();
            (seconds * 1000.0).round()
        };
        assert_eq!((ms("first"), ms("median")), (1.0, 100.0));
        assert_eq!((ms("p99"), ms("last")), (198.0, 200.0));
    }
}
