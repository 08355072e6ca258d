use corral_types::{BlobHash, Name, WorkspaceId};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::blobs::{refer, release};
use super::column::{
    hash, id_bytes, millis, name_not_found, not_found, parsed, require_workspace, size, time,
};
use super::{Outcome, SqliteCatalog};
use crate::{
    Answer, BlobOwner, CatalogError, EncoderRecord, EncoderRecords, NewEncoder, RecordKind,
};

fn record(row: &Row<'_>) -> rusqlite::Result<EncoderRecord> {
    Ok(EncoderRecord {
        file: hash(row, "file")?,
        name: parsed(row, "name")?,
        dimension: row.get("dimension")?,
        bytes: size(row, "bytes")?,
        created: time(row, "created")?,
        is_default: row.get("is_default")?,
    })
}

fn by_file(
    connection: &Connection,
    workspace: WorkspaceId,
    file: BlobHash,
) -> Outcome<Option<EncoderRecord>> {
    let encoder = connection
        .prepare_cached("SELECT * FROM encoders WHERE workspace = ?1 AND file = ?2")?
        .query_row(params![id_bytes(workspace), file.as_bytes()], record)
        .optional()?;
    Ok(encoder)
}

impl EncoderRecords for SqliteCatalog {
    fn add_encoder(&self, workspace: WorkspaceId, new: NewEncoder) -> Answer<'_, EncoderRecord> {
        self.write(move |connection| {
            require_workspace(connection, workspace)?;
            if let Some(there) = by_file(connection, workspace, new.file)? {
                return Ok(there);
            }
            let exists = |sql: &str, key: &str| {
                connection.prepare_cached(sql)?.exists(params![id_bytes(workspace), key])
            };
            let by_name = "SELECT 1 FROM encoders WHERE workspace = ?1 AND name = ?2";
            if exists(by_name, new.name.as_str())? {
                let (what, name) = (RecordKind::Encoder, new.name.to_string());
                return Err(CatalogError::AlreadyExists { what, name }.into());
            }
            let is_first = !connection
                .prepare_cached("SELECT 1 FROM encoders WHERE workspace = ?1")?
                .exists([id_bytes(workspace)])?;
            connection
                .prepare_cached(
                    "INSERT INTO encoders
                        (workspace, file, name, dimension, bytes, created, is_default)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                )?
                .execute(params![
                    id_bytes(workspace),
                    new.file.as_bytes(),
                    new.name.as_str(),
                    new.dimension,
                    new.bytes as i64,
                    millis(new.created),
                    is_first,
                ])?;
            refer(connection, workspace, BlobOwner::Encoder(new.file), [&new.file])?;
            let NewEncoder { file, name, dimension, bytes, created } = new;
            Ok(EncoderRecord { file, name, dimension, bytes, created, is_default: is_first })
        })
    }

    fn encoder(&self, workspace: WorkspaceId, file: BlobHash) -> Answer<'_, EncoderRecord> {
        self.read(move |connection| {
            by_file(connection, workspace, file)?
                .ok_or_else(|| not_found(RecordKind::Encoder, file).into())
        })
    }

    fn encoder_named(&self, workspace: WorkspaceId, name: Name) -> Answer<'_, EncoderRecord> {
        self.read(move |connection| {
            let found = connection
                .prepare_cached("SELECT * FROM encoders WHERE workspace = ?1 AND name = ?2")?
                .query_row(params![id_bytes(workspace), name.as_str()], record)
                .optional()?;
            match found {
                Some(encoder) => Ok(encoder),
                None => {
                    let what = RecordKind::Encoder;
                    Err(name_not_found(connection, what, "encoders", workspace, &name)?.into())
                }
            }
        })
    }

    fn default_encoder(&self, workspace: WorkspaceId) -> Answer<'_, Option<EncoderRecord>> {
        self.read(move |connection| {
            let encoder = connection
                .prepare_cached("SELECT * FROM encoders WHERE workspace = ?1 AND is_default = 1")?
                .query_row([id_bytes(workspace)], record)
                .optional()?;
            Ok(encoder)
        })
    }

    fn set_default_encoder(
        &self,
        workspace: WorkspaceId,
        file: BlobHash,
    ) -> Answer<'_, EncoderRecord> {
        self.write(move |connection| {
            connection
                .prepare_cached(
                    "UPDATE encoders SET is_default = (file = ?2) WHERE workspace = ?1",
                )?
                .execute(params![id_bytes(workspace), file.as_bytes()])?;
            by_file(connection, workspace, file)?
                .ok_or_else(|| not_found(RecordKind::Encoder, file).into())
        })
    }

    fn list_encoders(&self, workspace: WorkspaceId) -> Answer<'_, Vec<EncoderRecord>> {
        self.read(move |connection| {
            let encoders = connection
                .prepare_cached("SELECT * FROM encoders WHERE workspace = ?1 ORDER BY name")?
                .query_map([id_bytes(workspace)], record)?
                .collect::<rusqlite::Result<_>>()?;
            Ok(encoders)
        })
    }

    fn remove_encoder(&self, workspace: WorkspaceId, file: BlobHash) -> Answer<'_, Vec<BlobHash>> {
        self.write(move |connection| {
            let encoder = by_file(connection, workspace, file)?
                .ok_or_else(|| not_found(RecordKind::Encoder, file))?;
            let by = connection
                .prepare_cached(
                    "SELECT m.name, v.number FROM model_versions v
                     JOIN models m ON m.workspace = v.workspace AND m.id = v.model
                     WHERE v.workspace = ?1 AND v.encoder = ?2 AND v.removed IS NULL
                     ORDER BY m.name, v.number LIMIT 20",
                )?
                .query_map(params![id_bytes(workspace), file.as_bytes()], |row| {
                    Ok(format!("model `{}@{}`", row.get::<_, String>(0)?, row.get::<_, u32>(1)?))
                })?
                .collect::<rusqlite::Result<Vec<_>>>()?;
            if !by.is_empty() {
                let (what, name) = (RecordKind::Encoder, encoder.name.to_string());
                return Err(CatalogError::InUse { what, name, by }.into());
            }
            connection
                .prepare_cached("DELETE FROM encoders WHERE workspace = ?1 AND file = ?2")?
                .execute(params![id_bytes(workspace), file.as_bytes()])?;
            release(connection, workspace, BlobOwner::Encoder(file))
        })
    }
}
