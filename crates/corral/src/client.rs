//! The client of Corral's REST API that the command line uses.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use corral_server::api::Page;
use corral_types::{ErrorKind, Failure};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::config::ClientConfig;
use crate::failure::refusal;

/// How long to wait for a connection; the answer itself may take as long as the work.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The most of an error's body that is shown when it is not ours.
const FOREIGN_ERROR_CHARS: usize = 300;

/// A server and the right to ask it.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    token: Option<String>,
}

impl Client {
    /// A client by the settings in force.
    ///
    /// # Errors
    /// When the URL is none, or the CA certificate cannot be read.
    pub fn new(config: &ClientConfig) -> anyhow::Result<Self> {
        let base = Url::parse(&config.url).map_err(|error| {
            refusal(
                Failure::new(ErrorKind::Invalid, format!("`{}` is not a URL: {error}", config.url))
                    .with_hint("set CORRAL_URL or --url to something like http://127.0.0.1:8400"),
            )
        })?;
        let mut builder = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).no_proxy();
        if let Some(path) = &config.ca_certificate {
            let pem = std::fs::read(path)
                .with_context(|| format!("read the CA certificate {}", path.display()))?;
            builder = builder.add_root_certificate(
                reqwest::Certificate::from_pem(&pem)
                    .with_context(|| format!("read {} as PEM", path.display()))?,
            );
        }
        let http = builder.build().context("set up the HTTP client")?;
        Ok(Self { http, base, token: config.token.clone() })
    }

    /// The server's address as given.
    pub fn base(&self) -> &Url {
        &self.base
    }

    /// The URL of a path whose segments are escaped one by one.
    pub fn url(&self, segments: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    /// A request to `segments` below the server's address, with the token.
    pub fn request(&self, method: Method, segments: &[&str]) -> RequestBuilder {
        let request = self.http.request(method, self.url(segments));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    pub fn get(&self, segments: &[&str]) -> RequestBuilder {
        self.request(Method::GET, segments)
    }

    pub fn post(&self, segments: &[&str]) -> RequestBuilder {
        self.request(Method::POST, segments)
    }

    /// Sends a request and reads its JSON answer.
    ///
    /// # Errors
    /// The server's own refusal, or why it could not be asked.
    pub async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> anyhow::Result<T> {
        let response = self.send(request).await?;
        response.json().await.context("read the server's answer")
    }

    /// Sends a request; an answer that is an error becomes one.
    ///
    /// # Errors
    /// The server's own refusal, or why it could not be asked.
    pub async fn send(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        let response = request.send().await.map_err(|error| self.unreachable(error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.text().await.unwrap_or_default();
        Err(refusal(failure_from(status, &body, self.token.is_some())))
    }

    /// All entries of a list, page by page.
    ///
    /// # Errors
    /// As [`Client::json`].
    pub async fn list<T: DeserializeOwned>(&self, segments: &[&str]) -> anyhow::Result<Vec<T>> {
        self.list_where(segments, &[]).await
    }

    /// The same with a query beside the page's.
    ///
    /// # Errors
    /// As [`Client::json`].
    pub async fn list_where<T: DeserializeOwned>(
        &self,
        segments: &[&str],
        query: &[(&str, &str)],
    ) -> anyhow::Result<Vec<T>> {
        let mut items = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let cursor: Vec<_> = after.iter().map(|cursor| ("after", cursor)).collect();
            let request = self.get(segments).query(query).query(&cursor);
            let page: Page<T> = self.json(request).await?;
            items.extend(page.items);
            after = page.next;
            if after.is_none() {
                return Ok(items);
            }
        }
    }

    /// Streams an answer into `path`, which appears whole or not at all, or to standard
    /// output.
    ///
    /// # Errors
    /// The server's refusal, a broken connection, or a file that cannot be written.
    pub async fn download(
        &self,
        request: RequestBuilder,
        path: Option<&Path>,
    ) -> anyhow::Result<()> {
        let mut response = self.send(request).await?;
        let Some(path) = path else {
            let mut stdout = std::io::stdout().lock();
            while let Some(block) = response.chunk().await.context("receive the bytes")? {
                stdout.write_all(&block).context("write to standard output")?;
            }
            return stdout.flush().context("write to standard output");
        };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let mut file = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))
            .with_context(|| format!("write beside {}", path.display()))?;
        while let Some(block) = response.chunk().await.context("receive the bytes")? {
            file.write_all(&block).with_context(|| format!("write {}", path.display()))?;
        }
        file.as_file().sync_all().with_context(|| format!("write {}", path.display()))?;
        file.persist(path).with_context(|| format!("write {}", path.display()))?;
        Ok(())
    }

    fn unreachable(&self, error: reqwest::Error) -> anyhow::Error {
        let kind = if error.is_timeout() { ErrorKind::Timeout } else { ErrorKind::Unavailable };
        let mut failure = Failure::new(kind, format!("ask the server at {}", self.base));
        failure.causes = corral_types::source_chain(&error.without_url());
        if failure.causes.is_empty() {
            failure.causes.push("the connection broke".to_owned());
        }
        refusal(
            failure.with_hint(
                "start one with `corral up`, or name a running one by --url or CORRAL_URL",
            ),
        )
    }
}

/// The failure that an error answer tells of.
fn failure_from(status: StatusCode, body: &str, had_token: bool) -> Failure {
    let parsed: Option<Value> = serde_json::from_str(body).ok();
    let Some(error) = parsed.as_ref().and_then(|body| body.get("error")) else {
        let start: String = body.chars().take(FOREIGN_ERROR_CHARS).collect();
        return Failure::new(
            ErrorKind::Unavailable,
            format!("the server answered {status}: {start}"),
        )
        .with_hint("this does not look like a Corral server; check --url and CORRAL_URL");
    };
    let text = |key: &str| error.get(key).and_then(Value::as_str).map(str::to_owned);
    let kind = text("kind").and_then(|word| ErrorKind::from_word(&word));
    let causes = error.get("causes").and_then(Value::as_array).into_iter().flatten();
    Failure {
        kind: kind.unwrap_or(ErrorKind::Internal),
        message: text("message").unwrap_or_else(|| status.to_string()),
        causes: causes.filter_map(Value::as_str).map(str::to_owned).collect(),
        hint: match text("hint") {
            None if status == StatusCode::UNAUTHORIZED && !had_token => Some(
                "give a token by --token or CORRAL_TOKEN; `corral up` prints one at its first start"
                    .to_owned(),
            ),
            hint => hint,
        },
        retry_after: None,
    }
}
