use corral_types::{DatasetId, WorkspaceId};
use rusqlite::{OptionalExtension, Row, params};

use super::SqliteCatalog;
use super::blobs::refer;
use super::column::{hash, id, id_bytes, millis, numbers_after, time};
use super::datasets::by_id;
use crate::{
    Answer, BlobOwner, CatalogError, LabelingRecords, LabelingVersion, NewLabelingVersion, Page,
    PageRequest, RecordKind, VersionChoice,
};

fn version(row: &Row<'_>) -> rusqlite::Result<LabelingVersion> {
    Ok(LabelingVersion {
        dataset: id(row, "dataset")?,
        number: row.get("number")?,
        document: hash(row, "document")?,
        functions: row.get("functions")?,
        created: time(row, "created")?,
        note: row.get("note")?,
    })
}

impl LabelingRecords for SqliteCatalog {
    fn add_labeling_version(
        &self,
        workspace: WorkspaceId,
        dataset: DatasetId,
        built_on: u32,
        new: NewLabelingVersion,
    ) -> Answer<'_, LabelingVersion> {
        self.write(move |connection| {
            let record = by_id(connection, workspace, dataset)?;
            let found: u32 = connection
                .prepare_cached(
                    "SELECT coalesce(max(number), 0) FROM labeling_versions
                     WHERE workspace = ?1 AND dataset = ?2",
                )?
                .query_row([id_bytes(workspace), id_bytes(dataset)], |row| row.get(0))?;
            if found != built_on {
                let (what, name) = (RecordKind::Labeling, record.name.to_string());
                return Err(
                    CatalogError::HeadMoved { what, name, expected: built_on, found }.into()
                );
            }
            let NewLabelingVersion { document, functions, created, note } = new;
            connection
                .prepare_cached(
                    "INSERT INTO labeling_versions
                        (workspace, dataset, number, document, functions, created, note)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                )?
                .execute(params![
                    id_bytes(workspace),
                    id_bytes(dataset),
                    found + 1,
                    document.as_bytes(),
                    functions,
                    millis(created),
                    note,
                ])?;
            refer(connection, workspace, BlobOwner::Dataset(dataset), [&document])?;
            Ok(LabelingVersion { dataset, number: found + 1, document, functions, created, note })
        })
    }

    fn labeling_version(
        &self,
        workspace: WorkspaceId,
        dataset: DatasetId,
        choice: VersionChoice,
    ) -> Answer<'_, Option<LabelingVersion>> {
        self.read(move |connection| {
            by_id(connection, workspace, dataset)?;
            let number = match choice {
                VersionChoice::Latest => None,
                VersionChoice::Number(number) => Some(number),
            };
            let found = connection
                .prepare_cached(
                    "SELECT * FROM labeling_versions
                     WHERE workspace = ?1 AND dataset = ?2 AND (?3 IS NULL OR number = ?3)
                     ORDER BY number DESC LIMIT 1",
                )?
                .query_row(params![id_bytes(workspace), id_bytes(dataset), number], version)
                .optional()?;
            Ok(found)
        })
    }

    fn list_labeling_versions(
        &self,
        workspace: WorkspaceId,
        dataset: DatasetId,
        page: PageRequest,
    ) -> Answer<'_, Page<LabelingVersion>> {
        self.read(move |connection| {
            by_id(connection, workspace, dataset)?;
            let items = connection
                .prepare_cached(
                    "SELECT * FROM labeling_versions
                     WHERE workspace = ?1 AND dataset = ?2 AND number > ?3
                     ORDER BY number LIMIT ?4",
                )?
                .query_map(
                    params![
                        id_bytes(workspace),
                        id_bytes(dataset),
                        numbers_after(page.after()),
                        page.limit() as i64 + 1
                    ],
                    version,
                )?
                .collect::<rusqlite::Result<_>>()?;
            Ok(Page::cut(items, page.limit(), |version| version.number.into()))
        })
    }
}
