//! One rule of an AuthorizationPolicy as a policy of Envoy's RBAC.
//!
//! Source: istio `pilot/pkg/security/authz/model/model.go`.

use std::sync::Arc;

use navarch_envoy::envoy::config::rbac::v3::Policy;
use navarch_model::{AuthorizationRule, RequestOperation, RequestSource, RuleCondition};

use super::permission::{self, PermissionKind};
use super::principal::{self, PrincipalKind};
use super::trust_domain;

/// Where a rule is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layer {
    /// For each request.
    Http,
    /// For each connection, of which nothing is known that HTTP tells.
    Tcp,
}

/// What a rule is made for.
#[derive(Debug, Clone, Copy)]
pub(super) struct RuleContext<'a> {
    /// The policy's, in which accounts without a namespace are.
    pub(super) namespace: &'a str,
    pub(super) trust_domains: &'a [Arc<str>],
    pub(super) layer: Layer,
    /// A condition that can't be looked at voids a rule that allows, and is left out of one that refuses or marks.
    pub(super) is_allow: bool,
}

/// A condition of a kind `K`: one of the values, and none of the others.
#[derive(Debug, Clone)]
struct Term<K> {
    kind: K,
    values: Vec<String>,
    not_values: Vec<String>,
}

/// The condition can't be looked at.
pub(super) struct Unanswerable;

/// The rule; `None` where it allows by what can't be looked at.
pub(super) fn build(rule: &AuthorizationRule, context: RuleContext<'_>) -> Option<Policy> {
    let (permissions, principals) = conditions(&rule.when, context).ok()?;
    let mut policy = Policy::default();
    let operations: Vec<_> = rule.to.iter().map(|to| Some(&to.operation)).collect();
    for operation in or_none(operations) {
        let mut terms = operation.map(operation_terms).unwrap_or_default();
        terms.extend(permissions.iter().cloned());
        let all = all_of(&terms, context, permission::any_of, permission::none_of).ok()?;
        policy.permissions.push(permission::all_of(all));
    }
    let sources: Vec<_> = rule.from.iter().map(|from| Some(&from.source)).collect();
    for source in or_none(sources) {
        let mut terms = source
            .map(|source| source_terms(source, context))
            .unwrap_or_default();
        terms.extend(principals.iter().cloned());
        let all = all_of(&terms, context, principal::any_of, principal::none_of).ok()?;
        policy.principals.push(principal::all_of(all));
    }
    Some(policy)
}

/// The list, or one that says nothing.
fn or_none<T>(mut list: Vec<Option<T>>) -> Vec<Option<T>> {
    if list.is_empty() {
        list.push(None);
    }
    list
}

fn add<K>(terms: &mut Vec<Term<K>>, kind: K, values: &[String], not_values: &[String]) {
    if !values.is_empty() || !not_values.is_empty() {
        terms.push(Term {
            kind,
            values: values.to_vec(),
            not_values: not_values.to_vec(),
        });
    }
}

/// In Istio's order, so that messages are equal.
fn operation_terms(operation: &RequestOperation) -> Vec<Term<PermissionKind>> {
    let mut terms = Vec::new();
    let o = operation;
    add(&mut terms, PermissionKind::Host, &o.hosts, &o.not_hosts);
    add(
        &mut terms,
        PermissionKind::Method,
        &o.methods,
        &o.not_methods,
    );
    add(&mut terms, PermissionKind::Path, &o.paths, &o.not_paths);
    add(
        &mut terms,
        PermissionKind::DestinationPort,
        &o.ports,
        &o.not_ports,
    );
    terms
}

/// In Istio's order, so that messages are equal.
fn source_terms(source: &RequestSource, context: RuleContext<'_>) -> Vec<Term<PrincipalKind>> {
    let s = source;
    let migrate = |names: &[String]| trust_domain::with_aliases(names, context.trust_domains);
    let mut terms = Vec::new();
    add(
        &mut terms,
        PrincipalKind::Principal,
        &migrate(&s.principals),
        &migrate(&s.not_principals),
    );
    for (kind, values, not_values) in [
        (
            PrincipalKind::RequestPrincipal,
            &s.request_principals,
            &s.not_request_principals,
        ),
        (
            PrincipalKind::ServiceAccount,
            &s.service_accounts,
            &s.not_service_accounts,
        ),
        (
            PrincipalKind::TrustDomain,
            &s.trust_domains,
            &s.not_trust_domains,
        ),
        (PrincipalKind::Namespace, &s.namespaces, &s.not_namespaces),
        (
            PrincipalKind::RemoteIp,
            &s.remote_ip_blocks,
            &s.not_remote_ip_blocks,
        ),
        (PrincipalKind::SourceIp, &s.ip_blocks, &s.not_ip_blocks),
    ] {
        add(&mut terms, kind, values, not_values);
    }
    terms
}

type Conditions = (Vec<Term<PermissionKind>>, Vec<Term<PrincipalKind>>);

fn conditions(
    when: &[RuleCondition],
    context: RuleContext<'_>,
) -> Result<Conditions, Unanswerable> {
    let (mut permissions, mut principals) = (Vec::new(), Vec::new());
    for condition in when {
        let (values, not_values) = (&condition.values, &condition.not_values);
        if let Some(kind) = PermissionKind::parse(&condition.key) {
            add(&mut permissions, kind, values, not_values);
        } else if let Some(kind) = PrincipalKind::parse(&condition.key) {
            if kind == PrincipalKind::Principal {
                let migrate = |names| trust_domain::with_aliases(names, context.trust_domains);
                add(
                    &mut principals,
                    kind,
                    &migrate(values),
                    &migrate(not_values),
                );
            } else {
                add(&mut principals, kind, values, not_values);
            }
        } else {
            // A key that nobody knows: the rule has no meaning.
            return Err(Unanswerable);
        }
    }
    Ok((permissions, principals))
}

/// Each term's positive and negative half, as far as it can be looked at.
fn all_of<K, M>(
    terms: &[Term<K>],
    context: RuleContext<'_>,
    any_of: impl Fn(&K, &[String], RuleContext<'_>) -> Result<Option<M>, Unanswerable>,
    none_of: impl Fn(M) -> M,
) -> Result<Vec<M>, Unanswerable> {
    let mut all = Vec::with_capacity(terms.len());
    for term in terms {
        all.extend(any_of(&term.kind, &term.values, context)?);
        all.extend(any_of(&term.kind, &term.not_values, context)?.map(&none_of));
    }
    Ok(all)
}

/// The matchers of single values; those that can't be looked at are left out, unless the rule allows.
pub(super) fn each<M>(
    values: &[String],
    context: RuleContext<'_>,
    build: impl Fn(&str) -> Result<M, Unanswerable>,
) -> Result<Vec<M>, Unanswerable> {
    let mut built = Vec::with_capacity(values.len());
    for value in values {
        match build(value) {
            Ok(matcher) => built.push(matcher),
            Err(Unanswerable) if context.is_allow => return Err(Unanswerable),
            Err(Unanswerable) => {}
        }
    }
    Ok(built)
}

/// The text in `[…]`.
pub(super) fn in_brackets(text: &str) -> Option<&str> {
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    (!inner.is_empty()).then_some(inner)
}
