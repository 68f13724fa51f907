//! DestinationRules: merging those of one host, and finding the one in force for a client and a service.
//!
//! Source: istio `pilot/pkg/model/destination_rule.go` `mergeDestinationRule`, `push_context.go` `destinationRule`.

use std::collections::{BTreeMap, BTreeSet};

use navarch_model::{
    DestinationRule, Hostname, Labels, Service, Shared, Visibility, WorkloadSelector, is_selected,
};

/// A rule with its host resolved and its visibility read.
#[derive(Debug, Clone, PartialEq, Eq)]
struct IndexedRule {
    rule: Shared<DestinationRule>,
    export_to: BTreeSet<Visibility>,
}

type RulesByHost = BTreeMap<Hostname, Vec<IndexedRule>>;

/// All rules by namespace and host, those of one host merged.
#[derive(Debug, Clone, Default)]
pub(crate) struct DestinationRuleIndex {
    by_namespace: BTreeMap<String, NamespaceRules>,
}

/// One namespace's rules; wildcard hosts apart, so that a lookup needs no scan of the exact ones.
#[derive(Debug, Clone, Default)]
struct NamespaceRules {
    exact: RulesByHost,
    wildcard: RulesByHost,
}

impl NamespaceRules {
    /// The rules of the most specific host that matches and of which some rule is visible.
    fn find(
        &self,
        host: &Hostname,
        is_visible: impl Fn(&IndexedRule) -> bool,
    ) -> Vec<&IndexedRule> {
        let visible = |rules: &'_ [IndexedRule]| rules.iter().any(&is_visible);
        if let Some(rules) = self.exact.get(host).filter(|rules| visible(rules)) {
            return rules.iter().filter(|rule| is_visible(rule)).collect();
        }
        self.wildcard
            .iter()
            .filter(|(pattern, rules)| host.is_subset_of(pattern) && visible(rules))
            .max_by_key(|(pattern, _)| pattern.as_str().len())
            .map(|(_, rules)| rules.iter().filter(|rule| is_visible(rule)).collect())
            .unwrap_or_default()
    }
}

impl DestinationRuleIndex {
    /// Index rules given oldest first.
    pub(crate) fn new(
        rules: &[Shared<DestinationRule>],
        default_export_to: &[String],
        domain_suffix: &str,
    ) -> Self {
        let mut by_namespace: BTreeMap<String, NamespaceRules> = BTreeMap::new();
        for rule in rules {
            let namespace = &rule.metadata.namespace;
            let host = Hostname::resolve(&rule.spec.host, namespace, domain_suffix);
            let indexed = IndexedRule {
                rule: with_host(rule, &host),
                export_to: export_to_of(rule, default_export_to),
            };
            let rules = by_namespace.entry(namespace.clone()).or_default();
            let map = if host.is_wildcard() {
                &mut rules.wildcard
            } else {
                &mut rules.exact
            };
            merge_into(map.entry(host).or_default(), indexed);
        }
        Self { by_namespace }
    }

    /// The rule for traffic of a client in `namespace` with `labels` to `service`.
    ///
    /// The client's namespace comes first, then the service's, then the root namespace; within each the
    /// most specific host.
    pub(crate) fn find(
        &self,
        root: &str,
        client: (&str, &Labels),
        service: &Service,
    ) -> Option<&Shared<DestinationRule>> {
        let (namespace, labels) = client;
        let host = &service.hostname;
        let own = self.by_namespace.get(namespace).map(|rules| {
            // In the root namespace a rule for everybody must not hide the service's own; and a rule
            // may be for other namespaces only.
            rules.find(host, |rule| {
                is_exported(rule, namespace, namespace)
                    && (namespace != root || is_private(rule, namespace))
            })
        });
        let exported = |owner: &str| {
            self.by_namespace
                .get(owner)
                .map(|rules| rules.find(host, |rule| is_exported(rule, owner, namespace)))
        };
        let found = own
            .filter(|rules| !rules.is_empty())
            .or_else(|| exported(&service.namespace).filter(|rules| !rules.is_empty()))
            .or_else(|| exported(root))?;
        pick(&found, namespace, labels)
    }

    /// Label keys that any rule selects clients by.
    pub(crate) fn selector_keys(&self) -> impl Iterator<Item = &String> {
        self.by_namespace
            .values()
            .flat_map(|rules| rules.exact.values().chain(rules.wildcard.values()))
            .flatten()
            .filter_map(|indexed| indexed.rule.spec.workload_selector.as_ref())
            .flat_map(|selector| selector.match_labels.keys())
    }

