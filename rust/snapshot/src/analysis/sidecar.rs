//! Sidecars of which only one can hold for a workload.

use std::collections::{BTreeMap, BTreeSet};

use navarch_model::{ConfigKey, Kind, Labels, Sidecar, is_selected};

use super::{Findings, full_name, key_of};
use crate::MeshSnapshot;

/// Several without a selector, or with the same.
pub(super) fn check(mesh: &MeshSnapshot, told: &mut Findings) {
    let mut older: BTreeMap<(&str, Option<&Labels>), &Sidecar> = BTreeMap::new();
    for sidecar in &mesh.analysis.written.sidecars {
        let selector = selector_of(sidecar);
        let key = (sidecar.metadata.namespace.as_str(), selector);
        let Some(first) = older.get(&key) else {
            older.insert(key, sidecar);
            continue;
        };
        let name = full_name(&first.metadata);
        if selector.is_some() {
            let message =
                format!("the older Sidecar `{name}` selects the same workloads, and it holds");
            tell_overlap(sidecar, &message, told);
        } else {
            let message = format!(
                "the older Sidecar `{name}` is without workloadSelector, too, and it holds for the namespace; \
                 put both into one, or select workloads"
            );
            let path = "spec.workloadSelector".to_owned();
            told.error(
                sidecar_key(sidecar),
                "several-default-sidecars",
                path,
                message,
            );
        }
    }
}

/// Pods that several Sidecars of other selectors pick; told once of each pair.
pub(super) fn check_overlaps(mesh: &MeshSnapshot, told: &mut Findings) {
    let mut by_namespace: BTreeMap<&str, Vec<(&Sidecar, &Labels)>> = BTreeMap::new();
    for sidecar in &mesh.analysis.written.sidecars {
        if let Some(selector) = selector_of(sidecar) {
            let namespace = sidecar.metadata.namespace.as_str();
            let known = by_namespace.entry(namespace).or_default();
            known.push((sidecar, selector));
        }
    }
    by_namespace.retain(|_, sidecars| sidecars.len() > 1);
    let mut known: BTreeSet<(&str, &str, &str)> = BTreeSet::new();
    for pod in mesh
        .analysis
        .pods
        .values()
        .map(|indexed| &indexed.pod)
        .filter(|_| !by_namespace.is_empty())
    {
        let metadata = &pod.metadata.common;
        let namespace = metadata.namespace.as_str();
        let sidecars = by_namespace.get(namespace).into_iter().flatten();
        let mut picking = sidecars.filter(|(_, selector)| is_selected(selector, &metadata.labels));
        let Some((first, selector)) = picking.next() else {
            continue;
        };
        for (sidecar, other) in picking.filter(|(_, other)| other != selector) {
            if known.insert((namespace, &first.metadata.name, &sidecar.metadata.name)) {
                let message = format!(
                    "the older Sidecar `{}` selects workloads of this one, as the Pod `{}` ({other:?}), and it holds there",
                    full_name(&first.metadata),
                    metadata.name
                );
                tell_overlap(sidecar, &message, told);
            }
        }
    }
}

fn tell_overlap(sidecar: &Sidecar, message: &str, told: &mut Findings) {
    let path = "spec.workloadSelector.labels".to_owned();
    let message = format!("{message}; make the selectors exclude each other");
    told.error(
        sidecar_key(sidecar),
        "sidecar-selector-conflict",
        path,
        message,
    );
}

fn sidecar_key(sidecar: &Sidecar) -> ConfigKey {
    key_of(Kind::Sidecar, &sidecar.metadata)
}

fn selector_of(sidecar: &Sidecar) -> Option<&Labels> {
    let selector = sidecar.spec.workload_selector.as_ref();
    selector
        .map(|s| &s.match_labels)
        .filter(|labels| !labels.is_empty())
}
