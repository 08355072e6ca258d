use corral_types::{EnvironmentId, WorkspaceId};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::column::{id, id_bytes, millis, not_found, require_at_most, require_workspace, time};
use super::{Outcome, SqliteCatalog};
use crate::{
    Answer, CatalogError, EnvironmentRecord, EnvironmentRecords, MAX_APP_JSON_BYTES,
    MAX_ENVIRONMENTS, RecordKind,
};

fn record(row: &Row<'_>) -> rusqlite::Result<EnvironmentRecord> {
    Ok(EnvironmentRecord {
        id: id(row, "id")?,
        name: row.get("name")?,
        created: time(row, "created")?,
        settings_json: row.get("settings_json")?,
    })
}

pub(super) fn by_id(
    connection: &Connection,
    workspace: WorkspaceId,
    id: EnvironmentId,
) -> Outcome<EnvironmentRecord> {
    connection
        .prepare_cached("SELECT * FROM environments WHERE workspace = ?1 AND id = ?2")?
        .query_row([id_bytes(workspace), id_bytes(id)], record)
        .optional()?
        .ok_or_else(|| not_found(RecordKind::Environment, id).into())
}

fn require_name_free(
    connection: &Connection,
    workspace: WorkspaceId,
    name: &str,
    unless: EnvironmentId,
) -> Outcome<()> {
    let taken = connection
        .prepare_cached(
            "SELECT 1 FROM environments WHERE workspace = ?1 AND name = ?2 AND id != ?3",
        )?
        .exists(params![id_bytes(workspace), name, id_bytes(unless)])?;
    if taken {
        let name = name.to_owned();
        return Err(CatalogError::AlreadyExists { what: RecordKind::Environment, name }.into());
    }
    Ok(())
}

impl EnvironmentRecords for SqliteCatalog {
    fn create_environment(
        &self,
        workspace: WorkspaceId,
        new: EnvironmentRecord,
    ) -> Answer<'_, EnvironmentRecord> {
        self.write(move |connection| {
            require_workspace(connection, workspace)?;
            require_at_most("settings", new.settings_json.len(), MAX_APP_JSON_BYTES)?;
            require_name_free(connection, workspace, &new.name, new.id)?;
            if by_id(connection, workspace, new.id).is_ok() {
                let name = new.id.to_string();
                let what = RecordKind::Environment;
                return Err(CatalogError::AlreadyExists { what, name }.into());
            }
            let there: i64 = connection
                .prepare_cached("SELECT count(*) FROM environments WHERE workspace = ?1")?
                .query_row([id_bytes(workspace)], |row| row.get(0))?;
            require_at_most("list of environments", there as usize + 1, MAX_ENVIRONMENTS)?;
            connection
                .prepare_cached(
                    "INSERT INTO environments (workspace, id, name, created, settings_json)
                     VALUES (?1, ?2, ?3, ?4, ?5)",
                )?
                .execute(params![
                    id_bytes(workspace),
                    id_bytes(new.id),
                    new.name,
                    millis(new.created),
                    new.settings_json,
                ])?;
            Ok(new)
        })
    }

    fn environment(
        &self,
        workspace: WorkspaceId,
        id: EnvironmentId,
    ) -> Answer<'_, EnvironmentRecord> {
        self.read(move |connection| by_id(connection, workspace, id))
    }

    fn environment_named(
        &self,
        workspace: WorkspaceId,
        name: String,
    ) -> Answer<'_, EnvironmentRecord> {
        self.read(move |connection| {
            connection
                .prepare_cached("SELECT * FROM environments WHERE workspace = ?1 AND name = ?2")?
                .query_row(params![id_bytes(workspace), name], record)
                .optional()?
                .ok_or_else(|| not_found(RecordKind::Environment, name).into())
        })
    }

    fn list_environments(&self, workspace: WorkspaceId) -> Answer<'_, Vec<EnvironmentRecord>> {
        self.read(move |connection| {
            let all = connection
                .prepare_cached("SELECT * FROM environments WHERE workspace = ?1 ORDER BY id")?
                .query_map([id_bytes(workspace)], record)?
                .collect::<rusqlite::Result<_>>()?;
            Ok(all)
        })
    }

    fn change_environment(
        &self,
        workspace: WorkspaceId,
        changed: EnvironmentRecord,
    ) -> Answer<'_, ()> {
        self.write(move |connection| {
            require_at_most("settings", changed.settings_json.len(), MAX_APP_JSON_BYTES)?;
            require_name_free(connection, workspace, &changed.name, changed.id)?;
            let done = connection
                .prepare_cached(
                    "UPDATE environments SET name = ?3, settings_json = ?4
                     WHERE workspace = ?1 AND id = ?2",
                )?
                .execute(params![
                    id_bytes(workspace),
                    id_bytes(changed.id),
                    changed.name,
                    changed.settings_json,
                ])?;
            match done {
                0 => Err(not_found(RecordKind::Environment, changed.id).into()),
                _ => Ok(()),
            }
        })
    }

    fn remove_environment(&self, workspace: WorkspaceId, id: EnvironmentId) -> Answer<'_, ()> {
        self.write(move |connection| {
            let environment = by_id(connection, workspace, id)?;
            let by = connection
                .prepare_cached(
                    "SELECT coalesce(name, description) FROM apps
                     WHERE workspace = ?1 AND environment = ?2 AND ended IS NULL
                     ORDER BY id LIMIT 10",
                )?
                .query_map([id_bytes(workspace), id_bytes(id)], |row| row.get(0))?
                .collect::<rusqlite::Result<Vec<String>>>()?;
            if !by.is_empty() {
                let (what, name) = (RecordKind::Environment, environment.name);
                return Err(CatalogError::InUse { what, name, by }.into());
            }
            connection
                .prepare_cached("DELETE FROM environments WHERE workspace = ?1 AND id = ?2")?
                .execute([id_bytes(workspace), id_bytes(id)])?;
            Ok(())
        })
    }
}
