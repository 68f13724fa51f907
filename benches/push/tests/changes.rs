//! What is measured is what is meant: each change reaches every stream, and one that is none reaches nobody.

use navarch_bench_push::{Fleet, Sent, World};

const WORLD: World = World { n_services: 20 };
const N_SIDECARS: usize = 12;

#[test]
fn a_change_is_sent_to_every_stream_once() {
    let mut fleet = Fleet::connect(WORLD, N_SIDECARS);
    assert_eq!(fleet.settle(), Sent::default());
    for batch in [WORLD.change_endpoint(1), WORLD.change_rule(1)] {
        let sent = fleet.push(batch.clone());
        assert_eq!(sent.n_responses, N_SIDECARS);
        assert!(sent.n_bytes > N_SIDECARS * 100);
        assert_eq!(fleet.settle(), Sent::default());
        assert_eq!(fleet.push(batch), Sent::default());
    }
}

#[test]
fn a_new_service_comes_with_all_that_it_leads_to() {
    let mut fleet = Fleet::connect(WORLD, N_SIDECARS);
    let at_once = fleet.push(WORLD.add_service(1));
    assert_eq!(at_once.n_responses, N_SIDECARS, "clusters come first");
    let later = fleet.settle();
    // Endpoints, listeners, routes.
    assert_eq!(later.n_responses, 3 * N_SIDECARS);
    assert_eq!(fleet.settle(), Sent::default());
}
