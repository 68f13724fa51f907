//! Whether the proxy may get traffic: Envoy is live and has its first configuration, and DNS its first table.
//!
//! Source: istio `pilot/cmd/pilot-agent/status/ready/probe.go`.

use std::time::Duration;

use super::Status;
use crate::envoy::admin_origin;
use crate::http_client;

const TIMEOUT: Duration = Duration::from_secs(1);
const STATS: &str = "/stats?usedonly&filter=^(server.state|listener_manager.workers_started|(cluster_manager.cds|listener_manager.lds).(update_success|update_rejected))$";

/// Whether all is ready; why not, if it is not.
pub(crate) async fn check(status: &Status) -> Result<(), String> {
    if let Some(names) = &status.names
        && names.borrow().is_none()
    {
        return Err("the name table has not come yet".to_owned());
    }
    if status.settings.has_envoy {
        check_envoy(&admin_origin(&status.settings)).await?;
    }
    Ok(())
}

/// Whether Envoy is live and has taken clusters and listeners once.
pub(crate) async fn check_envoy(origin: &str) -> Result<(), String> {
    let asked = http_client::fetch("GET", &format!("{origin}{STATS}"), TIMEOUT).await;
    let (_, text) = asked.map_err(|fault| format!("Envoy does not answer: {fault}"))?;
    judge(&text)
}

fn judge(stats: &str) -> Result<(), String> {
    let value = |name: &str| -> Option<u64> {
        let line = stats
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))?;
        line.trim().parse().ok()
    };
    for (name, what) in [
        ("cluster_manager.cds", "clusters"),
        ("listener_manager.lds", "listeners"),
    ] {
        let count = |suffix: &str| value(&format!("{name}.{suffix}")).unwrap_or_default();
        let (n_taken, n_refused) = (count("update_success"), count("update_rejected"));
        if n_taken + n_refused == 0 {
            return Err(format!(
                "Envoy has no {what} yet: is the control plane reached?"
            ));
        }
        if n_taken == 0 {
            return Err(format!("Envoy refuses its {what}: see its log"));
        }
    }
    // `usedonly` leaves out what was never set: a state of 0 is LIVE, and is set.
    match value("server.state") {
        Some(0) => {}
        Some(state) => return Err(format!("Envoy is in state {state}, not live")),
        None => return Err("Envoy tells no state".to_owned()),
    }
    if value("listener_manager.workers_started") != Some(1) {
        return Err("Envoy's workers have not started".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::judge;

    const LIVE: &str = "cluster_manager.cds.update_success: 2\nlistener_manager.lds.update_success: 1\n\
        listener_manager.workers_started: 1\nserver.state: 0\n";

    #[test]
    fn a_live_envoy_with_its_configuration_is_ready() {
        assert_eq!(judge(LIVE), Ok(()));
    }

    #[test]
    fn what_is_missing_is_named() {
        for (from, to, said) in [
            ("server.state: 0", "server.state: 2", "state 2"),
            ("workers_started: 1", "workers_started: 0", "workers"),
            (
                "lds.update_success: 1",
                "lds.update_success: 0",
                "no listeners yet",
            ),
            (
                "cds.update_success: 2",
                "cds.update_rejected: 2",
                "refuses its clusters",
            ),
        ] {
            let fault = judge(&LIVE.replace(from, to)).unwrap_err();
            assert!(fault.contains(said), "{fault}");
        }
    }
}
