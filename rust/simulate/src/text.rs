//! An outcome for people.

use std::fmt;

use crate::chance::round;
use crate::outcome::{Forwarded, Landing, Outcome, Stage, Step};

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            write_step(f, step)?;
        }
        write_landing(f, &self.landing)?;
        if let Some(received) = &self.received {
            writeln!(f, "\nat the receiving sidecar:")?;
            write!(f, "{received}")?;
        }
        Ok(())
    }
}

fn write_step(f: &mut fmt::Formatter<'_>, step: &Step) -> fmt::Result {
    writeln!(f, "{:<20}{}", stage_name(step.stage), step.chosen)?;
    writeln!(f, "    {}", step.why)?;
    for note in &step.notes {
        writeln!(f, "    note: {note}")?;
    }
    for other in &step.others {
        writeln!(f, "    not {}: {}", other.name, other.why)?;
    }
    if step.n_more_others > 0 {
        writeln!(f, "    nor {} more", step.n_more_others)?;
    }
    Ok(())
}

fn stage_name(stage: Stage) -> &'static str {
    match stage {
        Stage::Destination => "destination",
        Stage::Listener => "listener",
        Stage::Detection => "detected",
        Stage::FilterChain => "filter chain",
        Stage::Peer => "peer",
        Stage::Token => "token",
        Stage::Policy => "policy",
        Stage::Authorizer => "authorizer",
        Stage::RouteConfiguration => "route configuration",
        Stage::VirtualHost => "virtual host",
        Stage::Route => "route",
        Stage::Fault => "fault",
        Stage::Cluster => "cluster",
        Stage::Endpoints => "endpoints",
    }
}

fn write_landing(f: &mut fmt::Formatter<'_>, landing: &Landing) -> fmt::Result {
    match landing {
        Landing::Endpoints {
            cluster,
            endpoints,
            request,
        } => {
            writeln!(f, "=> lands on cluster {cluster}")?;
            for endpoint in endpoints {
                write!(
                    f,
                    "    {:>6} %  {}",
                    round(endpoint.share),
                    endpoint.address
                )?;
                if endpoint.priority > 0 {
                    write!(f, ", priority {}", endpoint.priority)?;
                }
                if !endpoint.locality.is_empty() {
                    write!(f, ", {}", endpoint.locality)?;
                }
                writeln!(f, ", {}", endpoint.transport.name)?;
            }
            request
                .as_ref()
                .map_or(Ok(()), |request| write_request(f, request))
        }
        Landing::Response {
            status,
            location,
            why,
            ..
        } => {
            write!(f, "=> the proxy answers {status}")?;
            if let Some(location) = location {
                write!(f, " to {location}")?;
            }
            writeln!(f, ": {why}")
        }
        Landing::Closed { why } => writeln!(f, "=> the connection is closed: {why}"),
    }
}

fn write_request(f: &mut fmt::Formatter<'_>, request: &Forwarded) -> fmt::Result {
    let version = if request.is_http2 {
        "HTTP/2"
    } else {
        "HTTP/1.1"
    };
    writeln!(
        f,
        "    as {version} {} {}{}",
        request.method, request.authority, request.path
    )?;
    match request.timeout_seconds {
        Some(timeout) => writeln!(f, "    timeout {timeout} s")?,
        None => writeln!(f, "    no timeout")?,
    }
    if let Some(retries) = &request.retries {
        writeln!(f, "    retries {retries}")?;
    }
    for change in &request.header_changes {
        writeln!(f, "    header {change}")?;
    }
    for mirror in &request.mirrors {
        writeln!(f, "    mirrored to {mirror}")?;
    }
    Ok(())
}
