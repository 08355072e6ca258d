use corral_types::{BlobHash, Id, Kind, ModelId, Name, Timestamp, WorkspaceId};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::blobs::{refer, release};
use super::column::{
    choice_text, hash, id, id_bytes, ids_after, millis, name_not_found, not_found, numbers_after,
    optional_hash, optional_id, optional_time, parsed, require_at_most, require_free, size, time,
};
use super::{Outcome, SqliteCatalog, notes};
use crate::{
    Answer, BlobOwner, CatalogError, Lineage, MAX_METRICS_BYTES, ModelNote, ModelRecord,
    ModelRecords, ModelVersion, NewModelVersion, NewRecord, NoteChange, Page, PageRequest,
    RecordKind, VersionChoice,
};

/// A model joined with its newest version that is not removed, if there is one.
const RECORD: &str = "SELECT m.id, m.name, m.created AS made, m.latest, v.* FROM models m
    LEFT JOIN model_versions v
    ON v.workspace = m.workspace AND v.model = m.id AND v.number = m.latest";

fn record(row: &Row<'_>) -> rusqlite::Result<ModelRecord> {
    Ok(ModelRecord {
        id: id(row, "id")?,
        name: parsed(row, "name")?,
        created: time(row, "made")?,
        latest: match row.get::<_, Option<u32>>("latest")? {
            Some(_) => Some(version(row)?),
            None => None,
        },
    })
}

pub(super) fn version(row: &Row<'_>) -> rusqlite::Result<ModelVersion> {
    Ok(ModelVersion {
        model: id(row, "model")?,
        number: row.get("number")?,
        file: hash(row, "file")?,
        bytes: size(row, "bytes")?,
        lineage: Lineage {
            job: optional_id(row, "job")?,
            dataset: source(row, "dataset", "dataset_version")?,
            taxonomy: source(row, "taxonomy", "taxonomy_version")?,
            code: row.get("code")?,
        },
        metrics_json: row.get("metrics_json")?,
        encoder: optional_hash(row, "encoder")?,
        report: optional_hash(row, "report")?,
        created: time(row, "created")?,
        removed: optional_time(row, "removed")?,
    })
}

fn source<K: Kind>(
    row: &Row<'_>,
    id_column: &str,
    version_column: &str,
) -> rusqlite::Result<Option<(Id<K>, u32)>> {
    match optional_id(row, id_column)? {
        Some(id) => Ok(Some((id, row.get(version_column)?))),
        None => Ok(None),
    }
}

pub(super) fn by_id(
    connection: &Connection,
    workspace: WorkspaceId,
    id: ModelId,
) -> Outcome<ModelRecord> {
    connection
        .prepare_cached(&format!("{RECORD} WHERE m.workspace = ?1 AND m.id = ?2"))?
        .query_row([id_bytes(workspace), id_bytes(id)], record)
        .optional()?
        .ok_or_else(|| not_found(RecordKind::Model, id).into())
}

fn by_name(
    connection: &Connection,
    workspace: WorkspaceId,
    name: &Name,
) -> Outcome<Option<ModelRecord>> {
    let model = connection
        .prepare_cached(&format!("{RECORD} WHERE m.workspace = ?1 AND m.name = ?2"))?
        .query_row(params![id_bytes(workspace), name.as_str()], record)
        .optional()?;
    Ok(model)
}

/// A version, a removed one too when asked for by number.
pub(super) fn choose(
    connection: &Connection,
    workspace: WorkspaceId,
    model: ModelRecord,
    choice: VersionChoice,
) -> Outcome<ModelVersion> {
    let found = match choice {
        VersionChoice::Latest => model.latest,
        VersionChoice::Number(number) => connection
            .prepare_cached(
                "SELECT * FROM model_versions
                 WHERE workspace = ?1 AND model = ?2 AND number = ?3",
            )?
            .query_row(params![id_bytes(workspace), id_bytes(model.id), number], version)
            .optional()?,
    };
    found.ok_or_else(|| {
        let name = format!("{}@{}", model.name, choice_text(choice));
        not_found(RecordKind::ModelVersion, name).into()
    })
}

