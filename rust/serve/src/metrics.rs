//! Counters under Istio's names, so that existing dashboards work.
//!
//! Names: istio `pilot/pkg/xds/monitoring.go`, `pkg/xds/monitoring.go`.

use std::time::Duration;

use navarch_envoy::TypeUrl;
use prometheus::{
    Encoder as _, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::push::{Since, Trigger};

/// Why the server ended a stream that could have gone on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamEnd {
    /// It was old enough.
    MaxAge,
    /// Its client took nothing of what waited for it.
    SlowReader,
}

impl StreamEnd {
    /// As metrics label it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MaxAge => "max_age",
            Self::SlowReader => "slow_reader",
        }
    }
}

/// All metrics of one process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    connected: IntGaugeVec,
    pushes: [IntCounter; TypeUrl::COUNT],
    rejects: IntCounter,
    rejects_by_type: [IntCounter; TypeUrl::COUNT],
    expired_nonces: IntCounterVec,
    convergence: Histogram,
    convergence_by_lane: [Histogram; Trigger::ALL.len()],
    push_building: Histogram,
    push_handing: Histogram,
    push_panics: IntCounter,
    triggers: IntCounterVec,
    ends: IntCounterVec,
    waiting: IntGauge,
    services: IntGauge,
    virtual_services: IntGauge,
}

impl Metrics {
    /// Metrics at zero.
    #[expect(
        clippy::expect_used,
        reason = "the names below are constant, valid and distinct"
    )]
    pub fn new() -> Self {
        let registry = Registry::new();
        Self::register(&registry).expect("constant metrics register")
    }

    fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let maker = Maker(registry);
        let mut rejects_by_type = Vec::with_capacity(TypeUrl::COUNT);
        for t in TypeUrl::ALL {
            let (name, upper) = (t.short_name(), t.short_name().to_uppercase());
            let help = format!("Pilot rejected {upper} configs.");
            rejects_by_type.push(maker.counter(&format!("pilot_xds_{name}_reject"), &help)?);
        }
        let stages = maker.stages()?;
        let rejects_by_type: [IntCounter; TypeUrl::COUNT] = rejects_by_type
            .try_into()
            .map_err(|_| prometheus::Error::Msg("one counter for each type".into()))?;
        let pushes = maker.family("pilot_xds_pushes", "Responses handed to the transport.")?;
        Ok(Self {
            registry: registry.clone(),
            connected: maker.gauges(
                "pilot_xds",
                "Number of endpoints connected using XDS.",
                "version",
            )?,
            pushes: TypeUrl::ALL.map(|t| pushes.with_label_values(&[t.short_name()])),
            rejects: maker.counter(
                "pilot_total_xds_rejects",
                "Total number of XDS responses rejected by proxy.",
            )?,
            rejects_by_type,
            expired_nonces: maker.family(
                "pilot_xds_expired_nonce",
                "Total number of XDS requests with an expired nonce.",
            )?,
            convergence: maker.histogram(
                "pilot_proxy_convergence_time",
                "Delay in seconds from a change to a proxy's acceptance of all that it changed.",
            )?,
            convergence_by_lane: maker.lanes(
                "navarch_convergence_seconds",
                "Delay in seconds from the oldest change that was told to a proxy's acceptance of all of them, by lane.",
            )?,
            push_building: stages.with_label_values(&["translate"]),
            push_handing: stages.with_label_values(&["hand_over"]),
            push_panics: maker.counter(
                "navarch_push_panics",
                "Panics caught on the push thread, most of them while a proxy's resources were built.",
            )?,
            triggers: maker.family("pilot_push_triggers", "Pushes by what they were for.")?,
            ends: maker.counters(
                "navarch_stream_ends",
                "Streams that the server ended though it goes on itself, by reason.",
                "reason",
            )?,
            waiting: maker.gauge(
                "navarch_waiting_streams",
                "New streams that wait for older ones to get their first resources.",
            )?,
            services: maker.gauge("pilot_services", "Total services known.")?,
            virtual_services: maker
                .gauge("pilot_virt_services", "Total virtual services known.")?,
        })
    }

    /// A stream of a proxy of that version was opened.
    pub fn count_connect(&self, version: &str) {
        self.connected.with_label_values(&[version]).inc();
    }

    /// A stream of a proxy of that version has ended. A version of which none is left is not told of any more:
    /// clients choose these names, and there must be no more of them than streams.
    pub fn count_disconnect(&self, version: &str) {
        let gauge = self.connected.with_label_values(&[version]);
        gauge.dec();
        if gauge.get() <= 0 {
            // It fails for a version that is not there.
            let _ = self.connected.remove_label_values(&[version]);
        }
    }

    /// The server ended a stream.
    pub fn count_end(&self, reason: StreamEnd) {
        self.ends.with_label_values(&[reason.as_str()]).inc();
    }

    /// So many new streams wait for older ones.
    pub fn set_waiting(&self, n_streams: usize) {
        self.waiting
            .set(i64::try_from(n_streams).unwrap_or(i64::MAX));
    }

    /// How many services and virtual services the mesh has.
    pub fn set_mesh_size(&self, services: usize, virtual_services: usize) {
        self.services
            .set(i64::try_from(services).unwrap_or(i64::MAX));
        self.virtual_services
            .set(i64::try_from(virtual_services).unwrap_or(i64::MAX));
    }

    /// A response was handed to the transport.
    pub fn count_push(&self, type_url: TypeUrl) {
        self.pushes[type_url.index()].inc();
    }

    /// A client rejected a response.
    pub fn count_reject(&self, type_url: TypeUrl) {
        self.rejects.inc();
        self.rejects_by_type[type_url.index()].inc();
    }

    /// A request answered a response that was no longer the latest.
    pub fn count_expired_nonce(&self, type_url: TypeUrl) {
        self.expired_nonces
            .with_label_values(&[type_url.short_name()])
            .inc();
    }

    /// A stream has all of the changes that are known since then.
    pub(crate) fn observe_convergence(&self, since: Since) {
        let seconds = since.at.elapsed().as_secs_f64();
        self.convergence.observe(seconds);
        self.convergence_by_lane[since.trigger as usize].observe(seconds);
    }

    /// A push has spent so long on building resources, and so long on handing them to the streams they differ for.
    pub(crate) fn observe_push(&self, building: Duration, handing: Duration) {
        self.push_building.observe(building.as_secs_f64());
        self.push_handing.observe(handing.as_secs_f64());
    }

    /// The push thread caught a panic; proxies keep their last good resources.
    pub fn count_push_panic(&self) {
        self.push_panics.inc();
    }

    /// A push began, for `reason` (`endpoint`, `config`, `proxy`).
    pub fn count_trigger(&self, reason: &str) {
        self.triggers.with_label_values(&[reason]).inc();
    }

    /// Where further metrics of this process are told.
    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// All metrics in Prometheus' text format.
    pub fn to_text(&self) -> String {
        let mut text = Vec::new();
        // Writing to memory fails only on inconsistent families, which `register` excludes.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        String::from_utf8_lossy(&text).into_owned()
    }
}

