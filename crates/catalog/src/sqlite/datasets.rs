use corral_types::{BlobHash, DatasetId, Name, WorkspaceId};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::blobs::{refer, release};
use super::column::{
    choice_text, hash, id, id_bytes, ids_after, millis, name_not_found, not_found, numbers_after,
    parsed, require_at_most, require_free, size, time,
};
use super::{Outcome, SqliteCatalog};
use crate::{
    Answer, BlobOwner, CatalogError, DatasetRecord, DatasetRecords, DatasetVersion,
    MAX_REFERENCES_PER_CALL, NewDatasetVersion, NewRecord, Page, PageRequest, RecordKind,
    VersionChoice,
};

/// A data set joined with its newest version.
const RECORD: &str = "SELECT d.id, d.name, d.created AS made, v.* FROM datasets d
    JOIN dataset_versions v
    ON v.workspace = d.workspace AND v.dataset = d.id AND v.number = d.head";

fn record(row: &Row<'_>) -> rusqlite::Result<DatasetRecord> {
    Ok(DatasetRecord {
        id: id(row, "id")?,
        name: parsed(row, "name")?,
        created: time(row, "made")?,
        head: version(row)?,
    })
}

fn version(row: &Row<'_>) -> rusqlite::Result<DatasetVersion> {
    Ok(DatasetVersion {
        dataset: id(row, "dataset")?,
        number: row.get("number")?,
        manifest: hash(row, "manifest")?,
        rows: size(row, "rows")?,
        bytes: size(row, "bytes")?,
        created: time(row, "created")?,
        note: row.get("note")?,
    })
}

pub(super) fn by_id(
    connection: &Connection,
    workspace: WorkspaceId,
    id: DatasetId,
) -> Outcome<DatasetRecord> {
    connection
        .prepare_cached(&format!("{RECORD} WHERE d.workspace = ?1 AND d.id = ?2"))?
        .query_row([id_bytes(workspace), id_bytes(id)], record)
        .optional()?
        .ok_or_else(|| not_found(RecordKind::Dataset, id).into())
}

fn insert_version(
    connection: &Connection,
    workspace: WorkspaceId,
    dataset: DatasetId,
    number: u32,
    new: NewDatasetVersion,
) -> Outcome<DatasetVersion> {
    require_at_most("list of blobs", new.blobs.len(), MAX_REFERENCES_PER_CALL)?;
    connection
        .prepare_cached(
            r#"INSERT INTO dataset_versions
                (workspace, dataset, number, manifest, "rows", bytes, created, note)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"#,
        )?
        .execute(params![
            id_bytes(workspace),
            id_bytes(dataset),
            number,
            new.manifest.as_bytes(),
            new.rows as i64,
            new.bytes as i64,
            millis(new.created),
            new.note,
        ])?;
    let blobs = new.blobs.iter().chain([&new.manifest]);
    refer(connection, workspace, BlobOwner::Dataset(dataset), blobs)?;
    let NewDatasetVersion { manifest, rows, bytes, created, note, .. } = new;
    Ok(DatasetVersion { dataset, number, manifest, rows, bytes, created, note })
}

