//! What is counted: requests and their time, by endpoint. The labels are the table's, so their number is bounded.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::table::Endpoint;

/// Upper bounds of the latency buckets, in milliseconds.
const BUCKETS: [u64; 11] = [1, 2, 5, 10, 25, 50, 100, 250, 1_000, 5_000, 30_000];
/// Statuses are counted by their first digit.
const CLASSES: usize = 5;

/// Which endpoint answered; travels in the answer's extensions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Series(pub(crate) usize);

#[derive(Default)]
struct Counts {
    by_class: [AtomicU64; CLASSES],
    by_bucket: [AtomicU64; BUCKETS.len() + 1],
    total_millis: AtomicU64,
}

/// Counters of one router.
pub(crate) struct Metrics {
    labels: Vec<(String, String)>,
    counts: Vec<Counts>,
}

impl Metrics {
    /// One row for each endpoint, and one for requests that reached none.
    pub(crate) fn new(endpoints: &[Arc<Endpoint>]) -> Self {
        let mut labels: Vec<_> =
            endpoints.iter().map(|endpoint| (endpoint.method.to_string(), endpoint.path.clone())).collect();
        labels.push(("other".to_owned(), "other".to_owned()));
        let counts = labels.iter().map(|_| Counts::default()).collect();
        Self { labels, counts }
    }

    /// Counts one answer.
    pub(crate) fn record(&self, series: Option<Series>, status: u16, millis: u64) {
        let row = series.map_or(self.counts.len() - 1, |series| series.0);
        let Some(counts) = self.counts.get(row) else { return };
        let class = usize::from(status / 100).clamp(1, CLASSES) - 1;
        let bucket = BUCKETS.iter().position(|bound| millis <= *bound).unwrap_or(BUCKETS.len());
        counts.by_class[class].fetch_add(1, Ordering::Relaxed);
        counts.by_bucket[bucket].fetch_add(1, Ordering::Relaxed);
        counts.total_millis.fetch_add(millis, Ordering::Relaxed);
    }

    /// The text form of Prometheus, version 0.0.4. Rows that were never counted are left out.
    pub(crate) fn render(&self, version: &str) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "# HELP flare_info What runs here.\n# TYPE flare_info gauge\nflare_info{{version=\"{version}\"}} 1\n\
             # HELP flare_http_requests_total Answers by endpoint and class of status.\n\
             # TYPE flare_http_requests_total counter\n"
        );
        for ((method, path), counts) in self.labels.iter().zip(&self.counts) {
            for (class, count) in counts.by_class.iter().enumerate() {
                let count = count.load(Ordering::Relaxed);
                if count > 0 {
                    let _ = writeln!(
                        text,
                        "flare_http_requests_total{{method=\"{method}\",path=\"{path}\",status=\"{}xx\"}} {count}",
                        class + 1
                    );
                }
            }
        }
        text.push_str(
            "# HELP flare_http_request_seconds Time to the head of the answer.\n\
             # TYPE flare_http_request_seconds histogram\n",
        );
        for ((method, path), counts) in self.labels.iter().zip(&self.counts) {
            histogram(&mut text, &format!("method=\"{method}\",path=\"{path}\""), counts);
        }
        text
    }
}

fn histogram(text: &mut String, labels: &str, counts: &Counts) {
    let buckets: Vec<u64> = counts.by_bucket.iter().map(|count| count.load(Ordering::Relaxed)).collect();
    let total: u64 = buckets.iter().sum();
    if total == 0 {
        return;
    }
    let mut below = 0;
    for (bound, count) in BUCKETS.iter().zip(&buckets) {
        below += count;
        let _ = writeln!(
            text,
            "flare_http_request_seconds_bucket{{{labels},le=\"{}\"}} {below}",
            Seconds(*bound)
        );
    }
    let sum = Seconds(counts.total_millis.load(Ordering::Relaxed));
    let _ = write!(
        text,
        "flare_http_request_seconds_bucket{{{labels},le=\"+Inf\"}} {total}\n\
         flare_http_request_seconds_sum{{{labels}}} {sum}\n\
         flare_http_request_seconds_count{{{labels}}} {total}\n"
    );
}

/// Milliseconds, written as seconds.
struct Seconds(u64);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_add_up() {
        let metrics = Metrics::new(&[]);
        metrics.record(None, 200, 0);
        metrics.record(None, 404, 3);
        metrics.record(Some(Series(7)), 500, 3);
        metrics.record(None, 599, 100_000);
        let text = metrics.render("1");
        assert!(text.contains("{method=\"other\",path=\"other\",status=\"2xx\"} 1"), "{text}");
        assert!(text.contains("le=\"0.005\"} 2"), "{text}");
        assert!(text.contains("le=\"+Inf\"} 3"), "{text}");
        assert!(text.contains("_sum{method=\"other\",path=\"other\"} 100.003"), "{text}");
    }
}
