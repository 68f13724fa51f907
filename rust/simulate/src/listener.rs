//! The listener that takes a connection.
//!
//! Source: Envoy `source/common/listener_manager/connection_handler_impl.cc` `getBalancedHandlerByAddress`,
//! `active_tcp_socket.cc` `newConnection`.

use std::net::IpAddr;

use navarch_envoy::envoy::config::core::v3::{Address, TrafficDirection};
use navarch_envoy::envoy::config::listener::v3::Listener;

use crate::destination::Destination;
use crate::outcome::{End, Other, Stage, Step, closed};
use crate::request::{Direction, Request};
use crate::resources::{socket, written_address};

/// The listener, and the step that tells of it.
pub(crate) fn choose(
    listeners: Vec<Listener>,
    request: &Request,
    destination: &Destination,
) -> Result<(Listener, Step), End> {
    let wanted = match request.direction {
        Direction::Outbound => TrafficDirection::Outbound,
        Direction::Inbound => TrafficDirection::Inbound,
    };
    if request.direction == Direction::Inbound {
        return choose_inbound(listeners, destination);
    }
    let capturing = listeners
        .iter()
        .find(|l| is_capturing(l) && l.traffic_direction == wanted as i32);
    match capturing {
        Some(first) if request.is_captured => {
            let name = first.name.clone();
            Ok(choose_captured(listeners, &name, destination))
        }
        _ => choose_bound(listeners, destination),
    }
}

fn is_capturing(listener: &Listener) -> bool {
    listener.use_original_dst == Some(true)
}

/// What iptables redirect is handed to the listener of the original destination.
fn choose_captured(
    listeners: Vec<Listener>,
    first: &str,
    destination: &Destination,
) -> (Listener, Step) {
    let others = same_port(&listeners, destination.port);
    let mut listeners = listeners;
    let position = listeners
        .iter()
        .position(|l| is_at(l, destination))
        .or_else(|| {
            listeners
                .iter()
                .position(|l| is_wildcard_at(l, destination))
        })
        .or_else(|| listeners.iter().position(|l| l.name == first));
    // `first` is one of them.
    let listener = listeners.swap_remove(position.unwrap_or_default());
    let why = if listener.name == first {
        format!("no listener is for {}", destination.written)
    } else if is_at(&listener, destination) {
        format!(
            "{first} hands over by the original destination: it is for exactly {}",
            destination.written
        )
    } else {
        format!(
            "{first} hands over by the original destination: it is for port {} of any address",
            destination.port
        )
    };
    let others = others
        .into_iter()
        .filter(|name| *name != listener.name)
        .map(|name| Other::new(name, "is for another address, or a less exact one"))
        .collect();
    let step = Step::new(Stage::Listener, listener.name.clone(), why).with_others(others);
    (listener, step)
}

fn choose_inbound(
    listeners: Vec<Listener>,
    destination: &Destination,
) -> Result<(Listener, Step), End> {
    let mut inbound: Vec<Listener> = listeners
        .into_iter()
        .filter(|l| l.traffic_direction == TrafficDirection::Inbound as i32)
        .collect();
    if let Some(at) = inbound.iter().position(|l| l.name == "virtualInbound") {
        let listener = inbound.swap_remove(at);
        let why = "what comes to the workload is redirected to it";
        let step = Step::new(Stage::Listener, listener.name.clone(), why);
        return Ok((listener, step));
    }
    choose_bound(inbound, destination)
}

/// Without redirection: the listener that is bound to the port.
fn choose_bound(
    listeners: Vec<Listener>,
    destination: &Destination,
) -> Result<(Listener, Step), End> {
    let is_bound = |l: &Listener| l.bind_to_port != Some(false) && !is_capturing(l);
    let mut bound: Vec<Listener> = listeners.into_iter().filter(is_bound).collect();
    let has_port = |l: &Listener| {
        addresses(l).any(|a| socket(Some(a)).is_some_and(|(_, port)| port == destination.port))
    };
    let found = bound
        .iter()
        .position(|l| is_at(l, destination))
        .or_else(|| bound.iter().position(|l| is_wildcard_at(l, destination)))
        .or_else(|| {
            bound
                .iter()
                .position(has_port)
                .filter(|_| destination.is_any_address)
        });
    let Some(found) = found else {
        let mut known: Vec<String> = bound
            .iter()
            .map(|l| written_address(l.address.as_ref()))
            .collect();
        known.sort();
        let known = if known.is_empty() {
            "nothing".to_owned()
        } else {
            known.join(", ")
        };
        let what = if destination.is_any_address {
            format!("port {}", destination.port)
        } else {
            destination.written.clone()
        };
        return Err(closed(format!(
            "the proxy does not listen on {what}; it listens on {known}"
        )));
    };
    let listener = bound.swap_remove(found);
    let why = format!(
        "it is bound to {}",
        written_address(listener.address.as_ref())
    );
    let step = Step::new(Stage::Listener, listener.name.clone(), why);
    Ok((listener, step))
}

fn addresses(listener: &Listener) -> impl Iterator<Item = &Address> {
    let more = listener
        .additional_addresses
        .iter()
        .filter_map(|a| a.address.as_ref());
    listener.address.iter().chain(more)
}

fn ips_at(listener: &Listener, port: u32) -> impl Iterator<Item = IpAddr> {
    addresses(listener)
        .filter_map(|address| socket(Some(address)))
        .filter(move |(_, own)| *own == port)
        .filter_map(|(ip, _)| ip.parse().ok())
}

fn is_at(listener: &Listener, destination: &Destination) -> bool {
    !destination.is_any_address && ips_at(listener, destination.port).any(|ip| ip == destination.ip)
}

fn is_wildcard_at(listener: &Listener, destination: &Destination) -> bool {
    ips_at(listener, destination.port).any(|ip| {
        // A dual-stack `::` takes IPv4 too, where the listener says so; ours lists both.
        ip.is_unspecified()
            && (destination.is_any_address || ip.is_ipv4() == destination.ip.is_ipv4())
    })
}

fn same_port(listeners: &[Listener], port: u32) -> Vec<String> {
    let at_port = listeners
        .iter()
        .filter(|l| ips_at(l, port).next().is_some());
    at_port.map(|l| l.name.clone()).collect()
}