impl DatasetRecords for SqliteCatalog {
    fn create_dataset(
        &self,
        workspace: WorkspaceId,
        new: NewRecord<DatasetId>,
        first: NewDatasetVersion,
    ) -> Answer<'_, DatasetRecord> {
        self.write(move |connection| {
            let NewRecord { id, name, created } = new;
            require_free(connection, RecordKind::Dataset, "datasets", workspace, id, &name)?;
            connection
                .prepare_cached(
                    "INSERT INTO datasets (workspace, id, name, created, head)
                     VALUES (?1, ?2, ?3, ?4, 1)",
                )?
                .execute(params![
                    id_bytes(workspace),
                    id_bytes(id),
                    name.as_str(),
                    millis(created)
                ])?;
            let head = insert_version(connection, workspace, id, 1, first)?;
            Ok(DatasetRecord { id, name, created, head })
        })
    }

    fn add_dataset_version(
        &self,
        workspace: WorkspaceId,
        id: DatasetId,
        built_on: u32,
        new: NewDatasetVersion,
    ) -> Answer<'_, DatasetVersion> {
        self.write(move |connection| {
            let dataset = by_id(connection, workspace, id)?;
            let found = dataset.head.number;
            if found != built_on {
                let (what, name) = (RecordKind::Dataset, dataset.name.to_string());
                return Err(
                    CatalogError::HeadMoved { what, name, expected: built_on, found }.into()
                );
            }
            connection
                .prepare_cached("UPDATE datasets SET head = ?3 WHERE workspace = ?1 AND id = ?2")?
                .execute(params![id_bytes(workspace), id_bytes(id), found + 1])?;
            insert_version(connection, workspace, id, found + 1, new)
        })
    }

    fn dataset(&self, workspace: WorkspaceId, id: DatasetId) -> Answer<'_, DatasetRecord> {
        self.read(move |connection| by_id(connection, workspace, id))
    }

    fn dataset_named(&self, workspace: WorkspaceId, name: Name) -> Answer<'_, DatasetRecord> {
        self.read(move |connection| {
            let found = connection
                .prepare_cached(&format!("{RECORD} WHERE d.workspace = ?1 AND d.name = ?2"))?
                .query_row(params![id_bytes(workspace), name.as_str()], record)
                .optional()?;
            match found {
                Some(dataset) => Ok(dataset),
                None => {
                    let what = RecordKind::Dataset;
                    Err(name_not_found(connection, what, "datasets", workspace, &name)?.into())
                }
            }
        })
    }

    fn dataset_version(
        &self,
        workspace: WorkspaceId,
        id: DatasetId,
        choice: VersionChoice,
    ) -> Answer<'_, DatasetVersion> {
        self.read(move |connection| {
            let dataset = by_id(connection, workspace, id)?;
            let VersionChoice::Number(number) = choice else { return Ok(dataset.head) };
            connection
                .prepare_cached(
                    "SELECT * FROM dataset_versions
                     WHERE workspace = ?1 AND dataset = ?2 AND number = ?3",
                )?
                .query_row(params![id_bytes(workspace), id_bytes(id), number], version)
                .optional()?
                .ok_or_else(|| {
                    let name = format!("{}@{}", dataset.name, choice_text(choice));
                    not_found(RecordKind::DatasetVersion, name).into()
                })
        })
    }

    fn list_datasets(
        &self,
        workspace: WorkspaceId,
        page: PageRequest,
    ) -> Answer<'_, Page<DatasetRecord>> {
        self.read(move |connection| {
            let after = ids_after(page.after());
            let items = connection
                .prepare_cached(&format!(
                    "{RECORD} WHERE d.workspace = ?1 AND d.id > ?2 ORDER BY d.id LIMIT ?3"
                ))?
                .query_map(params![id_bytes(workspace), after, page.limit() as i64 + 1], record)?
                .collect::<rusqlite::Result<_>>()?;
            Ok(Page::cut(items, page.limit(), |dataset| dataset.id.as_u128()))
        })
    }

    fn list_dataset_versions(
        &self,
        workspace: WorkspaceId,
        id: DatasetId,
        page: PageRequest,
    ) -> Answer<'_, Page<DatasetVersion>> {
        self.read(move |connection| {
            by_id(connection, workspace, id)?;
            let items = connection
                .prepare_cached(
                    "SELECT * FROM dataset_versions
                     WHERE workspace = ?1 AND dataset = ?2 AND number > ?3
                     ORDER BY number LIMIT ?4",
                )?
                .query_map(
                    params![
                        id_bytes(workspace),
                        id_bytes(id),
                        numbers_after(page.after()),
                        page.limit() as i64 + 1
                    ],
                    version,
                )?
                .collect::<rusqlite::Result<_>>()?;
            Ok(Page::cut(items, page.limit(), |version| version.number.into()))
        })
    }

    fn remove_dataset(&self, workspace: WorkspaceId, id: DatasetId) -> Answer<'_, Vec<BlobHash>> {
        self.write(move |connection| {
            let removed = connection
                .prepare_cached("DELETE FROM datasets WHERE workspace = ?1 AND id = ?2")?
                .execute([id_bytes(workspace), id_bytes(id)])?;
            if removed == 0 {
                return Err(not_found(RecordKind::Dataset, id).into());
            }
            release(connection, workspace, BlobOwner::Dataset(id))
        })
    }
}
