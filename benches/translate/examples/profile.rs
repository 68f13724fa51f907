//! One scenario and type, over and over, for `perf` and `callgrind`; prints the median and a digest of the bytes.
//!
//! `profile SCENARIO TYPE [ROUNDS]`

#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a console program"
)]

use std::hint::black_box;
use std::time::Instant;

use navarch_bench_translate::{Bench, ResourceType, scenarios::Scenario};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let argument = |i: usize| arguments.get(i).map_or("", String::as_str);
    let scenario = Scenario::find(argument(1)).expect("a scenario's name");
    let wanted = argument(2).to_uppercase();
    let known = ResourceType::ALL.into_iter();
    let resource_type = known
        .into_iter()
        .find(|t| t.name() == wanted)
        .expect("CDS, EDS, …");
    let rounds: usize = argument(3).parse().unwrap_or(100);
    let bench = Bench::new(scenario, scenario.n_services);
    let mut times: Vec<u128> = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let start = Instant::now();
        let made = black_box(bench.generate(resource_type));
        times.push(start.elapsed().as_nanos());
        drop(made);
    }
    times.sort_unstable();
    let made = bench.generate(resource_type);
    let mut versions: Vec<String> = made
        .resources
        .iter()
        .map(|r| format!("{} {}", r.name, r.version))
        .collect();
    versions.sort_unstable();
    let digest = navarch_model::hash128(&versions);
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    let (n, bytes) = (made.resources.len(), made.size_bytes());
    println!(
        "{} {wanted}: {median} ns, {n} resources, {bytes} bytes, digest {digest:032x}",
        scenario.name
    );
}
