use corral_types::{BlobHash, Id, Timestamp, WorkspaceId};
use rusqlite::{Connection, params};

use super::column::{hash, id_bytes, not_found, require_at_most, require_workspace};
use super::{Outcome, SqliteCatalog};
use crate::{Answer, BlobOwner, BlobReferences, CatalogError, MAX_REFERENCES_PER_CALL, RecordKind};

/// The owner's columns: the kind and what identifies it.
pub(super) fn owner_columns(owner: BlobOwner) -> (i64, Vec<u8>) {
    match owner {
        BlobOwner::Upload(id) => (1, id_bytes(id).to_vec()),
        BlobOwner::Dataset(id) => (2, id_bytes(id).to_vec()),
        BlobOwner::Taxonomy(id) => (3, id_bytes(id).to_vec()),
        BlobOwner::ModelVersion(id, number) => {
            (4, [&id_bytes(id)[..], &number.to_be_bytes()].concat())
        }
        BlobOwner::Encoder(file) => (5, file.as_bytes().to_vec()),
        BlobOwner::Job(id) => (6, id_bytes(id).to_vec()),
        BlobOwner::Mount(id) => (7, id_bytes(id).to_vec()),
        BlobOwner::File(sha256) => (8, sha256.to_vec()),
    }
}

/// Refuses an owner that is a record of the catalog and not in this workspace.
fn require_owner(connection: &Connection, workspace: WorkspaceId, owner: BlobOwner) -> Outcome<()> {
    let workspace = id_bytes(workspace);
    let exists =
        |sql: &str, key: &[u8]| connection.prepare_cached(sql)?.exists(params![workspace, key]);
    let (there, what, name) = match owner {
        BlobOwner::Upload(_) | BlobOwner::Job(_) | BlobOwner::File(_) => return Ok(()),
        BlobOwner::Mount(id) => (
            exists("SELECT 1 FROM mounts WHERE workspace = ?1 AND id = ?2", &id_bytes(id))?,
            RecordKind::Mount,
            id.to_string(),
        ),
        BlobOwner::Dataset(id) => (
            exists("SELECT 1 FROM datasets WHERE workspace = ?1 AND id = ?2", &id_bytes(id))?,
            RecordKind::Dataset,
            id.to_string(),
        ),
        BlobOwner::Taxonomy(id) => (
            exists("SELECT 1 FROM taxonomies WHERE workspace = ?1 AND id = ?2", &id_bytes(id))?,
            RecordKind::Taxonomy,
            id.to_string(),
        ),
        BlobOwner::ModelVersion(id, number) => (
            connection
                .prepare_cached(
                    "SELECT 1 FROM model_versions WHERE workspace = ?1 AND model = ?2
                     AND number = ?3 AND removed IS NULL",
                )?
                .exists(params![workspace, id_bytes(id), number])?,
            RecordKind::ModelVersion,
            format!("{id}@{number}"),
        ),
        BlobOwner::Encoder(file) => (
            exists("SELECT 1 FROM encoders WHERE workspace = ?1 AND file = ?2", file.as_bytes())?,
            RecordKind::Encoder,
            file.to_string(),
        ),
    };
    if there { Ok(()) } else { Err(not_found(what, name).into()) }
}

/// Refers to blobs; for an owner whose record is known to be there.
pub(super) fn refer<'a>(
    connection: &Connection,
    workspace: WorkspaceId,
    owner: BlobOwner,
    blobs: impl IntoIterator<Item = &'a BlobHash>,
) -> Outcome<()> {
    let (kind, owner) = owner_columns(owner);
    let mut insert = connection.prepare_cached(
        "INSERT OR IGNORE INTO blob_references (workspace, owner_kind, owner, blob)
         VALUES (?1, ?2, ?3, ?4)",
    )?;
    for blob in blobs {
        insert.execute(params![id_bytes(workspace), kind, owner, blob.as_bytes()])?;
    }
    Ok(())
}