/// Refuses while versions of endpoints serve the version, or any version.
fn require_unused(
    connection: &Connection,
    workspace: WorkspaceId,
    model: &ModelRecord,
    number: Option<u32>,
) -> Outcome<()> {
    let mut statement = connection.prepare_cached(
        "SELECT e.name, v.number FROM endpoint_versions v
         JOIN endpoints e ON e.workspace = v.workspace AND e.id = v.endpoint
         WHERE v.workspace = ?1 AND v.model = ?2 AND (?3 IS NULL OR v.model_version = ?3)
         ORDER BY e.name, v.number",
    )?;
    let by = statement
        .query_map(params![id_bytes(workspace), id_bytes(model.id), number], |row| {
            let (name, number): (String, u32) = (row.get("name")?, row.get("number")?);
            Ok(format!("endpoint `{name}/{number}`"))
        })?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    if by.is_empty() {
        return Ok(());
    }
    let (what, name) = match number {
        Some(number) => (RecordKind::ModelVersion, format!("{}@{number}", model.name)),
        None => (RecordKind::Model, model.name.to_string()),
    };
    Err(CatalogError::InUse { what, name, by }.into())
}

fn insert_version(
    connection: &Connection,
    workspace: WorkspaceId,
    model: ModelId,
    new: NewModelVersion,
) -> Outcome<ModelVersion> {
    let number = connection
        .prepare_cached(
            "UPDATE models SET head = head + 1, latest = head + 1
             WHERE workspace = ?1 AND id = ?2 RETURNING head",
        )?
        .query_row([id_bytes(workspace), id_bytes(model)], |row| row.get::<_, u32>("head"))?;
    let Lineage { job, dataset, taxonomy, code } = new.lineage.clone();
    connection
        .prepare_cached(
            "INSERT INTO model_versions
                (workspace, model, number, file, bytes, job, dataset, dataset_version,
                 taxonomy, taxonomy_version, metrics_json, encoder, created, report, code)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
        )?
        .execute(params![
            id_bytes(workspace),
            id_bytes(model),
            number,
            new.file.as_bytes(),
            new.bytes as i64,
            job.map(id_bytes),
            dataset.map(|(id, _)| id_bytes(id)),
            dataset.map(|(_, version)| version),
            taxonomy.map(|(id, _)| id_bytes(id)),
            taxonomy.map(|(_, version)| version),
            new.metrics_json,
            new.encoder.as_ref().map(BlobHash::as_bytes),
            millis(new.created),
            new.report.as_ref().map(BlobHash::as_bytes),
            code,
        ])?;
    let owner = BlobOwner::ModelVersion(model, number);
    refer(
        connection,
        workspace,
        owner,
        [&new.file].into_iter().chain(&new.report).chain(&new.encoder),
    )?;
    let NewModelVersion { file, bytes, lineage, metrics_json, encoder, report, created } = new;
    let removed = None;
    Ok(ModelVersion {
        model,
        number,
        file,
        bytes,
        lineage,
        metrics_json,
        encoder,
        report,
        created,
        removed,
    })
}

