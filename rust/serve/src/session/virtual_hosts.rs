//! Virtual hosts on their own (VHDS): which of them a client is to hold follows from its route configurations.
//!
//! Envoy asks once a stream for virtual hosts, without names, when it gets its first route configuration in pieces; of
//! those that come to others later it tells nothing. It drops virtual hosts of route configurations that it has not (yet),
//! and begins without any whenever it gets one anew (`source/common/router/vhds.cc`, `watch_map.cc`, Envoy 1.40;
//! docs/decisions/025-routes-in-pieces.md). So a route configuration's virtual hosts are sent behind it, all of
//! them; later each by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use navarch_encode::{EncodedResource, Resources, Version, route_of};

use super::selection::Gone;
use super::type_session::TypeSession;

/// What of a stream's route configurations matters to its virtual hosts.
#[derive(Debug, Default)]
pub(super) struct RouteFollower {
    /// Those that the client brought along as they are now, with their virtual hosts; until it has asked for these.
    brought: BTreeSet<Arc<str>>,
    /// Those sent since virtual hosts were looked at.
    fresh: BTreeSet<Arc<str>>,
    /// Those that are gone and still asked for, by a listener that drains, and the virtual hosts that they keep.
    draining: BTreeMap<Arc<str>, Vec<Gone>>,
    /// Virtual hosts are to be looked at again.
    is_stale: bool,
}

impl RouteFollower {
    /// Something changed in what the client asks for, or in what there is.
    pub(super) fn note_change(&mut self) {
        self.is_stale = true;
    }

    /// Whether virtual hosts are to be looked at again.
    pub(super) fn is_stale(&self) -> bool {
        self.is_stale
    }

    /// The client brought versions of route configurations along.
    pub(super) fn note_brought(
        &mut self,
        versions: &BTreeMap<String, Option<Version>>,
        target: &Resources,
    ) {
        let same = target.iter().filter(|route| {
            is_in_pieces(route) && versions.get(&*route.name) == Some(&Some(route.version))
        });
        self.brought = same.map(|route| Arc::clone(&route.name)).collect();
        self.is_stale = true;
    }

    /// Route configurations were sent.
    pub(super) fn note_sent<'a>(&mut self, routes: impl Iterator<Item = &'a Arc<EncodedResource>>) {
        for route in routes.filter(|route| is_in_pieces(route)) {
            self.brought.remove(&route.name);
            self.fresh.insert(Arc::clone(&route.name));
        }
        self.is_stale = true;
    }

    /// Lead virtual hosts after the route configurations that the client has by now; of both what there is.
    pub(super) fn lead(
        &mut self,
        routes: &TypeSession,
        hosts: &mut TypeSession,
        (all_routes, all_hosts): (&Resources, &Resources),
    ) {
        self.is_stale = false;
        let fresh = std::mem::take(&mut self.fresh);
        let has = all_routes
            .iter()
            .filter(|route| is_in_pieces(route) && routes.covers(&route.name));
        let has: BTreeSet<Arc<str>> = has.map(|route| Arc::clone(&route.name)).collect();
        for route in hosts.replace_routes(&has) {
            let held = hosts.sent.iter_under(&route);
            let held = held.map(|host| (Arc::clone(&host.name), Some(host.version)));
            let held = held.collect();
            self.draining.insert(route, held);
        }
        self.settle_known(hosts, &has, &fresh);
        self.release_drained(routes, hosts, &has);
        if !hosts.is_first {
            let fresh = fresh.iter().filter(|route| has.contains(*route));
            let names = fresh.flat_map(|route| all_hosts.iter_under(route));
            hosts.asked.extend(names.map(|host| Arc::clone(&host.name)));
        }
    }

    /// Versions that the client brought along count where it kept the route configuration all the while; Envoy also
    /// tells those of route configurations that it has dropped since.
    fn settle_known(
        &mut self,
        hosts: &mut TypeSession,
        has: &BTreeSet<Arc<str>>,
        fresh: &BTreeSet<Arc<str>>,
    ) {
        let Some(known) = &mut hosts.known else {
            return;
        };
        let brought = std::mem::take(&mut self.brought);
        known.retain(|name, version| {
            let route = route_of(name).unwrap_or_default();
            if has.contains(route) {
                if !brought.contains(route) || fresh.contains(route) {
                    *version = None;
                }
                return true;
            }
            let held = (name.as_str().into(), *version);
            self.draining.entry(route.into()).or_default().push(held);
            false
        });
    }

    /// Of listeners that have drained, or are there again, tell as gone what is: the client is to forget it.
    fn release_drained(
        &mut self,
        routes: &TypeSession,
        hosts: &mut TypeSession,
        has: &BTreeSet<Arc<str>>,
    ) {
        self.draining.retain(|route, held| {
            let is_draining = routes.covers(route) && !has.contains(route);
            if !is_draining {
                hosts.released.append(held);
            }
            is_draining
        });
    }
}

fn is_in_pieces(route: &EncodedResource) -> bool {
    !route.references.is_empty()
}
