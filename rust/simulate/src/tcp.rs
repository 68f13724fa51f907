//! Connections that are passed on as bytes.

use navarch_envoy::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use navarch_envoy::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::ClusterSpecifier;

use crate::chance;
use crate::cluster;
use crate::outcome::{End, Landing, Stage, Step, closed};
use crate::walk::Walk;

/// Pass a connection on by a TCP proxy's cluster or clusters.
pub(crate) fn run(
    walk: &mut Walk<'_>,
    proxy: &TcpProxy,
    is_decrypted: bool,
) -> Result<Landing, End> {
    let mut notes = Vec::new();
    if walk.request.protocol.is_tls() {
        notes.push(
            if is_decrypted {
                "TLS ends here"
            } else {
                "TLS goes through as it is"
            }
            .to_owned(),
        );
    }
    if let Some(tunnel) = &proxy.tunneling_config {
        notes.push(format!("through a tunnel to {}", tunnel.hostname));
    }
    let (name, step) = match &proxy.cluster_specifier {
        Some(ClusterSpecifier::Cluster(name)) => (
            name.clone(),
            Step::new(Stage::Cluster, name.clone(), "the TCP proxy's one cluster"),
        ),
        Some(ClusterSpecifier::WeightedClusters(weighted)) => {
            let weights: Vec<(String, u32)> = weighted
                .clusters
                .iter()
                .map(|c| (c.name.clone(), c.weight))
                .collect();
            let (at, step) = chance::choose_cluster(&weights, walk.request.percent)
                .ok_or_else(|| closed("the weights of the TCP proxy's clusters are 0"))?;
            (weights[at].0.clone(), step)
        }
        None => return Err(closed("the TCP proxy has no cluster")),
    };
    walk.steps.push(step.with_notes(notes));
    let found = walk.resources.cluster(&name);
    let found = found.ok_or_else(|| closed(format!("the proxy has no cluster {name}")))?;
    cluster::land(walk, &found, None)
}
