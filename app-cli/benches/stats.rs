//! Median and tail of a few measurements.

use std::fmt;
use std::time::Duration;

pub(crate) struct Times {
    sorted: Vec<Duration>,
}

impl Times {
    pub(crate) fn of(times: impl Iterator<Item = Duration>) -> Self {
        let mut sorted: Vec<_> = times.collect();
        sorted.sort_unstable();
        Self { sorted }
    }

    fn at(&self, share: f64) -> f64 {
        let last = self.sorted.len() - 1;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index"
        )]
        let index = ((last as f64) * share).round() as usize;
        self.sorted[index].as_secs_f64() * 1000.0
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>7.2} ms {:>8.2} ms", self.at(0.5), self.at(0.99))
    }
}
