//! Addresses for the hosts of ServiceEntries that have none, so that TCP clients can tell them apart.
//!
//! Source: istio `pilot/pkg/controllers/ipallocate/ipallocate.go`, `pilot/pkg/networking/serviceentry/ip_autoallocation.go`.
//! There a leader writes what it allocates into the objects' status; here it is a function of the entries, so that
//! replicas agree without asking each other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use navarch_model::{ServiceEntry, hash128};

use super::ByName;

/// An entry that says `false` gets no address.
const LABEL: &str = "networking.istio.io/enable-autoallocate-ip";

/// So many addresses 240.240.0.0/16 has, without its first and its last.
const N_ADDRESSES: usize = 0xfffe;

/// Rehashing ends after so many collisions; then the next free address is taken.
const MAX_HASHES: u32 = 32;

/// The addresses of one host, first family first.
pub(crate) type Pair = [Arc<str>; 2];

/// What is allocated, by namespace and host.
pub(crate) type Allocated = BTreeMap<(Arc<str>, String), Pair>;

/// A host that wants an address: the oldest have the first choice, so that none moves when one is added.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Claim<'a> {
    creation_time: i64,
    namespace: &'a Arc<str>,
    host: &'a str,
}

/// Allocate for all entries; the result depends on which there are, and not on the order in which they came.
pub(crate) fn allocate(entries: &ByName<ServiceEntry>) -> Allocated {
    let mut claims: BTreeMap<(&Arc<str>, &str), i64> = BTreeMap::new();
    for ((namespace, _), entry) in entries {
        let creation_time = entry.metadata.creation_timestamp.unwrap_or(i64::MIN);
        for host in entry
            .spec
            .hosts
            .iter()
            .filter(|host| is_wanted(entry, host))
        {
            let oldest = claims.entry((namespace, host)).or_insert(creation_time);
            *oldest = creation_time.min(*oldest);
        }
    }
    let mut taken = given_numbers(entries);
    let mut claims: Vec<Claim<'_>> = claims
        .into_iter()
        .map(|((namespace, host), creation_time)| Claim {
            creation_time,
            namespace,
            host,
        })
        .collect();
    claims.sort_unstable();
    let mut allocated = Allocated::new();
    for claim in claims {
        let Some(number) = free_number(&claim, &taken) else {
            break;
        };
        taken.insert(number);
        let key = (claim.namespace.clone(), claim.host.to_owned());
        allocated.insert(key, addresses_of(number));
    }
    allocated
}

/// Whether Istio would allocate for a host of an entry, and has not.
pub(crate) fn is_wanted(entry: &ServiceEntry, host: &str) -> bool {
    let spec = &entry.spec;
    let label = entry.metadata.labels.get(LABEL);
    let mut status = entry.status.addresses.iter();
    spec.addresses.is_empty()
        && !matches!(spec.resolution.as_str(), "" | "NONE")
        && label.is_none_or(|value| !value.eq_ignore_ascii_case("false"))
        && (spec.resolution == "DYNAMIC_DNS" || !host.starts_with('*'))
        && !status.any(|given| given.host.is_empty() || given.host == host)
}

/// Numbers of addresses that objects have already, by their own word or by Istio's.
fn given_numbers(entries: &ByName<ServiceEntry>) -> BTreeSet<u16> {
    let entries = entries.values();
    entries
        .flat_map(|entry| {
            let status = entry.status.addresses.iter().map(|given| &given.value);
            entry.spec.addresses.iter().chain(status)
        })
        .filter_map(|address| number_of(address))
        .collect()
}

fn free_number(claim: &Claim<'_>, taken: &BTreeSet<u16>) -> Option<u16> {
    if taken.len() >= N_ADDRESSES {
        return None;
    }
    let hashed = |attempt: u32| {
        let hash = hash128(&(&**claim.namespace, claim.host, attempt));
        let number = hash % (N_ADDRESSES as u128) + 1;
        u16::try_from(number).unwrap_or(1)
    };
    let next = |from: u16| (from..u16::MAX).chain(1..from);
    (0..MAX_HASHES)
        .map(hashed)
        .chain(next(hashed(0)))
        .find(|number| !taken.contains(number))
}

/// The same number in both of Istio's ranges, `240.240.0.0/16` and `2001:2::/48`.
fn addresses_of(number: u16) -> Pair {
    let [high, low] = number.to_be_bytes();
    [
        format!("240.240.{high}.{low}").into(),
        format!("2001:2::{number:x}").into(),
    ]
}

