//! BackendTLSPolicies to DestinationRules: one for each Service, whatever the number of policies.
//!
//! Source: istio `pilot/pkg/config/kube/gateway/backend_policies.go`.

use std::collections::{BTreeMap, BTreeSet};

use navarch_model::gateway_api::{BackendTlsPolicy, ObjectReference, ParentReference};
use navarch_model::{
    ClientTlsMode, ClientTlsSettings, ConfigKey, DestinationRule, DestinationRuleSpec, Kind,
    KubernetesService, Metadata, PortSelector, PortTrafficPolicy, TrafficPolicy,
};

use super::class::{GATEWAY_CONTROLLER, MESH_CONTROLLER};
use super::condition::{Condition, Fault, Reason};
use super::status::{AncestorStatus, ObjectStatus, StatusContent};
use super::{GENERATED, GatewayApiInputs};

/// A credential that does not exist: traffic must not go on unchecked.
const INVALID_CREDENTIAL: &str = "invalid://";

/// Gateways by the Service (namespace, name) that they lead to.
pub(super) type Ancestors = BTreeMap<(String, String), BTreeSet<(String, String)>>;

/// What policies mean.
#[derive(Debug, Default)]
pub(super) struct BackendPolicies {
    pub(super) rules: Vec<DestinationRule>,
    pub(super) statuses: Vec<ObjectStatus>,
}

/// Build the rules; of several policies for one port the oldest counts.
pub(super) fn build_destination_rules(
    inputs: &GatewayApiInputs<'_>,
    ancestors: &Ancestors,
) -> BackendPolicies {
    let mut policies: Vec<_> = inputs.objects.backend_tls_policies.values().collect();
    policies.sort_by_key(|policy| {
        let metadata = &policy.metadata;
        let created = metadata.creation_timestamp.unwrap_or(i64::MIN);
        (created, metadata.namespace.clone(), metadata.name.clone())
    });
    let mut out = BackendPolicies::default();
    let mut by_service: BTreeMap<(&str, &str), TrafficPolicy> = BTreeMap::new();
    for policy in policies {
        let namespace = policy.metadata.namespace.as_str();
        let (tls, faults) = client_tls(inputs, policy);
        let mut statuses = Vec::new();
        let mut gateways = BTreeSet::new();
        for target in &policy.spec.target_refs {
            let found = find_target(inputs, namespace, target);
            if let Ok((_, port)) = &found {
                let service = (namespace.to_owned(), target.name.clone());
                gateways.extend(ancestors.get(&service).into_iter().flatten());
                let merged = by_service.entry((namespace, &target.name)).or_default();
                add_tls(merged, *port, &tls);
            }
            let accepted = found.err().or_else(|| faults.accepted.clone());
            let conditions = conditions(accepted, faults.resolved.clone());
            statuses.push(ancestor(
                target_reference(target),
                MESH_CONTROLLER,
                conditions,
            ));
        }
        for (_, name) in gateways {
            let reference = ParentReference {
                group: Some(navarch_model::gateway_api::GROUP.to_owned()),
                kind: Some("Gateway".to_owned()),
                name: name.clone(),
                ..ParentReference::default()
            };
            let conditions = conditions(faults.accepted.clone(), faults.resolved.clone());
            statuses.push(ancestor(reference, GATEWAY_CONTROLLER, conditions));
        }
        out.statuses.push(ObjectStatus {
            key: ConfigKey::new(Kind::BackendTLSPolicy, namespace, &policy.metadata.name),
            content: StatusContent::Policy {
                ancestors: statuses,
            },
        });
    }
    let suffix = inputs.domain_suffix;
    let rules = by_service.into_iter();
    out.rules = rules
        .map(|((namespace, name), policy)| rule(namespace, name, suffix, policy))
        .collect();
    out
}

/// What is wrong with a policy, whatever its target.
struct PolicyFaults {
    accepted: Option<Fault>,
    resolved: Option<Fault>,
}

fn rule(namespace: &str, name: &str, suffix: &str, policy: TrafficPolicy) -> DestinationRule {
    DestinationRule {
        metadata: Metadata {
            name: format!("{name}~{GENERATED}"),
            namespace: namespace.to_owned(),
            ..Metadata::default()
        },
        spec: DestinationRuleSpec {
            host: format!("{name}.{namespace}.svc.{suffix}"),
            traffic_policy: Some(policy),
            ..DestinationRuleSpec::default()
        },
    }
}

/// Add settings to a Service's policy where an older one left the place free.
fn add_tls(policy: &mut TrafficPolicy, port: Option<u32>, tls: &ClientTlsSettings) {
    let Some(number) = port else {
        policy.tls.get_or_insert_with(|| tls.clone());
        return;
    };
    let selector = Some(PortSelector { number });
    let settings = &mut policy.port_level_settings;
    if settings.iter().all(|known| known.port != selector) {
        settings.push(PortTrafficPolicy {
            port: selector,
            tls: Some(tls.clone()),
            ..PortTrafficPolicy::default()
        });
    }
}

