//! Who is at the other end of a connection, as far as the proxy knows it.

use std::net::IpAddr;

use navarch_envoy::envoy::extensions::transport_sockets::tls::v3::common_tls_context::ValidationContextType;
use navarch_envoy::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, DownstreamTlsContext,
};

use crate::connection::Connection;
use crate::destination::Destination;
use crate::outcome::{End, Stage, Step, closed};
use crate::request::Request;
use crate::string_match;

const SPIFFE: &str = "spiffe://";

/// What rules may ask of a connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peer {
    /// Whether the connection's TLS ends here.
    pub(crate) is_tls: bool,
    /// The name in a certificate that was asked for and verified.
    pub(crate) principal: Option<String>,
    pub(crate) server_name: String,
    /// The address that the connection comes from.
    pub(crate) source: Option<IpAddr>,
    /// The address that it was meant for; `None` where any of the proxy's own is.
    pub(crate) destination_ip: Option<IpAddr>,
    pub(crate) destination_port: u32,
}

/// A connection before its handshake.
pub(crate) fn plain(connection: &Connection, destination: &Destination) -> Peer {
    Peer {
        is_tls: false,
        principal: None,
        server_name: connection.server_name.clone(),
        source: connection.source,
        destination_ip: (!destination.is_any_address).then_some(destination.ip),
        destination_port: destination.port,
    }
}

/// The handshake of a chain: who the client is then, or why it is refused.
pub(crate) fn shake_hands(
    peer: &mut Peer,
    (chain, context): (&str, &DownstreamTlsContext),
    request: &Request,
) -> Result<Option<Step>, End> {
    if !request.protocol.is_tls() {
        return Err(closed(format!(
            "filter chain {chain} wants TLS, the client speaks plaintext"
        )));
    }
    peer.is_tls = true;
    let is_needed = context.require_client_certificate == Some(true);
    let Some(validation) = validation(context) else {
        return Ok(None);
    };
    if !request.presents_certificate() {
        if is_needed {
            let why = "wants a client certificate, the client presents none";
            return Err(closed(format!("filter chain {chain} {why}")));
        }
        let step = Step::new(Stage::Peer, "unknown", "the client presents no certificate");
        return Ok(Some(step));
    }
    if request.principal.is_empty() {
        let step = Step::new(
            Stage::Peer,
            "a client with a certificate",
            "which name is in it was not told: rules that ask for one do not fit",
        );
        return Ok(Some(step));
    }
    let name = with_scheme(&request.principal);
    let wanted = &validation.match_subject_alt_names;
    let is_wanted = wanted
        .iter()
        .any(|matcher| string_match::is_match(matcher, &name));
    if !wanted.is_empty() && !is_wanted {
        let wanted: Vec<String> = wanted.iter().map(string_match::written).collect();
        return Err(closed(format!(
            "filter chain {chain} refuses the client's certificate: its name is `{name}`, wanted: {}",
            wanted.join(" or ")
        )));
    }
    let step = Step::new(Stage::Peer, name.clone(), "the name in its certificate");
    peer.principal = Some(name);
    Ok(Some(step))
}

fn with_scheme(principal: &str) -> String {
    if principal.contains("://") {
        principal.to_owned()
    } else {
        format!("{SPIFFE}{principal}")
    }
}

/// How a client's certificate is judged; `None` where none is asked for.
fn validation(context: &DownstreamTlsContext) -> Option<CertificateValidationContext> {
    let common = context.common_tls_context.as_ref()?;
    match common.validation_context_type.as_ref()? {
        ValidationContextType::ValidationContext(validation) => Some(validation.clone()),
        ValidationContextType::CombinedValidationContext(combined) => Some(
            combined
                .default_validation_context
                .clone()
                .unwrap_or_default(),
        ),
        _ => Some(CertificateValidationContext::default()),
    }
}
