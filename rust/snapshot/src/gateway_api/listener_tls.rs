//! TLS of a listener: certificates, and how clients are checked.
//!
//! Source: istio `pilot/pkg/config/kube/gateway/conversion.go` `buildTLS`, `resolveGatewayTLS`.

use navarch_model::gateway_api::{
    FrontendTls, FrontendValidation, Listener, ListenerTls, ObjectReference,
};
use navarch_model::{Metadata, ServerTlsMode, ServerTlsSettings};

use super::GatewayApiInputs;
use super::condition::{Fault, Reason, join_faults};
use super::reference::Grants;

/// Secret names of Gateways' credentials begin so.
const GATEWAY_SECRET: &str = "kubernetes-gateway://";
/// Names of ConfigMaps with trust anchors begin so.
const CONFIG_MAP: &str = "configmap://";
/// Stands for the workload's own certificate.
const OWN_CERTIFICATE: &str = "builtin://";
/// What marks trust anchors among secret names.
const TRUST_ANCHORS: &str = "-cacert";

const TERMINATE_MODE: &str = "gateway.istio.io/tls-terminate-mode";
const CIPHER_SUITES: &str = "gateway.istio.io/tls-cipher-suites";
const LISTENER_PROTOCOL: &str = "gateway.istio.io/listener-protocol";
const NETWORK: &str = "topology.istio.io/network";
const GATEWAY_PORT: &str = "networking.istio.io/gatewayPort";

/// Whose listener it is, and what references may be resolved against.
pub(super) struct TlsContext<'a> {
    pub(super) inputs: &'a GatewayApiInputs<'a>,
    pub(super) grants: &'a Grants,
    pub(super) kind: &'static str,
    pub(super) metadata: &'a Metadata,
}

/// The settings of a listener; `None` for one without TLS.
pub(super) fn build_tls(
    context: &TlsContext<'_>,
    listener: &Listener,
    frontend: Option<&FrontendTls>,
) -> Result<Option<ServerTlsSettings>, Fault> {
    let Some(tls) = &listener.tls else {
        return Ok(None);
    };
    let mut out = ServerTlsSettings::default();
    if super::listener::is_passthrough(Some(tls)) {
        if is_auto_passthrough(context.metadata, listener.port, tls) {
            out.mode = ServerTlsMode::AutoPassthrough;
        }
        return Ok(Some(out));
    }
    out.mode = ServerTlsMode::Simple;
    match tls.options.get(TERMINATE_MODE).map(String::as_str) {
        Some("MUTUAL") => out.mode = ServerTlsMode::Mutual,
        Some("OPTIONAL_MUTUAL") => out.mode = ServerTlsMode::OptionalMutual,
        Some("ISTIO_SIMPLE") => {
            OWN_CERTIFICATE.clone_into(&mut out.credential_name);
            return Ok(Some(out));
        }
        Some("ISTIO_MUTUAL") => {
            out.mode = ServerTlsMode::IstioMutual;
            return Ok(Some(out));
        }
        _ => {}
    }
    if let Some(suites) = tls.options.get(CIPHER_SUITES) {
        let suites = suites.split(',').map(str::trim).filter(|s| !s.is_empty());
        out.cipher_suites = suites.map(str::to_owned).collect();
    }
    add_certificates(context, tls, &mut out)?;
    if let Some(validation) = frontend.and_then(|tls| validation_of(tls, listener.port)) {
        add_client_validation(context, validation, &mut out)?;
    }
    Ok(Some(out))
}

/// What a port asks of clients: its own entry, even an empty one, comes before the default.
fn validation_of(frontend: &FrontendTls, port: u32) -> Option<&FrontendValidation> {
    let own = frontend.per_port.iter().find(|entry| entry.port == port);
    let config = own.map_or(&frontend.default, |entry| &entry.tls);
    config
        .validation
        .as_ref()
        .filter(|validation| !validation.ca_certificate_refs.is_empty())
}

fn add_certificates(
    context: &TlsContext<'_>,
    tls: &ListenerTls,
    out: &mut ServerTlsSettings,
) -> Result<(), Fault> {
    if tls.certificate_refs.len() > 2 {
        let message = "TLS mode can only support up to 2 server certificates";
        return Err(Fault::new(Reason::InvalidCertificateRef, message));
    }
    let mut names = Vec::new();
    let mut faults = None;
    for reference in &tls.certificate_refs {
        match certificate_name(context, reference) {
            Ok(name) => names.push(name),
            Err(fault) => faults = join_faults(faults, Some(fault)),
        }
    }
    if names.len() > 1 {
        out.credential_names = names;
    } else if let Some(only) = names.pop() {
        out.credential_name = only;
    } else if let Some(fault) = faults {
        return Err(fault);
    }
    Ok(())
}