/// Gives up an owner's references; answers with the blobs that nothing refers to any more.
pub(super) fn release(
    connection: &Connection,
    workspace: WorkspaceId,
    owner: BlobOwner,
) -> Outcome<Vec<BlobHash>> {
    let (kind, owner) = owner_columns(owner);
    let released = connection
        .prepare_cached(
            "DELETE FROM blob_references
             WHERE workspace = ?1 AND owner_kind = ?2 AND owner = ?3 RETURNING blob",
        )?
        .query_map(params![id_bytes(workspace), kind, owner], |row| hash(row, "blob"))?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    unreferenced(connection, released)
}

fn unreferenced(connection: &Connection, blobs: Vec<BlobHash>) -> Outcome<Vec<BlobHash>> {
    let mut select = connection.prepare_cached("SELECT 1 FROM blob_references WHERE blob = ?1")?;
    let mut free = Vec::new();
    for blob in blobs {
        if !select.exists([blob.as_bytes()])? {
            free.push(blob);
        }
    }
    Ok(free)
}

impl BlobReferences for SqliteCatalog {
    fn add_references(
        &self,
        workspace: WorkspaceId,
        owner: BlobOwner,
        blobs: Vec<BlobHash>,
    ) -> Answer<'_, ()> {
        self.write(move |connection| {
            require_at_most("list of blobs", blobs.len(), MAX_REFERENCES_PER_CALL)?;
            require_workspace(connection, workspace)?;
            require_owner(connection, workspace, owner)?;
            refer(connection, workspace, owner, &blobs)
        })
    }

    fn remove_references(
        &self,
        workspace: WorkspaceId,
        owner: BlobOwner,
    ) -> Answer<'_, Vec<BlobHash>> {
        self.write(move |connection| {
            let loose = matches!(owner, BlobOwner::Upload(_) | BlobOwner::Job(_));
            if !loose {
                return Err(CatalogError::OwnedByRecord { owner }.into());
            }
            release(connection, workspace, owner)
        })
    }

    fn references_of(&self, workspace: WorkspaceId, owner: BlobOwner) -> Answer<'_, Vec<BlobHash>> {
        self.read(move |connection| {
            let (kind, owner) = owner_columns(owner);
            let blobs = connection
                .prepare_cached(
                    "SELECT blob FROM blob_references
                     WHERE workspace = ?1 AND owner_kind = ?2 AND owner = ?3 ORDER BY blob",
                )?
                .query_map(params![id_bytes(workspace), kind, owner], |row| hash(row, "blob"))?
                .collect::<rusqlite::Result<_>>()?;
            Ok(blobs)
        })
    }

    fn forget_uploads(&self, before: Timestamp) -> Answer<'_, u64> {
        self.write(move |connection| {
            // Ids begin with their creation time.
            let (kind, first) = owner_columns(BlobOwner::Upload(Id::from_parts(before, [0; 10])));
            let forgotten = connection
                .prepare_cached("DELETE FROM blob_references WHERE owner_kind = ?1 AND owner < ?2")?
                .execute(params![kind, first])?;
            Ok(forgotten as u64)
        })
    }

    fn has_reference(&self, workspace: WorkspaceId, blob: BlobHash) -> Answer<'_, bool> {
        self.read(move |connection| {
            let there = connection
                .prepare_cached("SELECT 1 FROM blob_references WHERE blob = ?1 AND workspace = ?2")?
                .exists(params![blob.as_bytes(), id_bytes(workspace)])?;
            Ok(there)
        })
    }

    fn referenced_blobs(&self, after: Option<BlobHash>, limit: usize) -> Answer<'_, Vec<BlobHash>> {
        self.read(move |connection| {
            let after = after.map_or_else(Vec::new, |hash| hash.as_bytes().to_vec());
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let blobs = connection
                .prepare_cached(
                    "SELECT DISTINCT blob FROM blob_references WHERE blob > ?1
                     ORDER BY blob LIMIT ?2",
                )?
                .query_map(params![after, limit], |row| hash(row, "blob"))?
                .collect::<rusqlite::Result<_>>()?;
            Ok(blobs)
        })
    }

    fn unreferenced_blobs(&self, blobs: Vec<BlobHash>) -> Answer<'_, Vec<BlobHash>> {
        self.read(move |connection| {
            require_at_most("list of blobs", blobs.len(), MAX_REFERENCES_PER_CALL)?;
            unreferenced(connection, blobs)
        })
    }
}
