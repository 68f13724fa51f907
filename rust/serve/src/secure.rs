//! The authenticated port (:15012): ADS and certificates over TLS, for callers that have proved who they are.
//!
//! A caller proves itself by a certificate of the mesh, a service-account token, a token of a configured issuer, or,
//! for a certificate alone, a join token. What it gets is for that identity, whatever else it says of itself.

mod admission;
mod caller;
mod certificates;
mod credential_name;
mod figures;
mod gate;
mod guarded;
pub mod join;
mod listener;
mod oidc;
mod peer;
mod rate;
mod references;
mod reviews;
mod secret_lane;
mod secret_store;
mod server;
mod tls;
mod tokens;
mod unproven;

use std::time::{SystemTime, UNIX_EPOCH};

pub use caller::{Caller, Revocation};
pub use gate::{Gate, GateOptions};
pub use oidc::{Issuer, IssuerError, Issuers};
pub use reviews::{Answer, Question, ReviewDesk, TokenFacts};
pub use secret_lane::{CredentialReferences, GatewayReference, SecretSource};
pub use secret_store::SecretStore;
pub use server::{SecureError, SecureOptions, SecureServer};

pub(crate) use admission::{Admission, Standing};
pub(crate) use secret_lane::SecretLane;

/// The wall clock, in seconds since 1970: tokens and certificates end by it.
#[expect(
    clippy::disallowed_methods,
    reason = "the edge of the server is where the time comes in"
)]
fn wall_clock() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}
