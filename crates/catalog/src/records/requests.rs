//! Requests that carry an idempotency key: done once, answered alike every time.

use corral_types::{BlobHash, Timestamp, WorkspaceId};

use super::Answer;

/// The bytes of a key at most.
pub const MAX_KEY_BYTES: usize = 255;

/// The bytes of a stored response body at most: answers to requests that create are small.
pub const MAX_STORED_RESPONSE_BYTES: usize = 256 * 1024;

#[derive(Clone, Debug)]
pub struct BeginRequest {
    pub key: String,
    /// Method and path.
    pub route: String,
    /// Of all that makes the request what it is; the body above all.
    pub request: BlobHash,
    pub begun: Timestamp,
    /// From when on the key is forgotten.
    pub expires: Timestamp,
}

/// What is to be done with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begun {
    /// Do it, then finish or abandon it.
    Fresh,
    /// It was done: answer with this.
    Done(StoredResponse),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredResponse {
    pub status: u16,
    pub body: Vec<u8>,
}

pub trait IdempotentRequests {
    /// Takes a key for a request, or finds the answer it was given.
    ///
    /// # Errors
    /// [`KeyReused`](crate::CatalogError::KeyReused) when the key belongs to another request,
    /// [`KeyInProgress`](crate::CatalogError::KeyInProgress) while that one is not finished.
    fn begin_request(&self, workspace: WorkspaceId, begin: BeginRequest) -> Answer<'_, Begun>;

    /// Stores the answer.
    ///
    /// # Errors
    /// When the key was not begun, or is finished already.
    fn finish_request(
        &self,
        workspace: WorkspaceId,
        key: String,
        response: StoredResponse,
    ) -> Answer<'_, ()>;

    /// Gives the key back after a failure that changed nothing, so that a retry does the work.
    fn abandon_request(&self, workspace: WorkspaceId, key: String) -> Answer<'_, ()>;

    /// Gives back every key that is not finished, in all workspaces; answers how many. For
    /// the start of the server: whoever was doing them is gone.
    fn abandon_unfinished_requests(&self) -> Answer<'_, u64>;

    /// Forgets the keys that have expired, in all workspaces; answers how many.
    fn forget_expired_requests(&self, now: Timestamp) -> Answer<'_, u64>;
}
