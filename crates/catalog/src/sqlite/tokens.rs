use corral_types::{Scopes, Timestamp, TokenId, WorkspaceId};
use rusqlite::{OptionalExtension, Row, params};

use super::SqliteCatalog;
use super::column::{
    id, id_bytes, ids_after, millis, not_found, optional_time, parsed, require_workspace, time,
};
use crate::{
    Answer, CatalogError, NewToken, Page, PageRequest, RecordKind, SecretHash, TokenRecord,
    TokenRecords,
};

fn record(row: &Row<'_>) -> rusqlite::Result<TokenRecord> {
    Ok(TokenRecord {
        id: id(row, "id")?,
        workspace: id(row, "workspace")?,
        name: parsed(row, "name")?,
        scopes: parsed::<Scopes>(row, "scopes")?,
        created: time(row, "created")?,
        expires: optional_time(row, "expires")?,
        last_used: optional_time(row, "last_used")?,
        revoked: optional_time(row, "revoked")?,
    })
}

impl TokenRecords for SqliteCatalog {
    fn create_token(&self, workspace: WorkspaceId, new: NewToken) -> Answer<'_, TokenRecord> {
        self.write(move |connection| {
            require_workspace(connection, workspace)?;
            let taken = connection
                .prepare_cached("SELECT 1 FROM tokens WHERE id = ?1 OR secret = ?2")?
                .exists(params![id_bytes(new.id), new.secret.as_bytes()])?;
            if taken {
                let (what, name) = (RecordKind::Token, new.id.to_string());
                return Err(CatalogError::AlreadyExists { what, name }.into());
            }
            connection
                .prepare_cached(
                    "INSERT INTO tokens (id, workspace, name, scopes, secret, created, expires)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                )?
                .execute(params![
                    id_bytes(new.id),
                    id_bytes(workspace),
                    new.name.as_str(),
                    new.scopes.to_string(),
                    new.secret.as_bytes(),
                    millis(new.created),
                    new.expires.map(millis),
                ])?;
            Ok(TokenRecord {
                id: new.id,
                workspace,
                name: new.name,
                scopes: new.scopes,
                created: new.created,
                expires: new.expires,
                last_used: None,
                revoked: None,
            })
        })
    }

    fn token_by_secret(&self, secret: SecretHash) -> Answer<'_, Option<TokenRecord>> {
        self.read(move |connection| {
            let token = connection
                .prepare_cached("SELECT * FROM tokens WHERE secret = ?1")?
                .query_row([secret.as_bytes()], record)
                .optional()?;
            Ok(token)
        })
    }

    fn list_tokens(
        &self,
        workspace: WorkspaceId,
        page: PageRequest,
    ) -> Answer<'_, Page<TokenRecord>> {
        self.read(move |connection| {
            let after = ids_after(page.after());
            let items = connection
                .prepare_cached(
                    "SELECT * FROM tokens WHERE workspace = ?1 AND id > ?2 ORDER BY id LIMIT ?3",
                )?
                .query_map(params![id_bytes(workspace), after, page.limit() as i64 + 1], record)?
                .collect::<rusqlite::Result<_>>()?;
            Ok(Page::cut(items, page.limit(), |token| token.id.as_u128()))
        })
    }

    fn revoke_token(
        &self,
        workspace: WorkspaceId,
        id: TokenId,
        at: Timestamp,
    ) -> Answer<'_, TokenRecord> {
        self.write(move |connection| {
            connection
                .prepare_cached(
                    "UPDATE tokens SET revoked = coalesce(revoked, ?3)
                     WHERE workspace = ?1 AND id = ?2",
                )?
                .execute(params![id_bytes(workspace), id_bytes(id), millis(at)])?;
            connection
                .prepare_cached("SELECT * FROM tokens WHERE workspace = ?1 AND id = ?2")?
                .query_row([id_bytes(workspace), id_bytes(id)], record)
                .optional()?
                .ok_or_else(|| not_found(RecordKind::Token, id).into())
        })
    }

    fn record_token_uses(&self, uses: Vec<(TokenId, Timestamp)>) -> Answer<'_, ()> {
        self.write(move |connection| {
            let mut update = connection.prepare_cached(
                "UPDATE tokens SET last_used = ?2
                 WHERE id = ?1 AND (last_used IS NULL OR last_used < ?2)",
            )?;
            for (id, at) in uses {
                update.execute(params![id_bytes(id), millis(at)])?;
            }
            Ok(())
        })
    }
}
