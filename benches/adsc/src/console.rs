//! Orders in, reports out.

use std::io::{BufRead, Write};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Sender, channel};
use std::time::Instant;

use anyhow::{Context, bail};
use navarch_envoy::TypeUrl;
use navarch_envoy::envoy::config::core::v3::Node;
use serde_json::{Value, json};

use crate::connection::{Plan, Report};
use crate::crew::Crew;
use crate::marker::Change;
use crate::spread::{Clock, describe};

/// How many ended streams are told one by one; after a server's end all end.
const MAX_CLOSED_TOLD: usize = 10;

/// An order of the one who measures.
#[derive(Debug, serde::Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Order {
    Wait {
        wait: u64,
        markers: Vec<(String, String)>,
        /// How many sidecars the change is for; all if left out.
        expected: Option<usize>,
    },
    Status {
        #[serde(rename = "status")]
        _status: bool,
    },
}

/// All that the main thread waits for.
enum Event {
    Told(Report),
    Ordered(String),
    /// All threads of sidecars have ended.
    Lost,
    End,
}

/// Play until standard input ends.
pub(crate) fn run(plan: Plan, nodes: Vec<Node>, n_threads: usize) -> anyhow::Result<()> {
    let (events, received) = channel();
    let (reports, reported) = channel();
    let mut console = Console {
        clock: Clock::start(),
        n_sidecars: nodes.len(),
        n_expected: nodes.len(),
        started: Instant::now(),
        in_sync: Vec::new(),
        reached: Vec::new(),
        change: 0,
        n_closed: 0,
        n_refused: 0,
        last_refusal: String::new(),
        crew: Crew::start(plan, nodes, n_threads, &reports)?,
    };
    drop(reports);
    let told = events.clone();
    std::thread::spawn(move || {
        reported
            .iter()
            .map(Event::Told)
            .chain([Event::Lost])
            .try_for_each(|event| told.send(event))
    });
    std::thread::spawn(move || read_orders(&events));
    for event in received {
        match event {
            Event::Told(report) => console.take_report(report)?,
            Event::Ordered(line) => console.take_order(&line).context(line)?,
            Event::Lost => bail!("no sidecars are left"),
            Event::End => break,
        }
    }
    Ok(())
}

fn read_orders(events: &Sender<Event>) {
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        if events.send(Event::Ordered(line)).is_err() {
            return;
        }
    }
    // The main thread may have ended by itself.
    _ = events.send(Event::End);
}

struct Console {
    clock: Clock,
    n_sidecars: usize,
    started: Instant,
    in_sync: Vec<Instant>,
    reached: Vec<Instant>,
    change: u64,
    n_expected: usize,
    n_closed: usize,
    n_refused: usize,
    last_refusal: String,
    crew: Crew,
}

impl Console {
    fn take_order(&mut self, line: &str) -> anyhow::Result<()> {
        match serde_json::from_str(line)? {
            Order::Wait {
                wait,
                markers,
                expected,
            } => {
                if markers.is_empty() || markers.len() >= Change::MAX_MARKERS {
                    bail!("between 1 and {} markers", Change::MAX_MARKERS - 1);
                }
                let texts = markers
                    .into_iter()
                    .map(|(t, text)| Ok((find_type(&t)?, text)));
                let texts = texts.collect::<anyhow::Result<_>>()?;
                self.change = wait;
                self.n_expected = expected.unwrap_or(self.n_sidecars);
                self.reached.clear();
                self.crew.watch_for(wait, texts)?;
                self.tell("armed", json!({"wait": wait}))
            }
            Order::Status { .. } => {
                let told = json!({
                    "n_in_sync": self.in_sync.len(),
                    "n_reached": self.reached.len(),
                    "last_refusal": self.last_refusal,
                });
                self.tell("status", told)
            }
        }
    }

    fn take_report(&mut self, report: Report) -> anyhow::Result<()> {
        match report {
            Report::InSync { at } => {
                self.in_sync.push(at);
                if self.in_sync.len() == self.n_sidecars {
                    let mut told = describe(&self.clock, &mut self.in_sync);
                    told["started"] = self.clock.unix_seconds(self.started).into();
                    return self.tell("in_sync", told);
                }
            }
            Report::Reached { change, at } if change == self.change => {
                self.reached.push(at);
                if self.reached.len() == self.n_expected {
                    let mut told = describe(&self.clock, &mut self.reached);
                    told["wait"] = change.into();
                    return self.tell("reached", told);
                }
            }
            Report::Reached { .. } => {}
            Report::Refused { why } => {
                self.n_refused += 1;
                self.last_refusal = why;
            }
            Report::Closed {
                sidecar,
                why,
                missing,
            } => {
                self.n_closed += 1;
                if self.n_closed <= MAX_CLOSED_TOLD {
                    let told = json!({"sidecar": sidecar, "why": why, "had": missing});
                    return self.tell("closed", told);
                }
            }
        }
        Ok(())
    }

    /// Print a line: what is told, and the sums so far.
    fn tell(&self, event: &str, mut told: Value) -> anyhow::Result<()> {
        let counters = &self.crew.counters;
        told["event"] = event.into();
        told["n_closed"] = self.n_closed.into();
        told["n_refused"] = self.n_refused.into();
        told["bytes"] = counters.n_bytes.load(Ordering::Relaxed).into();
        told["responses"] = counters.n_responses.load(Ordering::Relaxed).into();
        told["resources"] = counters.n_resources.load(Ordering::Relaxed).into();
        let mut out = std::io::stdout().lock();
        writeln!(out, "{told}")?;
        out.flush()?;
        Ok(())
    }
}

fn find_type(short_name: &str) -> anyhow::Result<TypeUrl> {
    let found = TypeUrl::ALL
        .into_iter()
        .find(|t| t.short_name() == short_name);
    found.with_context(|| format!("no type {short_name:?}"))
}
