//! The measurement: one change, pushed to all sidecars that it touches; with it, the allocations.

use std::cell::{Cell, RefCell};

use divan::{AllocProfiler, Bencher};
use navarch_bench_push::{Fleet, World};
use navarch_snapshot::Batch;

#[global_allocator]
static COUNTED: AllocProfiler = AllocProfiler::system();

const WORLD: World = World { n_services: 1_000 };
/// The difference between two is what another sidecar costs.
const N_SIDECARS: [usize; 2] = [100, 500];

fn main() {
    divan::main();
}

fn measure(bencher: Bencher, n_sidecars: usize, make: impl Fn(usize) -> Batch) {
    let fleet = RefCell::new(Fleet::connect(WORLD, n_sidecars));
    let serial = Cell::new(0);
    bencher
        .with_inputs(|| {
            fleet.borrow_mut().settle();
            make(serial.replace(serial.get() + 1))
        })
        .bench_local_values(|batch| fleet.borrow_mut().push(batch));
}

#[divan::bench(args = N_SIDECARS, sample_count = 20, sample_size = 1)]
fn endpoint(bencher: Bencher, n_sidecars: usize) {
    measure(bencher, n_sidecars, |serial| WORLD.change_endpoint(serial));
}

#[divan::bench(args = N_SIDECARS, sample_count = 20, sample_size = 1)]
fn virtual_service(bencher: Bencher, n_sidecars: usize) {
    measure(bencher, n_sidecars, |serial| WORLD.change_rule(serial));
}

#[divan::bench(args = N_SIDECARS, sample_count = 20, sample_size = 1)]
fn service(bencher: Bencher, n_sidecars: usize) {
    measure(bencher, n_sidecars, |serial| WORLD.add_service(serial));
}
