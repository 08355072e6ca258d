//! API tokens. Their secrets are never stored, only the hashes.

use std::fmt;

use corral_types::{Name, Scopes, Timestamp, TokenId, WorkspaceId};

use super::Answer;
use crate::{Page, PageRequest};

/// The hash of a token's secret, keyed to this use. A fast hash suffices because a secret is
/// 256 random bits: there is nothing to guess.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SecretHash([u8; 32]);

impl SecretHash {
    /// The hash of a secret as its holder writes it.
    pub fn of(secret: &str) -> Self {
        Self(blake3::derive_key("corral 2026 hash of an API token's secret", secret.as_bytes()))
    }

    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// A hash is no secret, but it has no place in logs either.
impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(…)")
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRecord {
    pub id: TokenId,
    pub workspace: WorkspaceId,
    pub name: Name,
    pub scopes: Scopes,
    pub created: Timestamp,
    pub expires: Option<Timestamp>,
    /// As coarse as [`TokenRecords::record_token_uses`] is called.
    pub last_used: Option<Timestamp>,
    pub revoked: Option<Timestamp>,
}

impl TokenRecord {
    /// Whether the token opens anything at this time.
    pub fn is_valid_at(&self, now: Timestamp) -> bool {
        self.revoked.is_none() && self.expires.is_none_or(|expires| now < expires)
    }
}

#[derive(Clone, Debug)]
pub struct NewToken {
    pub id: TokenId,
    /// For people; several tokens may share one.
    pub name: Name,
    pub scopes: Scopes,
    pub secret: SecretHash,
    pub created: Timestamp,
    pub expires: Option<Timestamp>,
}

pub trait TokenRecords {
    /// # Errors
    /// When the workspace is not there, or the id or the secret is taken.
    fn create_token(&self, workspace: WorkspaceId, new: NewToken) -> Answer<'_, TokenRecord>;

    /// The token with this secret, of any workspace, whether valid or not: this is how the
    /// workspace of a request becomes known.
    fn token_by_secret(&self, secret: SecretHash) -> Answer<'_, Option<TokenRecord>>;

    /// All tokens of the workspace, revoked and expired ones too.
    fn list_tokens(
        &self,
        workspace: WorkspaceId,
        page: PageRequest,
    ) -> Answer<'_, Page<TokenRecord>>;

    /// Ends a token; the time of an earlier revocation stays.
    fn revoke_token(
        &self,
        workspace: WorkspaceId,
        id: TokenId,
        at: Timestamp,
    ) -> Answer<'_, TokenRecord>;

    /// Notes when tokens were last used. Earlier times and unknown tokens are ignored: uses
    /// are gathered and may arrive late.
    fn record_token_uses(&self, uses: Vec<(TokenId, Timestamp)>) -> Answer<'_, ()>;
}
