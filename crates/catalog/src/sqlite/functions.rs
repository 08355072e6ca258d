use corral_types::{AppId, ClsId, FunctionId, WorkspaceId};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::column::{id, id_bytes, millis, not_found, optional_id, require_at_most, time};
use super::{Outcome, SqliteCatalog, apps};
use crate::{
    Answer, Binding, CatalogError, ClsRecord, DefinitionRecord, FunctionRecord, FunctionRecords,
    MAX_APP_JSON_BYTES, MAX_BINDING_BYTES, MAX_DEFINITION_BYTES, MAX_FUNCTION_JSON_BYTES,
    NewDefinition, RecordKind,
};

fn record(row: &Row<'_>) -> rusqlite::Result<FunctionRecord> {
    let bound = match optional_id(row, "base")? {
        Some(base) => {
            Some(Binding { base, parameters: row.get("parameters")?, options: row.get("options")? })
        }
        None => None,
    };
    Ok(FunctionRecord {
        id: id(row, "id")?,
        app: id(row, "app")?,
        tag: row.get("tag")?,
        created: time(row, "created")?,
        bound,
        definition: row.get("definition")?,
        latest: row.get("latest")?,
    })
}

fn definition(row: &Row<'_>) -> rusqlite::Result<DefinitionRecord> {
    Ok(DefinitionRecord {
        number: row.get("number")?,
        created: time(row, "created")?,
        settings_json: row.get("settings_json")?,
        definition: row.get("definition")?,
    })
}

fn by_id(
    connection: &Connection,
    workspace: WorkspaceId,
    id: FunctionId,
) -> Outcome<FunctionRecord> {
    connection
        .prepare_cached("SELECT * FROM functions WHERE workspace = ?1 AND id = ?2")?
        .query_row([id_bytes(workspace), id_bytes(id)], record)
        .optional()?
        .ok_or_else(|| not_found(RecordKind::Function, id).into())
}

fn definition_by_number(
    connection: &Connection,
    workspace: WorkspaceId,
    id: FunctionId,
    number: u32,
) -> Outcome<DefinitionRecord> {
    connection
        .prepare_cached(
            "SELECT * FROM function_definitions
             WHERE workspace = ?1 AND function = ?2 AND number = ?3",
        )?
        .query_row(params![id_bytes(workspace), id_bytes(id), number], definition)
        .optional()?
        .ok_or_else(|| not_found(RecordKind::Definition, format!("{id}@{number}")).into())
}

