//! One place where the core's errors become Python's exceptions.

use navarch_authority::AuthorityError as CertificateAuthorityError;
use navarch_model::NodeError as ModelNodeError;
use navarch_serve::ServeError;
use navarch_serve::secure::{IssuerError, SecureError, join::JoinError};
use pyo3::{PyErr, create_exception, exceptions::PyException};

create_exception!(
    navarch._core,
    CoreError,
    PyException,
    "The core refused a call or failed; the root of all that it raises."
);
create_exception!(
    navarch._core,
    AuthorityError,
    CoreError,
    "The certificate authority's files can't be used, or a certificate is refused."
);
create_exception!(
    navarch._core,
    BindError,
    CoreError,
    "The address can't be listened on."
);
create_exception!(
    navarch._core,
    BootstrapError,
    CoreError,
    "A bootstrap can't be made: the node's id is malformed, or parts of it are missing."
);
create_exception!(
    navarch._core,
    NodeError,
    CoreError,
    "A node is no JSON of `envoy.config.core.v3.Node`, or lacks what every proxy has."
);
create_exception!(
    navarch._core,
    RequestError,
    CoreError,
    "A request to simulate is no JSON of its fields."
);
create_exception!(
    navarch._core,
    UnknownProxyError,
    CoreError,
    "No proxy of that id is connected."
);

/// What a call to the core can end with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("the options are no JSON object of known keys: {0}")]
    Options(#[source] serde_json::Error),
    #[error("the request can't be read: {0}")]
    Request(#[source] serde_json::Error),
    #[error("the plan of a bootstrap can't be read: {0}")]
    Plan(#[source] serde_json::Error),
    #[error(transparent)]
    Bootstrap(navarch_bootstrap::BootstrapError),
    #[error(transparent)]
    Node(#[from] ModelNodeError),
    #[error("`{0}` is no address and port, such as 127.0.0.1:15010")]
    Address(String),
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error(transparent)]
    Authority(#[from] CertificateAuthorityError),
    #[error("`{0}` is no kind of key; ecdsa-p256, ecdsa-p384, rsa-2048 and rsa-4096 are")]
    RootKey(String),
    #[error(transparent)]
    Secure(#[from] SecureError),
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    #[error(transparent)]
    Join(#[from] JoinError),
    #[error("the server does not run")]
    NotRunning,
    #[error("the server runs already")]
    Running,
    #[error("no proxy with the id `{0}` is connected; /debug/syncz lists those that are")]
    UnknownProxy(String),
    #[error("the answer is neither a list nor events of a watch: {0}")]
    Wire(#[source] serde_json::Error),
    #[error("the core panicked, which is a bug of navarch, please report it: {0}")]
    Panic(String),
}

impl From<Failure> for PyErr {
    fn from(failure: Failure) -> Self {
        let mut text = failure.to_string();
        let mut source = std::error::Error::source(&failure);
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        match failure {
            Failure::Plan(_) | Failure::Bootstrap(_) => BootstrapError::new_err(text),
            Failure::Node(_) => NodeError::new_err(text),
            Failure::Request(_) => RequestError::new_err(text),
            Failure::Secure(SecureError::Tls(_)) | Failure::Issuer(_) | Failure::Join(_) => {
                AuthorityError::new_err(text)
            }
            Failure::Address(_) | Failure::Serve(_) | Failure::Secure(_) => {
                BindError::new_err(text)
            }
            Failure::Authority(_) | Failure::RootKey(_) => AuthorityError::new_err(text),
            Failure::UnknownProxy(_) => UnknownProxyError::new_err(text),
            Failure::Options(_)
            | Failure::Running
            | Failure::NotRunning
            | Failure::Wire(_)
            | Failure::Panic(_) => CoreError::new_err(text),
        }
    }
}