impl ModelRecords for SqliteCatalog {
    fn add_model_version(
        &self,
        workspace: WorkspaceId,
        new: NewRecord<ModelId>,
        version: NewModelVersion,
    ) -> Answer<'_, ModelVersion> {
        self.write(move |connection| {
            require_at_most("metrics of a model", version.metrics_json.len(), MAX_METRICS_BYTES)?;
            let model = match by_name(connection, workspace, &new.name)? {
                Some(model) => model.id,
                None => {
                    let NewRecord { id, name, created } = new;
                    require_free(connection, RecordKind::Model, "models", workspace, id, &name)?;
                    connection
                        .prepare_cached(
                            "INSERT INTO models (workspace, id, name, created, head)
                             VALUES (?1, ?2, ?3, ?4, 0)",
                        )?
                        .execute(params![
                            id_bytes(workspace),
                            id_bytes(id),
                            name.as_str(),
                            millis(created)
                        ])?;
                    id
                }
            };
            if let Some(job) = version.lineage.job {
                let delivered = connection
                    .prepare_cached(
                        "SELECT * FROM model_versions
                         WHERE workspace = ?1 AND job = ?2 AND model = ?3 AND file = ?4",
                    )?
                    .query_row(
                        params![
                            id_bytes(workspace),
                            id_bytes(job),
                            id_bytes(model),
                            version.file.as_bytes()
                        ],
                        self::version,
                    )
                    .optional()?;
                if let Some(delivered) = delivered {
                    return Ok(delivered);
                }
            }
            insert_version(connection, workspace, model, version)
        })
    }

    fn model(&self, workspace: WorkspaceId, id: ModelId) -> Answer<'_, ModelRecord> {
        self.read(move |connection| by_id(connection, workspace, id))
    }

    fn model_named(&self, workspace: WorkspaceId, name: Name) -> Answer<'_, ModelRecord> {
        self.read(move |connection| match by_name(connection, workspace, &name)? {
            Some(model) => Ok(model),
            None => {
                let what = RecordKind::Model;
                Err(name_not_found(connection, what, "models", workspace, &name)?.into())
            }
        })
    }

    fn model_version(
        &self,
        workspace: WorkspaceId,
        id: ModelId,
        choice: VersionChoice,
    ) -> Answer<'_, ModelVersion> {
        self.read(move |connection| {
            let model = by_id(connection, workspace, id)?;
            choose(connection, workspace, model, choice)
        })
    }

    fn list_models(
        &self,
        workspace: WorkspaceId,
        page: PageRequest,
    ) -> Answer<'_, Page<ModelRecord>> {
        self.read(move |connection| {
            let after = ids_after(page.after());
            let items = connection
                .prepare_cached(&format!(
                    "{RECORD} WHERE m.workspace = ?1 AND m.id > ?2 ORDER BY m.id LIMIT ?3"
                ))?
                .query_map(params![id_bytes(workspace), after, page.limit() as i64 + 1], record)?
                .collect::<rusqlite::Result<_>>()?;
            Ok(Page::cut(items, page.limit(), |model| model.id.as_u128()))
        })
    }

    fn list_model_versions(
        &self,
        workspace: WorkspaceId,
        id: ModelId,
        page: PageRequest,
    ) -> Answer<'_, Page<ModelVersion>> {
        self.read(move |connection| {
            by_id(connection, workspace, id)?;
            let items = connection
                .prepare_cached(
                    "SELECT * FROM model_versions
                     WHERE workspace = ?1 AND model = ?2 AND number > ?3
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

    fn change_model_notes(
        &self,
        workspace: WorkspaceId,
        id: ModelId,
        number: u32,
        changes: Vec<NoteChange>,
    ) -> Answer<'_, ()> {
        self.write(move |connection| notes::change(connection, workspace, id, number, changes))
    }

    fn model_notes(&self, workspace: WorkspaceId, id: ModelId) -> Answer<'_, Vec<ModelNote>> {
        self.read(move |connection| notes::of_model(connection, workspace, id))
    }

    fn remove_model_version(
        &self,
        workspace: WorkspaceId,
        id: ModelId,
        number: u32,
        at: Timestamp,
    ) -> Answer<'_, Vec<BlobHash>> {
        self.write(move |connection| {
            let model = by_id(connection, workspace, id)?;
            let choice = VersionChoice::Number(number);
            let version = choose(connection, workspace, model.clone(), choice)?;
            if version.removed.is_some() {
                return Ok(Vec::new());
            }
            require_unused(connection, workspace, &model, Some(number))?;
            connection
                .prepare_cached(
                    "UPDATE model_versions SET removed = ?4
                     WHERE workspace = ?1 AND model = ?2 AND number = ?3",
                )?
                .execute(params![id_bytes(workspace), id_bytes(id), number, millis(at)])?;
            connection
                .prepare_cached(
                    "UPDATE models SET latest =
                        (SELECT max(number) FROM model_versions
                         WHERE workspace = ?1 AND model = ?2 AND removed IS NULL)
                     WHERE workspace = ?1 AND id = ?2",
                )?
                .execute([id_bytes(workspace), id_bytes(id)])?;
            release(connection, workspace, BlobOwner::ModelVersion(id, number))
        })
    }

    fn remove_model(&self, workspace: WorkspaceId, id: ModelId) -> Answer<'_, Vec<BlobHash>> {
        self.write(move |connection| {
            let model = by_id(connection, workspace, id)?;
            require_unused(connection, workspace, &model, None)?;
            let numbers = connection
                .prepare_cached(
                    "SELECT number FROM model_versions
                     WHERE workspace = ?1 AND model = ?2 AND removed IS NULL",
                )?
                .query_map([id_bytes(workspace), id_bytes(id)], |row| row.get(0))?
                .collect::<rusqlite::Result<Vec<u32>>>()?;
            let mut free = Vec::new();
            for number in numbers {
                let owner = BlobOwner::ModelVersion(id, number);
                free.append(&mut release(connection, workspace, owner)?);
            }
            connection
                .prepare_cached("DELETE FROM models WHERE workspace = ?1 AND id = ?2")?
                .execute([id_bytes(workspace), id_bytes(id)])?;
            Ok(free)
        })
    }
}
