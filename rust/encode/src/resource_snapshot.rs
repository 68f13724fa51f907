//! What one proxy gets: the lists that its node group shares, and its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use navarch_envoy::TypeUrl;

use crate::pieces::route_of;
use crate::resource::EncodedResource;
use crate::resource_list::ResourceList;
use crate::version::Version;

/// One list for each resource type: what a node group shares, or what is one proxy's own.
#[derive(Clone, Debug)]
pub struct ResourcePart {
    lists: [Arc<ResourceList>; TypeUrl::COUNT],
}

impl Default for ResourcePart {
    fn default() -> Self {
        let empty = ResourceList::empty();
        Self {
            lists: std::array::from_fn(|_| Arc::clone(&empty)),
        }
    }
}

impl ResourcePart {
    /// The list of a type.
    pub fn list(&self, type_url: TypeUrl) -> &Arc<ResourceList> {
        &self.lists[type_url.index()]
    }

    /// How many resources there are, of all types.
    pub fn len(&self) -> usize {
        self.lists.iter().map(|list| list.len()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Replace the list of a type.
    pub fn set(&mut self, type_url: TypeUrl, list: Arc<ResourceList>) {
        self.lists[type_url.index()] = list;
    }

    /// Replace or add single resources of a type and remove others; the rest stays as it is.
    pub fn change_items(
        &mut self,
        type_url: TypeUrl,
        made: BTreeMap<Arc<str>, Arc<EncodedResource>>,
        gone: &BTreeSet<Arc<str>>,
    ) {
        if let Some(list) = self.list(type_url).changed(made, gone) {
            self.set(type_url, list);
        }
    }

    /// Replace the list of a type by resources in any order, unless it would be the same.
    pub fn set_items(&mut self, type_url: TypeUrl, items: Vec<Arc<EncodedResource>>) {
        let list = ResourceList::new(items);
        if !list.is_same(self.list(type_url)) {
            self.set(type_url, list);
        }
    }
}

/// The resources of one type for one proxy: the group's and its own, with no name in both.
#[derive(Clone, Debug)]
pub struct Resources {
    /// Shared by the node group.
    pub shared: Arc<ResourceList>,
    /// The proxy's own.
    pub own: Arc<ResourceList>,
}

impl Resources {
    /// The resource of a name; the proxy's own goes first.
    pub fn find(&self, name: &str) -> Option<&Arc<EncodedResource>> {
        self.own.find(name).or_else(|| self.shared.find(name))
    }

    /// The version of both lists together.
    pub fn version(&self) -> Version {
        self.shared.version().with(self.own.version())
    }

    /// Whether both are the same lists.
    pub fn is_same(&self, other: &Self) -> bool {
        self.shared.version() == other.shared.version() && self.own.version() == other.own.version()
    }

    /// All resources, first the shared ones.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<EncodedResource>> {
        self.shared.items().chain(self.own.items())
    }

    /// The resources whose names are `<folder>/` and something without a slash.
    pub fn iter_under(&self, folder: &str) -> impl Iterator<Item = &Arc<EncodedResource>> {
        self.shared.under(folder).chain(self.own.under(folder))
    }

    /// How many resources there are.
    pub fn len(&self) -> usize {
        self.shared.len() + self.own.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A resource that another one names and that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inconsistency {
    /// The type of the resource that names it.
    pub type_url: TypeUrl,
    /// The resource that names it.
    pub name: Arc<str>,
    /// The name that is missing.
    pub missing: Arc<str>,
}

/// The xDS resources that one proxy gets at one epoch. Immutable, cheap to clone.
#[derive(Clone, Debug)]
pub struct ResourceSnapshot {
    types: [Resources; TypeUrl::COUNT],
}

impl Default for ResourceSnapshot {
    fn default() -> Self {
        Self::new(&ResourcePart::default(), &ResourcePart::default())
    }
}

impl ResourceSnapshot {
    /// Put a group's part and a proxy's own part together.
    pub fn new(shared: &ResourcePart, own: &ResourcePart) -> Self {
        let types = TypeUrl::ALL.map(|t| Resources {
            shared: Arc::clone(shared.list(t)),
            own: Arc::clone(own.list(t)),
        });
        Self { types }
    }

    /// The same but for the proxy's own resources of one type.
    #[must_use]
    pub fn with_own(&self, type_url: TypeUrl, own: Arc<ResourceList>) -> Self {
        let mut changed = self.clone();
        changed.types[type_url.index()].own = own;
        changed
    }

    /// The resources of a type.
    pub fn resources(&self, type_url: TypeUrl) -> &Resources {
        &self.types[type_url.index()]
    }

    /// Whether both hold the same resources of every type.
    pub fn is_same(&self, other: &Self) -> bool {
        self.types
            .iter()
            .zip(&other.types)
            .all(|(a, b)| a.is_same(b))
    }

    /// What is named and not there: endpoints of an EDS cluster, routes of a listener, any virtual host of a route
    /// configuration in pieces, the route configuration of a virtual host.
    ///
    /// Envoy waits for such a resource before it uses the one that names it, so the list is empty for
    /// every snapshot that is served.
    pub fn find_inconsistencies(&self) -> Vec<Inconsistency> {
        let pairs = [
            (TypeUrl::Cluster, TypeUrl::Endpoint),
            (TypeUrl::Listener, TypeUrl::Route),
        ];
        let mut found = Vec::new();
        for (from, to) in pairs {
            for resource in self.resources(from).iter() {
                let missing = resource.references.iter();
                let missing = missing.filter(|name| self.resources(to).find(name).is_none());
                found.extend(missing.map(|name| Inconsistency {
                    type_url: from,
                    name: Arc::clone(&resource.name),
                    missing: Arc::clone(name),
                }));
            }
        }
        found.extend(self.find_lost_pieces());
        found
    }

    /// Route configurations in pieces without any, and pieces of none.
    fn find_lost_pieces(&self) -> Vec<Inconsistency> {
        let (routes, hosts) = (
            self.resources(TypeUrl::Route),
            self.resources(TypeUrl::VirtualHost),
        );
        let of_hosts: BTreeSet<&str> = hosts.iter().filter_map(|h| route_of(&h.name)).collect();
        let in_pieces: BTreeSet<&str> = routes
            .iter()
            .flat_map(|route| route.references.iter().map(|name| &**name))
            .collect();
        let lost = |type_url, name: &&str| Inconsistency {
            type_url,
            name: Arc::from(*name),
            missing: Arc::from(*name),
        };
        let bare = in_pieces.difference(&of_hosts);
        let bare = bare.map(|name| lost(TypeUrl::Route, name));
        let loose = of_hosts.difference(&in_pieces);
        let loose = loose.map(|name| lost(TypeUrl::VirtualHost, name));
        bare.chain(loose).collect()
    }

    /// Whether everything that is named is there.
    pub fn is_consistent(&self) -> bool {
        self.find_inconsistencies().is_empty()
    }
}
