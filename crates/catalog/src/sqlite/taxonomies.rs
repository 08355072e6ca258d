use corral_types::{BlobHash, Name, TaxonomyId, WorkspaceId};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::blobs::{refer, release};
use super::column::{
    choice_text, hash, id, id_bytes, ids_after, millis, name_not_found, not_found, numbers_after,
    parsed, require_free, time,
};
use super::{Outcome, SqliteCatalog};
use crate::{
    Answer, BlobOwner, CatalogError, NewRecord, NewTaxonomyVersion, Page, PageRequest, RecordKind,
    TaxonomyRecord, TaxonomyRecords, TaxonomyVersion, VersionChoice,
};

/// A taxonomy joined with its newest version.
const RECORD: &str = "SELECT t.id, t.name, t.created AS made, v.* FROM taxonomies t
    JOIN taxonomy_versions v
    ON v.workspace = t.workspace AND v.taxonomy = t.id AND v.number = t.head";

fn record(row: &Row<'_>) -> rusqlite::Result<TaxonomyRecord> {
    Ok(TaxonomyRecord {
        id: id(row, "id")?,
        name: parsed(row, "name")?,
        created: time(row, "made")?,
        head: version(row)?,
    })
}

fn version(row: &Row<'_>) -> rusqlite::Result<TaxonomyVersion> {
    Ok(TaxonomyVersion {
        taxonomy: id(row, "taxonomy")?,
        number: row.get("number")?,
        document: hash(row, "document")?,
        classes: row.get("classes")?,
        created: time(row, "created")?,
    })
}

fn by_id(
    connection: &Connection,
    workspace: WorkspaceId,
    id: TaxonomyId,
) -> Outcome<TaxonomyRecord> {
    connection
        .prepare_cached(&format!("{RECORD} WHERE t.workspace = ?1 AND t.id = ?2"))?
        .query_row([id_bytes(workspace), id_bytes(id)], record)
        .optional()?
        .ok_or_else(|| not_found(RecordKind::Taxonomy, id).into())
}

fn insert_version(
    connection: &Connection,
    workspace: WorkspaceId,
    taxonomy: TaxonomyId,
    number: u32,
    new: NewTaxonomyVersion,
) -> Outcome<TaxonomyVersion> {
    let NewTaxonomyVersion { document, classes, created } = new;
    connection
        .prepare_cached(
            "INSERT INTO taxonomy_versions
                (workspace, taxonomy, number, document, classes, created)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            id_bytes(workspace),
            id_bytes(taxonomy),
            number,
            document.as_bytes(),
            classes,
            millis(created),
        ])?;
    refer(connection, workspace, BlobOwner::Taxonomy(taxonomy), [&document])?;
    Ok(TaxonomyVersion { taxonomy, number, document, classes, created })
}

