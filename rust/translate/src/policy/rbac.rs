//! Policies of one action as an RBAC filter.
//!
//! Source: istio `pilot/pkg/security/authz/builder/builder.go`.

use std::collections::BTreeMap;

use navarch_envoy::any::pack;
use navarch_envoy::envoy::config::listener::v3::Filter;
use navarch_envoy::envoy::config::rbac::v3::rbac::Action;
use navarch_envoy::envoy::config::rbac::v3::{Policy, Rbac};
use navarch_envoy::envoy::extensions::filters::http::rbac::v3::Rbac as HttpRbac;
use navarch_envoy::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;
use navarch_envoy::envoy::extensions::filters::network::rbac::v3::Rbac as TcpRbac;
use navarch_model::{AuthorizationPolicy, Shared};

use super::authorizer::FoundAuthorizer;
use super::rule::{self, Layer, RuleContext};
use super::{PolicyFacts, ext_authz, permission, principal, provider_of};
use crate::http_filter::filter;
use crate::lds::network_filter;

/// The filter of requests.
pub(super) const HTTP_RBAC: &str = "envoy.filters.http.rbac";
/// The filter of connections.
pub(super) const TCP_RBAC: &str = "envoy.filters.network.rbac";
/// What the names of CUSTOM policies begin with, before the provider's name.
pub(super) const CUSTOM_PREFIX: &str = "istio-ext-authz-";

/// After the names of CUSTOM policies that refuse, since nobody can decide.
const REFUSED_SUFFIX: &str = "-deny-due-to-bad-CUSTOM-action";
const CUSTOM_STAT_PREFIX: &str = "istio_ext_authz_";
const DRY_RUN_ALLOW: &str = "istio_dry_run_allow_";
const DRY_RUN_DENY: &str = "istio_dry_run_deny_";
const TCP_STAT_PREFIX: &str = "tcp.";

/// What is enforced, and what only tells what it would do; `None` where no policy asks for it.
#[derive(Default)]
pub(super) struct Sets {
    rules: Option<Rbac>,
    shadow_rules: Option<Rbac>,
    shadow_prefix: &'static str,
}

/// The filter for policies of one action; `None` where there are none.
pub(super) fn enforcing<F: PolicyFilter>(
    facts: &PolicyFacts,
    policies: &[Shared<AuthorizationPolicy>],
    action: Action,
) -> Option<F> {
    sets(facts, policies, (action, F::LAYER)).map(F::of)
}

/// For each provider that CUSTOM policies name: what they fit, and the question; or a refusal.
pub(super) fn custom<F: PolicyFilter>(facts: &PolicyFacts) -> Vec<F> {
    let mut by_provider: BTreeMap<&str, Vec<&Shared<AuthorizationPolicy>>> = BTreeMap::new();
    for policy in &facts.policies.custom {
        by_provider
            .entry(provider_of(policy))
            .or_default()
            .push(policy);
    }
    let mut filters = Vec::new();
    for (provider, policies) in by_provider {
        let prefix = format!("{CUSTOM_PREFIX}{provider}-");
        let fitting = named(
            facts,
            policies.into_iter(),
            (Action::Deny, F::LAYER),
            &prefix,
        );
        let Ok(found) = facts.authorizer(provider) else {
            let refused = |(name, policy)| (format!("{name}{REFUSED_SUFFIX}"), policy);
            filters.push(F::of(Sets {
                rules: Some(rbac(
                    Action::Deny,
                    fitting.into_iter().map(refused).collect(),
                )),
                ..Sets::default()
            }));
            continue;
        };
        if let Some(question) = F::question(found, provider) {
            filters.push(F::of(Sets {
                shadow_rules: Some(rbac(Action::Deny, fitting)),
                shadow_prefix: CUSTOM_STAT_PREFIX,
                ..Sets::default()
            }));
            filters.push(question);
        }
    }
    filters
}

