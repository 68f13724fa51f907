//! What the authenticated port counts: under Istio's names where she has one, so that existing alarms work.
//!
//! Names: istio `security/pkg/server/ca/monitoring.go`.

use std::time::Duration;

use navarch_authority::{AuthorityError, Ends};
use prometheus::core::Collector;
use prometheus::{
    Error, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
};
use tonic::{Code, Status};

/// Signing takes tens of microseconds; what takes longer waits for a platform.
const SECONDS: [f64; 11] = [
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0,
];

/// The metrics of one port.
#[derive(Debug, Clone)]
pub(super) struct Figures {
    requests: IntCounter,
    unauthenticated: IntCounter,
    unreadable: IntCounter,
    unsigned: IntCounterVec,
    issued: IntCounter,
    seconds: Histogram,
    refused: IntCounterVec,
    evicted: IntCounter,
    ends: [(IntGauge, IntGauge); 3],
}

impl Figures {
    /// Metrics at zero, told with those of a registry.
    ///
    /// # Errors
    /// The registry has them already.
    pub(super) fn register(registry: &Registry) -> Result<Self, Error> {
        let maker = Maker(registry);
        let latency = HistogramOpts::new(
            "navarch_certificate_seconds",
            "From a request for a certificate to its answer, refusals included.",
        );
        Ok(Self {
            requests: maker.counter("citadel_server_csr_count", "Requests for certificates.")?,
            unauthenticated: maker.counter(
                "citadel_server_authentication_failure_count",
                "Requests for certificates of callers without a good proof.",
            )?,
            unreadable: maker.counter(
                "citadel_server_csr_parsing_err_count",
                "Requests for certificates that could not be read, or asked for what is not given.",
            )?,
            unsigned: maker.family(
                "citadel_server_csr_sign_err_count",
                "Requests that could not be signed, by why.",
                "error",
            )?,
            issued: maker.counter(
                "citadel_server_success_cert_issuance_count",
                "Certificates given.",
            )?,
            seconds: maker.keep(Histogram::with_opts(latency.buckets(SECONDS.into()))?)?,
            refused: maker.family(
                "navarch_secure_refused_total",
                "Requests that were refused at the authenticated port, by the gRPC code of the answer.",
                "code",
            )?,
            evicted: maker.counter(
                "navarch_secure_evicted_total",
                "Connections without a proof that had to make room for others.",
            )?,
            ends: [
                maker.end("citadel_server_root_cert", "the first of the roots")?,
                maker.end(
                    "citadel_server_cert_chain",
                    "the first of the certificates that sign",
                )?,
                maker.end("navarch_server_cert", "the certificate of the port itself")?,
            ],
        })
    }

    /// A request for a certificate was answered, after that time.
    pub(super) fn count_request(&self, taken: Duration, refusal: Option<&Status>) {
        self.requests.inc();
        self.seconds.observe(taken.as_secs_f64());
        match refusal.map(Status::code) {
            None => self.issued.inc(),
            Some(Code::Unauthenticated) => self.unauthenticated.inc(),
            Some(Code::InvalidArgument) => self.unreadable.inc(),
            Some(_) => {}
        }
    }

    /// The authority did not sign.
    pub(super) fn count_unsigned(&self, error: &AuthorityError) {
        let why = match error {
            AuthorityError::Request(_) => "CSR_ERROR",
            AuthorityError::Lifetime { .. } => "TTL_ERROR",
            AuthorityError::Unusable(_) => "CA_NOT_READY",
            _ => "CERT_GEN_ERROR",
        };
        self.unsigned.with_label_values(&[why]).inc();
    }

    /// A caller was not let in, or given nothing.
    pub(super) fn count_refused(&self, status: &Status) {
        let code = format!("{:?}", status.code());
        self.refused.with_label_values(&[code.as_str()]).inc();
    }

    /// A connection without a proof had to go.
    pub(super) fn count_evicted(&self) {
        self.evicted.inc();
    }

    /// Tell when certificates end, as seen now.
    pub(super) fn set_ends(&self, ends: Ends, server: i64, now: i64) {
        for ((at, left), end) in self.ends.iter().zip([ends.root, ends.chain, server]) {
            at.set(end);
            left.set(end.saturating_sub(now));
        }
    }
}

/// Makes metrics in a registry.
struct Maker<'a>(&'a Registry);

impl Maker<'_> {
    fn keep<C: Collector + Clone + 'static>(&self, made: C) -> Result<C, Error> {
        self.0.register(Box::new(made.clone()))?;
        Ok(made)
    }

    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, Error> {
        self.keep(IntCounter::new(name, help)?)
    }

    fn family(&self, name: &str, help: &str, label: &str) -> Result<IntCounterVec, Error> {
        self.keep(IntCounterVec::new(Opts::new(name, help), &[label])?)
    }

    /// The moment of an end, and the seconds until then.
    fn end(&self, name: &str, what: &str) -> Result<(IntGauge, IntGauge), Error> {
        let at = format!("When {what} ends, in seconds since 1970.");
        let left = format!("Seconds until {what} ends; below zero it has.");
        Ok((
            self.keep(IntGauge::new(format!("{name}_expiry_timestamp"), at)?)?,
            self.keep(IntGauge::new(format!("{name}_expiry_seconds"), left)?)?,
        ))
    }
}
