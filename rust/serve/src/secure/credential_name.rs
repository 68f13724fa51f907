//! The names by which proxies ask for secrets (istio `pilot/pkg/model/credentials/resource.go`).

/// The suffix that asks for trust anchors alone.
pub(super) const TRUST_ANCHORS_SUFFIX: &str = "-cacert";
const SECRET: &str = "kubernetes://";
const GATEWAY_SECRET: &str = "kubernetes-gateway://";
const CONFIG_MAP: &str = "configmap://";

/// How a name is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A Secret of the caller's own namespace, which its service account must be allowed to read.
    Secret,
    /// A Secret that a Gateway of the caller's namespace refers to, and may refer to.
    GatewaySecret,
    /// A ConfigMap: trust anchors are public.
    ConfigMap,
}

/// What a name asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CredentialName {
    pub(super) form: Form,
    pub(super) namespace: String,
    pub(super) name: String,
}

impl CredentialName {
    /// Read a name; one without a namespace is of the caller's own.
    pub(super) fn read(text: &str, own_namespace: &str) -> Option<Self> {
        let (form, path) = if let Some(path) = text.strip_prefix(GATEWAY_SECRET) {
            (Form::GatewaySecret, path)
        } else if let Some(path) = text.strip_prefix(CONFIG_MAP) {
            (Form::ConfigMap, path)
        } else {
            (Form::Secret, text.strip_prefix(SECRET)?)
        };
        let (namespace, name) = match path.split_once('/') {
            Some(parts) => parts,
            None if form == Form::Secret => (own_namespace, path),
            None => return None,
        };
        let is_name = |part: &str| !part.is_empty() && !part.contains('/');
        (is_name(namespace) && is_name(name)).then(|| Self {
            form,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })
    }

    /// The name of the object if trust anchors alone are asked for.
    pub(super) fn trust_anchors_of(&self) -> Option<&str> {
        self.name.strip_suffix(TRUST_ANCHORS_SUFFIX)
    }
}

/// The name by which a proxy asks for a credential of a Gateway.
pub(super) fn resource_name(credential: &str) -> String {
    if credential.contains("://") {
        credential.to_owned()
    } else {
        format!("{SECRET}{credential}")
    }
}

#[cfg(test)]
mod tests {
    use super::{CredentialName, Form};

    #[test]
    fn names_are_read_as_istio_writes_them() {
        let read = |text| {
            CredentialName::read(text, "own").map(|name| (name.form, name.namespace, name.name))
        };
        let want =
            |form, namespace: &str, name: &str| Some((form, namespace.to_owned(), name.to_owned()));
        assert_eq!(read("kubernetes://a"), want(Form::Secret, "own", "a"));
        assert_eq!(read("kubernetes://b/a"), want(Form::Secret, "b", "a"));
        assert_eq!(
            read("kubernetes-gateway://b/a-cacert"),
            want(Form::GatewaySecret, "b", "a-cacert")
        );
        assert_eq!(read("configmap://b/a"), want(Form::ConfigMap, "b", "a"));
        for odd in [
            "",
            "a",
            "default",
            "kubernetes://",
            "kubernetes:///a",
            "kubernetes://a/b/c",
            "kubernetes-gateway://a",
            "configmap://a",
            "file-root:/etc/a",
        ] {
            assert_eq!(read(odd), None, "{odd}");
        }
    }
}