/// A filter of requests or of connections.
pub(super) trait PolicyFilter: Sized {
    /// What it looks at.
    const LAYER: Layer;
    /// The RBAC filter.
    fn of(sets: Sets) -> Self;
    /// The filter that asks an authorizer, where it can be asked.
    fn question(found: &FoundAuthorizer, provider: &str) -> Option<Self>;
}

impl PolicyFilter for HttpFilter {
    const LAYER: Layer = Layer::Http;

    fn of(sets: Sets) -> Self {
        let config = HttpRbac {
            rules: sets.rules,
            shadow_rules: sets.shadow_rules,
            shadow_rules_stat_prefix: sets.shadow_prefix.to_owned(),
            ..HttpRbac::default()
        };
        filter(HTTP_RBAC, pack(&config))
    }

    fn question(found: &FoundAuthorizer, provider: &str) -> Option<Self> {
        Some(ext_authz::http(found, provider))
    }
}

impl PolicyFilter for Filter {
    const LAYER: Layer = Layer::Tcp;

    fn of(sets: Sets) -> Self {
        let config = TcpRbac {
            rules: sets.rules,
            shadow_rules: sets.shadow_rules,
            shadow_rules_stat_prefix: sets.shadow_prefix.to_owned(),
            stat_prefix: TCP_STAT_PREFIX.to_owned(),
            ..TcpRbac::default()
        };
        network_filter(TCP_RBAC, pack(&config))
    }

    fn question(found: &FoundAuthorizer, provider: &str) -> Option<Self> {
        ext_authz::tcp(found, provider)
    }
}

fn sets(
    facts: &PolicyFacts,
    policies: &[Shared<AuthorizationPolicy>],
    (action, layer): (Action, Layer),
) -> Option<Sets> {
    if policies.is_empty() {
        return None;
    }
    let (told, enforced): (Vec<_>, Vec<_>) =
        policies.iter().partition(|policy| policy.is_dry_run());
    let set = |policies: Vec<_>| {
        let is_asked = !policies.is_empty();
        is_asked.then(|| {
            rbac(
                action,
                named(facts, policies.into_iter(), (action, layer), ""),
            )
        })
    };
    let shadow_rules = set(told);
    let is_deny = shadow_rules.is_some() && action == Action::Deny;
    Some(Sets {
        rules: set(enforced),
        // Istio names the prefix of ALLOW also where nothing is told.
        shadow_prefix: match (is_deny, action) {
            (true, _) => DRY_RUN_DENY,
            (false, Action::Log) if shadow_rules.is_some() => "",
            _ => DRY_RUN_ALLOW,
        },
        shadow_rules,
    })
}

/// Each rule under its name; a policy without rules fits nothing.
fn named<'a>(
    facts: &PolicyFacts,
    policies: impl Iterator<Item = &'a Shared<AuthorizationPolicy>>,
    (action, layer): (Action, Layer),
    prefix: &str,
) -> BTreeMap<String, Policy> {
    let mut named = BTreeMap::new();
    for policy in policies {
        let metadata = &policy.metadata;
        let (namespace, policy_name) = (&metadata.namespace, &metadata.name);
        let name = |index| format!("{prefix}ns[{namespace}]-policy[{policy_name}]-rule[{index}]");
        let context = RuleContext {
            namespace,
            trust_domains: &facts.trust_domains,
            layer,
            is_allow: action == Action::Allow,
        };
        for (index, rule) in policy.spec.rules.iter().enumerate() {
            if let Some(built) = rule::build(rule, context) {
                named.insert(name(index), built);
            }
        }
        if policy.spec.rules.is_empty() {
            named.insert(name(0), nothing());
        }
    }
    named
}

fn nothing() -> Policy {
    Policy {
        permissions: vec![permission::none_of(permission::any())],
        principals: vec![principal::none_of(principal::any())],
        ..Policy::default()
    }
}

fn rbac(action: Action, policies: BTreeMap<String, Policy>) -> Rbac {
    Rbac {
        action: action as i32,
        policies,
        ..Rbac::default()
    }
}
