//! The names of servers.

use std::net::IpAddr;

use rcgen::SanType;

use crate::AuthorityError;

const MAX_NAME_BYTES: usize = 253;
const MAX_LABEL_BYTES: usize = 63;

/// A DNS name (its first label may be `*`) or an IP address.
pub(crate) fn read_name(name: &str) -> Result<SanType, AuthorityError> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let unknown = || AuthorityError::ServerName(name.to_owned());
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= MAX_LABEL_BYTES
            && label
                .bytes()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_'))
    };
    let rest = name.strip_prefix("*.").unwrap_or(name);
    if name.len() > MAX_NAME_BYTES || !rest.split('.').all(is_label) {
        return Err(unknown());
    }
    Ok(SanType::DnsName(name.try_into().map_err(|_| unknown())?))
}
