use corral_types::{BlobHash, Timestamp, WorkspaceId};
use rusqlite::{OptionalExtension, params};

use super::SqliteCatalog;
use super::column::{hash, id_bytes, millis, not_found, require_at_most, require_workspace, time};
use crate::{
    Answer, BeginRequest, Begun, CatalogError, IdempotentRequests, MAX_KEY_BYTES,
    MAX_STORED_RESPONSE_BYTES, RecordKind, StoredResponse,
};

/// A key that was taken.
struct Taken {
    route: String,
    request: BlobHash,
    expires: Timestamp,
    response: Option<StoredResponse>,
}

impl IdempotentRequests for SqliteCatalog {
    fn begin_request(&self, workspace: WorkspaceId, begin: BeginRequest) -> Answer<'_, Begun> {
        self.write(move |connection| {
            let BeginRequest { key, route, request, begun, expires } = begin;
            require_at_most("idempotency key", key.len(), MAX_KEY_BYTES)?;
            require_workspace(connection, workspace)?;
            let taken = connection
                .prepare_cached("SELECT * FROM requests WHERE workspace = ?1 AND key = ?2")?
                .query_row(params![id_bytes(workspace), key], |row| {
                    let status = row.get::<_, Option<u16>>("status")?;
                    let response = match status {
                        Some(status) => Some(StoredResponse { status, body: row.get("body")? }),
                        None => None,
                    };
                    Ok(Taken {
                        route: row.get("route")?,
                        request: hash(row, "request")?,
                        expires: time(row, "expires")?,
                        response,
                    })
                })
                .optional()?;
            if let Some(taken) = taken.filter(|taken| begun < taken.expires) {
                if taken.route != route || taken.request != request {
                    return Err(CatalogError::KeyReused { key }.into());
                }
                return match taken.response {
                    Some(response) => Ok(Begun::Done(response)),
                    None => Err(CatalogError::KeyInProgress { key }.into()),
                };
            }
            connection
                .prepare_cached(
                    "INSERT OR REPLACE INTO requests
                        (workspace, key, route, request, begun, expires)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                )?
                .execute(params![
                    id_bytes(workspace),
                    key,
                    route,
                    request.as_bytes(),
                    millis(begun),
                    millis(expires),
                ])?;
            Ok(Begun::Fresh)
        })
    }

    fn finish_request(
        &self,
        workspace: WorkspaceId,
        key: String,
        response: StoredResponse,
    ) -> Answer<'_, ()> {
        self.write(move |connection| {
            require_at_most("stored response", response.body.len(), MAX_STORED_RESPONSE_BYTES)?;
            let finished = connection
                .prepare_cached(
                    "UPDATE requests SET status = ?3, body = ?4
                     WHERE workspace = ?1 AND key = ?2 AND status IS NULL",
                )?
                .execute(params![id_bytes(workspace), key, response.status, response.body])?;
            match finished {
                0 => Err(not_found(RecordKind::Request, key).into()),
                _ => Ok(()),
            }
        })
    }

    fn abandon_request(&self, workspace: WorkspaceId, key: String) -> Answer<'_, ()> {
        self.write(move |connection| {
            connection
                .prepare_cached(
                    "DELETE FROM requests WHERE workspace = ?1 AND key = ?2 AND status IS NULL",
                )?
                .execute(params![id_bytes(workspace), key])?;
            Ok(())
        })
    }

    fn abandon_unfinished_requests(&self) -> Answer<'_, u64> {
        self.write(move |connection| {
            let abandoned = connection
                .prepare_cached("DELETE FROM requests WHERE status IS NULL")?
                .execute([])?;
            Ok(abandoned as u64)
        })
    }

    fn forget_expired_requests(&self, now: Timestamp) -> Answer<'_, u64> {
        self.write(move |connection| {
            let forgotten = connection
                .prepare_cached("DELETE FROM requests WHERE expires <= ?1")?
                .execute([millis(now)])?;
            Ok(forgotten as u64)
        })
    }
}
