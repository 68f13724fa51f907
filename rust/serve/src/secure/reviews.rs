//! Questions that only the platform can answer, and whoever asks the platform: a desk between the two.
//!
//! The server asks and waits; threads of the edge (in Python, where the platform's client is) take questions, block on
//! the platform as long as they like, and hand in answers. The core calls nobody.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tonic::Status;

use crate::registry::lock;

/// The most questions that wait; more are refused at once.
const MAX_WAITING: usize = 4096;
/// How long an asker waits for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// What the platform is asked.
#[derive(Clone, PartialEq, Eq)]
pub enum Question {
    /// Whose service-account token is this, if it is meant for us? (Kubernetes: `TokenReview`)
    Token {
        /// The token.
        token: String,
        /// For whom it must be.
        audiences: Vec<String>,
    },
    /// May this service account read the Secrets of its namespace? (Kubernetes: `SubjectAccessReview`)
    ReadSecrets {
        /// Its namespace, and that of the Secrets.
        namespace: String,
        /// Its name.
        service_account: String,
    },
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Token { .. } => "Token",
            Self::ReadSecrets { .. } => "ReadSecrets",
        })
    }
}

/// What a token says, as the platform has verified it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenFacts {
    /// The namespace of the service account.
    pub namespace: String,
    /// The service account.
    pub service_account: String,
}

/// The platform's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The token is good.
    Token(TokenFacts),
    /// Yes.
    Allowed,
    /// No, and why.
    Denied(String),
    /// The platform did not answer, and why.
    Failed(String),
}

#[derive(Debug, Default)]
struct Desk {
    waiting: VecDeque<(u64, Question)>,
    askers: HashMap<u64, oneshot::Sender<Answer>>,
    next_id: u64,
    is_closed: bool,
}

/// Where questions lie until somebody takes them.
#[derive(Debug, Default)]
pub struct ReviewDesk {
    desk: Mutex<Desk>,
    rung: Condvar,
}

impl ReviewDesk {
    /// Ask, and wait for the answer.
    ///
    /// # Errors
    /// `UNAVAILABLE` when nobody answers in time, or too many wait.
    pub(super) async fn ask(&self, question: Question) -> Result<Answer, Status> {
        let (id, answered) = self.pose(question)?;
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, answered).await;
        let mut desk = lock(&self.desk);
        desk.askers.remove(&id);
        desk.waiting.retain(|(each, _)| *each != id);
        drop(desk);
        match answer {
            Ok(Ok(Answer::Failed(why))) => Err(Status::unavailable(format!(
                "the platform could not be asked: {why}"
            ))),
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(Status::unavailable("the server is shutting down")),
            Err(_) => Err(Status::unavailable("the platform did not answer in time")),
        }
    }

    fn pose(&self, question: Question) -> Result<(u64, oneshot::Receiver<Answer>), Status> {
        let (sender, receiver) = oneshot::channel();
        let mut desk = lock(&self.desk);
        if desk.is_closed {
            return Err(Status::unavailable("the server is shutting down"));
        }
        if desk.waiting.len() >= MAX_WAITING {
            return Err(Status::unavailable(
                "too many callers wait for the platform",
            ));
        }
        let id = desk.next_id;
        desk.next_id += 1;
        desk.waiting.push_back((id, question));
        desk.askers.insert(id, sender);
        drop(desk);
        self.rung.notify_one();
        Ok((id, receiver))
    }

    /// Take the oldest question, or `None` when none came in time or the desk is closed.
    pub fn next(&self, timeout: Duration) -> Option<(u64, Question)> {
        let until = Instant::now() + timeout;
        let mut desk = lock(&self.desk);
        loop {
            if desk.is_closed {
                return None;
            }
            if let Some(posed) = desk.waiting.pop_front() {
                return Some(posed);
            }
            let left = until.checked_duration_since(Instant::now())?;
            desk = self
                .rung
                .wait_timeout(desk, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Answer a question; one that nobody waits for any more is passed over.
    pub fn answer(&self, id: u64, answer: Answer) {
        let asker = lock(&self.desk).askers.remove(&id);
        if let Some(asker) = asker {
            // The asker may have left just now.
            let _ = asker.send(answer);
        }
    }

    /// Let everybody go.
    pub fn close(&self) {
        let mut desk = lock(&self.desk);
        desk.is_closed = true;
        desk.askers.clear();
        desk.waiting.clear();
        drop(desk);
        self.rung.notify_all();
    }
}
