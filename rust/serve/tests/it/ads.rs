//! The whole server over loopback, with a client of another gRPC stack's making (tonic's).

mod health;
mod rig;
mod secure;

use std::sync::Arc;
use std::time::{Duration, Instant};

use navarch_envoy::TypeUrl;
use navarch_envoy::envoy::config::core::v3::Node;
use navarch_envoy::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use navarch_serve::StreamLimits;
use navarch_serve::session::Variant;
use tonic::Code;

use crate::world::world;
use rig::{Rig, delta_first, node, sotw_first};

const PATIENCE: Duration = Duration::from_secs(10);

/// Wait until something is so; the streams and the push thread work beside the test.
async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "{what} never came");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_forms_are_served_and_pushed_to() {
    let rig = Rig::start(&world(&["a", "b"], 0));
    let mut sotw = rig.sotw().await;
    sotw.send(sotw_first(TypeUrl::Cluster)).await;
    let first = sotw.receive().await.unwrap();
    let mut delta = rig.delta().await;
    delta.send(delta_first(TypeUrl::Cluster)).await;
    assert_eq!(
        (first.type_url.as_str(), first.resources.len()),
        (TypeUrl::Cluster.as_str(), 2)
    );
    let first_delta = delta.receive().await.unwrap();
    assert_eq!(first_delta.resources.len(), 2);
    eventually("both streams", || rig.fleet.connections().len() == 2).await;

    sotw.send(sotw_answer(&first.nonce, TypeUrl::Cluster, None))
        .await;
    delta
        .send(delta_answer(&first_delta.nonce, TypeUrl::Cluster, None))
        .await;
    rig.publish(&world(&["a", "b", "c"], 0));
    assert_eq!(sotw.receive().await.unwrap().resources.len(), 3);
    let pushed = delta.receive().await.unwrap();
    assert_eq!(
        pushed
            .resources
            .iter()
            .map(|r| &*r.name)
            .collect::<Vec<_>>(),
        ["c"]
    );
    let variants: Vec<_> = rig
        .fleet
        .connections()
        .iter()
        .map(|c| c.variant())
        .collect();
    assert_eq!(variants, [Variant::Sotw, Variant::Delta]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_stream_ends_and_its_connection_takes_no_other() {
    let limits = StreamLimits {
        max_age: Some(Duration::from_millis(300)),
        ..StreamLimits::default()
    };
    let rig = Rig::with_limits(&world(&["a"], 0), limits);
    let mut stream = rig.delta().await;
    stream.send(delta_first(TypeUrl::Cluster)).await;
    assert_eq!(stream.receive().await.unwrap().resources.len(), 1);
    let end = stream.receive().await.unwrap_err();
    assert_eq!(end.code(), Code::Unavailable);
    assert!(end.message().contains("connect anew"), "{end}");
    let text = rig.fleet.metrics().to_text();
    let told = "navarch_stream_ends{reason=\"max_age\"} 1";
    assert!(text.contains(told), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_takes_nothing_is_cut_off_and_who_waits_for_nothing_is_not() {
    let limits = StreamLimits {
        max_stall: Duration::from_millis(400),
        ..StreamLimits::default()
    };
    // More than the window of hyper's client, 2 MB.
    let long = "x".repeat(1000);
    let names: Vec<String> = (0..2000).map(|i| format!("{i:04}-{long}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let rig = Rig::with_limits(&world(&names, 0), limits);
    let stalled = rig.delta().await;
    stalled.send(delta_first(TypeUrl::Cluster)).await;
    let mut reading = rig.delta().await;
    reading.send(delta_first(TypeUrl::Cluster)).await;
    let first = reading.receive().await.unwrap();
    assert_eq!(first.resources.len(), names.len());
    let accepted = delta_answer(&first.nonce, TypeUrl::Cluster, None);
    reading.send(accepted).await;
    eventually("both streams", || rig.fleet.connections().len() == 2).await;
    rig.publish(&world(&names, 1));
    let second = reading.receive().await.unwrap();
    assert_eq!(second.resources.len(), names.len());
    eventually("the end", || rig.fleet.connections().len() == 1).await;
    let text = rig.fleet.metrics().to_text();
    let told = "navarch_stream_ends{reason=\"slow_reader\"} 1";
    assert!(text.contains(told), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listeners_wait_a_while_for_endpoints_that_nobody_asks_for() {
    let limits = StreamLimits {
        max_expectation: Duration::from_millis(300),
        ..StreamLimits::default()
    };
    let rig = Rig::with_limits(&world(&["a"], 0), limits);
    let mut stream = rig.delta().await;
    for t in [TypeUrl::Cluster, TypeUrl::Endpoint, TypeUrl::Listener] {
        let mut request = delta_first(t);
        if t == TypeUrl::Endpoint {
            request.resource_names_subscribe = vec!["a".to_owned()];
        }
        stream.send(request).await;
        let response = stream.receive().await.unwrap();
        assert_eq!(response.type_url, t.as_str());
        stream.send(delta_answer(&response.nonce, t, None)).await;
    }
    rig.publish(&world(&["a", "b"], 0));
    let clusters = stream.receive().await.unwrap();
    assert_eq!(clusters.type_url, TypeUrl::Cluster.as_str());
    let accepted = delta_answer(&clusters.nonce, TypeUrl::Cluster, None);
    stream.send(accepted).await;
    let listeners = stream.receive().await.unwrap();
    assert_eq!(listeners.type_url, TypeUrl::Listener.as_str());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rejection_is_told_with_its_proxy_and_forgotten_with_it() {
    let rig = Rig::start(&world(&["a"], 0));
    let mut stream = rig.sotw().await;
    stream.send(sotw_first(TypeUrl::Listener)).await;
    let response = stream.receive().await.unwrap();
    stream
        .send(sotw_answer(
            &response.nonce,
            TypeUrl::Listener,
            Some("no such filter"),
        ))
        .await;
    eventually("the rejection", || !rig.fleet.rejections().is_empty()).await;
    let told = rig.fleet.rejections().remove(0);
    assert_eq!(&*told.proxy_id, node().id);
    assert_eq!(told.rejection.message, "no such filter");
    assert!(
        rig.fleet
            .metrics()
            .to_text()
            .contains("pilot_xds_lds_reject 1\n")
    );
    drop(stream);
    eventually("the end of the stream", || {
        rig.fleet.connections().is_empty()
    })
    .await;
    assert!(rig.fleet.rejections().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_say_too_little_are_told_what_to_write() {
    let rig = Rig::start(&world(&["a"], 0));
    let rows: [(Option<Node>, &str); 3] = [
        (None, "no node"),
        (
            Some(Node {
                metadata: None,
                ..node()
            }),
            "no metadata",
        ),
        (
            Some(Node {
                id: String::new(),
                ..node()
            }),
            "no id",
        ),
    ];
    for (node, complaint) in rows {
        let mut stream = rig.sotw().await;
        stream
            .send(DiscoveryRequest {
                node,
                ..sotw_first(TypeUrl::Cluster)
            })
            .await;
        let status = stream.receive().await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains(complaint), "{}", status.message());
        assert!(
            status.message().contains("bootstrap"),
            "{}",
            status.message()
        );
    }
    assert!(rig.fleet.connections().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_ends_one_stream_and_no_other() {
    let rig = Rig::start(&world(&["a"], 0));
    let mut good = rig.sotw().await;
    good.send(sotw_first(TypeUrl::Cluster)).await;
    let first = good.receive().await.unwrap();
    let status = rig.send_garbage(&[0, 0, 0, 0, 3, 0xff, 0xff, 0xff]).await;
    assert_ne!(status, Code::Ok);
    let status = rig.send_garbage(&[1, 0, 0, 0, 3, 1, 2, 3]).await;
    assert_ne!(status, Code::Ok, "compressed though nothing was agreed");
    let huge = [0, 0x7f, 0xff, 0xff, 0xff, 1];
    assert_eq!(rig.send_garbage(&huge).await, Code::OutOfRange);
    good.send(sotw_answer(&first.nonce, TypeUrl::Cluster, None))
        .await;
    rig.publish(&world(&["a", "b"], 0));
    assert_eq!(good.receive().await.unwrap().resources.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_methods_and_encodings_are_refused() {
    let rig = Rig::start(&world(&["a"], 0));
    assert_eq!(
        rig.call("FetchAggregatedResources", None).await,
        Code::Unimplemented
    );
    assert_eq!(
        rig.call("StreamAggregatedResources", Some(("grpc-encoding", "gzip")))
            .await,
        Code::Unimplemented
    );
    let timeout = Some(("grpc-timeout", "50m"));
    assert_eq!(
        rig.call("StreamAggregatedResources", timeout).await,
        Code::DeadlineExceeded
    );
}

/// A client that stops reading costs one response; pushes meanwhile merge, and it gets the last one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_gets_the_newest_and_holds_up_nobody() {
    let names: Vec<String> = (0..2000)
        .map(|i| format!("cluster-{i:04}-{}", "x".repeat(500)))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let rig = Rig::start(&world(&names, 0));
    let mut slow = rig.sotw().await;
    slow.send(sotw_first(TypeUrl::Cluster)).await;
    let mut fast = rig.sotw().await;
    fast.send(sotw_first(TypeUrl::Listener)).await;
    for revision in 1..20 {
        let response = fast.receive().await.unwrap();
        fast.send(sotw_answer(&response.nonce, TypeUrl::Listener, None))
            .await;
        rig.publish(&world(&names, revision));
    }
    let mut n_responses = 0;
    loop {
        let response = slow.receive().await.unwrap();
        n_responses += 1;
        let target = Arc::clone(&rig.fleet.connections()[0].target().unwrap());
        let is_newest =
            response.version_info == target.resources(TypeUrl::Cluster).version().to_string();
        slow.send(sotw_answer(&response.nonce, TypeUrl::Cluster, None))
            .await;
        if is_newest {
            break;
        }
    }
    assert!(
        n_responses <= 3,
        "{n_responses} responses where the newest would do"
    );
}

/// A builder that panics for one proxy leaves that proxy what it had, and the others go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_while_building_keeps_the_last_good_resources() {
    let rig = Rig::start(&world(&["a"], 0));
    let mut stream = rig.sotw().await;
    stream.send(sotw_first(TypeUrl::Cluster)).await;
    let first = stream.receive().await.unwrap();
    stream
        .send(sotw_answer(&first.nonce, TypeUrl::Cluster, None))
        .await;
    rig.source.panic_next();
    rig.publish(&world(&["a", "b"], 0));
    eventually("the panic", || {
        rig.fleet
            .metrics()
            .to_text()
            .contains("navarch_push_panics 1\n")
    })
    .await;
    rig.publish(&world(&["a", "b", "c"], 0));
    assert_eq!(stream.receive().await.unwrap().resources.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_ends_the_streams_and_closes_the_door() {
    let rig = Rig::start(&world(&["a"], 0));
    let mut stream = rig.delta().await;
    stream.send(delta_first(TypeUrl::Cluster)).await;
    stream.receive().await.unwrap();
    let address = rig.address();
    let fleet = Arc::clone(&rig.fleet);
    let drained = tokio::task::spawn_blocking(move || rig.server.drain(PATIENCE));
    let status = stream.receive().await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    drop(stream);
    assert!(drained.await.unwrap(), "streams were cut off");
    assert!(fleet.connections().is_empty());
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

fn sotw_answer(nonce: &str, t: TypeUrl, error: Option<&str>) -> DiscoveryRequest {
    DiscoveryRequest {
        type_url: t.to_string(),
        response_nonce: nonce.to_owned(),
        error_detail: error.map(rig::rejection),
        ..DiscoveryRequest::default()
    }
}

fn delta_answer(nonce: &str, t: TypeUrl, error: Option<&str>) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: t.to_string(),
        response_nonce: nonce.to_owned(),
        error_detail: error.map(rig::rejection),
        ..DeltaDiscoveryRequest::default()
    }
}