fn certificate_name(
    context: &TlsContext<'_>,
    reference: &ObjectReference,
) -> Result<String, Fault> {
    let invalid = |why: String| {
        let message = format!("invalid certificate reference {}, {why}", text(reference));
        Fault::new(Reason::InvalidCertificateRef, message)
    };
    if kind_of(reference, "Secret") != ("", "Secret") {
        return Err(invalid("only secret is allowed".to_owned()));
    }
    let (namespace, name) = place_of(context, reference);
    let key = (namespace.into(), name.into());
    let Some(secret) = context.inputs.objects.secrets.get(&key) else {
        return Err(invalid(format!("secret {namespace}/{name} not found")));
    };
    if let Some(fault) = secret.key_pair_fault {
        return Err(invalid(fault.to_owned()));
    }
    permit(context, "certificateRef", ("Secret", namespace), name)?;
    Ok(format!("{GATEWAY_SECRET}{namespace}/{name}"))
}

fn add_client_validation(
    context: &TlsContext<'_>,
    validation: &FrontendValidation,
    out: &mut ServerTlsSettings,
) -> Result<(), Fault> {
    let [reference] = &validation.ca_certificate_refs[..] else {
        let message = "only one caCertificateRef is supported";
        return Err(Fault::new(Reason::InvalidCACertificateRef, message));
    };
    out.ca_cert_credential_name = trust_anchors_name(context, reference)?;
    if validation.mode.as_deref() == Some("AllowInsecureFallback") {
        out.mode = ServerTlsMode::OptionalMutual;
        out.insecure_skip_verify = Some(true);
    } else {
        out.mode = ServerTlsMode::Mutual;
    }
    Ok(())
}

fn trust_anchors_name(
    context: &TlsContext<'_>,
    reference: &ObjectReference,
) -> Result<String, Fault> {
    let invalid = |why: &str| {
        let message = format!(
            "invalid CA certificate reference {}, {why}",
            text(reference)
        );
        Fault::new(Reason::InvalidCACertificateRef, message)
    };
    let (namespace, name) = place_of(context, reference);
    let key = (namespace.into(), name.into());
    let objects = context.inputs.objects;
    let (kind, prefix, fault) = match kind_of(reference, "ConfigMap") {
        ("", "ConfigMap") => {
            let found = objects.config_maps.get(&key);
            let fault = found.map(|object| object.trust_anchors_fault);
            ("ConfigMap", CONFIG_MAP, fault)
        }
        ("", "Secret") => {
            let found = objects.secrets.get(&key);
            let fault = found.map(|object| object.trust_anchors_fault);
            ("Secret", GATEWAY_SECRET, fault)
        }
        _ => return Err(invalid("only ConfigMap and Secret are allowed")),
    };
    match fault {
        None => return Err(invalid(&format!("{kind} {namespace}/{name} not found"))),
        Some(Some(fault)) => return Err(invalid(fault)),
        Some(None) => {}
    }
    permit(context, "caCertificateRef", (kind, namespace), name)?;
    Ok(format!("{prefix}{namespace}/{name}{TRUST_ANCHORS}"))
}

/// Whether a grant lets the listener's owner refer to the object.
fn permit(
    context: &TlsContext<'_>,
    field: &str,
    to: (&'static str, &str),
    name: &str,
) -> Result<(), Fault> {
    let own = context.metadata.namespace.as_str();
    if context.grants.is_allowed((context.kind, own), to, name) {
        return Ok(());
    }
    let message = format!(
        "{field} {name}/{} not accessible to a Gateway in namespace \"{own}\" (missing a ReferenceGrant?)",
        to.1
    );
    Err(Fault::new(Reason::RefNotPermitted, message))
}

/// Whether the listener is the door between networks: marked so, or on the port that the Gateway's label names.
fn is_auto_passthrough(metadata: &Metadata, port: u32, tls: &ListenerTls) -> bool {
    if tls.options.get(LISTENER_PROTOCOL).map(String::as_str) == Some("auto-passthrough") {
        return true;
    }
    let expected = metadata
        .labels
        .get(GATEWAY_PORT)
        .map_or("15443", String::as_str);
    metadata.labels.contains_key(NETWORK) && expected == port.to_string()
}

fn kind_of<'a>(reference: &'a ObjectReference, default: &'static str) -> (&'a str, &'a str) {
    let group = reference.group.as_deref().unwrap_or_default();
    (group, reference.kind.as_deref().unwrap_or(default))
}

fn place_of<'a>(context: &TlsContext<'a>, reference: &'a ObjectReference) -> (&'a str, &'a str) {
    let namespace = reference.namespace.as_deref();
    let namespace = namespace.unwrap_or(&context.metadata.namespace);
    (namespace, &reference.name)
}

/// `group/kind/name.namespace`, as Istio tells of references.
fn text(reference: &ObjectReference) -> String {
    let or_empty = |text: &Option<String>| text.clone().unwrap_or_default();
    format!(
        "{}/{}/{}.{}",
        or_empty(&reference.group),
        or_empty(&reference.kind),
        reference.name,
        or_empty(&reference.namespace)
    )
}
