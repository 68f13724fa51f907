//! Rules that are made from objects of other APIs, beside those that were written.

use std::collections::BTreeSet;

use navarch_model::{DestinationRule, Gateway, Hostname, Shared, TrafficPolicy, VirtualService};

use crate::gateway_api::{GatewayApiInputs, convert_gateway_api};
use crate::ingress::{IngressInputs, convert_ingresses};
use crate::mesh::MeshSnapshot;

use super::{MeshStore, ObjectStatus};

/// All rules of the kinds that are also made, oldest first.
pub(super) struct AllRules {
    pub(super) gateways: Vec<Shared<Gateway>>,
    pub(super) virtual_services: Vec<Shared<VirtualService>>,
    pub(super) destination_rules: Vec<Shared<DestinationRule>>,
}

impl MeshStore {
    /// The status of the objects of Gateway API and of Ingresses, in the order of the kinds.
    pub fn statuses(&self) -> &[ObjectStatus] {
        &self.statuses
    }

    /// Whether rules depend on Services, namespaces and credentials.
    pub(super) fn has_made_rules(&self) -> bool {
        !(self.gateway_api.is_empty() && self.ingresses.ingresses.is_empty())
    }

    /// Make rules anew and put them among those that were written.
    pub(super) fn collect_rules(&mut self, next: &MeshSnapshot) -> AllRules {
        let domain_suffix = &self.registry.options.domain_suffix;
        let has_host = |host: &str, _: &str| !next.services_of_host(host).is_empty();
        let made = convert_gateway_api(&GatewayApiInputs {
            objects: &self.gateway_api,
            namespaces: &self.registry.namespaces,
            services: &self.registry.services,
            service_entries: &self.registry.service_entries,
            has_host: &has_host,
            domain_suffix,
        });
        let of_ingresses = convert_ingresses(&IngressInputs {
            objects: &self.ingresses,
            mesh_config: &self.mesh_config,
            services: &self.registry.services,
            domain_suffix,
        });
        let written = &self.rules;
        let mut all = AllRules {
            gateways: written.gateways.values().cloned().collect(),
            virtual_services: written.virtual_services.values().cloned().collect(),
            destination_rules: written.destination_rules.values().cloned().collect(),
        };
        for rule in made.destination_rules {
            add_destination_rule(&mut all.destination_rules, rule, domain_suffix);
        }
        all.gateways.extend(made.gateways);
        all.gateways.extend(of_ingresses.gateways);
        all.virtual_services.extend(made.virtual_services);
        all.virtual_services.extend(of_ingresses.virtual_services);
        all.gateways
            .sort_by(|a, b| a.metadata.age().cmp(&b.metadata.age()));
        all.virtual_services
            .sort_by(|a, b| a.metadata.age().cmp(&b.metadata.age()));
        all.destination_rules
            .sort_by(|a, b| a.metadata.age().cmp(&b.metadata.age()));
        self.statuses = made.statuses;
        self.statuses.extend(of_ingresses.statuses);
        self.rule_diagnostics = made.diagnostics;
        all
    }
}

/// Label keys that tell which proxies are behind the Services of Gateways.
pub(super) fn gateway_label_keys(
    gateways: &[Shared<Gateway>],
    next: &MeshSnapshot,
) -> BTreeSet<String> {
    let services = gateways.iter().filter_map(|g| g.services.as_ref());
    let hosts = services.flat_map(|services| &services.hosts);
    hosts
        .flat_map(|host| next.services_of_host(host.as_str()))
        .flat_map(|service| service.selector.keys().cloned())
        .collect()
}

/// Add a made rule behind the written one of its host, if there is one: what that leaves open, the made one says
/// (istio `pilot/pkg/model/destination_rule.go`).
fn add_destination_rule(
    rules: &mut Vec<Shared<DestinationRule>>,
    made: DestinationRule,
    domain_suffix: &str,
) {
    let namespace = &made.metadata.namespace;
    let host = Hostname::from(made.spec.host.as_str());
    let is_same = |rule: &&mut Shared<DestinationRule>| {
        rule.metadata.namespace == *namespace
            && rule.spec.workload_selector.is_none()
            && Hostname::resolve(&rule.spec.host, namespace, domain_suffix) == host
    };
    let Some(written) = rules.iter_mut().find(is_same) else {
        rules.push(Shared::new(made));
        return;
    };
    let mut merged = DestinationRule::clone(written);
    let own = merged.spec.traffic_policy.take().unwrap_or_default();
    let other = made.spec.traffic_policy.unwrap_or_default();
    merged.spec.traffic_policy = Some(complete(own, other));
    *written = Shared::new(merged);
}

fn complete(own: TrafficPolicy, other: TrafficPolicy) -> TrafficPolicy {
    let mut ports = own.port_level_settings;
    for settings in other.port_level_settings {
        match ports.iter_mut().find(|known| known.port == settings.port) {
            Some(known) => known.tls = known.tls.take().or(settings.tls),
            None => ports.push(settings),
        }
    }
    TrafficPolicy {
        load_balancer: own.load_balancer.or(other.load_balancer),
        tls: own.tls.or(other.tls),
        retry_budget: own.retry_budget.or(other.retry_budget),
        port_level_settings: ports,
        connection_pool: own.connection_pool,
        outlier_detection: own.outlier_detection,
        tunnel: own.tunnel,
        proxy_protocol: own.proxy_protocol,
    }
}

#[cfg(test)]
mod tests {
    use navarch_model::{
        ClientTlsSettings, DestinationRule, LoadBalancerSettings, Shared, TrafficPolicy,
    };

    use super::add_destination_rule;

    #[test]
    fn a_made_rule_says_what_the_written_one_leaves_open() {
        let rule = |host: &str, policy: TrafficPolicy| {
            let mut rule = DestinationRule::default();
            rule.metadata.namespace = "n".to_owned();
            rule.spec.host = host.to_owned();
            rule.spec.traffic_policy = Some(policy);
            rule
        };
        let balanced = TrafficPolicy {
            load_balancer: Some(LoadBalancerSettings::default()),
            ..TrafficPolicy::default()
        };
        let secured = || TrafficPolicy {
            tls: Some(ClientTlsSettings::default()),
            ..TrafficPolicy::default()
        };
        let mut rules = vec![Shared::new(rule("a", balanced))];
        let host = |name: &str| format!("{name}.n.svc.cluster.local");
        add_destination_rule(&mut rules, rule(&host("a"), secured()), "cluster.local");
        add_destination_rule(&mut rules, rule(&host("b"), secured()), "cluster.local");
        assert_eq!(rules.len(), 2);
        let merged = rules[0].spec.traffic_policy.as_ref().unwrap();
        assert!(merged.tls.is_some() && merged.load_balancer.is_some());
    }
}
