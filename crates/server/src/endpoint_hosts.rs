//! Endpoints by host names of their own: `NAME.DOMAIN/VERSION` stands for
//! `/v1/endpoints/NAME/VERSION/predict`, by the Host header of a request.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use corral_types::{ErrorKind, Explain, Failure};

use crate::guard::host_of;
use crate::rest::ApiError;

/// The longest name that DNS can carry.
const MAX_DOMAIN_BYTES: usize = 253;

/// The domain below which endpoints have names, such as `ml.localhost`; in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointDomain(Arc<str>);

/// That a text is no domain.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no domain for endpoints; write a name such as ml.localhost")]
pub struct DomainError(String);

impl Explain for DomainError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

impl std::fmt::Display for EndpointDomain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for EndpointDomain {
    type Err = DomainError;

    fn from_str(text: &str) -> Result<Self, DomainError> {
        let is_label = |label: &str| {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
            !label.is_empty() && label.bytes().all(is_plain)
        };
        if text.len() > MAX_DOMAIN_BYTES || !text.split('.').all(is_label) {
            return Err(DomainError(text.to_owned()));
        }
        Ok(Self(text.to_ascii_lowercase().into()))
    }
}

impl EndpointDomain {
    /// The endpoint that a host without port names, if it is below the domain.
    pub fn endpoint_of<'a>(&self, host: &'a str) -> Option<&'a str> {
        let (name, domain) = host.split_at_checked(host.len().checked_sub(self.0.len())?)?;
        let name = name.strip_suffix('.')?;
        (!name.is_empty() && domain.eq_ignore_ascii_case(&self.0)).then_some(name)
    }

    /// `inner` with names of endpoints before it.
    pub fn before(self, inner: Router) -> Router {
        // A request is renamed before its path is looked up, so that all that is known of a path,
        // its limits and its formats, holds for the name as well.
        let renamed = middleware::from_fn_with_state(self, rename);
        Router::new().fallback_service(tower::Layer::layer(&renamed, inner))
    }
}

async fn rename(State(domain): State<EndpointDomain>, request: Request, next: Next) -> Response {
    match renamed(&domain, request) {
        Ok(request) => next.run(request).await,
        Err(failure) => ApiError(*failure).into_response(),
    }
}

fn renamed(domain: &EndpointDomain, mut request: Request) -> Result<Request, Box<Failure>> {
    let authority = request.uri().authority().map(|authority| authority.as_str());
    let header = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let Some(name) = authority.or(header).and_then(|host| domain.endpoint_of(host_of(host))) else {
        return Ok(request);
    };
    // Host names do not tell capitals apart, names of endpoints have none.
    let name = name.to_ascii_lowercase();
    let path = request.uri().path();
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let meant = match (request.method(), &segments[..]) {
        (&Method::GET | &Method::HEAD, []) => format!("/v1/endpoints/{name}"),
        (_, [] | ["predict"]) => format!("/v1/endpoints/{name}/predict"),
        (_, [version] | [version, "predict"]) => {
            format!("/v1/endpoints/{name}/{version}/predict")
        }
        _ => {
            let message = format!("the endpoint `{name}` has nothing at {path}");
            let hint = format!("POST to / or /VERSION; the rest is under /v1/endpoints/{name}");
            return Err(Box::new(Failure::new(ErrorKind::NotFound, message).with_hint(hint)));
        }
    };
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut parts = request.uri().clone().into_parts();
    let uri = format!("{meant}{query}").parse().map_err(|error| {
        let message = format!("`{name}` names no endpoint: {error}");
        Box::new(Failure::new(ErrorKind::Invalid, message))
    })?;
    parts.path_and_query = Some(uri);
    *request.uri_mut() = Uri::from_parts(parts).expect("the parts of a URI, its path replaced");
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(method: Method, host: &str, uri: &str) -> Result<String, String> {
        let request = Request::builder().method(method).uri(uri).header(header::HOST, host);
        let request = request.body(axum::body::Body::empty()).unwrap();
        match renamed(&"ML.localhost".parse().unwrap(), request) {
            Ok(request) => Ok(request.uri().to_string()),
            Err(failure) => Err(failure.message),
        }
    }

    #[test]
    fn a_host_below_the_domain_names_an_endpoint() {
        let post = |host, uri| path(Method::POST, host, uri).unwrap();
        for (host, uri, meant) in [
            ("support.ml.localhost:8400", "/", "/v1/endpoints/support/predict"),
            ("Support.ML.localhost", "/3", "/v1/endpoints/support/3/predict"),
            ("a.b.ml.localhost", "/stable?top_k=2", "/v1/endpoints/a.b/stable/predict?top_k=2"),
            ("support.ml.localhost", "/predict", "/v1/endpoints/support/predict"),
            ("support.ml.localhost", "/3/predict", "/v1/endpoints/support/3/predict"),
            ("localhost", "/v1/train", "/v1/train"),
            ("ml.localhost", "/v1/train", "/v1/train"),
            (".ml.localhost", "/v1/train", "/v1/train"),
            ("xml.localhost", "/v1/train", "/v1/train"),
            ("é", "/v1/train", "/v1/train"),
        ] {
            assert_eq!(post(host, uri), meant, "{host}{uri}");
        }
        assert_eq!(path(Method::GET, "x.ml.localhost", "/").unwrap(), "/v1/endpoints/x");
        let by_authority = post("other", "http://x.ml.localhost/2");
        assert_eq!(by_authority, "http://x.ml.localhost/v1/endpoints/x/2/predict");
        let refused = path(Method::POST, "x.ml.localhost", "/v1/tokens").unwrap_err();
        assert!(refused.contains("/v1/tokens"), "{refused}");
    }

    #[test]
    fn domains_are_checked() {
        for wrong in ["", ".", "ml..localhost", "ml localhost", "ml.localhost:8400", "*.x"] {
            assert!(wrong.parse::<EndpointDomain>().is_err(), "{wrong}");
        }
        assert!("models.example.com".parse::<EndpointDomain>().is_ok());
    }
}
