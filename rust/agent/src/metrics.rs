//! What the agent counts of itself, under the names of Istio's agent where it has one.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    n_renewals: AtomicU64,
    n_renewal_failures: AtomicU64,
    n_streams: AtomicU64,
    n_stream_failures: AtomicU64,
    n_dns_requests: AtomicU64,
    n_dns_forwarded: AtomicU64,
    n_dns_failures: AtomicU64,
    n_scrapes: AtomicU64,
    n_envoy_scrape_failures: AtomicU64,
    n_application_scrape_failures: AtomicU64,
    n_envoy_starts: AtomicU64,
}

/// What came of a DNS question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DnsOutcome {
    Known,
    Forwarded,
    Failed,
}

/// Whose metrics were asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scraped {
    Envoy,
    Application,
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Metrics {
    pub(crate) fn count_renewal(&self, is_done: bool) {
        add(if is_done {
            &self.n_renewals
        } else {
            &self.n_renewal_failures
        });
    }

    pub(crate) fn count_stream(&self, is_open: bool) {
        add(if is_open {
            &self.n_streams
        } else {
            &self.n_stream_failures
        });
    }

    pub(crate) fn count_dns(&self, outcome: DnsOutcome) {
        add(&self.n_dns_requests);
        match outcome {
            DnsOutcome::Known => {}
            DnsOutcome::Forwarded => add(&self.n_dns_forwarded),
            DnsOutcome::Failed => add(&self.n_dns_failures),
        }
    }

    pub(crate) fn count_scrape(&self) {
        add(&self.n_scrapes);
    }

    pub(crate) fn count_scrape_failure(&self, whose: Scraped) {
        add(match whose {
            Scraped::Envoy => &self.n_envoy_scrape_failures,
            Scraped::Application => &self.n_application_scrape_failures,
        });
    }

    pub(crate) fn count_envoy_start(&self) {
        add(&self.n_envoy_starts);
    }

    /// All counters in Prometheus' text format.
    pub(crate) fn to_text(&self) -> String {
        let mut out = String::new();
        for (name, help, counter) in self.rows() {
            let value = counter.load(Ordering::Relaxed);
            // Writing to a string does not fail.
            let _ = writeln!(
                out,
                "# HELP istio_agent_{name} {help}\n# TYPE istio_agent_{name} counter\nistio_agent_{name} {value}"
            );
        }
        out
    }

    #[rustfmt::skip]
    fn rows(&self) -> [(&'static str, &'static str, &AtomicU64); 11] {
        [
            ("outgoing_requests_total", "Certificates that were got.", &self.n_renewals),
            ("num_outgoing_failures", "Attempts at a certificate that failed.", &self.n_renewal_failures),
            ("istiod_connections", "ADS streams that were opened to the control plane.", &self.n_streams),
            ("istiod_connection_failures", "ADS streams that found no control plane.", &self.n_stream_failures),
            ("dns_requests_total", "DNS questions.", &self.n_dns_requests),
            ("dns_upstream_requests_total", "DNS questions that a resolver answered.", &self.n_dns_forwarded),
            ("dns_upstream_failures_total", "DNS questions that nobody answered.", &self.n_dns_failures),
            ("scrapes_total", "Scrapes of the merged metrics.", &self.n_scrapes),
            ("scrape_failures_envoy_total", "Scrapes that Envoy did not answer.", &self.n_envoy_scrape_failures),
            ("scrape_failures_application_total", "Scrapes that the application did not answer.", &self.n_application_scrape_failures),
            ("envoy_starts_total", "Starts of Envoy.", &self.n_envoy_starts),
        ]
    }
}