/// The Service that a policy is for, and the port where it names one.
fn find_target<'a>(
    inputs: &GatewayApiInputs<'a>,
    namespace: &str,
    target: &ObjectReference,
) -> Result<(&'a KubernetesService, Option<u32>), Fault> {
    let not_found = |why: String| {
        let message = format!("targetRefs invalid: {why}");
        Fault::new(Reason::TargetNotFound, message)
    };
    let kind = target.kind.as_deref().unwrap_or_default();
    if !target.group.as_deref().unwrap_or_default().is_empty() || kind != "Service" {
        return Err(not_found(format!("unsupported reference kind: {kind}")));
    }
    let key = (namespace.into(), target.name.as_str().into());
    let Some(service) = inputs.services.get(&key) else {
        let name = &target.name;
        return Err(not_found(format!("Service {namespace}/{name} not found")));
    };
    let section = target.section_name.as_deref().unwrap_or_default();
    if section.is_empty() {
        return Ok((service, None));
    }
    let mut ports = service.spec.ports.iter();
    match ports.find(|port| port.name == section) {
        Some(port) => Ok((service, Some(port.port))),
        None => Err(not_found(format!(
            "sectionName \"{section}\" does not exist in Service {namespace}/{}",
            target.name
        ))),
    }
}

fn client_tls(
    inputs: &GatewayApiInputs<'_>,
    policy: &BackendTlsPolicy,
) -> (ClientTlsSettings, PolicyFaults) {
    let validation = &policy.spec.validation;
    let names = validation.subject_alt_names.iter();
    let names = names.filter_map(|name| match name.name_type.as_str() {
        "Hostname" => Some(name.hostname.clone()),
        "URI" => Some(name.uri.clone()),
        _ => None,
    });
    let mut tls = ClientTlsSettings {
        mode: ClientTlsMode::Simple,
        sni: validation.hostname.clone(),
        subject_alt_names: names.collect(),
        ..ClientTlsSettings::default()
    };
    let mut faults = PolicyFaults {
        accepted: None,
        resolved: None,
    };
    if let Some(known) = &validation.well_known_ca_certificates {
        if known != "System" {
            let message = format!("Unknown wellKnownCACertificates: {known}");
            faults.accepted = Some(Fault::new(Reason::Invalid, message));
        }
        return (tls, faults);
    }
    let namespace = &policy.metadata.namespace;
    if let Some(reference) = validation.ca_certificate_refs.first() {
        match trust_anchors(inputs, namespace, reference) {
            Ok(name) => tls.credential_name = name,
            Err(fault) => {
                let message = format!("Certificate reference invalid: {}", fault.message);
                faults.accepted = Some(Fault::new(Reason::NoValidCACertificate, message));
                faults.resolved = Some(fault);
                INVALID_CREDENTIAL.clone_into(&mut tls.credential_name);
            }
        }
    }
    (tls, faults)
}

fn trust_anchors(
    inputs: &GatewayApiInputs<'_>,
    namespace: &str,
    reference: &ObjectReference,
) -> Result<String, Fault> {
    let kind = reference.kind.as_deref().unwrap_or_default();
    let group = reference.group.as_deref().unwrap_or_default();
    if !group.is_empty() || kind != "ConfigMap" {
        let message = format!("Certificate reference not supported: unsupported kind {kind}");
        return Err(Fault::new(Reason::InvalidKind, message));
    }
    let name = reference.name.as_str();
    let invalid = |message: String| Fault::new(Reason::InvalidCACertificateRef, message);
    let key = (namespace.into(), name.into());
    let Some(found) = inputs.objects.config_maps.get(&key) else {
        return Err(invalid(format!(
            "Certificate reference not found: ConfigMap {namespace}/{name}"
        )));
    };
    match found.trust_anchors_fault {
        Some(fault) => Err(invalid(format!("Certificate invalid: {fault}"))),
        None => Ok(format!("configmap://{namespace}/{name}")),
    }
}

fn conditions(accepted: Option<Fault>, resolved: Option<Fault>) -> Vec<Condition> {
    let good = "Configuration is valid";
    vec![
        Condition::positive("Accepted", (Reason::Accepted, good), accepted),
        Condition::positive("ResolvedRefs", (Reason::ResolvedRefs, good), resolved),
    ]
}

fn ancestor(
    ancestor: ParentReference,
    controller: &'static str,
    conditions: Vec<Condition>,
) -> AncestorStatus {
    AncestorStatus {
        ancestor,
        controller,
        conditions,
    }
}

fn target_reference(target: &ObjectReference) -> ParentReference {
    ParentReference {
        group: target.group.clone(),
        kind: target.kind.clone(),
        namespace: None,
        name: target.name.clone(),
        section_name: target.section_name.clone(),
        port: None,
    }
}
