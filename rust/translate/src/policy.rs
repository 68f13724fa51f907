//! What policies ask of requests and connections: filters for listeners.
//!
//! Sources: istio `pilot/pkg/security/authz/builder`, `pilot/pkg/security/authn/policy_applier.go`.

mod authorizer;
mod ext_authz;
mod jwt_authn;
mod matcher;
mod permission;
mod principal;
mod rbac;
mod rule;
#[cfg(test)]
mod tests;
mod trust_domain;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use navarch_envoy::envoy::config::listener::v3::Filter;
use navarch_envoy::envoy::config::rbac::v3::rbac::Action;
use navarch_envoy::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;
use navarch_envoy::field::envoy::config::listener::v3::filter_chain;
use navarch_envoy::wire::Writer;
use navarch_model::{AuthorizationPolicy, ConfigKey, Diagnostic, Kind, Labels, Severity, Shared};
use navarch_snapshot::{MeshSnapshot, WorkloadPolicies};

use authorizer::{FoundAuthorizer, find_authorizer};

/// All that policies put into the listeners of one workload.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct PolicyFacts {
    policies: WorkloadPolicies,
    /// The mesh's own first; all name the same identities.
    trust_domains: Vec<Arc<str>>,
    /// Those that policies name; a reason where one can't be asked.
    authorizers: BTreeMap<String, Result<FoundAuthorizer, String>>,
    /// Routes are chosen anew by the claims of a token.
    has_claim_routes: bool,
}

impl PolicyFacts {
    /// The facts of a workload; `is_gateway` where routes may look at claims.
    pub(crate) fn new(
        mesh: &MeshSnapshot,
        namespace: &str,
        labels: &Labels,
        is_gateway: bool,
    ) -> Self {
        let policies = mesh.policies_of(namespace, labels);
        if policies.is_empty() {
            return Self::default();
        }
        let config = &mesh.mesh_config;
        let aliases: BTreeSet<&str> = config
            .trust_domain_aliases
            .iter()
            .map(String::as_str)
            .filter(|alias| *alias != config.trust_domain)
            .collect();
        let domains = std::iter::once(config.trust_domain.as_str()).chain(aliases);
        let authorizers = policies
            .custom
            .iter()
            .map(|policy| provider_of(policy))
            .map(|name| (name.to_owned(), find_authorizer(mesh, name)))
            .collect();
        Self {
            trust_domains: domains.map(Arc::from).collect(),
            authorizers,
            has_claim_routes: is_gateway,
            policies,
        }
    }

    /// Asks an external authorizer of requests that CUSTOM policies fit.
    pub(crate) fn custom_http(&self) -> Vec<HttpFilter> {
        rbac::custom(self)
    }

    /// Verifies tokens.
    pub(crate) fn tokens(&self) -> Vec<HttpFilter> {
        let filter = jwt_authn::build(&self.policies.issuers, self.has_claim_routes);
        filter.into_iter().collect()
    }

    /// Marks and refuses requests.
    pub(crate) fn authorization_http(&self) -> Vec<HttpFilter> {
        self.by_action()
            .filter_map(|(policies, action)| rbac::enforcing(self, policies, action))
            .collect()
    }

    /// Asks of, marks and refuses connections.
    fn tcp(&self) -> Vec<Filter> {
        let mut filters: Vec<Filter> = rbac::custom(self);
        filters.extend(
            self.by_action()
                .filter_map(|(policies, action)| rbac::enforcing(self, policies, action)),
        );
        filters
    }

    /// Write those filters into a filter chain.
    pub(crate) fn write_tcp(&self, out: &mut Writer) {
        for filter in self.tcp() {
            out.message(filter_chain::FILTERS, |out| out.append_message(&filter));
        }
    }

    /// First those that mark, then those that refuse, then those that allow.
    fn by_action(&self) -> impl Iterator<Item = (&[Shared<AuthorizationPolicy>], Action)> {
        let policies = &self.policies;
        [
            (policies.audit.as_slice(), Action::Log),
            (policies.deny.as_slice(), Action::Deny),
            (policies.allow.as_slice(), Action::Allow),
        ]
        .into_iter()
    }

    /// The one authorizer that CUSTOM policies name, or why requests that they fit are refused.
    fn authorizer(&self, name: &str) -> Result<&FoundAuthorizer, String> {
        if self.authorizers.len() > 1 {
            let names: Vec<&str> = self.authorizers.keys().map(String::as_str).collect();
            return Err(format!(
                "CUSTOM policies of one workload name several providers ({}); name one",
                names.join(", ")
            ));
        }
        match self.authorizers.get(name) {
            Some(found) => found.as_ref().map_err(Clone::clone),
            None => Err(format!("there is no provider `{name}`")),
        }
    }

    /// CUSTOM policies whose provider can't be asked: what they fit is refused.
    pub(crate) fn diagnostics(&self) -> Vec<Diagnostic> {
        let unanswered = self.policies.custom.iter().filter_map(|policy| {
            let reason = self.authorizer(provider_of(policy)).err()?;
            let metadata = &policy.metadata;
            Some(Diagnostic {
                key: ConfigKey::new(
                    Kind::AuthorizationPolicy,
                    &metadata.namespace,
                    &metadata.name,
                ),
                code: "authorizer-unavailable",
                severity: Severity::Error,
                field_path: "spec.provider.name".to_owned(),
                message: format!(
                    "what the policy fits is refused, since nobody can decide: {reason}"
                ),
            })
        });
        unanswered.collect()
    }
}

fn provider_of(policy: &AuthorizationPolicy) -> &str {
    let provider = policy.spec.provider.as_ref();
    provider.map_or("", |provider| &provider.name)
}
