//! Which policies hold for a workload: who may do what, and whose tokens are verified.
//!
//! Sources: istio `pilot/pkg/model/authorization.go` `ListAuthorizationPolicies`, `pilot/pkg/model/authentication.go`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use navarch_model::{
    AuthorizationPolicy, JsonWebKeySet, JwtRule, Labels, PolicyAction, PolicyAttachment,
    RequestAuthentication, Shared, Span,
};

use crate::MeshSnapshot;

/// What holds for one workload; lists of policies are the root namespace's first, then by age.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct WorkloadPolicies {
    /// An extension provider decides.
    pub custom: Vec<Shared<AuthorizationPolicy>>,
    /// Marks what fits.
    pub audit: Vec<Shared<AuthorizationPolicy>>,
    /// Refuses what fits.
    pub deny: Vec<Shared<AuthorizationPolicy>>,
    /// Where there is any, refuses what fits none.
    pub allow: Vec<Shared<AuthorizationPolicy>>,
    /// Whose tokens are verified, by issuer.
    pub issuers: Vec<TokenIssuer>,
}

impl WorkloadPolicies {
    /// Whether nothing is asked of requests.
    pub fn is_empty(&self) -> bool {
        self.issuers.is_empty() && !self.has_authorization()
    }

    /// Whether any policy looks at who may do what.
    pub fn has_authorization(&self) -> bool {
        let lists = [&self.custom, &self.audit, &self.deny, &self.allow];
        lists.iter().any(|list| !list.is_empty())
    }
}

/// One rule for tokens, with the keys that sign them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TokenIssuer {
    /// The rule.
    pub rule: JwtRule,
    /// The keys that were fetched for it; `None` where they stand in the rule, or are not known yet.
    pub fetched: Option<Shared<JsonWebKeySet>>,
}

/// The policies by namespace and by age, and key sets by the address that they were fetched from.
#[derive(Debug, Clone, Default)]
pub(crate) struct PolicyIndex {
    authorization: BTreeMap<String, Vec<Shared<AuthorizationPolicy>>>,
    authentication: BTreeMap<String, Vec<Shared<RequestAuthentication>>>,
    key_sets: BTreeMap<Arc<str>, Shared<JsonWebKeySet>>,
}

impl PolicyIndex {
    pub(crate) fn new<'a>(
        authorization: impl Iterator<Item = &'a Shared<AuthorizationPolicy>>,
        authentication: impl Iterator<Item = &'a Shared<RequestAuthentication>>,
        key_sets: impl Iterator<Item = (&'a Arc<str>, &'a Shared<JsonWebKeySet>)>,
    ) -> Self {
        Self {
            authorization: by_namespace(authorization, |policy| &policy.metadata),
            authentication: by_namespace(authentication, |policy| &policy.metadata),
            key_sets: key_sets
                .map(|(address, keys)| (address.clone(), keys.clone()))
                .collect(),
        }
    }

    /// Labels of workloads that decide whether some policy is attached to them.
    pub(crate) fn label_keys(&self) -> impl Iterator<Item = &str> {
        let authorization = self.authorization.values().flatten();
        let authentication = self.authentication.values().flatten();
        authorization
            .map(|policy| &policy.spec.attachment)
            .chain(authentication.map(|policy| &policy.spec.attachment))
            .flat_map(PolicyAttachment::label_keys)
    }

    /// Namespaces with policies that leave the decision to a provider, whose service then shapes listeners.
    pub(crate) fn namespaces_with_providers(&self) -> impl Iterator<Item = Arc<str>> {
        let is_custom =
            |policy: &Shared<AuthorizationPolicy>| policy.spec.action == PolicyAction::Custom;
        let all = self.authorization.iter();
        all.filter(move |(_, policies)| policies.iter().any(is_custom))
            .map(|(namespace, _)| namespace.as_str().into())
    }

    /// Namespaces whose policies, or the key sets of whose policies, are others.
    pub(crate) fn namespaces_changed_since(&self, old: &Self) -> BTreeSet<Arc<str>> {
        let mut changed = BTreeSet::new();
        add_changed(&old.authorization, &self.authorization, &mut changed);
        add_changed(&old.authentication, &self.authentication, &mut changed);
        if self.key_sets == old.key_sets {
            return changed;
        }
        for (namespace, policies) in &self.authentication {
            let rules = policies.iter().flat_map(|policy| &policy.spec.jwt_rules);
            let mut addresses = rules.filter_map(JwtRule::key_set_address);
            if addresses.any(|a| self.key_sets.get(&*a) != old.key_sets.get(&*a)) {
                changed.insert(namespace.as_str().into());
            }
        }
        changed
    }

    fn of_workload(&self, root: &str, namespace: &str, labels: &Labels) -> WorkloadPolicies {
        let mut found = WorkloadPolicies::default();
        let own = (namespace != root).then_some(namespace);
        for policy_namespace in [Some(root), own].into_iter().flatten() {
            let all = self.authorization.get(policy_namespace).into_iter();
            for policy in all.flatten() {
                let attachment = &policy.spec.attachment;
                if !attachment.is_attached(policy_namespace, namespace, labels) {
                    continue;
                }
                let list = match policy.spec.action {
                    PolicyAction::Allow => &mut found.allow,
                    PolicyAction::Deny => &mut found.deny,
                    PolicyAction::Audit => &mut found.audit,
                    PolicyAction::Custom => &mut found.custom,
                };
                list.push(policy.clone());
            }
            let all = self.authentication.get(policy_namespace).into_iter();
            let attached = all.flatten().filter(|policy| {
                let attachment = &policy.spec.attachment;
                attachment.is_attached(policy_namespace, namespace, labels)
            });
            let rules = attached.flat_map(|policy| &policy.spec.jwt_rules);
            found.issuers.extend(rules.map(|rule| self.issuer(rule)));
        }
        found
            .issuers
            .sort_by(|a, b| a.rule.issuer.cmp(&b.rule.issuer));
        found
    }

    fn issuer(&self, rule: &JwtRule) -> TokenIssuer {
        let address = rule.key_set_address();
        TokenIssuer {
            fetched: address.and_then(|address| self.key_sets.get(&*address).cloned()),
            rule: rule.clone(),
        }
    }

    fn wanted_key_sets(&self) -> BTreeMap<String, Option<Span>> {
        let mut wanted: BTreeMap<String, Option<Span>> = BTreeMap::new();
        let policies = self.authentication.values().flatten();
        for rule in policies.flat_map(|policy| &policy.spec.jwt_rules) {
            if let Some(address) = rule.key_set_address() {
                let timeout = wanted.entry(address).or_default();
                *timeout = (*timeout).max(rule.timeout);
            }
        }
        wanted
    }
}

