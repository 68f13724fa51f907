//! The virtual host of an authority.
//!
//! Source: Envoy `source/common/router/config_impl.cc` `RouteMatcher::findVirtualHost`: exact domains, then
//! `*.suffix` and `prefix.*` with the longest first, then `*`.

use navarch_envoy::envoy::config::route::v3::{RouteConfiguration, VirtualHost};

use crate::outcome::{End, Other, Stage, Step, failed};
use crate::request::split_port;

/// How well a domain matches; later is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    Any,
    Prefix(usize),
    Suffix(usize),
    Exact,
}

/// The virtual host, and the step that tells of it.
pub(crate) fn choose<'a>(
    routes: &'a RouteConfiguration,
    authority: &str,
) -> Result<(&'a VirtualHost, Step), End> {
    let host = if routes.ignore_port_in_host_matching {
        split_port(authority).0
    } else {
        authority
    };
    let host = host.to_ascii_lowercase();
    let mut fits: Vec<(Fit, &VirtualHost, &str)> = routes
        .virtual_hosts
        .iter()
        .flat_map(|vhost| vhost.domains.iter().map(move |domain| (vhost, domain)))
        .filter_map(|(vhost, domain)| {
            Some((
                fit(&domain.to_ascii_lowercase(), &host)?,
                vhost,
                domain.as_str(),
            ))
        })
        .collect();
    // Stable: of equal fits the first stands.
    fits.sort_by_key(|(fit, ..)| std::cmp::Reverse(*fit));
    let Some((fit, chosen, domain)) = fits.first().copied() else {
        let known = known_domains(routes);
        let why = format!(
            "no virtual host of {} is for {host}; it has {known}",
            routes.name
        );
        return Err(failed(404, why));
    };
    let others = fits
        .iter()
        .skip(1)
        .filter(|(_, vhost, _)| vhost.name != chosen.name);
    let others = others.map(|(_, vhost, domain)| {
        Other::new(
            vhost.name.clone(),
            format!("domain {domain} is less specific"),
        )
    });
    let why = match fit {
        Fit::Exact => format!("domain {domain} is the host"),
        Fit::Suffix(_) | Fit::Prefix(_) => format!("wildcard {domain} matches {host}"),
        Fit::Any => format!("domain * takes {host}, which no other domain matches"),
    };
    let step =
        Step::new(Stage::VirtualHost, chosen.name.clone(), why).with_others(others.collect());
    Ok((chosen, step))
}

fn fit(domain: &str, host: &str) -> Option<Fit> {
    if domain == "*" {
        return Some(Fit::Any);
    }
    if domain == host {
        return Some(Fit::Exact);
    }
    // A wildcard stands for at least one character.
    if let Some(suffix) = domain.strip_prefix('*') {
        let is_below = host.len() > suffix.len() && host.ends_with(suffix);
        return is_below.then_some(Fit::Suffix(suffix.len()));
    }
    let prefix = domain.strip_suffix('*')?;
    (host.len() > prefix.len() && host.starts_with(prefix)).then_some(Fit::Prefix(prefix.len()))
}

fn known_domains(routes: &RouteConfiguration) -> String {
    const MAX_DOMAINS: usize = 10;
    let all: Vec<&str> = routes
        .virtual_hosts
        .iter()
        .flat_map(|vhost| vhost.domains.iter().map(String::as_str))
        .collect();
    let shown = all
        .iter()
        .take(MAX_DOMAINS)
        .copied()
        .collect::<Vec<_>>()
        .join(", ");
    match all.len() {
        0 => "no virtual host".to_owned(),
        n if n > MAX_DOMAINS => format!("{shown} and {} more", n - MAX_DOMAINS),
        _ => shown,
    }
}

#[cfg(test)]
mod tests {
    use navarch_envoy::envoy::config::route::v3::{RouteConfiguration, VirtualHost};

    use super::choose;

    fn routes(is_port_ignored: bool) -> RouteConfiguration {
        let domains = [
            "*",
            "a.*",
            "a.example.com",
            "*.example.com",
            "*.com",
            "a.b.*",
            "b.example.com:80",
        ];
        let virtual_hosts = domains.iter().map(|domain| VirtualHost {
            name: (*domain).to_owned(),
            domains: vec![(*domain).to_owned()],
            ..VirtualHost::default()
        });
        RouteConfiguration {
            virtual_hosts: virtual_hosts.collect(),
            ignore_port_in_host_matching: is_port_ignored,
            ..RouteConfiguration::default()
        }
    }

    #[test]
    fn domains_are_taken_by_envoys_precedence() {
        for (host, domain) in [
            ("A.example.com", "a.example.com"),
            ("x.example.com", "*.example.com"),
            (".example.com", "*.com"),
            ("a.org", "a.*"),
            ("a.b.org", "a.b.*"),
            ("a.b.com", "*.com"),
            ("x.org", "*"),
            ("b.example.com:80", "b.example.com:80"),
            ("a.example.com:80", "a.*"),
        ] {
            assert_eq!(
                choose(&routes(false), host).unwrap().0.name,
                domain,
                "{host}"
            );
        }
        assert_eq!(
            choose(&routes(true), "a.example.com:80").unwrap().0.name,
            "a.example.com"
        );
    }

    #[test]
    fn an_unknown_host_is_not_found() {
        assert!(choose(&RouteConfiguration::default(), "a").is_err());
    }
}
