//! A load client that acts as N Envoys on any ADS server.
//!
//! **In** — the nodes (a file of JSON lines), and orders on standard input, one JSON value a line:
//! `{"wait": 7, "markers": [["eds", "10.9.0.1"]], "expected": 20}` (watch for a change that brings these texts to so many
//! sidecars, all if left out), `{"status": true}`.
//! **Out** — JSON lines: `in_sync` when every sidecar has all, `armed`, `reached` when the expected sidecars have the change,
//! `status`, `closed` for the first streams that end. Times are seconds since 1970.
//! **Never** — a rejection, a copy of what was received.

mod connection;
mod console;
mod crew;
mod envoy;
mod marker;
mod message;
mod names;
mod protobuf;
mod request;
mod scan;
mod spread;
mod wire;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use lexopt::{Arg, Parser, ValueExt};
use navarch_envoy::envoy::config::core::v3::Node;

use crate::connection::Plan;
use crate::message::Variant;

const USAGE: &str =
    "navarch-adsc --address HOST:PORT --nodes FILE [--count N] [--sotw] [--nds] [--threads N]";

struct Flags {
    plan: Plan,
    nodes: PathBuf,
    count: usize,
    n_threads: usize,
}

fn main() -> anyhow::Result<()> {
    let flags = read_flags(Parser::from_env())?;
    let nodes = read_nodes(&flags.nodes, flags.count)?;
    console::run(flags.plan, nodes, flags.n_threads)
}

fn read_flags(mut parser: Parser) -> anyhow::Result<Flags> {
    let (mut address, mut nodes): (Option<SocketAddr>, Option<PathBuf>) = (None, None);
    let (mut count, mut n_threads) = (usize::MAX, 1);
    let (mut variant, mut asks_names) = (Variant::Delta, false);
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Long("address") => address = Some(parser.value()?.parse()?),
            Arg::Long("nodes") => nodes = Some(parser.value()?.into()),
            Arg::Long("count") => count = parser.value()?.parse()?,
            Arg::Long("threads") => n_threads = parser.value()?.parse::<usize>()?.max(1),
            Arg::Long("sotw") => variant = Variant::Sotw,
            Arg::Long("nds") => asks_names = true,
            _ => bail!("{}; usage: {USAGE}", arg.unexpected()),
        }
    }
    Ok(Flags {
        plan: Plan {
            address: address.context(USAGE)?,
            variant,
            asks_names,
        },
        nodes: nodes.context(USAGE)?,
        count,
        n_threads,
    })
}

fn read_nodes(path: &Path, count: usize) -> anyhow::Result<Vec<Node>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let nodes: Vec<_> = text
        .lines()
        .take(count)
        .map(|line| {
            let value = serde_json::from_str(line)?;
            navarch_envoy::json::message_from_json(&value).map_err(anyhow::Error::msg)
        })
        .collect::<anyhow::Result<_>>()
        .with_context(|| format!("{}: no node", path.display()))?;
    if nodes.is_empty() || (count != usize::MAX && nodes.len() < count) {
        bail!("{} has {} nodes", path.display(), nodes.len());
    }
    Ok(nodes)
}
