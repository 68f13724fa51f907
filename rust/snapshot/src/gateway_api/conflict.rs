//! Listeners of one Gateway and its ListenerSets that are in each other's way: the first keeps its place.
//!
//! Source: istio `pilot/pkg/config/kube/gatewaycommon/listener_conflict.go`.

use navarch_model::gateway_api::Listener;

use super::condition::{Fault, Reason};

const MESSAGE: &str = "Listener has a conflict with another listener attached to the same Gateway";

/// Tells which of the listeners that are offered one after another have no place.
#[derive(Debug, Default)]
pub(super) struct Conflicts<'a> {
    accepted: Vec<&'a Listener>,
}

impl<'a> Conflicts<'a> {
    /// Why the listener has no place; one that has none takes none from others.
    pub(super) fn offer(&mut self, listener: &'a Listener) -> Option<Fault> {
        let prior = self
            .accepted
            .iter()
            .find_map(|prior| reason(listener, prior));
        if prior.is_none() {
            self.accepted.push(listener);
        }
        prior.map(|reason| Fault::new(reason, MESSAGE))
    }
}

/// Why two listeners can't both be; `None` when they can.
fn reason(a: &Listener, b: &Listener) -> Option<Reason> {
    if a.port != b.port {
        return None;
    }
    let has_hosts =
        |listener: &Listener| matches!(listener.protocol.as_str(), "HTTP" | "HTTPS" | "TLS");
    let is_opaque = |listener: &Listener| matches!(listener.protocol.as_str(), "TCP" | "UDP");
    if is_opaque(a) || is_opaque(b) {
        let is_known = |listener: &Listener| is_opaque(listener) || has_hosts(listener);
        return (is_known(a) && is_known(b)).then_some(Reason::ProtocolConflict);
    }
    let is_same = a.protocol == b.protocol;
    if has_hosts(a) && has_hosts(b) {
        let host = |listener: &'_ Listener| {
            let host = listener.hostname.clone().unwrap_or_default();
            if host.is_empty() {
                "*".to_owned()
            } else {
                host
            }
        };
        let conflict = if is_same {
            Reason::HostnameConflict
        } else {
            Reason::ProtocolConflict
        };
        return (host(a) == host(b)).then_some(conflict);
    }
    is_same.then_some(Reason::HostnameConflict)
}

#[cfg(test)]
mod tests {
    use navarch_model::gateway_api::Listener;

    use super::Conflicts;
    use crate::gateway_api::condition::Reason;

    #[test]
    fn the_first_of_two_keeps_its_place() {
        let listener = |port: u32, protocol: &str, hostname: &str| Listener {
            port,
            protocol: protocol.to_owned(),
            hostname: Some(hostname.to_owned()),
            ..Listener::default()
        };
        let offered = [
            (listener(80, "HTTP", ""), None),
            (listener(80, "HTTP", "a.com"), None),
            (listener(80, "HTTP", "*"), Some(Reason::HostnameConflict)),
            (listener(80, "TCP", ""), Some(Reason::ProtocolConflict)),
            (listener(443, "HTTPS", "a.com"), None),
            (
                listener(443, "TLS", "a.com"),
                Some(Reason::ProtocolConflict),
            ),
            (listener(443, "TLS", "b.com"), None),
            (listener(90, "TCP", ""), None),
        ];
        let mut conflicts = Conflicts::default();
        for (listener, want) in &offered {
            let reason = conflicts.offer(listener).map(|fault| fault.reason);
            assert_eq!(reason, *want, "{listener:?}");
        }
    }
}
