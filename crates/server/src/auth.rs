//! Who a request comes from.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use corral_catalog::{Catalog, CatalogError, DEFAULT_WORKSPACE, NewToken, SecretHash, TokenRecord};
use corral_types::{Caller, ErrorKind, Failure, Scope, Scopes, Timestamp, TokenId};

use crate::rest::ApiError;
use crate::state::App;

/// Tokens remembered between requests: enough for every client of a machine, some 100 bytes
/// each.
const MAX_REMEMBERED_TOKENS: usize = 10_000;

/// Whether requests need a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Tokens,
    /// Any token or none, on loopback only: everyone may do everything in the default
    /// workspace.
    Open,
}

/// A fresh token secret: 256 random bits, marked so that scanners of leaked secrets can
/// tell what it is.
pub fn new_token_secret() -> String {
    use std::fmt::Write;
    let mut random = [0u8; 32];
    getrandom::fill(&mut random).expect("the system's random source is available");
    let mut secret = String::from("corral_");
    for byte in random {
        write!(secret, "{byte:02x}").expect("a string takes everything");
    }
    secret
}

/// Finds the caller that a secret stands for.
#[derive(Clone)]
pub struct Tokens {
    catalog: Arc<dyn Catalog>,
    access: Access,
    /// This server is the only one that writes tokens, so what is remembered here holds
    /// until it forgets it itself.
    remembered: Arc<Mutex<Remembered>>,
}

#[derive(Default)]
struct Remembered {
    records: HashMap<SecretHash, TokenRecord>,
    /// Counts how often everything was forgotten: a record that was looked up before then
    /// must not be remembered after it.
    forgotten: u64,
}

impl Tokens {
    pub fn new(catalog: Arc<dyn Catalog>, access: Access) -> Self {
        Self { catalog, access, remembered: Arc::default() }
    }

    /// Makes sure that this secret opens everything; for the token that `corral up` prints.
    ///
    /// # Errors
    /// When the catalog cannot be written.
    pub async fn ensure_admin(&self, secret: &str) -> Result<(), CatalogError> {
        let hash = SecretHash::of(secret);
        if self.catalog.token_by_secret(hash).await?.is_some() {
            return Ok(());
        }
        let token = NewToken {
            id: TokenId::generate(),
            name: "admin".parse().expect("the name is well formed"),
            scopes: Scopes::ALL,
            secret: hash,
            created: Timestamp::now(),
            expires: None,
        };
        self.catalog.create_token(DEFAULT_WORKSPACE, token).await?;
        Ok(())
    }

    /// Forgets what is remembered, after a token was revoked.
    pub fn forget(&self) {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        remembered.records.clear();
        remembered.forgotten += 1;
    }

    async fn caller(&self, parts: &Parts) -> Result<Caller, ApiError> {
        if self.access == Access::Open {
            return self.caller_with_secret(None).await;
        }
        let Some(header) = parts.headers.get(AUTHORIZATION) else {
            return self.caller_with_secret(None).await;
        };
        let secret = header.to_str().ok().and_then(|header| match header.split_once(' ') {
            Some((scheme, secret)) => scheme.eq_ignore_ascii_case("bearer").then(|| secret.trim()),
            // Clients of other formats send the bare token.
            None => Some(header),
        });
        let secret = secret.ok_or_else(|| refuse("the Authorization header holds no token"))?;
        self.caller_with_secret(Some(secret)).await
    }

    /// The caller that a token's secret stands for.
    ///
    /// # Errors
    /// When there is none, or it is not known or not valid any more.
    pub async fn caller_with_secret(&self, secret: Option<&str>) -> Result<Caller, ApiError> {
        if self.access == Access::Open {
            return Ok(Caller { workspace: DEFAULT_WORKSPACE, token: None, scopes: Scopes::ALL });
        }
        let secret = secret.ok_or_else(|| refuse("no token was given"))?;
        let hash = SecretHash::of(secret);
        let (known, forgotten) = {
            let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
            (remembered.records.get(&hash).cloned(), remembered.forgotten)
        };
        let record = match known {
            Some(record) => record,
            None => {
                let found = self.catalog.token_by_secret(hash).await?;
                let record = found.ok_or_else(|| refuse("the token is not known"))?;
                let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
                if remembered.records.len() >= MAX_REMEMBERED_TOKENS {
                    remembered.records.clear();
                }
                if remembered.forgotten == forgotten {
                    remembered.records.insert(hash, record.clone());
                }
                record
            }
        };
        if !record.is_valid_at(Timestamp::now()) {
            return Err(refuse("the token was revoked or has expired"));
        }
        Ok(Caller { workspace: record.workspace, token: Some(record.id), scopes: record.scopes })
    }
}

fn refuse(message: &str) -> ApiError {
    ApiError(
        Failure::new(ErrorKind::Unauthenticated, message)
            .with_hint("send `Authorization: Bearer TOKEN`"),
    )
}

/// The caller of a request, who has one of these rights.
macro_rules! caller_with {
    ($($(#[$doc:meta])* $name:ident: $($scope:ident)|+;)*) => {$(
        $(#[$doc])*
        pub struct $name(pub Caller);

        impl FromRequestParts<App> for $name {
            type Rejection = ApiError;

            async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
                let caller = app.tokens.caller(parts).await?;
                let needed = [$(Scope::$scope),+];
                if needed.iter().any(|scope| caller.may(*scope)) {
                    return Ok(Self(caller));
                }
                let words = needed.map(Scope::as_str).join(" or ");
                Err(ApiError(
                    Failure::new(
                        ErrorKind::Forbidden,
                        format!("the token has the scopes {}; this needs {words}", caller.scopes),
                    )
                    .with_hint("an admin makes tokens by `corral token create --scopes …`"),
                ))
            }
        }
    )*};
}

caller_with! {
    /// May see records.
    Reader: Read | Admin;
    /// May change records.
    Writer: Write | Admin;
    /// May ask endpoints.
    Asker: Predict | Read | Admin;
    /// May call functions.
    FunctionCaller: Predict | Write | Admin;
    /// May see to the instance.
    Admin: Admin;
    /// Anyone with a valid token.
    Anyone: Read | Write | Predict | Admin;
}
