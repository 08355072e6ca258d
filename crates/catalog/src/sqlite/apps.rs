use corral_types::{AppId, EnvironmentId, Timestamp, WorkspaceId};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::column::{
    id, id_bytes, millis, not_found, optional_time, out_of_range, require_at_most, time,
};
use super::{Outcome, SqliteCatalog, environments};
use crate::{
    Answer, AppPhase, AppRecord, AppRecords, AppVersionRecord, CatalogError, MAX_APP_JSON_BYTES,
    MAX_APPS_LISTED, NewAppVersion, RecordKind,
};

const fn phase_column(phase: AppPhase) -> i64 {
    match phase {
        AppPhase::Initializing => 1,
        AppPhase::Ephemeral => 2,
        AppPhase::Detached => 3,
        AppPhase::Deployed => 4,
        AppPhase::Stopped => 5,
    }
}

fn record(row: &Row<'_>) -> rusqlite::Result<AppRecord> {
    let phase = match row.get("phase")? {
        1 => AppPhase::Initializing,
        2 => AppPhase::Ephemeral,
        3 => AppPhase::Detached,
        4 => AppPhase::Deployed,
        5 => AppPhase::Stopped,
        other => return Err(out_of_range(other)),
    };
    Ok(AppRecord {
        id: id(row, "id")?,
        environment: id(row, "environment")?,
        name: row.get("name")?,
        description: row.get("description")?,
        phase,
        created: time(row, "created")?,
        ended: optional_time(row, "ended")?,
        revision: row.get("revision")?,
        version: row.get("version")?,
        detail_json: row.get("detail_json")?,
    })
}

fn version(row: &Row<'_>) -> rusqlite::Result<AppVersionRecord> {
    Ok(AppVersionRecord {
        number: row.get("number")?,
        created: time(row, "created")?,
        layout_json: row.get("layout_json")?,
    })
}

pub(super) fn by_id(
    connection: &Connection,
    workspace: WorkspaceId,
    id: AppId,
) -> Outcome<AppRecord> {
    connection
        .prepare_cached("SELECT * FROM apps WHERE workspace = ?1 AND id = ?2")?
        .query_row([id_bytes(workspace), id_bytes(id)], record)
        .optional()?
        .ok_or_else(|| not_found(RecordKind::App, id).into())
}

fn require_name_free(
    connection: &Connection,
    workspace: WorkspaceId,
    app: &AppRecord,
) -> Outcome<()> {
    let Some(name) = app.name.as_ref().filter(|_| app.ended.is_none()) else { return Ok(()) };
    let taken = connection
        .prepare_cached(
            "SELECT 1 FROM apps WHERE workspace = ?1 AND environment = ?2 AND name = ?3
             AND ended IS NULL AND id != ?4",
        )?
        .exists(params![id_bytes(workspace), id_bytes(app.environment), name, id_bytes(app.id)])?;
    if taken {
        let name = name.clone();
        return Err(CatalogError::AlreadyExists { what: RecordKind::App, name }.into());
    }
    Ok(())
}

fn change(
    connection: &Connection,
    workspace: WorkspaceId,
    changed: AppRecord,
    version: u32,
) -> Outcome<AppRecord> {
    require_at_most("document of an app", changed.detail_json.len(), MAX_APP_JSON_BYTES)?;
    let found = by_id(connection, workspace, changed.id)?;
    if found.revision != changed.revision {
        return Err(CatalogError::HeadMoved {
            what: RecordKind::App,
            name: changed.id.to_string(),
            expected: changed.revision,
            found: found.revision,
        }
        .into());
    }
    require_name_free(connection, workspace, &changed)?;
    connection
        .prepare_cached(
            "UPDATE apps SET name = ?3, description = ?4, phase = ?5, ended = ?6,
                revision = revision + 1, version = ?7, detail_json = ?8
             WHERE workspace = ?1 AND id = ?2",
        )?
        .execute(params![
            id_bytes(workspace),
            id_bytes(changed.id),
            changed.name,
            changed.description,
            phase_column(changed.phase),
            changed.ended.map(millis),
            version,
            changed.detail_json,
        ])?;
    by_id(connection, workspace, changed.id)
}