impl MeshSnapshot {
    /// The policies that hold for a workload of `namespace` with `labels`.
    pub fn policies_of(&self, namespace: &str, labels: &Labels) -> WorkloadPolicies {
        let root = &self.mesh_config.root_namespace;
        self.rules.policies.of_workload(root, namespace, labels)
    }

    /// The addresses of the key sets that policies need, with the longest that a rule lets a fetch take.
    pub fn wanted_key_sets(&self) -> BTreeMap<String, Option<Span>> {
        self.rules.policies.wanted_key_sets()
    }
}

/// Add the namespaces whose policies are others.
pub(crate) fn add_changed<T>(
    old: &BTreeMap<String, Vec<Shared<T>>>,
    new: &BTreeMap<String, Vec<Shared<T>>>,
    changed: &mut BTreeSet<Arc<str>>,
) {
    let namespaces = old.keys().chain(new.keys());
    let is_other = |namespace: &&String| old.get(*namespace) != new.get(*namespace);
    changed.extend(namespaces.filter(is_other).map(|n| Arc::from(n.as_str())));
}

fn by_namespace<'a, T: 'a>(
    policies: impl Iterator<Item = &'a Shared<T>>,
    metadata: impl Fn(&T) -> &navarch_model::Metadata,
) -> BTreeMap<String, Vec<Shared<T>>> {
    let mut by_namespace: BTreeMap<String, Vec<Shared<T>>> = BTreeMap::new();
    for policy in policies {
        by_namespace
            .entry(metadata(policy).namespace.clone())
            .or_default()
            .push(policy.clone());
    }
    for policies in by_namespace.values_mut() {
        policies.sort_by(|a, b| metadata(a).age().cmp(&metadata(b).age()));
    }
    by_namespace
}

#[cfg(test)]
mod tests {
    use navarch_model::{
        AuthorizationPolicy, ConfigKey, JsonWebKeySet, Kind, Labels, Object, PolicyAction, Shared,
        decode_object,
    };

    use super::{PolicyIndex, WorkloadPolicies};

    fn decode(kind: Kind, json: &str) -> Object {
        decode_object(&ConfigKey::new(kind, "", ""), json.as_bytes()).unwrap()
    }

