//! Errors on their way to a client of the protocol.

use axum::http::{HeaderMap, HeaderValue};
use corral_apps::AppsError;
use corral_catalog::CatalogError;
use corral_types::{ErrorKind, Failure};

use crate::rest::ApiError;

/// gRPC's code for a thing that is there already; clients tell it from other conflicts.
const ALREADY_EXISTS: i32 = 6;

/// A refusal with its gRPC code.
#[derive(Debug)]
pub struct Refusal {
    pub failure: Failure,
    code: i32,
}

pub type Answer<T> = Result<T, Refusal>;

impl Refusal {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Failure::new(kind, message).into()
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.failure = self.failure.with_hint(hint);
        self
    }

    /// As headers of an answer, or trailers of one that began.
    pub fn trailers(&self) -> HeaderMap {
        let mut text = self.failure.message.clone();
        for cause in &self.failure.causes {
            text += &format!(": {cause}");
        }
        if let Some(hint) = &self.failure.hint {
            text += &format!("; {hint}");
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from(self.code));
        let message = HeaderValue::try_from(percent_encoded(&text));
        trailers.insert("grpc-message", message.expect("what is encoded is ASCII"));
        trailers
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self { code: failure.kind.grpc_code(), failure }
    }
}

impl From<ApiError> for Refusal {
    fn from(ApiError(failure): ApiError) -> Self {
        failure.into()
    }
}

impl From<AppsError> for Refusal {
    fn from(error: AppsError) -> Self {
        let exists = matches!(error, AppsError::Catalog(CatalogError::AlreadyExists { .. }));
        let mut refusal = Self::from(Failure::from(error));
        if exists {
            refusal.code = ALREADY_EXISTS;
        }
        refusal
    }
}

impl From<corral_functions::FunctionsError> for Refusal {
    fn from(error: corral_functions::FunctionsError) -> Self {
        Failure::from(error).into()
    }
}

impl From<CatalogError> for Refusal {
    fn from(error: CatalogError) -> Self {
        Failure::from(error).into()
    }
}

impl From<corral_blobs::BlobError> for Refusal {
    fn from(error: corral_blobs::BlobError) -> Self {
        Failure::from(error).into()
    }
}

/// The text as gRPC has it in headers: bytes beyond printable ASCII by their numbers.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(byte as char),
            _ => encoded += &format!("%{byte:02X}"),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_travel_in_headers() {
        let refusal = Refusal::not_found("es gibt kein „a%b“\n").with_hint("look again");
        let trailers = refusal.trailers();
        assert_eq!(trailers["grpc-status"], "5");
        let message = trailers["grpc-message"].to_str().unwrap();
        assert_eq!(message, "es gibt kein %E2%80%9Ea%25b%E2%80%9C%0A; look again");
        let exists = AppsError::Catalog(CatalogError::AlreadyExists {
            what: corral_catalog::RecordKind::Secret,
            name: "s".to_owned(),
        });
        assert_eq!(Refusal::from(exists).trailers()["grpc-status"], "6");
    }
}
