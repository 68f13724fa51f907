//! The mesh's certificate authority: its root or intermediate, and the certificates that it signs.
//!
//! **In** — the authority's files (Istio's `cacerts` names), requests, the identity that the caller has proved, the time.
//! **Out** — certificate chains in PEM for workloads and servers, the bundle of roots.
//! **Never** — who the caller is (its user decides), a clock, a network; what a request asks to be called.

mod authority;
mod error;
mod files;
mod request;
mod root;
mod server_name;
mod signer;

pub use authority::{Authority, Issued, IssuedServer, Lifetimes};
pub use error::AuthorityError;
pub use files::CaFiles;
pub use request::MAX_REQUEST_BYTES;
pub use root::{KeyKind, RootOptions, make_root, renew_root};
pub use signer::Ends;