    fn index(authorization: &[&str], authentication: &[&str], addresses: &[&str]) -> PolicyIndex {
        let authorization: Vec<_> = authorization
            .iter()
            .map(|json| match decode(Kind::AuthorizationPolicy, json) {
                Object::AuthorizationPolicy(policy) => Shared::new(policy),
                other => panic!("{other:?}"),
            })
            .collect();
        let authentication: Vec<_> = authentication
            .iter()
            .map(|json| match decode(Kind::RequestAuthentication, json) {
                Object::RequestAuthentication(policy) => Shared::new(policy),
                other => panic!("{other:?}"),
            })
            .collect();
        let key_sets: Vec<_> = addresses
            .iter()
            .map(|address| {
                let jwks = format!("keys of {address}");
                ((*address).into(), Shared::new(JsonWebKeySet { jwks }))
            })
            .collect();
        PolicyIndex::new(
            authorization.iter(),
            authentication.iter(),
            key_sets.iter().map(|(address, keys)| (address, keys)),
        )
    }

    fn of_web(index: &PolicyIndex) -> WorkloadPolicies {
        let labels = Labels::from([("app".to_owned(), "web".to_owned())]);
        index.of_workload("root", "shop", &labels)
    }

    fn names(policies: &[Shared<AuthorizationPolicy>]) -> Vec<&str> {
        policies.iter().map(|p| p.metadata.name.as_str()).collect()
    }

    #[test]
    fn policies_of_the_root_namespace_come_first_and_older_ones_before_younger() {
        let found = of_web(&index(
            &[
                r#"{"metadata": {"name": "young", "namespace": "shop", "creationTimestamp": "2026-01-02T00:00:00Z"}}"#,
                r#"{"metadata": {"name": "old", "namespace": "shop", "creationTimestamp": "2026-01-01T00:00:00Z"}}"#,
                r#"{"metadata": {"name": "mesh", "namespace": "root", "creationTimestamp": "2026-01-03T00:00:00Z"}}"#,
                r#"{"metadata": {"name": "other", "namespace": "elsewhere"}}"#,
                r#"{"metadata": {"name": "db", "namespace": "shop"}, "spec": {"selector": {"matchLabels": {"app": "db"}}}}"#,
            ],
            &[],
            &[],
        ));
        assert_eq!(names(&found.allow), ["mesh", "old", "young"]);
    }

    #[test]
    fn each_action_has_its_list() {
        let of = |action: &str| {
            of_web(&index(
                &[&format!(
                    r#"{{"metadata": {{"name": "a", "namespace": "shop"}}, "spec": {{"action": "{action}"}}}}"#
                )],
                &[],
                &[],
            ))
        };
        assert_eq!(names(&of("ALLOW").allow), ["a"]);
        assert_eq!(names(&of("DENY").deny), ["a"]);
        assert_eq!(names(&of("AUDIT").audit), ["a"]);
        assert_eq!(names(&of("CUSTOM").custom), ["a"]);
        assert_eq!(of("CUSTOM").custom[0].spec.action, PolicyAction::Custom);
        assert!(of_web(&index(&[], &[], &[])).is_empty());
    }

    #[test]
    fn issuers_are_in_order_with_the_keys_that_were_fetched() {
        let index = index(
            &[],
            &[
                r#"{"metadata": {"name": "a", "namespace": "shop"}, "spec": {"jwtRules": [
                    {"issuer": "z", "jwksUri": "http://keys", "timeout": "2s"}, {"issuer": "b", "jwks": "{}"}]}}"#,
                r#"{"metadata": {"name": "a", "namespace": "root"}, "spec": {"jwtRules": [
                    {"issuer": "https://m", "jwksUri": ""}, {"issuer": "y", "jwksUri": "http://keys"}]}}"#,
            ],
            &["http://keys", "http://nobody"],
        );
        let found = of_web(&index);
        let told: Vec<_> = found
            .issuers
            .iter()
            .map(|one| {
                let keys = one.fetched.as_ref().map(|keys| keys.jwks.as_str());
                (one.rule.issuer.as_str(), keys)
            })
            .collect();
        assert_eq!(
            told,
            [
                ("b", None),
                ("https://m", None),
                ("y", Some("keys of http://keys")),
                ("z", Some("keys of http://keys"))
            ]
        );
        let wanted: Vec<_> = index.wanted_key_sets().into_iter().collect();
        assert_eq!(wanted[0].0, "http://keys");
        assert_eq!(wanted[0].1.map(|span| span.seconds), Some(2));
        assert_eq!(
            wanted[1],
            (
                "https://m/.well-known/openid-configuration".to_owned(),
                None
            )
        );
    }
}
