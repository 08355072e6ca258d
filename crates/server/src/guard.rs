//! What a request must satisfy before any handler sees it: a Host that is ours and no
//! foreign Origin, so that a page somewhere on the web cannot use a person's browser to
//! reach a server on loopback (DNS rebinding, cross-site requests).

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use corral_types::{ErrorKind, Failure};

use crate::endpoint_hosts::EndpointDomain;
use crate::rest::ApiError;

/// The names under which this server is reached.
#[derive(Clone, Debug)]
pub struct Hosts {
    names: Arc<[String]>,
    /// Every name below it is an endpoint's.
    endpoints: EndpointDomain,
    /// An address by number is fine where the server listens beyond loopback: rebinding
    /// needs a name.
    listens_beyond_loopback: bool,
}

impl Hosts {
    pub fn new(
        names: impl IntoIterator<Item = String>,
        endpoints: EndpointDomain,
        listen: IpAddr,
    ) -> Self {
        let names = names.into_iter().map(|name| name.to_ascii_lowercase());
        let listens_beyond_loopback = !listen.is_loopback();
        Self { names: names.collect(), endpoints, listens_beyond_loopback }
    }

    /// Whether an authority (`name`, `name:port`, `[v6]:port`) names this server.
    fn admits(&self, authority: &str) -> bool {
        let host = host_of(authority).to_ascii_lowercase();
        if let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
            return address.is_loopback() || self.listens_beyond_loopback;
        }
        host == "localhost"
            || host.ends_with(".localhost")
            || self.names.contains(&host)
            || self.endpoints.endpoint_of(&host).is_some()
    }
}

/// An authority without its port.
pub fn host_of(authority: &str) -> &str {
    match authority.rfind(':') {
        Some(colon) if !authority[colon..].contains(']') => &authority[..colon],
        _ => authority,
    }
}

/// Refuses requests that come by another name or from another site.
pub async fn check_host(State(hosts): State<Hosts>, request: Request, next: Next) -> Response {
    match refusal(&hosts, request.uri(), request.headers()) {
        None => next.run(request).await,
        Some(failure) => ApiError(failure).into_response(),
    }
}

fn refusal(hosts: &Hosts, uri: &Uri, headers: &HeaderMap) -> Option<Failure> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("(not ASCII)"));
    let Some(host) = uri.authority().map(|a| a.as_str()).or_else(|| text(header::HOST)) else {
        return Some(Failure::new(ErrorKind::Invalid, "the request has no Host header"));
    };
    if !hosts.admits(host) {
        return Some(
            Failure::new(ErrorKind::Forbidden, format!("this server is not reached as `{host}`"))
                .with_hint(format!("start it with `corral up --host {}`", host_of(host))),
        );
    }
    let origin = text(header::ORIGIN)?;
    let same_site = origin.split_once("://").is_some_and(|(_, authority)| authority == host);
    (!same_site).then(|| {
        Failure::new(ErrorKind::Forbidden, format!("requests from pages of `{origin}` are refused"))
            .with_hint("call the API from a program, not from another site's page")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_names_are_admitted() {
        let domain: EndpointDomain = "models.example".parse().unwrap();
        let names = ["Corral.example".to_owned()];
        let hosts = Hosts::new(names, domain.clone(), IpAddr::from([127, 0, 0, 1]));
        for own in [
            "localhost",
            "LOCALHOST:8400",
            "127.0.0.1:8400",
            "127.8.9.1",
            "[::1]:8400",
            "occupations.ml.localhost:8400",
            "corral.example:443",
            "occupations.models.example",
        ] {
            assert!(hosts.admits(own), "{own}");
        }
        for foreign in [
            "evil.example",
            "localhost.evil.example:80",
            "10.0.0.1",
            "",
            "xlocalhost",
            "models.example",
        ] {
            assert!(!hosts.admits(foreign), "{foreign}");
        }
        let wide = Hosts::new([], domain, IpAddr::from([0, 0, 0, 0]));
        assert!(wide.admits("10.0.0.1:8400") && !wide.admits("evil.example"));
    }

    #[test]
    fn foreign_origins_are_refused() {
        let domain = "ml.localhost".parse().unwrap();
        let hosts = Hosts::new([], domain, IpAddr::from([127, 0, 0, 1]));
        let refused = |origin: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, "localhost:8400".parse().unwrap());
            headers.insert(header::ORIGIN, origin.parse().unwrap());
            refusal(&hosts, &Uri::from_static("/v1/whoami"), &headers).is_some()
        };
        assert!(!refused("http://localhost:8400"));
        assert!(refused("http://localhost:9999"));
        assert!(refused("https://evil.example"));
        assert!(refused("null"));
    }
}
