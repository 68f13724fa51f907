//! Join tokens: by one of them a process outside Kubernetes gets its first certificate, once.
//!
//! A token is `navarch-join.<id>.<secret>`. Its record, a file named by the id, binds it to a namespace, a service
//! account and an end; of the secret it has the digest alone. Redeeming removes the file, which only one of many
//! redeemers can: also two servers on one directory take a token once.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use aws_lc_rs::{constant_time, digest, rand};
use navarch_identity::{SpiffeError, SpiffeId};
use serde::{Deserialize, Serialize};

/// Join tokens begin so.
pub const PREFIX: &str = "navarch-join.";
const ID_BYTES: usize = 8;
const SECRET_BYTES: usize = 32;
const MAX_RECORD_BYTES: u64 = 4096;

/// What a token is bound to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The namespace of the workload.
    pub namespace: String,
    /// Its service account.
    pub service_account: String,
    /// The second, since 1970, after which the token is worth nothing.
    pub expires_at: i64,
    /// SHA-256 of the secret, in hexadecimal.
    secret_digest: String,
}

/// Why a token is not made.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The names can't be those of a workload.
    #[error("the workload's name: {0}")]
    Name(#[from] SpiffeError),
    /// The record can't be written.
    #[error("{path}")]
    File {
        /// Which file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The system has no random numbers.
    #[error("the system has no random numbers")]
    Random,
}

/// Make a token for a workload and keep its record in `directory`.
pub fn mint(
    directory: &Path,
    namespace: &str,
    service_account: &str,
    expires_at: i64,
) -> Result<String, JoinError> {
    // The trust domain is the server's affair; any will do to check the rest.
    SpiffeId::new("domain", namespace, service_account)?;
    let (mut id, mut secret) = ([0u8; ID_BYTES], [0u8; SECRET_BYTES]);
    rand::fill(&mut id).map_err(|_| JoinError::Random)?;
    rand::fill(&mut secret).map_err(|_| JoinError::Random)?;
    let (id, secret) = (hex(&id), hex(&secret));
    let record = Record {
        namespace: namespace.to_owned(),
        service_account: service_account.to_owned(),
        expires_at,
        secret_digest: digest_of(&secret),
    };
    let path = record_path(directory, &id);
    write_record(directory, &path, &record).map_err(|source| JoinError::File { path, source })?;
    Ok(format!("{PREFIX}{id}.{secret}"))
}

fn write_record(directory: &Path, path: &Path, record: &Record) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(&serde_json::to_vec(record)?)?;
    file.sync_all()
}

/// Take a token, for good: it is worth nothing after this.
///
/// # Errors
/// Why it is refused; unknown and used tokens are told apart from wrong ones by nobody.
pub fn redeem(directory: &Path, token: &str, now: i64) -> Result<Record, &'static str> {
    const REFUSED: &str = "the join token is unknown, or was used";
    let (id, secret) = token
        .strip_prefix(PREFIX)
        .and_then(|rest| rest.split_once('.'))
        .ok_or(REFUSED)?;
    let is_hex = |text: &str, bytes| {
        text.len() == 2 * bytes && text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
    };
    if !is_hex(id, ID_BYTES) || !is_hex(secret, SECRET_BYTES) {
        return Err(REFUSED);
    }
    let path = record_path(directory, id);
    let record = read_record(&path).ok_or(REFUSED)?;
    let (given, wanted) = (digest_of(secret), record.secret_digest.as_bytes());
    constant_time::verify_slices_are_equal(given.as_bytes(), wanted).map_err(|_| REFUSED)?;
    // Only one of many callers removes the file; the others find it gone.
    fs::remove_file(&path).map_err(|_| REFUSED)?;
    if record.expires_at <= now {
        return Err("the join token has expired");
    }
    Ok(record)
}

fn read_record(path: &Path) -> Option<Record> {
    let size = fs::metadata(path).ok()?.len();
    if size > MAX_RECORD_BYTES {
        return None;
    }
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

fn record_path(directory: &Path, id: &str) -> PathBuf {
    directory.join(format!("{id}.json"))
}

fn digest_of(text: &str) -> String {
    hex(digest::digest(&digest::SHA256, text.as_bytes()).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use super::{mint, redeem};

    fn directory(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("navarch-join-{name}-{}", std::process::id()))
    }

    #[test]
    fn a_token_is_taken_once_however_many_ask() {
        let directory = Arc::new(directory("once"));
        let token = mint(&directory, "shop", "cart", 100).unwrap();
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let (directory, token) = (Arc::clone(&directory), token.clone());
                std::thread::spawn(move || redeem(&directory, &token, 50).is_ok())
            })
            .collect();
        let taken = threads.into_iter().map(|t| t.join().unwrap());
        assert_eq!(taken.filter(|is_taken| *is_taken).count(), 1);
        assert!(redeem(&directory, &token, 50).is_err());
        std::fs::remove_dir_all(&*directory).unwrap();
    }

    #[test]
    fn a_token_is_bound_to_its_record() {
        let directory = directory("bound");
        let token = mint(&directory, "shop", "cart", 100).unwrap();
        let record = redeem(&directory, &token, 99).unwrap();
        assert_eq!(
            (&*record.namespace, &*record.service_account),
            ("shop", "cart")
        );
        let late = mint(&directory, "shop", "cart", 100).unwrap();
        assert_eq!(
            redeem(&directory, &late, 100),
            Err("the join token has expired")
        );
        let mut wrong = mint(&directory, "shop", "cart", 100).unwrap();
        let right = wrong.clone();
        wrong.replace_range(
            wrong.len() - 1..,
            if wrong.ends_with('0') { "1" } else { "0" },
        );
        assert!(redeem(&directory, &wrong, 50).is_err());
        assert!(
            redeem(&directory, &right, 50).is_ok(),
            "a wrong guess takes nothing away"
        );
        for odd in [
            "",
            "navarch-join.",
            "navarch-join.../../etc/passwd.00",
            "x.y.z",
        ] {
            assert!(redeem(&directory, odd, 50).is_err(), "{odd}");
        }
        assert!(mint(&directory, "a/b", "cart", 100).is_err());
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
