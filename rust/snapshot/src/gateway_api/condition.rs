//! Conditions: what is told of an object, and why.
//!
//! Types, reasons and messages are the API's and Istio's (`pilot/pkg/config/kube/gateway/conditions.go`).

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $code:literal),+ $(,)?) => {
        /// Why a condition is as it is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason { $($(#[$doc])* $name),+ }

        impl Reason {
            /// As Kubernetes has it in conditions.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name)),+ }
            }

            /// As diagnostics have it.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => concat!("gateway-api-", $code)),+ }
            }
        }
    };
}

reasons! {
    /// It is in force.
    Accepted = "accepted",
    /// Proxies have it.
    Programmed = "programmed",
    /// Every reference is good.
    ResolvedRefs = "resolved-refs",
    /// No other listener is in the way.
    NoConflicts = "no-conflicts",
    /// ListenerSets are attached.
    ListenersAttached = "listeners-attached",
    /// ListenerSets are allowed, and there are none.
    NoListenersAttached = "no-listeners-attached",
    /// The parent has no such listener, or there is no such parent.
    NoMatchingParent = "no-matching-parent",
    /// The listener does not take routes of this namespace or kind.
    NotAllowedByListeners = "not-allowed-by-listeners",
    /// No host of the route is one of the listener's.
    NoMatchingListenerHostname = "no-matching-listener-hostname",
    /// A ReferenceGrant is missing.
    RefNotPermitted = "ref-not-permitted",
    /// The kind of object can't be referred to here.
    InvalidKind = "invalid-kind",
    /// There is no such backend.
    BackendNotFound = "backend-not-found",
    /// A reference to a backend lacks what it needs.
    InvalidDestination = "invalid-destination",
    /// A filter can't be used.
    InvalidFilter = "invalid-filter",
    /// A match can't be used.
    InvalidConfiguration = "invalid-configuration",
    /// A certificate can't be used.
    InvalidCertificateRef = "invalid-certificate-ref",
    /// Trust anchors can't be used.
    InvalidCACertificateRef = "invalid-ca-certificate-ref",
    /// No trust anchors are left.
    NoValidCACertificate = "no-valid-ca-certificate",
    /// A listener allows kinds of routes that its protocol has not.
    InvalidRouteKinds = "invalid-route-kinds",
    /// Something that is told apart belongs to it and is wrong.
    Invalid = "invalid",
    /// The protocol can't be served.
    UnsupportedProtocol = "unsupported-protocol",
    /// The address is of a type that can't be served.
    UnsupportedAddress = "unsupported-address",
    /// A Service is missing.
    AddressNotUsable = "address-not-usable",
    /// A Service lacks a port.
    AddressNotAssigned = "address-not-assigned",
    /// Another listener has the port with another protocol.
    ProtocolConflict = "protocol-conflict",
    /// Another listener has the host.
    HostnameConflict = "hostname-conflict",
    /// The Gateway takes no such ListenerSet.
    NotAllowed = "not-allowed",
    /// No listener is good.
    ListenersNotValid = "listeners-not-valid",
    /// There is no such target.
    TargetNotFound = "target-not-found",
}

/// One thing that holds of an object, or not.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Condition {
    /// Such as `Accepted`.
    pub condition_type: &'static str,
    /// Whether it holds.
    pub is_true: bool,
    /// Why.
    pub reason: Reason,
    /// In words.
    pub message: String,
    /// Whether the operator should do something about it.
    pub is_fault: bool,
}

/// Something that an object asks for and does not get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) reason: Reason,
    pub(super) message: String,
}

impl Fault {
    pub(super) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }
}

/// Both faults as one; the first gives the reason.
pub(super) fn join_faults(first: Option<Fault>, second: Option<Fault>) -> Option<Fault> {
    match (first, second) {
        (Some(first), Some(second)) => Some(Fault {
            message: format!("{}; {}", first.message, second.message),
            ..first
        }),
        (first, second) => first.or(second),
    }
}

impl Condition {
    /// One that holds, or the fault for which it does not.
    pub(super) fn positive(
        condition_type: &'static str,
        good: (Reason, &str),
        fault: Option<Fault>,
    ) -> Self {
        let is_fault = fault.is_some();
        let (reason, message) = match fault {
            Some(fault) => (fault.reason, fault.message),
            None => (good.0, good.1.to_owned()),
        };
        Self {
            condition_type,
            is_true: !is_fault,
            reason,
            message,
            is_fault,
        }
    }

    /// One that is good when it does not hold.
    pub(super) fn negative(
        condition_type: &'static str,
        good: (Reason, &str),
        fault: Option<Fault>,
    ) -> Self {
        let condition = Self::positive(condition_type, good, fault);
        Self {
            is_true: !condition.is_true,
            ..condition
        }
    }
}

/// `a`, `a and b`, `a, b, and c`.
pub(super) fn join_words(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [only] => only.clone(),
        [first, second] => format!("{first} and {second}"),
        [first @ .., last] => format!("{}, and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::{Condition, Fault, Reason, join_faults, join_words};

    #[test]
    fn a_fault_turns_a_condition_over() {
        let fault = || Some(Fault::new(Reason::HostnameConflict, "taken"));
        let good = (Reason::Accepted, "fine");
        assert!(Condition::positive("Accepted", good, None).is_true);
        assert!(!Condition::positive("Accepted", good, fault()).is_true);
        let good = (Reason::NoConflicts, "fine");
        assert!(!Condition::negative("Conflicted", good, None).is_true);
        let conflicted = Condition::negative("Conflicted", good, fault());
        assert!(conflicted.is_true && conflicted.is_fault);
        assert_eq!(conflicted.reason.as_str(), "HostnameConflict");
        assert_eq!(conflicted.reason.code(), "gateway-api-hostname-conflict");
    }

    #[test]
    fn faults_and_words_are_joined() {
        let fault = |text: &str| Some(Fault::new(Reason::InvalidFilter, text));
        assert_eq!(join_faults(None, fault("a")), fault("a"));
        assert_eq!(join_faults(fault("a"), fault("b")), fault("a; b"));
        let words = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
            join_words(&words)
        };
        assert_eq!(words(&["a", "b"]), "a and b");
        assert_eq!(words(&["a", "b", "c"]), "a, b, and c");
    }
}
