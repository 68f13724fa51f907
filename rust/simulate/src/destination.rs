//! From the host that a client asks for to the address that it connects to.

use std::net::{IpAddr, Ipv4Addr};

use navarch_envoy::istio::networking::nds::v1::NameTable;
use navarch_envoy::istio::networking::nds::v1::name_table::NameInfo;

use crate::outcome::{Stage, Step};
use crate::request::{Direction, Request};
use crate::resources::{Resources, host_port};

/// Stands for the addresses of names that only DNS outside of the mesh knows (RFC 5737).
const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));
const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The address that is connected to.
#[derive(Clone, Debug)]
pub(crate) struct Destination {
    pub(crate) ip: IpAddr,
    pub(crate) port: u32,
    /// What the address is called; names that only DNS elsewhere knows keep their name.
    pub(crate) written: String,
    /// Whether any address of the proxy is meant.
    pub(crate) is_any_address: bool,
}

/// Find out the address; the workload's namespace completes short names.
pub(crate) fn resolve(
    resources: Resources<'_>,
    request: &Request,
    namespace: &str,
) -> (Destination, Step) {
    let port = request.effective_port();
    let (host, _) = request.split_host();
    let bare = host.trim_matches(['[', ']']);
    let told = if request.address.is_empty() {
        bare
    } else {
        &request.address
    };
    if let Ok(ip) = told.parse::<IpAddr>() {
        return known(ip, port, "the request names it");
    }
    if !request.is_captured || request.direction == Direction::Inbound {
        let step = Step::new(
            Stage::Destination,
            format!("port {port}"),
            "the client connects to the proxy itself",
        );
        let destination = Destination {
            ip: LOCALHOST,
            port,
            written: host_port(bare, &port.to_string()),
            is_any_address: true,
        };
        return (destination, step);
    }
    let table = resources.name_table().unwrap_or_default();
    let Some((name, info)) = find_name(&table, told, namespace) else {
        let why = format!(
            "the name table has no `{told}`; taken for an address outside of the mesh, as DNS would give"
        );
        let written = host_port(told, &port.to_string());
        let step = Step::new(Stage::Destination, written.clone(), why);
        let destination = Destination {
            ip: ELSEWHERE,
            port,
            written,
            is_any_address: false,
        };
        return (destination, step);
    };
    let addresses: Vec<IpAddr> = info.ips.iter().filter_map(|ip| ip.parse().ok()).collect();
    let (destination, step) = known(
        addresses.first().copied().unwrap_or(ELSEWHERE),
        port,
        &format!("the name table has it for {name}"),
    );
    let notes = match addresses.len() {
        0 | 1 => Vec::new(),
        n => vec![format!("the first of {n} addresses")],
    };
    (destination, step.with_notes(notes))
}

fn known(ip: IpAddr, port: u32, why: &str) -> (Destination, Step) {
    let written = host_port(&ip.to_string(), &port.to_string());
    let step = Step::new(Stage::Destination, written.clone(), why);
    let destination = Destination {
        ip,
        port,
        written,
        is_any_address: false,
    };
    (destination, step)
}

/// As Istio's agent answers: full names, and `a.ns.svc`, `a.ns`, and `a` within the namespace.
/// (istio `pkg/dns/client/dns.go` `generateAltHosts`)
fn find_name<'a>(
    table: &'a NameTable,
    host: &str,
    namespace: &str,
) -> Option<(&'a String, &'a NameInfo)> {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    if let Some(found) = table.table.get_key_value(&host) {
        return Some(found);
    }
    let is_alias = |info: &NameInfo| {
        let short = &info.shortname;
        !short.is_empty()
            && (host == format!("{short}.{}", info.namespace)
                || host == format!("{short}.{}.svc", info.namespace)
                || (info.namespace == namespace && host == *short))
    };
    let aliased = table
        .table
        .iter()
        .find(|(_, info)| is_alias(info) || info.alt_hosts.contains(&host));
    aliased.or_else(|| {
        // Wildcards, the longest first.
        let parents = host
            .match_indices('.')
            .map(|(at, _)| format!("*{}", &host[at..]));
        parents
            .into_iter()
            .find_map(|wildcard| table.table.get_key_value(&wildcard))
    })
}
