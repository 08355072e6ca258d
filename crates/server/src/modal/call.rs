//! Who calls a method, and with what beside the message.

use std::sync::Arc;

use axum::http::HeaderMap;
use axum::http::header::HOST;
use axum::http::request::Parts;
use corral_functions::ContainerInfo;
use corral_types::{AppId, Caller, ErrorKind, Failure, Scope, Scopes};
use corral_worker_api::CONTAINER_HEADER;

use super::Edge;
use super::refusal::{Answer, Refusal};
use super::versions::ClientVersion;
use crate::rest::ApiError;

/// Keys of requests that may be repeated are cut past this: clients send 36 characters.
const MAX_KEY_CHARS: usize = 200;

/// Where requests come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Door {
    /// The open port: a token says who calls.
    Port,
    /// The worker's socket: a header names the container, and nobody else may come in.
    Worker {
        /// Where containers put and get payloads, such as `http://127.0.0.1:8421`.
        blobs_url: Arc<str>,
    },
}

/// Who may call a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Client,
    Container,
    Both,
}

/// Who called, and with what beside the message.
#[derive(Clone, Debug)]
pub struct Call {
    pub caller: Caller,
    /// The container that called, if it was one.
    pub container: Option<ContainerInfo>,
    pub client: ClientVersion,
    /// The same in each repetition of one request.
    pub idempotency_key: Option<String>,
    /// Where the caller reaches this server, such as `http://127.0.0.1:8400`.
    pub base_url: String,
}

impl Call {
    /// # Errors
    /// When the token, or the container, is not known.
    pub async fn from_request(edge: &Edge, door: Door, parts: &Parts) -> Answer<Self> {
        let text = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let (caller, container) = match &door {
            Door::Port => (client(edge, &parts.headers).await?, None),
            Door::Worker { .. } => {
                let container = container(edge, &parts.headers).await?;
                // What it may do follows from the methods that are open to containers.
                let scopes = [Scope::Read, Scope::Write, Scope::Predict].into_iter().collect();
                let caller = Caller { workspace: container.workspace, token: None, scopes };
                (caller, Some(container))
            }
        };
        let base_url = match &door {
            Door::Port => {
                let authority = parts.uri.authority().map(|authority| authority.as_str());
                let host = authority.or_else(|| text(HOST.as_str())).unwrap_or("127.0.0.1");
                format!("{}://{host}", parts.uri.scheme_str().unwrap_or("http"))
            }
            Door::Worker { blobs_url } => blobs_url.to_string(),
        };
        let key = text("x-idempotency-key").filter(|key| !key.is_empty());
        Ok(Self {
            caller,
            container,
            client: ClientVersion::of(
                text("x-modal-client-version").unwrap_or_default(),
                text("x-modal-libmodal-version"),
            ),
            idempotency_key: key.map(|key| key.chars().take(MAX_KEY_CHARS).collect()),
            base_url,
        })
    }

    /// # Errors
    /// When the method is not for this kind of caller, or the token lacks the right.
    pub fn require(&self, method: &str, who: Who) -> Answer<()> {
        let refuse = |whom: &str| {
            Err(Refusal::new(ErrorKind::Forbidden, format!("{method} is not for {whom}")))
        };
        match (who, &self.container) {
            (Who::Client, Some(_)) => refuse("containers"),
            (Who::Container, None) => refuse("clients"),
            _ => Ok(()),
        }
    }

    /// The container that called.
    ///
    /// # Errors
    /// When it was none.
    pub fn calling_container(&self) -> Answer<&ContainerInfo> {
        self.container
            .as_ref()
            .ok_or_else(|| Refusal::new(ErrorKind::Forbidden, "this is for containers"))
    }

    /// The app in which the caller is confined.
    pub fn own_app(&self) -> Option<AppId> {
        self.container.as_ref().map(|container| container.app)
    }

    /// The key of a request that may be repeated, or one of its own.
    pub fn key(&self, method: &str) -> String {
        match &self.idempotency_key {
            Some(key) => format!("{method} {key}"),
            None => format!("{method} {}", corral_types::UploadId::generate()),
        }
    }
}

async fn client(edge: &Edge, headers: &HeaderMap) -> Answer<Caller> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let secret = text("x-modal-token-secret");
    let caller = edge.tokens.caller_with_secret(secret).await.map_err(with_hint)?;
    if let (Some(token), Some(id)) = (caller.token, text("x-modal-token-id"))
        && token.to_string() != id
    {
        let refusal = Refusal::new(
            ErrorKind::Unauthenticated,
            format!("the token secret does not belong to the token `{id}`"),
        );
        return Err(refusal.with_hint(TOKEN_HINT));
    }
    Ok(caller)
}

const TOKEN_HINT: &str =
    "an admin makes tokens by `corral token create`; set one by `modal token set`";

fn with_hint(ApiError(failure): ApiError) -> Refusal {
    match failure.kind {
        ErrorKind::Unauthenticated => {
            Failure { hint: None, ..failure }.with_hint(TOKEN_HINT).into()
        }
        _ => failure.into(),
    }
}

async fn container(edge: &Edge, headers: &HeaderMap) -> Answer<ContainerInfo> {
    let refuse = |message: String| Refusal::new(ErrorKind::Unauthenticated, message);
    let header = headers.get(CONTAINER_HEADER).and_then(|value| value.to_str().ok());
    let text =
        header.ok_or_else(|| refuse(format!("the header `{CONTAINER_HEADER}` is missing")))?;
    let id = text.parse().map_err(|_| refuse(format!("`{text}` is not a container")))?;
    let found = edge.functions.container(id).await;
    found.ok_or_else(|| refuse(format!("there is no container {id}")))
}

/// Every right but that of an admin.
pub fn scopes_of_the_server() -> Scopes {
    [Scope::Read, Scope::Write, Scope::Predict].into_iter().collect()
}
