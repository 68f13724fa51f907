//! The measurement: one generation of one type in one scenario.

#![allow(clippy::expect_used, reason = "a name that is none must stop the run")]

use divan::{Bencher, black_box};
use navarch_bench_translate::{Bench, ResourceType, scenarios};

fn main() {
    divan::main();
}

fn names() -> impl Iterator<Item = &'static str> {
    scenarios::ALL.iter().map(|scenario| scenario.name)
}

fn sidecars() -> impl Iterator<Item = &'static str> {
    let sidecars = scenarios::ALL
        .iter()
        .filter(|scenario| !scenario.is_gateway);
    sidecars.map(|scenario| scenario.name)
}

fn measure(bencher: Bencher, scenario: &str, resource_type: ResourceType) {
    let scenario = scenarios::Scenario::find(scenario).expect("a scenario of this list");
    let bench = Bench::new(scenario, scenario.n_services);
    bencher.bench_local(|| black_box(&bench).generate(resource_type));
}

#[divan::bench(args = names())]
fn cds(bencher: Bencher, scenario: &str) {
    measure(bencher, scenario, ResourceType::Cds);
}

#[divan::bench(args = names())]
fn eds(bencher: Bencher, scenario: &str) {
    measure(bencher, scenario, ResourceType::Eds);
}

#[divan::bench(args = names())]
fn lds(bencher: Bencher, scenario: &str) {
    measure(bencher, scenario, ResourceType::Lds);
}

#[divan::bench(args = names())]
fn rds(bencher: Bencher, scenario: &str) {
    measure(bencher, scenario, ResourceType::Rds);
}

#[divan::bench(args = sidecars())]
fn nds(bencher: Bencher, scenario: &str) {
    measure(bencher, scenario, ResourceType::Nds);
}
