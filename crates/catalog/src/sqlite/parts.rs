use corral_types::{BlobHash, EnvironmentId, ImageId, MountId, SecretId, Timestamp, WorkspaceId};
use rusqlite::{OptionalExtension, Row, params};

use super::blobs::{owner_columns, refer};
use super::column::{
    hash, id, id_bytes, millis, not_found, require_at_most, require_workspace, time,
};
use super::{SqliteCatalog, environments};
use crate::{
    Answer, BlobOwner, CatalogError, FileRecord, ImageRecord, MAX_APP_JSON_BYTES,
    MAX_FILES_PER_CALL, MAX_IMAGE_JSON_BYTES, MAX_MOUNT_JSON_BYTES, MAX_SEALED_BYTES,
    MAX_SECRETS_LISTED, MountRecord, PartRecords, RecordKind, SecretRecord,
};

fn secret(row: &Row<'_>) -> rusqlite::Result<SecretRecord> {
    Ok(SecretRecord {
        id: id(row, "id")?,
        environment: id(row, "environment")?,
        name: row.get("name")?,
        created: time(row, "created")?,
        detail_json: row.get("detail_json")?,
        sealed: row.get("sealed")?,
    })
}

impl PartRecords for SqliteCatalog {
    fn put_image(&self, workspace: WorkspaceId, image: ImageRecord) -> Answer<'_, ()> {
        self.write(move |connection| {
            require_workspace(connection, workspace)?;
            require_at_most("recipe of an image", image.recipe_json.len(), MAX_IMAGE_JSON_BYTES)?;
            connection
                .prepare_cached(
                    "INSERT OR IGNORE INTO images (workspace, id, created, recipe_json)
                     VALUES (?1, ?2, ?3, ?4)",
                )?
                .execute(params![
                    id_bytes(workspace),
                    id_bytes(image.id),
                    millis(image.created),
                    image.recipe_json,
                ])?;
            Ok(())
        })
    }

    fn image(&self, workspace: WorkspaceId, id: ImageId) -> Answer<'_, ImageRecord> {
        self.read(move |connection| {
            connection
                .prepare_cached("SELECT * FROM images WHERE workspace = ?1 AND id = ?2")?
                .query_row([id_bytes(workspace), id_bytes(id)], |row| {
                    let created = time(row, "created")?;
                    Ok(ImageRecord { id, created, recipe_json: row.get("recipe_json")? })
                })
                .optional()?
                .ok_or_else(|| not_found(RecordKind::Image, id).into())
        })
    }

    fn put_mount(
        &self,
        workspace: WorkspaceId,
        mount: MountRecord,
        blobs: Vec<BlobHash>,
    ) -> Answer<'_, ()> {
        self.write(move |connection| {
            require_workspace(connection, workspace)?;
            require_at_most("list of files", mount.files_json.len(), MAX_MOUNT_JSON_BYTES)?;
            connection
                .prepare_cached(
                    "INSERT OR IGNORE INTO mounts (workspace, id, created, files_json)
                     VALUES (?1, ?2, ?3, ?4)",
                )?
                .execute(params![
                    id_bytes(workspace),
                    id_bytes(mount.id),
                    millis(mount.created),
                    mount.files_json,
                ])?;
            refer(connection, workspace, BlobOwner::Mount(mount.id), &blobs)
        })
    }

    fn mount(&self, workspace: WorkspaceId, id: MountId) -> Answer<'_, MountRecord> {
        self.read(move |connection| {
            connection
                .prepare_cached("SELECT * FROM mounts WHERE workspace = ?1 AND id = ?2")?
                .query_row([id_bytes(workspace), id_bytes(id)], |row| {
                    let created = time(row, "created")?;
                    Ok(MountRecord { id, created, files_json: row.get("files_json")? })
                })
                .optional()?
                .ok_or_else(|| not_found(RecordKind::Mount, id).into())
        })
    }

    fn put_secret(&self, workspace: WorkspaceId, secret: SecretRecord) -> Answer<'_, ()> {
        self.write(move |connection| {
            environments::by_id(connection, workspace, secret.environment)?;
            require_at_most("secret", secret.sealed.len(), MAX_SEALED_BYTES)?;
            require_at_most("keys of a secret", secret.detail_json.len(), MAX_APP_JSON_BYTES)?;
            let environment = id_bytes(secret.environment);
            if let Some(name) = &secret.name {
                let taken = connection
                    .prepare_cached(
                        "SELECT 1 FROM secrets
                         WHERE workspace = ?1 AND environment = ?2 AND name = ?3 AND id != ?4",
                    )?
                    .exists(params![id_bytes(workspace), environment, name, id_bytes(secret.id)])?;
                if taken {
                    let (what, name) = (RecordKind::Secret, name.clone());
                    return Err(CatalogError::AlreadyExists { what, name }.into());
                }
            }
            connection
                .prepare_cached(
                    "INSERT OR REPLACE INTO secrets
                        (workspace, id, environment, name, created, detail_json, sealed)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                )?
                .execute(params![
                    id_bytes(workspace),
                    id_bytes(secret.id),
                    environment,
                    secret.name,
                    millis(secret.created),
                    secret.detail_json,
                    secret.sealed,
                ])?;
            Ok(())
        })
    }

    fn secret(&self, workspace: WorkspaceId, id: SecretId) -> Answer<'_, SecretRecord> {
        self.read(move |connection| {
            connection
                .prepare_cached("SELECT * FROM secrets WHERE workspace = ?1 AND id = ?2")?
                .query_row([id_bytes(workspace), id_bytes(id)], secret)
                .optional()?
                .ok_or_else(|| not_found(RecordKind::Secret, id).into())
        })
    }

    fn secret_named(
        &self,
        workspace: WorkspaceId,
        environment: EnvironmentId,
        name: String,
    ) -> Answer<'_, SecretRecord> {
        self.read(move |connection| {
            connection
                .prepare_cached(
                    "SELECT * FROM secrets
                     WHERE workspace = ?1 AND environment = ?2 AND name = ?3",
                )?
                .query_row(params![id_bytes(workspace), id_bytes(environment), name], secret)
                .optional()?
                .ok_or_else(|| not_found(RecordKind::Secret, name).into())
        })
    }

    fn list_secrets(
        &self,
        workspace: WorkspaceId,
        environment: EnvironmentId,
    ) -> Answer<'_, Vec<SecretRecord>> {
        self.read(move |connection| {
            let secrets = connection
                .prepare_cached(
                    "SELECT * FROM secrets
                     WHERE workspace = ?1 AND environment = ?2 AND name IS NOT NULL
                     ORDER BY name LIMIT ?3",
                )?
                .query_map(
                    params![id_bytes(workspace), id_bytes(environment), MAX_SECRETS_LISTED as i64],
                    secret,
                )?
                .collect::<rusqlite::Result<_>>()?;
            Ok(secrets)
        })
    }

    fn remove_secret(&self, workspace: WorkspaceId, id: SecretId) -> Answer<'_, ()> {
        self.write(move |connection| {
            let removed = connection
                .prepare_cached("DELETE FROM secrets WHERE workspace = ?1 AND id = ?2")?
                .execute([id_bytes(workspace), id_bytes(id)])?;
            match removed {
                0 => Err(not_found(RecordKind::Secret, id).into()),
                _ => Ok(()),
            }
        })
    }

    fn put_file(
        &self,
        workspace: WorkspaceId,
        file: FileRecord,
        seen: Timestamp,
    ) -> Answer<'_, ()> {
        self.write(move |connection| {
            require_workspace(connection, workspace)?;
            connection
                .prepare_cached(
                    "INSERT OR REPLACE INTO files (workspace, sha256, blob, seen)
                     VALUES (?1, ?2, ?3, ?4)",
                )?
                .execute(params![
                    id_bytes(workspace),
                    file.sha256,
                    file.blob.as_bytes(),
                    millis(seen)
                ])?;
            refer(connection, workspace, BlobOwner::File(file.sha256), [&file.blob])
        })
    }

    fn files(
        &self,
        workspace: WorkspaceId,
        sha256: Vec<[u8; 32]>,
        seen: Timestamp,
    ) -> Answer<'_, Vec<FileRecord>> {
        self.write(move |connection| {
            require_at_most("list of files", sha256.len(), MAX_FILES_PER_CALL)?;
            let mut touch = connection.prepare_cached(
                "UPDATE files SET seen = max(seen, ?3) WHERE workspace = ?1 AND sha256 = ?2
                 RETURNING blob",
            )?;
            let mut found = Vec::new();
            for sha256 in sha256 {
                let blob = touch
                    .query_row(params![id_bytes(workspace), sha256, millis(seen)], |row| {
                        hash(row, "blob")
                    })
                    .optional()?;
                found.extend(blob.map(|blob| FileRecord { sha256, blob }));
            }
            Ok(found)
        })
    }

    fn forget_files(&self, before: Timestamp) -> Answer<'_, u64> {
        self.write(move |connection| {
            let (kind, _) = owner_columns(BlobOwner::File([0; 32]));
            connection
                .prepare_cached(
                    "DELETE FROM blob_references WHERE owner_kind = ?2 AND EXISTS
                     (SELECT 1 FROM files f WHERE f.workspace = blob_references.workspace
                      AND f.sha256 = blob_references.owner AND f.seen < ?1)",
                )?
                .execute(params![millis(before), kind])?;
            let forgotten = connection
                .prepare_cached("DELETE FROM files WHERE seen < ?1")?
                .execute([millis(before)])?;
            Ok(forgotten as u64)
        })
    }
}