impl FunctionRecords for SqliteCatalog {
    fn create_function(
        &self,
        workspace: WorkspaceId,
        new: FunctionRecord,
    ) -> Answer<'_, FunctionRecord> {
        self.write(move |connection| {
            apps::by_id(connection, workspace, new.app)?;
            if let Some(binding) = &new.bound {
                by_id(connection, workspace, binding.base)?;
                let size = binding.parameters.len() + binding.options.len();
                require_at_most("parameters and options", size, MAX_BINDING_BYTES)?;
            }
            if let Ok(there) = by_id(connection, workspace, new.id) {
                let same = there.app == new.app && there.tag == new.tag && there.bound == new.bound;
                if same {
                    return Ok(there);
                }
                let name = new.id.to_string();
                return Err(CatalogError::AlreadyExists { what: RecordKind::Function, name }.into());
            }
            let (base, parameters, options) = match new.bound {
                Some(Binding { base, parameters, options }) => (Some(base), parameters, options),
                None => (None, Vec::new(), Vec::new()),
            };
            connection
                .prepare_cached(
                    "INSERT INTO functions (workspace, id, app, tag, created, base, parameters,
                        options, definition, latest)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 0, 0)",
                )?
                .execute(params![
                    id_bytes(workspace),
                    id_bytes(new.id),
                    id_bytes(new.app),
                    new.tag,
                    millis(new.created),
                    base.map(id_bytes),
                    parameters,
                    options,
                ])?;
            by_id(connection, workspace, new.id)
        })
    }

    fn add_definition(
        &self,
        workspace: WorkspaceId,
        id: FunctionId,
        new: NewDefinition,
    ) -> Answer<'_, FunctionRecord> {
        self.write(move |connection| {
            let size = new.definition.len();
            require_at_most("definition of a function", size, MAX_DEFINITION_BYTES)?;
            let size = new.settings_json.len();
            require_at_most("settings of a function", size, MAX_FUNCTION_JSON_BYTES)?;
            let function = by_id(connection, workspace, id)?;
            if function.latest > 0 {
                let newest = definition_by_number(connection, workspace, id, function.latest)?;
                let is_same = newest.settings_json == new.settings_json
                    && newest.definition == new.definition;
                if is_same {
                    return Ok(function);
                }
            }
            connection
                .prepare_cached(
                    "INSERT INTO function_definitions
                        (workspace, function, number, created, settings_json, definition)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                )?
                .execute(params![
                    id_bytes(workspace),
                    id_bytes(id),
                    function.latest + 1,
                    millis(new.created),
                    new.settings_json,
                    new.definition,
                ])?;
            connection
                .prepare_cached(
                    "UPDATE functions SET latest = latest + 1 WHERE workspace = ?1 AND id = ?2",
                )?
                .execute([id_bytes(workspace), id_bytes(id)])?;
            by_id(connection, workspace, id)
        })
    }

    fn function(&self, workspace: WorkspaceId, id: FunctionId) -> Answer<'_, FunctionRecord> {
        self.read(move |connection| by_id(connection, workspace, id))
    }

    fn definition(
        &self,
        workspace: WorkspaceId,
        id: FunctionId,
        number: u32,
    ) -> Answer<'_, DefinitionRecord> {
        self.read(move |connection| definition_by_number(connection, workspace, id, number))
    }

    fn functions_of_app(
        &self,
        workspace: WorkspaceId,
        app: AppId,
    ) -> Answer<'_, Vec<FunctionRecord>> {
        self.read(move |connection| {
            let functions = connection
                .prepare_cached(
                    "SELECT * FROM functions WHERE workspace = ?1 AND app = ?2
                     ORDER BY created, id",
                )?
                .query_map([id_bytes(workspace), id_bytes(app)], record)?
                .collect::<rusqlite::Result<_>>()?;
            Ok(functions)
        })
    }

    fn put_cls(&self, workspace: WorkspaceId, cls: ClsRecord) -> Answer<'_, ()> {
        self.write(move |connection| {
            apps::by_id(connection, workspace, cls.app)?;
            require_at_most("document of a class", cls.detail_json.len(), MAX_APP_JSON_BYTES)?;
            connection
                .prepare_cached(
                    "INSERT INTO classes (workspace, id, app, created, detail_json)
                     VALUES (?1, ?2, ?3, ?4, ?5)
                     ON CONFLICT DO UPDATE SET detail_json = excluded.detail_json",
                )?
                .execute(params![
                    id_bytes(workspace),
                    id_bytes(cls.id),
                    id_bytes(cls.app),
                    millis(cls.created),
                    cls.detail_json,
                ])?;
            Ok(())
        })
    }

    fn cls(&self, workspace: WorkspaceId, id: ClsId) -> Answer<'_, ClsRecord> {
        self.read(move |connection| {
            connection
                .prepare_cached("SELECT * FROM classes WHERE workspace = ?1 AND id = ?2")?
                .query_row([id_bytes(workspace), id_bytes(id)], |row| {
                    Ok(ClsRecord {
                        id,
                        app: super::column::id(row, "app")?,
                        created: time(row, "created")?,
                        detail_json: row.get("detail_json")?,
                    })
                })
                .optional()?
                .ok_or_else(|| not_found(RecordKind::Cls, id).into())
        })
    }
}
