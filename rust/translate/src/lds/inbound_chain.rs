//! Which chains a port has in each mutual-TLS mode.
//!
//! Source: istio `pilot/pkg/networking/core/filterchain_options.go`.

use navarch_model::{ListenerProtocol, MutualTlsMode};

use super::filter_chain::{
    MUTUAL_TLS_ANY, MUTUAL_TLS_HTTP, MUTUAL_TLS_TCP, PLAINTEXT_HTTP, RAW_BUFFER, TLS,
};

/// One chain of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InboundChain {
    pub(super) application_protocols: &'static [&'static str],
    pub(super) transport_protocol: &'static str,
    /// Whether it has a connection manager; else bytes are passed on.
    pub(super) is_http: bool,
    /// Whether mutual TLS ends in it.
    pub(super) is_terminating: bool,
}

const fn chain(
    application_protocols: &'static [&'static str],
    transport_protocol: &'static str,
    is_http: bool,
    is_terminating: bool,
) -> InboundChain {
    InboundChain {
        application_protocols,
        transport_protocol,
        is_http,
        is_terminating,
    }
}

/// Both, when nobody says what is spoken.
const PERMISSIVE_AUTO: &[InboundChain] = &[
    chain(MUTUAL_TLS_HTTP, TLS, true, true),
    chain(PLAINTEXT_HTTP, RAW_BUFFER, true, false),
    chain(MUTUAL_TLS_TCP, TLS, false, true),
    chain(&[], RAW_BUFFER, false, false),
    // TLS of the application's own.
    chain(&[], TLS, false, false),
];
const PERMISSIVE_HTTP: &[InboundChain] = &[
    chain(MUTUAL_TLS_ANY, TLS, true, true),
    chain(&[], RAW_BUFFER, true, false),
];
const PERMISSIVE_TCP: &[InboundChain] = &[
    chain(MUTUAL_TLS_ANY, TLS, false, true),
    chain(&[], RAW_BUFFER, false, false),
    // TLS of the application's own.
    chain(&[], TLS, false, false),
];
const STRICT_AUTO: &[InboundChain] = &[
    chain(MUTUAL_TLS_HTTP, TLS, true, true),
    chain(&[], TLS, false, true),
];
const STRICT_HTTP: &[InboundChain] = &[chain(&[], TLS, true, true)];
const STRICT_TCP: &[InboundChain] = &[chain(&[], TLS, false, true)];
const PLAIN_AUTO: &[InboundChain] = &[
    chain(PLAINTEXT_HTTP, RAW_BUFFER, true, false),
    chain(&[], RAW_BUFFER, false, false),
];
const PLAIN_HTTP: &[InboundChain] = &[chain(&[], RAW_BUFFER, true, false)];
const PLAIN_TCP: &[InboundChain] = &[chain(&[], RAW_BUFFER, false, false)];

/// The chains of a port.
///
/// A proxy without a workload certificate can't end mutual TLS: it has only the chains that need none, which
/// in STRICT mode are none at all.
pub(super) fn chains(
    mode: MutualTlsMode,
    protocol: ListenerProtocol,
    has_certificate: bool,
) -> impl Iterator<Item = &'static InboundChain> {
    let chains = match (mode, protocol) {
        (MutualTlsMode::Strict, ListenerProtocol::Auto) => STRICT_AUTO,
        (MutualTlsMode::Strict, ListenerProtocol::Http) => STRICT_HTTP,
        (MutualTlsMode::Strict, ListenerProtocol::Tcp) => STRICT_TCP,
        // Without chains that end TLS nothing has to look for it; a server that speaks first would wait for that look.
        (MutualTlsMode::Permissive, ListenerProtocol::Auto) if has_certificate => PERMISSIVE_AUTO,
        (MutualTlsMode::Permissive, ListenerProtocol::Http) if has_certificate => PERMISSIVE_HTTP,
        (MutualTlsMode::Permissive, ListenerProtocol::Tcp) if has_certificate => PERMISSIVE_TCP,
        (_, ListenerProtocol::Auto) => PLAIN_AUTO,
        (_, ListenerProtocol::Http) => PLAIN_HTTP,
        (_, ListenerProtocol::Tcp) => PLAIN_TCP,
    };
    chains
        .iter()
        .filter(move |chain| has_certificate || !chain.is_terminating)
}

#[cfg(test)]
mod tests {
    use navarch_model::ListenerProtocol::{Auto, Http, Tcp};
    use navarch_model::MutualTlsMode::{Disable, Permissive, Strict};

    use super::chains;

    #[test]
    fn each_mode_has_its_number_of_chains() {
        for (mode, protocol, with, without) in [
            (Permissive, Http, 2, 1),
            (Permissive, Tcp, 3, 1),
            (Permissive, Auto, 5, 2),
            (Strict, Http, 1, 0),
            (Strict, Tcp, 1, 0),
            (Strict, Auto, 2, 0),
            (Disable, Http, 1, 1),
            (Disable, Tcp, 1, 1),
            (Disable, Auto, 2, 2),
        ] {
            assert_eq!(
                chains(mode, protocol, true).count(),
                with,
                "{mode:?} {protocol:?}"
            );
            assert_eq!(
                chains(mode, protocol, false).count(),
                without,
                "{mode:?} {protocol:?}"
            );
        }
    }

    #[test]
    fn strict_never_takes_plaintext() {
        for protocol in [Http, Tcp, Auto] {
            assert!(chains(Strict, protocol, true).all(|c| c.is_terminating));
        }
    }
}