fn number_of(address: &str) -> Option<u16> {
    if let Some(rest) = address.strip_prefix("240.240.") {
        let (high, low) = rest.split_once('.')?;
        return Some(u16::from_be_bytes([high.parse().ok()?, low.parse().ok()?]));
    }
    u16::from_str_radix(address.strip_prefix("2001:2::")?, 16).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;

    use navarch_model::{AllocatedAddress, ConfigKey, Kind, ServiceEntry, Shared};

    use crate::{Change, MeshOptions, MeshStore};

    use super::{ByName, LABEL, N_ADDRESSES, addresses_of, allocate, number_of};

    fn entry(host: &str, resolution: &str) -> ServiceEntry {
        let mut entry = ServiceEntry::default();
        entry.spec.hosts = vec![host.to_owned()];
        resolution.clone_into(&mut entry.spec.resolution);
        entry
    }

    fn by_name(entries: Vec<ServiceEntry>) -> ByName<ServiceEntry> {
        let named = entries.into_iter().enumerate();
        named
            .map(|(i, entry)| (("n".into(), i.to_string().into()), Shared::new(entry)))
            .collect()
    }

    fn address_of(entries: Vec<ServiceEntry>, host: &str) -> Option<String> {
        let allocated = allocate(&by_name(entries));
        let pair = allocated.get(&(Arc::from("n"), host.to_owned()))?;
        Some(pair[0].to_string())
    }

    #[test]
    fn hosts_get_addresses_by_istios_rules() {
        let has = |entry: ServiceEntry| !allocate(&by_name(vec![entry])).is_empty();
        assert!(has(entry("a.com", "DNS")) && has(entry("a.com", "STATIC")));
        assert!(!has(entry("a.com", "NONE")) && !has(entry("a.com", "")));
        assert!(!has(entry("*.a.com", "STATIC")) && has(entry("*.a.com", "DYNAMIC_DNS")));
        let labelled = |value: &str| {
            let mut entry = entry("a.com", "DNS");
            entry.metadata.labels.insert(LABEL.into(), value.into());
            entry
        };
        assert!(!has(labelled("false")) && has(labelled("true")));
        let mut addressed = entry("a.com", "DNS");
        addressed.spec.addresses = vec!["10.0.0.1".into()];
        assert!(!has(addressed));
    }

    #[test]
    fn the_older_keeps_an_address_that_two_hash_to() {
        let mut hosts = (0_u32..).map(|i| format!("h{i}.com"));
        let mut seen = BTreeMap::new();
        let (old, young) = loop {
            let host = hosts.next().unwrap();
            let address = address_of(vec![entry(&host, "DNS")], &host).unwrap();
            if let Some(other) = seen.insert(address, host.clone()) {
                break (other, host);
            }
        };
        for (old, young) in [(&old, &young), (&young, &old)] {
            let aged = |host: &str, creation_time: i64| {
                let mut entry = entry(host, "DNS");
                entry.metadata.creation_timestamp = Some(creation_time);
                entry
            };
            let both = || vec![aged(young, 2), aged(old, 1)];
            let alone = address_of(vec![aged(old, 1)], old);
            assert_eq!(address_of(both(), old), alone);
            assert_ne!(address_of(both(), young), alone);
        }
    }

    #[test]
    fn an_address_in_an_objects_status_is_left_to_it() {
        let free = address_of(vec![entry("a.com", "DNS")], "a.com").unwrap();
        let mut holder = entry("b.com", "DNS");
        holder.status.addresses = vec![AllocatedAddress {
            value: free.clone(),
            host: "b.com".into(),
        }];
        let entries = vec![entry("a.com", "DNS"), holder];
        assert_ne!(address_of(entries.clone(), "a.com").unwrap(), free);
        assert_eq!(address_of(entries, "b.com"), None);
    }

    #[test]
    fn more_hosts_than_addresses_leave_the_youngest_without() {
        let mut full = entry("", "DNS");
        full.spec.hosts = (0..=N_ADDRESSES).map(|i| format!("h{i}.com")).collect();
        let allocated = allocate(&by_name(vec![full]));
        let distinct: BTreeSet<&str> = allocated.values().map(|pair| &*pair[0]).collect();
        assert_eq!(
            (allocated.len(), distinct.len()),
            (N_ADDRESSES, N_ADDRESSES)
        );
    }

    #[test]
    fn addresses_do_not_depend_on_the_order_and_size_of_batches() {
        let mut changes: Vec<Change> = (0..300).map(change).collect();
        let mut random = 1_u64;
        let mut below = move |n: usize| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            usize::try_from(random >> 33).unwrap() % n
        };
        let mut expected = None;
        for _ in 0..8 {
            for i in (1..changes.len()).rev() {
                changes.swap(i, below(i + 1));
            }
            let mut store = MeshStore::new(MeshOptions::default());
            let mut rest = changes.clone();
            while !rest.is_empty() {
                let batch = rest.split_off(rest.len() - rest.len().min(1 + below(120)));
                store.apply(batch);
            }
            let mesh = store.snapshot();
            let services = mesh.services().iter();
            let found: BTreeMap<_, _> = services
                .map(|s| (s.hostname.clone(), s.auto_allocated_addresses.clone()))
                .collect();
            assert!(found.values().all(|addresses| addresses.len() == 2));
            assert_eq!(*expected.get_or_insert(found.clone()), found);
        }
    }

    fn change(i: usize) -> Change {
        let body = format!(
            r#"{{"metadata":{{"name":"e{i}","namespace":"n","creationTimestamp":"2024-01-01T00:00:{:02}Z"}},
                "spec":{{"hosts":["h{i}.com"],"resolution":"DNS","ports":[{{"number":80,"name":"p"}}]}}}}"#,
            i % 7
        );
        Change {
            key: ConfigKey::new(Kind::ServiceEntry, "n", &format!("e{i}")),
            payload: Some(body.into_bytes()),
        }
    }

    #[test]
    fn both_families_of_a_number_read_back() {
        for number in [1, 0x0100, 0xfffe] {
            let numbers = addresses_of(number).map(|address| number_of(&address));
            assert_eq!(numbers, [Some(number); 2]);
        }
    }
}
