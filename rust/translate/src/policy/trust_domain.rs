//! Identities under every name of the mesh's trust domain.
//!
//! Source: istio `pilot/pkg/security/trustdomain/bundle.go`.

use std::sync::Arc;

/// What everybody may call the mesh's own domain.
const LOCAL: &str = "cluster.local";

/// The principals, those of the mesh's own domains once for each of them.
///
/// `domains` are the mesh's trust domain and its aliases.
pub(super) fn with_aliases(principals: &[String], domains: &[Arc<str>]) -> Vec<String> {
    let mut all = Vec::with_capacity(principals.len());
    for principal in principals {
        match split(principal) {
            Some((domain, rest)) if is_own(domain, domains) => {
                let mut named: Vec<String> = Vec::new();
                for own in domains {
                    // A beginning that is left open fits this domain as it stands.
                    let one = if has_suffix(own, domain) {
                        principal.clone()
                    } else {
                        format!("{own}/{rest}")
                    };
                    if !named.contains(&one) {
                        named.push(one);
                    }
                }
                all.append(&mut named);
            }
            _ => all.push(principal.clone()),
        }
    }
    all
}

fn is_own(domain: &str, domains: &[Arc<str>]) -> bool {
    let fits = |own: &str, domain: &str| has_prefix(own, domain) || has_suffix(own, domain);
    let is_alike = |own: &Arc<str>| **own == *domain || fits(own, domain) || fits(domain, own);
    domain == LOCAL || domains.iter().any(is_alike)
}

/// Whether a text fits `beginning*`.
fn has_prefix(text: &str, pattern: &str) -> bool {
    let beginning = pattern.strip_suffix('*');
    beginning.is_some_and(|beginning| text.starts_with(beginning))
}

/// Whether a text fits `*end`.
fn has_suffix(text: &str, pattern: &str) -> bool {
    let end = pattern.strip_prefix('*');
    end.is_some_and(|end| text.ends_with(end))
}

/// Domain and rest of `<domain>/ns/<namespace>/sa/<account>`, unless any domain is meant.
fn split(principal: &str) -> Option<(&str, &str)> {
    let (domain, rest) = principal.split_once('/')?;
    (rest.split('/').count() == 4 && domain != "*").then_some((domain, rest))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::with_aliases;

    fn all(principal: &str) -> Vec<String> {
        let domains = ["new.example", "old.example"].map(Arc::from);
        with_aliases(&[principal.to_owned()], &domains)
    }

    #[test]
    fn identities_of_the_mesh_go_by_each_of_its_names() {
        let both = ["new.example/ns/a/sa/b", "old.example/ns/a/sa/b"];
        assert_eq!(all("old.example/ns/a/sa/b"), both);
        assert_eq!(all("new.example/ns/a/sa/b"), both);
        assert_eq!(all("cluster.local/ns/a/sa/b"), both);
    }

    #[test]
    fn domains_may_be_left_open_at_one_end() {
        let both = ["new.example/ns/a/sa/b", "old.example/ns/a/sa/b"];
        assert_eq!(all("old*/ns/a/sa/b"), both);
        assert_eq!(all("*.example/ns/a/sa/b"), ["*.example/ns/a/sa/b"]);
        assert_eq!(
            all("*ld.example/ns/a/sa/b"),
            ["new.example/ns/a/sa/b", "*ld.example/ns/a/sa/b"]
        );
    }

    #[test]
    fn others_stay_as_they_are() {
        for principal in [
            "*",
            "*/ns/a/sa/b",
            "other/ns/a/sa/b",
            "*-x/ns/a/sa/b",
            "old.example/*",
        ] {
            assert_eq!(all(principal), [principal]);
        }
    }
}
