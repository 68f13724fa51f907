//! Any history of changes, taken in piece by piece with any batching, gives what a fresh start gives.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use navarch_encode::ResourceSnapshot;
use navarch_envoy::TypeUrl;
use navarch_model::{ConfigKey, Proxy, Shared};
use navarch_serve::{MeshEpochs, ResourceSource, Touched};
use navarch_snapshot::{Change, MeshOptions};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::objects::{Written, base, changes, pod_ip};

/// What is done between two changes.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// Nothing: the next change is of the same batch.
    Join,
    /// The batch is applied, and not pushed.
    Apply,
    /// It is pushed to all whom it touches.
    Push,
    /// It is taken in, and pushed to one proxy only before the next change.
    PushOne(usize),
    /// Endpoints alone are taken in.
    TakeEndpoints,
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::Join),
        1 => Just(Step::Apply),
        4 => Just(Step::Push),
        2 => (0..N_PROXIES).prop_map(Step::PushOne),
        1 => Just(Step::TakeEndpoints),
    ]
}

const N_PROXIES: usize = 8;

fn proxies() -> [Shared<Proxy>; N_PROXIES] {
    let read = |kind: &str, namespace: &str, ip: &str, metadata: Value| {
        let mut node = json!({
            "id": format!("{kind}~{ip}~p-1.{namespace}~{namespace}.svc.cluster.local"),
            "metadata": {"NAMESPACE": namespace, "INSTANCE_IPS": ip, "LABELS": {"app": "a"}},
        });
        for (key, value) in metadata.as_object().unwrap() {
            node["metadata"][key] = value.clone();
        }
        Shared::new(Proxy::from_node_json(node.to_string().as_bytes()).unwrap())
    };
    let istio = json!({"ISTIO_VERSION": "1.32.0", "DNS_CAPTURE": "true"});
    [
        read("sidecar", "shop", &pod_ip("shop", "a"), istio.clone()),
        read("sidecar", "other", &pod_ip("other", "b"), istio),
        read(
            "sidecar",
            "shop",
            "10.2.0.1",
            json!({"INTERCEPTION_MODE": "NONE"}),
        ),
        read(
            "router",
            "shop",
            "10.9.0.1",
            json!({"LABELS": {"app": "gate"}, "ISTIO_VERSION": "1.32.0"}),
        ),
        read(
            "sidecar",
            "third",
            "10.9.0.2",
            json!({"NETWORK": "net", "HTTP_PROXY_PORT": "15080"}),
        ),
        read(
            "sidecar",
            "shop",
            &pod_ip("shop", "b"),
            json!({"ENABLE_SELF_DISCOVERY": "true", "WORKLOAD_NAME": "b"}),
        ),
        read(
            "sidecar",
            "shop",
            "10.9.0.3",
            json!({"ISTIO_VERSION": "1.32.0", "NAVARCH_VHDS": "true"}),
        ),
        read(
            "router",
            "shop",
            "10.9.0.4",
            json!({"LABELS": {"app": "gate"}, "NAVARCH_VHDS": "true"}),
        ),
    ]
}

type Content = BTreeMap<(&'static str, String), Bytes>;

fn content(snapshot: &ResourceSnapshot) -> Content {
    let types = TypeUrl::ALL.into_iter();
    types
        .flat_map(|t| {
            let resources = snapshot.resources(t).iter();
            resources.map(move |r| ((t.short_name(), r.name.to_string()), r.any.clone()))
        })
        .collect()
}

/// A mesh whose proxies are led as the push thread leads them.
struct Led {
    epochs: MeshEpochs,
    proxies: [Shared<Proxy>; N_PROXIES],
    /// Who has not got what was taken in for it.
    owed: BTreeSet<usize>,
    has: BTreeMap<usize, ResourceSnapshot>,
}

impl Led {
    fn new() -> Self {
        Self {
            epochs: MeshEpochs::new(MeshOptions::default()),
            proxies: proxies(),
            owed: (0..N_PROXIES).collect(),
            has: BTreeMap::new(),
        }
    }

    fn owe(&mut self, touched: Option<Touched>) {
        match touched {
            None => {}
            Some(Touched::All) => self.owed.extend(0..N_PROXIES),
            Some(Touched::Proxies(keys)) => {
                let of_key = |key: u128| self.proxies.iter().position(|p| p.hash128() == key);
                self.owed.extend(keys.into_iter().filter_map(of_key));
            }
        }
    }

    fn lead(&mut self, i: usize) {
        let snapshot = self.epochs.snapshot_for(&self.proxies[i]);
        self.has.insert(i, (*snapshot).clone());
        self.owed.remove(&i);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Join | Step::Apply => {}
            Step::TakeEndpoints => {
                let touched = self.epochs.take_endpoints();
                self.owe(touched);
            }
            Step::Push | Step::PushOne(_) => {
                let push = self.epochs.begin_push();
                self.owe(push.map(|push| push.touched));
                if let Step::PushOne(i) = step {
                    self.lead(i);
                } else {
                    for i in self.owed.clone() {
                        self.lead(i);
                    }
                }
            }
        }
    }
}

/// The last word on each object.
fn last_of(history: &[Change]) -> Vec<Change> {
    let mut last: BTreeMap<ConfigKey, Change> = BTreeMap::new();
    for change in history {
        last.insert(change.key.clone(), change.clone());
    }
    last.into_values().collect()
}

fn check(history: &[(Written, Step)], is_from_base: bool) {
    let mut led = Led::new();
    let mut all = if is_from_base { base() } else { Vec::new() };
    led.epochs.apply(all.clone());
    led.step(Step::Push);
    let mut batch = Vec::new();
    for (written, step) in history {
        batch.push(written.change());
        all.push(written.change());
        if !matches!(step, Step::Join) {
            led.epochs.apply(std::mem::take(&mut batch));
            led.step(*step);
        }
    }
    led.epochs.apply(batch);
    led.step(Step::Push);

    let mut fresh = Led::new();
    fresh.epochs.apply(last_of(&all));
    fresh.step(Step::Push);
    for (i, expected) in &fresh.has {
        let id = &led.proxies[*i].id;
        let got = &led.has[i];
        let (has, wants) = (content(got), content(expected));
        let names = has.keys().chain(wants.keys());
        let other: BTreeSet<_> = names.filter(|n| has.get(*n) != wants.get(*n)).collect();
        assert_eq!(other, BTreeSet::new(), "of {id}");
        for t in TypeUrl::ALL {
            let versions = [got, expected].map(|s| s.resources(t).version());
            assert_eq!(versions[0], versions[1], "{t} of {id}");
        }
        assert_eq!(got.find_inconsistencies(), [], "of {id}");
    }
    let told = |epochs: &MeshEpochs| -> BTreeSet<_> { epochs.diagnostics().into_iter().collect() };
    let (told, expected) = (told(&led.epochs), told(&fresh.epochs));
    let differing: Vec<_> = told.symmetric_difference(&expected).collect();
    assert!(differing.is_empty(), "{differing:?}");
}

proptest! {
    // A case makes and leads two meshes, which costs as much as many of the other laws'.
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases / 4,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_history_gives_what_a_fresh_start_gives(
        history in prop::collection::vec((changes(), steps()), 1..16),
        is_from_base in prop::bool::weighted(0.8),
    ) {
        check(&history, is_from_base);
    }
}
