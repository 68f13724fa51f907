//! The names of workloads: `spiffe://<trust domain>/ns/<namespace>/sa/<service account>` (istio pkg/spiffe/spiffe.go).

use std::fmt;
use std::str::FromStr;

/// The longest name that is read; SPIFFE's own limit (SPIFFE-ID.md, section 2.3).
const MAX_BYTES: usize = 2048;

/// The identity of a workload.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    trust_domain: String,
    namespace: String,
    service_account: String,
}

/// Why a text is no workload's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeError {
    /// It has another shape.
    #[error("is not spiffe://<trust domain>/ns/<namespace>/sa/<service account>")]
    Shape,
    /// A part is empty or has a character that no name has.
    #[error("the {part} is empty or has characters other than letters, digits, `.`, `-` and `_`")]
    Part {
        /// Which part.
        part: &'static str,
    },
}

impl SpiffeId {
    /// A name of its parts, each checked: nothing in a part can pass for another part.
    pub fn new(
        trust_domain: &str,
        namespace: &str,
        service_account: &str,
    ) -> Result<Self, SpiffeError> {
        let parts = [
            ("trust domain", trust_domain),
            ("namespace", namespace),
            ("service account", service_account),
        ];
        for (part, text) in parts {
            let is_name = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_');
            if text.is_empty() || text == "." || text == ".." || !text.bytes().all(is_name) {
                return Err(SpiffeError::Part { part });
            }
        }
        if trust_domain.len() + namespace.len() + service_account.len() > MAX_BYTES {
            return Err(SpiffeError::Shape);
        }
        Ok(Self {
            trust_domain: trust_domain.to_owned(),
            namespace: namespace.to_owned(),
            service_account: service_account.to_owned(),
        })
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The service account.
    pub fn service_account(&self) -> &str {
        &self.service_account
    }
}

impl FromStr for SpiffeId {
    type Err = SpiffeError;

    fn from_str(text: &str) -> Result<Self, SpiffeError> {
        let path = text.strip_prefix("spiffe://").ok_or(SpiffeError::Shape)?;
        let mut parts = path.split('/');
        let mut next = || parts.next().ok_or(SpiffeError::Shape);
        let (trust_domain, ns, namespace, sa, service_account) =
            (next()?, next()?, next()?, next()?, next()?);
        if ns != "ns" || sa != "sa" || parts.next().is_some() {
            return Err(SpiffeError::Shape);
        }
        Self::new(trust_domain, namespace, service_account)
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            trust_domain,
            namespace,
            service_account,
        } = self;
        write!(
            f,
            "spiffe://{trust_domain}/ns/{namespace}/sa/{service_account}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::{SpiffeError, SpiffeId};

    #[test]
    fn a_name_is_read_as_it_is_written() {
        let text = "spiffe://cluster.local/ns/shop/sa/cart-v1";
        let id: SpiffeId = text.parse().unwrap();
        assert_eq!(id.trust_domain(), "cluster.local");
        assert_eq!(id.namespace(), "shop");
        assert_eq!(id.service_account(), "cart-v1");
        assert_eq!(id.to_string(), text);
    }

    #[test]
    fn what_could_pass_for_another_name_is_refused() {
        for text in [
            "",
            "spiffe://",
            "http://cluster.local/ns/a/sa/b",
            "spiffe://cluster.local/ns/a",
            "spiffe://cluster.local/ns/a/sa/b/extra",
            "spiffe://cluster.local/sa/a/ns/b",
            "spiffe://cluster.local/NS/a/sa/b",
        ] {
            assert_eq!(text.parse::<SpiffeId>(), Err(SpiffeError::Shape), "{text}");
        }
        for text in [
            "spiffe:///ns/a/sa/b",
            "spiffe://d/ns//sa/b",
            "spiffe://d/ns/a/sa/",
            "spiffe://d/ns/../sa/b",
            "spiffe://d/ns/a%2fb/sa/c",
            "spiffe://d:8080/ns/a/sa/b",
            "spiffe://user@d/ns/a/sa/b",
            "spiffe://d/ns/a/sa/b?c",
            "spiffe://d/ns/a/sa/b\0",
        ] {
            let read = text.parse::<SpiffeId>();
            assert!(matches!(read, Err(SpiffeError::Part { .. })), "{text}");
        }
        assert!(SpiffeId::new("d", "a/sa/b", "c").is_err());
    }
}