    /// Whether any rule of a host has that subset, whoever may see it.
    pub(crate) fn has_subset(&self, host: &Hostname, subset: &str) -> bool {
        let has = |rules: &Vec<IndexedRule>| {
            let mut subsets = rules.iter().flat_map(|indexed| &indexed.rule.spec.subsets);
            subsets.any(|known| known.name == subset)
        };
        self.by_namespace.values().any(|rules| {
            let mut wildcard = rules.wildcard.iter();
            rules.exact.get(host).is_some_and(has)
                || wildcard.any(|(pattern, rules)| host.is_subset_of(pattern) && has(rules))
        })
    }

    /// Hosts of which some namespace's rules are others than in `old`.
    pub(crate) fn hosts_changed_since(&self, old: &Self) -> BTreeSet<Hostname> {
        let mut changed = BTreeSet::new();
        let none = NamespaceRules::default();
        let namespaces: BTreeSet<&String> = old
            .by_namespace
            .keys()
            .chain(self.by_namespace.keys())
            .collect();
        for namespace in namespaces {
            let before = old.by_namespace.get(namespace).unwrap_or(&none);
            let after = self.by_namespace.get(namespace).unwrap_or(&none);
            for (before, after) in [
                (&before.exact, &after.exact),
                (&before.wildcard, &after.wildcard),
            ] {
                let is_other = |host: &&Hostname| before.get(*host) != after.get(*host);
                let hosts = before.keys().chain(after.keys());
                changed.extend(hosts.filter(is_other).cloned());
            }
        }
        changed
    }

    /// Every merged rule.
    pub(crate) fn rules(&self) -> impl Iterator<Item = &Shared<DestinationRule>> {
        self.by_namespace
            .values()
            .flat_map(|rules| rules.exact.values().chain(rules.wildcard.values()))
            .flatten()
            .map(|indexed| &indexed.rule)
    }
}

/// Of the rules of one host: the one that selects the client, else the last without a selector.
fn pick<'a>(
    rules: &[&'a IndexedRule],
    namespace: &str,
    labels: &Labels,
) -> Option<&'a Shared<DestinationRule>> {
    let selecting = rules.iter().find(|indexed| {
        indexed.rule.metadata.namespace == namespace
            && selector_of(indexed).is_some_and(|s| is_selected(&s.match_labels, labels))
    });
    selecting
        .or_else(|| {
            rules
                .iter()
                .rev()
                .find(|indexed| selector_of(indexed).is_none())
        })
        .map(|indexed| &indexed.rule)
}

fn selector_of(indexed: &IndexedRule) -> Option<&WorkloadSelector> {
    indexed.rule.spec.workload_selector.as_ref()
}

/// Whether a rule of `owner` is for clients in `namespace`.
fn is_exported(rule: &IndexedRule, owner: &str, namespace: &str) -> bool {
    let tokens: Vec<_> = rule.export_to.iter().cloned().collect();
    Visibility::is_visible(&tokens, owner, namespace)
}

fn is_private(rule: &IndexedRule, namespace: &str) -> bool {
    rule.export_to.iter().all(|token| match token {
        Visibility::Private => true,
        Visibility::Namespace(name) => &**name == namespace,
        Visibility::Public | Visibility::Nobody => false,
    })
}

/// Rules that select clients are private, whatever they say.
fn export_to_of(rule: &DestinationRule, default: &[String]) -> BTreeSet<Visibility> {
    if rule.spec.workload_selector.is_some() {
        return BTreeSet::from([Visibility::Private]);
    }
    let tokens = if rule.spec.export_to.is_empty() {
        default
    } else {
        &rule.spec.export_to
    };
    tokens
        .iter()
        .map(|token| Visibility::parse(token))
        .collect()
}

fn with_host(rule: &Shared<DestinationRule>, host: &Hostname) -> Shared<DestinationRule> {
    if rule.spec.host == host.as_str() {
        return rule.clone();
    }
    let mut resolved = (**rule).clone();
    host.as_str().clone_into(&mut resolved.spec.host);
    Shared::new(resolved)
}

/// Merge a younger rule into the one of equal selector and visibility, or stand beside it.
fn merge_into(rules: &mut Vec<IndexedRule>, younger: IndexedRule) {
    let twin = rules.iter_mut().find(|older| {
        older.export_to == younger.export_to
            && older.rule.spec.workload_selector == younger.rule.spec.workload_selector
    });
    let Some(older) = twin else {
        rules.push(younger);
        return;
    };
    let mut merged = (*older.rule).clone();
    let names: BTreeSet<String> = merged.spec.subsets.iter().map(|s| s.name.clone()).collect();
    let added = younger
        .rule
        .spec
        .subsets
        .iter()
        .filter(|subset| !names.contains(&subset.name));
    merged.spec.subsets.extend(added.cloned());
    if merged.spec.traffic_policy.is_none() {
        merged
            .spec
            .traffic_policy
            .clone_from(&younger.rule.spec.traffic_policy);
    }
    older.rule = Shared::new(merged);
}
