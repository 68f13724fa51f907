//! Every scenario, small: it says something, and what it names is there.

use std::collections::BTreeSet;

use navarch_bench_translate::{Bench, Generated, ResourceType, scenarios};

fn names(made: &Generated) -> BTreeSet<&str> {
    made.resources.iter().map(|r| &*r.name).collect()
}

fn missing<'a>(from: &'a Generated, to: &Generated) -> Vec<&'a str> {
    let there = names(to);
    let named = from.resources.iter().flat_map(|r| r.references.iter());
    named
        .map(|name| &**name)
        .filter(|name| !there.contains(name))
        .collect()
}

#[test]
fn every_scenario_has_resources_of_every_type() {
    for scenario in scenarios::ALL {
        let bench = Bench::new(scenario, 3);
        for resource_type in ResourceType::ALL.into_iter().filter(|t| bench.has(*t)) {
            let made = bench.generate(resource_type);
            let label = format!("{} {}", scenario.name, resource_type.name());
            // Bytes need no routes.
            let has_none = scenario.name == "tcp" && resource_type == ResourceType::Rds;
            assert_eq!(made.resources.is_empty(), has_none, "{label}");
        }
    }
}

#[test]
fn every_scenario_is_consistent() {
    for scenario in scenarios::ALL {
        let bench = Bench::new(scenario, 3);
        let [cds, eds, lds, rds, _] = ResourceType::ALL.map(|t| bench.generate(t));
        assert_eq!(
            missing(&cds, &eds),
            Vec::<&str>::new(),
            "{}: endpoints",
            scenario.name
        );
        assert_eq!(
            missing(&lds, &rds),
            Vec::<&str>::new(),
            "{}: routes",
            scenario.name
        );
    }
}

#[test]
fn a_generation_repeats_itself() {
    for scenario in scenarios::ALL {
        let bench = Bench::new(scenario, 5);
        for resource_type in ResourceType::ALL {
            let versions = || {
                let made = bench.generate(resource_type);
                made.resources
                    .into_iter()
                    .map(|r| (r.name, r.version))
                    .collect::<Vec<_>>()
            };
            assert_eq!(
                versions(),
                versions(),
                "{} {}",
                scenario.name,
                resource_type.name()
            );
        }
    }
}

#[test]
fn scenarios_grow_with_their_services() {
    // Aliases of hosts that nobody serves come to nothing.
    let grown = scenarios::ALL
        .iter()
        .filter(|scenario| scenario.name != "externalname");
    for scenario in grown {
        let size = |n| {
            let bench = Bench::new(scenario, n);
            let made = ResourceType::ALL.map(|t| bench.generate(t).size_bytes());
            made.iter().sum::<usize>()
        };
        assert!(size(2) < size(4), "{}", scenario.name);
    }
}
