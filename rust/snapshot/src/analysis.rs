//! What is wrong between objects: names that lead nowhere, rules of which only one can hold.
//!
//! A pure function of the mesh, made when somebody asks and kept until something that it reads is another.
//! What is told here is wrong for everybody; what one proxy can't see is told where its resources are built.
//! Source: istio `pkg/config/analysis/analyzers`.

mod destination_rule;
mod gateway;
mod name;
mod peer_authentication;
mod service;
mod service_entry;
mod sidecar;
mod virtual_service;

#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};

use navarch_model::{
    ConfigKey, DestinationRule, Diagnostic, Kind, Metadata, PeerAuthentication, ServiceEntry,
    Severity, Shared, Sidecar, VirtualService,
};

use crate::MeshSnapshot;
use crate::mesh::PersistentMap;
use crate::registry::{IndexedPod, Name};

/// Rules as they were written, oldest first: a diagnostic's path is one of the written object.
#[derive(Debug, Default)]
pub(crate) struct WrittenRules {
    pub(crate) virtual_services: Vec<Shared<VirtualService>>,
    pub(crate) destination_rules: Vec<Shared<DestinationRule>>,
    pub(crate) service_entries: Vec<Shared<ServiceEntry>>,
    pub(crate) sidecars: Vec<Shared<Sidecar>>,
    pub(crate) peer_authentications: Vec<Shared<PeerAuthentication>>,
}

/// What is to be analysed beside the indexes of a mesh, and what was found.
#[derive(Debug, Clone, Default)]
pub(crate) struct Analysis {
    pub(crate) written: Arc<WrittenRules>,
    pub(crate) pods: PersistentMap<Name, IndexedPod>,
    /// Found while rules were made and merged.
    pub(crate) made: Arc<Vec<Diagnostic>>,
    /// Found among rules and services.
    pub(crate) of_rules: Arc<OnceLock<Vec<Diagnostic>>>,
    /// Found between rules, and Pods and endpoints, which change more often.
    pub(crate) of_workloads: Arc<OnceLock<Vec<Diagnostic>>>,
}

impl MeshSnapshot {
    /// What is wrong with the names that objects use for each other, and between objects of one kind.
    pub fn rule_diagnostics(&self) -> Vec<Diagnostic> {
        let analysis = &self.analysis;
        let of_rules = analysis.of_rules.get_or_init(|| of_rules(self));
        let of_workloads = analysis.of_workloads.get_or_init(|| of_workloads(self));
        let all = analysis.made.iter().chain(of_rules).chain(of_workloads);
        all.cloned().collect()
    }
}

fn of_rules(mesh: &MeshSnapshot) -> Vec<Diagnostic> {
    let mut told = Findings::default();
    virtual_service::check(mesh, &mut told);
    destination_rule::check(mesh, &mut told);
    sidecar::check(mesh, &mut told);
    peer_authentication::check(mesh, &mut told);
    service_entry::check(mesh, &mut told);
    service::check(mesh, &mut told);
    name::check(mesh, &mut told);
    told.0
}

fn of_workloads(mesh: &MeshSnapshot) -> Vec<Diagnostic> {
    let mut told = Findings::default();
    gateway::check(mesh, &mut told);
    destination_rule::check_subsets(mesh, &mut told);
    sidecar::check_overlaps(mesh, &mut told);
    told.0
}

/// Collects what is found.
#[derive(Default)]
struct Findings(Vec<Diagnostic>);

impl Findings {
    fn error(&mut self, key: ConfigKey, code: &'static str, path: String, message: String) {
        self.add(key, (code, Severity::Error), path, message);
    }

    fn warn(&mut self, key: ConfigKey, code: &'static str, path: String, message: String) {
        self.add(key, (code, Severity::Warning), path, message);
    }

    fn info(&mut self, key: ConfigKey, code: &'static str, path: String, message: String) {
        self.add(key, (code, Severity::Info), path, message);
    }

    fn add(
        &mut self,
        key: ConfigKey,
        (code, severity): (&'static str, Severity),
        field_path: String,
        message: String,
    ) {
        self.0.push(Diagnostic {
            key,
            code,
            severity,
            field_path,
            message,
        });
    }
}

fn key_of(kind: Kind, metadata: &Metadata) -> ConfigKey {
    ConfigKey::new(kind, &metadata.namespace, &metadata.name)
}

/// `namespace/name`, as messages have it.
fn full_name(metadata: &Metadata) -> String {
    format!("{}/{}", metadata.namespace, metadata.name)
}