impl AppRecords for SqliteCatalog {
    fn create_app(&self, workspace: WorkspaceId, new: AppRecord) -> Answer<'_, AppRecord> {
        self.write(move |connection| {
            environments::by_id(connection, workspace, new.environment)?;
            require_at_most("document of an app", new.detail_json.len(), MAX_APP_JSON_BYTES)?;
            require_name_free(connection, workspace, &new)?;
            if by_id(connection, workspace, new.id).is_ok() {
                let name = new.id.to_string();
                return Err(CatalogError::AlreadyExists { what: RecordKind::App, name }.into());
            }
            connection
                .prepare_cached(
                    "INSERT INTO apps (workspace, id, environment, name, description, phase,
                        created, ended, revision, version, detail_json)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 1, 0, ?9)",
                )?
                .execute(params![
                    id_bytes(workspace),
                    id_bytes(new.id),
                    id_bytes(new.environment),
                    new.name,
                    new.description,
                    phase_column(new.phase),
                    millis(new.created),
                    new.ended.map(millis),
                    new.detail_json,
                ])?;
            by_id(connection, workspace, new.id)
        })
    }

    fn app(&self, workspace: WorkspaceId, id: AppId) -> Answer<'_, AppRecord> {
        self.read(move |connection| by_id(connection, workspace, id))
    }

    fn app_named(
        &self,
        workspace: WorkspaceId,
        environment: EnvironmentId,
        name: String,
    ) -> Answer<'_, AppRecord> {
        self.read(move |connection| {
            connection
                .prepare_cached(
                    "SELECT * FROM apps WHERE workspace = ?1 AND environment = ?2 AND name = ?3
                     AND ended IS NULL",
                )?
                .query_row(params![id_bytes(workspace), id_bytes(environment), name], record)
                .optional()?
                .ok_or_else(|| not_found(RecordKind::App, name).into())
        })
    }

    fn list_apps(
        &self,
        workspace: WorkspaceId,
        environment: EnvironmentId,
    ) -> Answer<'_, Vec<AppRecord>> {
        self.read(move |connection| {
            let apps = connection
                .prepare_cached(
                    "SELECT * FROM apps WHERE workspace = ?1 AND environment = ?2
                     ORDER BY created DESC, id DESC LIMIT ?3",
                )?
                .query_map(
                    params![id_bytes(workspace), id_bytes(environment), MAX_APPS_LISTED as i64],
                    record,
                )?
                .collect::<rusqlite::Result<_>>()?;
            Ok(apps)
        })
    }

    fn apps_not_ended(&self) -> Answer<'_, Vec<(WorkspaceId, AppRecord)>> {
        self.read(move |connection| {
            let apps = connection
                .prepare_cached("SELECT * FROM apps WHERE ended IS NULL ORDER BY workspace, id")?
                .query_map([], |row| Ok((id(row, "workspace")?, record(row)?)))?
                .collect::<rusqlite::Result<_>>()?;
            Ok(apps)
        })
    }

    fn change_app(&self, workspace: WorkspaceId, changed: AppRecord) -> Answer<'_, AppRecord> {
        self.write(move |connection| {
            let version = by_id(connection, workspace, changed.id)?.version;
            change(connection, workspace, changed, version)
        })
    }

    fn publish_app(
        &self,
        workspace: WorkspaceId,
        changed: AppRecord,
        version: NewAppVersion,
    ) -> Answer<'_, AppRecord> {
        self.write(move |connection| {
            require_at_most("layout of an app", version.layout_json.len(), MAX_APP_JSON_BYTES)?;
            let number = by_id(connection, workspace, changed.id)?.version + 1;
            let app = changed.id;
            let published = change(connection, workspace, changed, number)?;
            connection
                .prepare_cached(
                    "INSERT INTO app_versions (workspace, app, number, created, layout_json)
                     VALUES (?1, ?2, ?3, ?4, ?5)",
                )?
                .execute(params![
                    id_bytes(workspace),
                    id_bytes(app),
                    number,
                    millis(version.created),
                    version.layout_json,
                ])?;
            let mut publish = connection.prepare_cached(
                "UPDATE functions SET definition = ?4
                 WHERE workspace = ?1 AND app = ?2 AND id = ?3 AND latest >= ?4",
            )?;
            for (function, definition) in version.definitions {
                let done = publish.execute(params![
                    id_bytes(workspace),
                    id_bytes(app),
                    id_bytes(function),
                    definition
                ])?;
                if done == 0 {
                    let name = format!("{function}@{definition}");
                    return Err(not_found(RecordKind::Definition, name).into());
                }
            }
            Ok(published)
        })
    }

    fn app_version(
        &self,
        workspace: WorkspaceId,
        id: AppId,
        number: u32,
    ) -> Answer<'_, AppVersionRecord> {
        self.read(move |connection| {
            connection
                .prepare_cached(
                    "SELECT * FROM app_versions
                     WHERE workspace = ?1 AND app = ?2 AND number = ?3",
                )?
                .query_row(params![id_bytes(workspace), id_bytes(id), number], version)
                .optional()?
                .ok_or_else(|| not_found(RecordKind::AppVersion, format!("{id}@{number}")).into())
        })
    }

    fn list_app_versions(
        &self,
        workspace: WorkspaceId,
        id: AppId,
    ) -> Answer<'_, Vec<AppVersionRecord>> {
        self.read(move |connection| {
            let versions = connection
                .prepare_cached(
                    "SELECT * FROM app_versions WHERE workspace = ?1 AND app = ?2
                     ORDER BY number",
                )?
                .query_map([id_bytes(workspace), id_bytes(id)], version)?
                .collect::<rusqlite::Result<_>>()?;
            Ok(versions)
        })
    }

    fn forget_apps(&self, before: Timestamp) -> Answer<'_, u64> {
        self.write(move |connection| {
            let forgotten = connection
                .prepare_cached("DELETE FROM apps WHERE ended < ?1")?
                .execute([millis(before)])?;
            Ok(forgotten as u64)
        })
    }
}