impl TaxonomyRecords for SqliteCatalog {
    fn create_taxonomy(
        &self,
        workspace: WorkspaceId,
        new: NewRecord<TaxonomyId>,
        first: NewTaxonomyVersion,
    ) -> Answer<'_, TaxonomyRecord> {
        self.write(move |connection| {
            let NewRecord { id, name, created } = new;
            require_free(connection, RecordKind::Taxonomy, "taxonomies", workspace, id, &name)?;
            connection
                .prepare_cached(
                    "INSERT INTO taxonomies (workspace, id, name, created, head)
                     VALUES (?1, ?2, ?3, ?4, 1)",
                )?
                .execute(params![
                    id_bytes(workspace),
                    id_bytes(id),
                    name.as_str(),
                    millis(created)
                ])?;
            let head = insert_version(connection, workspace, id, 1, first)?;
            Ok(TaxonomyRecord { id, name, created, head })
        })
    }

    fn add_taxonomy_version(
        &self,
        workspace: WorkspaceId,
        id: TaxonomyId,
        built_on: u32,
        new: NewTaxonomyVersion,
    ) -> Answer<'_, TaxonomyVersion> {
        self.write(move |connection| {
            let taxonomy = by_id(connection, workspace, id)?;
            let found = taxonomy.head.number;
            if found != built_on {
                let (what, name) = (RecordKind::Taxonomy, taxonomy.name.to_string());
                return Err(
                    CatalogError::HeadMoved { what, name, expected: built_on, found }.into()
                );
            }
            connection
                .prepare_cached("UPDATE taxonomies SET head = ?3 WHERE workspace = ?1 AND id = ?2")?
                .execute(params![id_bytes(workspace), id_bytes(id), found + 1])?;
            insert_version(connection, workspace, id, found + 1, new)
        })
    }

    fn taxonomy(&self, workspace: WorkspaceId, id: TaxonomyId) -> Answer<'_, TaxonomyRecord> {
        self.read(move |connection| by_id(connection, workspace, id))
    }

    fn taxonomy_named(&self, workspace: WorkspaceId, name: Name) -> Answer<'_, TaxonomyRecord> {
        self.read(move |connection| {
            let found = connection
                .prepare_cached(&format!("{RECORD} WHERE t.workspace = ?1 AND t.name = ?2"))?
                .query_row(params![id_bytes(workspace), name.as_str()], record)
                .optional()?;
            match found {
                Some(taxonomy) => Ok(taxonomy),
                None => {
                    let what = RecordKind::Taxonomy;
                    Err(name_not_found(connection, what, "taxonomies", workspace, &name)?.into())
                }
            }
        })
    }

    fn taxonomy_version(
        &self,
        workspace: WorkspaceId,
        id: TaxonomyId,
        choice: VersionChoice,
    ) -> Answer<'_, TaxonomyVersion> {
        self.read(move |connection| {
            let taxonomy = by_id(connection, workspace, id)?;
            let VersionChoice::Number(number) = choice else { return Ok(taxonomy.head) };
            connection
                .prepare_cached(
                    "SELECT * FROM taxonomy_versions
                     WHERE workspace = ?1 AND taxonomy = ?2 AND number = ?3",
                )?
                .query_row(params![id_bytes(workspace), id_bytes(id), number], version)
                .optional()?
                .ok_or_else(|| {
                    let name = format!("{}@{}", taxonomy.name, choice_text(choice));
                    not_found(RecordKind::TaxonomyVersion, name).into()
                })
        })
    }

    fn list_taxonomies(
        &self,
        workspace: WorkspaceId,
        page: PageRequest,
    ) -> Answer<'_, Page<TaxonomyRecord>> {
        self.read(move |connection| {
            let after = ids_after(page.after());
            let items = connection
                .prepare_cached(&format!(
                    "{RECORD} WHERE t.workspace = ?1 AND t.id > ?2 ORDER BY t.id LIMIT ?3"
                ))?
                .query_map(params![id_bytes(workspace), after, page.limit() as i64 + 1], record)?
                .collect::<rusqlite::Result<_>>()?;
            Ok(Page::cut(items, page.limit(), |taxonomy| taxonomy.id.as_u128()))
        })
    }

    fn list_taxonomy_versions(
        &self,
        workspace: WorkspaceId,
        id: TaxonomyId,
        page: PageRequest,
    ) -> Answer<'_, Page<TaxonomyVersion>> {
        self.read(move |connection| {
            by_id(connection, workspace, id)?;
            let items = connection
                .prepare_cached(
                    "SELECT * FROM taxonomy_versions
                     WHERE workspace = ?1 AND taxonomy = ?2 AND number > ?3
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

    fn remove_taxonomy(&self, workspace: WorkspaceId, id: TaxonomyId) -> Answer<'_, Vec<BlobHash>> {
        self.write(move |connection| {
            let removed = connection
                .prepare_cached("DELETE FROM taxonomies WHERE workspace = ?1 AND id = ?2")?
                .execute([id_bytes(workspace), id_bytes(id)])?;
            if removed == 0 {
                return Err(not_found(RecordKind::Taxonomy, id).into());
            }
            release(connection, workspace, BlobOwner::Taxonomy(id))
        })
    }
}