/// Makes metrics in a registry.
struct Maker<'a>(&'a Registry);

impl Maker<'_> {
    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        let gauge = IntGauge::new(name, help)?;
        self.0.register(Box::new(gauge.clone()))?;
        Ok(gauge)
    }

    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        let counter = IntCounter::new(name, help)?;
        self.0.register(Box::new(counter.clone()))?;
        Ok(counter)
    }

    /// A gauge for each value of a label.
    fn gauges(
        &self,
        name: &str,
        help: &str,
        label: &str,
    ) -> Result<IntGaugeVec, prometheus::Error> {
        let gauges = IntGaugeVec::new(Opts::new(name, help), &[label])?;
        self.0.register(Box::new(gauges.clone()))?;
        Ok(gauges)
    }

    /// A counter for each value of the label `type`.
    fn family(&self, name: &str, help: &str) -> Result<IntCounterVec, prometheus::Error> {
        self.counters(name, help, "type")
    }

    fn counters(
        &self,
        name: &str,
        help: &str,
        label: &str,
    ) -> Result<IntCounterVec, prometheus::Error> {
        let family = IntCounterVec::new(Opts::new(name, help), &[label])?;
        self.0.register(Box::new(family.clone()))?;
        Ok(family)
    }

    /// How long pushes take, by what for.
    fn stages(&self) -> Result<HistogramVec, prometheus::Error> {
        let buckets = vec![
            0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0,
            5.0,
        ];
        let help = "How long one push took, by stage: until resources were built, and until streams were led to them.";
        let options = HistogramOpts::new("navarch_push_seconds", help).buckets(buckets);
        let stages = HistogramVec::new(options, &["stage"])?;
        self.0.register(Box::new(stages.clone()))?;
        Ok(stages)
    }

    /// A histogram for each lane, in finer buckets than Istio's.
    fn lanes(
        &self,
        name: &str,
        help: &str,
    ) -> Result<[Histogram; Trigger::ALL.len()], prometheus::Error> {
        let buckets = vec![
            0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0,
        ];
        let options = HistogramOpts::new(name, help).buckets(buckets);
        let lanes = HistogramVec::new(options, &["lane"])?;
        self.0.register(Box::new(lanes.clone()))?;
        Ok(Trigger::ALL.map(|trigger| lanes.with_label_values(&[trigger.as_str()])))
    }

    /// A histogram in Istio's buckets, with finer ones below them.
    fn histogram(&self, name: &str, help: &str) -> Result<Histogram, prometheus::Error> {
        let buckets = vec![0.01, 0.05, 0.1, 0.5, 1.0, 3.0, 5.0, 10.0, 20.0, 30.0];
        let histogram = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))?;
        self.0.register(Box::new(histogram.clone()))?;
        Ok(histogram)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use navarch_envoy::TypeUrl;

    use super::Metrics;

    #[test]
    fn istios_names_are_there() {
        let metrics = Metrics::new();
        metrics.observe_push(Duration::from_secs(2), Duration::from_millis(250));
        metrics.count_push(TypeUrl::Cluster);
        metrics.count_reject(TypeUrl::Route);
        metrics.count_connect("1.32.0");
        metrics.count_connect("1.32.0");
        metrics.count_connect("stock");
        metrics.count_disconnect("stock");
        let text = metrics.to_text();
        for line in [
            "pilot_xds{version=\"1.32.0\"} 2",
            "pilot_xds_pushes{type=\"cds\"} 1",
            "pilot_total_xds_rejects 1",
            "pilot_xds_rds_reject 1",
            "pilot_proxy_convergence_time_count 0",
            "navarch_convergence_seconds_count{lane=\"endpoint\"} 0",
            "navarch_push_seconds_count{stage=\"translate\"} 1",
            "navarch_push_seconds_sum{stage=\"hand_over\"} 0.25",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in {text}");
        }
        assert!(!text.contains("stock"), "{text}");
    }
}
