//! A cluster's endpoints as where a request lands.

use navarch_envoy::any;
use navarch_envoy::envoy::config::cluster::v3::Cluster;
use navarch_envoy::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, DiscoveryType, LbConfig, LbPolicy,
};
use navarch_envoy::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use navarch_envoy::envoy::extensions::upstreams::http::v3::http_protocol_options::UpstreamProtocolOptions;
use navarch_envoy::envoy::extensions::upstreams::http::v3::http_protocol_options::explicit_http_config::ProtocolConfig;
use navarch_envoy::envoy::config::endpoint::v3::ClusterLoadAssignment;

use crate::http::Stream;
use crate::load_balancing;
use crate::outcome::{End, Endpoint, Forwarded, Landing, Stage, Step, closed, failed};
use crate::resources::host_port;
use crate::transport;
use crate::walk::Walk;

/// A request on its way out.
pub(crate) struct Outgoing<'a> {
    pub(crate) request: Forwarded,
    /// `None` takes the endpoint's name.
    pub(crate) authority: Option<String>,
    /// Whether Istio's filter offers protocols by what the client speaks.
    pub(crate) has_alpn_filter: bool,
    pub(crate) original: &'a Stream,
    pub(crate) is_hashed: bool,
}

/// Land on a cluster.
pub(crate) fn land(
    walk: &mut Walk<'_>,
    cluster: &Cluster,
    outgoing: Option<Outgoing<'_>>,
) -> Result<Landing, End> {
    let nothing = |why: String| match &outgoing {
        Some(_) => failed(503, why),
        None => closed(why),
    };
    let found = endpoints(walk, cluster, outgoing.as_ref()).map_err(&nothing)?;
    let (mut endpoints, why) = found;
    let mut notes = Vec::new();
    if outgoing.as_ref().is_some_and(|o| o.is_hashed) {
        notes.push("the route's hash keeps equal requests on one endpoint".to_owned());
    }
    let request = outgoing.map(|outgoing| {
        let is_http2 = is_upstream_http2(cluster, outgoing.request.is_http2);
        if outgoing.has_alpn_filter {
            endpoints
                .iter_mut()
                .for_each(|e| transport::offer_http(&mut e.transport, cluster, is_http2));
        }
        let host = endpoints
            .first()
            .map(|e| e.address.clone())
            .unwrap_or_default();
        Forwarded {
            is_http2,
            authority: outgoing.authority.unwrap_or(host),
            ..outgoing.request
        }
    });
    let named: Vec<String> = endpoints.iter().map(|e| e.address.clone()).collect();
    let step = Step::new(Stage::Endpoints, named.join(", "), why);
    walk.steps.push(step.with_notes(notes));
    Ok(Landing::Endpoints {
        cluster: cluster.name.clone(),
        endpoints,
        request,
    })
}

type Found = (Vec<Endpoint>, String);

fn endpoints(
    walk: &Walk<'_>,
    cluster: &Cluster,
    outgoing: Option<&Outgoing<'_>>,
) -> Result<Found, String> {
    let discovery = match &cluster.cluster_discovery_type {
        Some(ClusterDiscoveryType::ClusterType(custom)) => {
            let stream = outgoing.map(|o| o.original);
            let host = stream.map_or(walk.destination.written.as_str(), |s| s.authority.as_str());
            let why = format!("the cluster ({}) resolves the request's host", custom.name);
            return Ok((vec![single(cluster, host.to_owned())], why));
        }
        Some(ClusterDiscoveryType::Type(number)) => {
            DiscoveryType::try_from(*number).unwrap_or_default()
        }
        None => DiscoveryType::Static,
    };
    match discovery {
        DiscoveryType::OriginalDst => Ok(original_destination(walk, cluster, outgoing)),
        DiscoveryType::Eds => {
            let service = cluster
                .eds_cluster_config
                .as_ref()
                .map_or("", |eds| &eds.service_name);
            let name = if service.is_empty() {
                &cluster.name
            } else {
                service
            };
            let assignment = walk.resources.load_assignment(name);
            let assignment =
                assignment.ok_or_else(|| format!("the endpoints {name} are not known"))?;
            balanced(cluster, &assignment)
        }
        DiscoveryType::Static | DiscoveryType::StrictDns | DiscoveryType::LogicalDns => {
            let assignment = cluster.load_assignment.clone().unwrap_or_default();
            balanced(cluster, &assignment)
        }
    }
}

fn balanced(cluster: &Cluster, assignment: &ClusterLoadAssignment) -> Result<Found, String> {
    let endpoints = load_balancing::shares(cluster, assignment)?;
    let policy = LbPolicy::try_from(cluster.lb_policy).unwrap_or_default();
    let why = format!("{} over {}", policy.as_str_name(), count(endpoints.len()));
    Ok((endpoints, why))
}

fn count(n: usize) -> String {
    if n == 1 {
        "1 endpoint".to_owned()
    } else {
        format!("{n} endpoints")
    }
}

fn original_destination(
    walk: &Walk<'_>,
    cluster: &Cluster,
    outgoing: Option<&Outgoing<'_>>,
) -> Found {
    let destination = &walk.destination;
    let Some(LbConfig::OriginalDstLbConfig(config)) = &cluster.lb_config else {
        let why = "the cluster goes on to the original destination".to_owned();
        return (vec![single(cluster, destination.written.clone())], why);
    };
    if config.use_http_header {
        let name = if config.http_header_name.is_empty() {
            "x-envoy-original-dst-host"
        } else {
            &config.http_header_name
        };
        if let Some(told) =
            outgoing.and_then(|o| o.original.headers.get(&name.to_ascii_lowercase()))
        {
            return (
                vec![single(cluster, told.clone())],
                format!("header {name} names the destination"),
            );
        }
    }
    let why = match config.upstream_port_override {
        Some(port) => format!("the cluster goes on to the original destination, at port {port}"),
        None => "the cluster goes on to the original destination".to_owned(),
    };
    let address = match config.upstream_port_override {
        Some(port) => host_port(&destination.ip.to_string(), &port.to_string()),
        None => destination.written.clone(),
    };
    (vec![single(cluster, address)], why)
}

fn single(cluster: &Cluster, address: String) -> Endpoint {
    Endpoint {
        address,
        share: 100.0,
        priority: 0,
        locality: String::new(),
        weight: 1,
        transport: transport::of_endpoint(cluster, None),
    }
}

/// Whether the cluster is spoken to in HTTP/2.
fn is_upstream_http2(cluster: &Cluster, is_downstream: bool) -> bool {
    const KEY: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let options = cluster.typed_extension_protocol_options.get(KEY);
    let options = options.and_then(any::unpack::<HttpProtocolOptions>);
    match options.and_then(|options| options.upstream_protocol_options) {
        Some(UpstreamProtocolOptions::UseDownstreamProtocolConfig(_)) => is_downstream,
        Some(UpstreamProtocolOptions::ExplicitHttpConfig(explicit)) => {
            matches!(
                explicit.protocol_config,
                Some(ProtocolConfig::Http2ProtocolOptions(_))
            )
        }
        Some(UpstreamProtocolOptions::AutoConfig(_)) => true,
        None => false,
    }
}
