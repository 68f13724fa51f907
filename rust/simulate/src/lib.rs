//! Where a request lands, and why: Envoy's decisions, taken over the messages that a proxy is sent.
//!
//! **In** — a [`ResourceSnapshot`](navarch_encode::ResourceSnapshot) and a [`Request`].
//! **Out** — an [`Outcome`]: the landing, and the steps to it with what else was considered.
//! **Never** — I/O, a clock, randomness: where Envoy throws dice, shares are told and the likelier branch
//! (or the one that [`Request::percent`] picks) is followed.

mod action;
mod chance;
mod check;
mod cluster;
mod connection;
mod destination;
mod fault;
mod filter_chain;
mod header_match;
mod http;
mod jwt;
mod listener;
mod load_balancing;
mod metadata_match;
mod outcome;
mod path;
mod peer;
mod policy;
mod rbac;
mod redirect;
mod request;
mod resources;
mod rewrite;
mod route_match;
mod string_match;
mod tcp;
mod text;
mod token;
mod transport;
mod virtual_host;
mod walk;

pub use outcome::{Endpoint, Forwarded, Landing, Other, Outcome, Stage, Step, Transport};
pub use request::{Direction, Protocol, Request, Sender};
pub use walk::{simulate, simulate_received};
