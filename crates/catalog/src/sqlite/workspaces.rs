use corral_types::{Name, WorkspaceId};
use rusqlite::{OptionalExtension, Row, params};

use super::column::{id, id_bytes, ids_after, millis, not_found, parsed, time};
use super::{SqliteCatalog, Stop};
use crate::{
    Answer, CatalogError, NewRecord, Page, PageRequest, RecordKind, WorkspaceRecord,
    WorkspaceRecords,
};

fn record(row: &Row<'_>) -> rusqlite::Result<WorkspaceRecord> {
    Ok(WorkspaceRecord {
        id: id(row, "id")?,
        name: parsed(row, "name")?,
        created: time(row, "created")?,
    })
}

impl WorkspaceRecords for SqliteCatalog {
    fn create_workspace(&self, new: NewRecord<WorkspaceId>) -> Answer<'_, WorkspaceRecord> {
        self.write(move |connection| {
            let taken = connection
                .prepare_cached("SELECT 1 FROM workspaces WHERE name = ?1 OR id = ?2")?
                .exists(params![new.name.as_str(), id_bytes(new.id)])?;
            if taken {
                let (what, name) = (RecordKind::Workspace, new.name.to_string());
                return Err(CatalogError::AlreadyExists { what, name }.into());
            }
            connection
                .prepare_cached("INSERT INTO workspaces (id, name, created) VALUES (?1, ?2, ?3)")?
                .execute(params![id_bytes(new.id), new.name.as_str(), millis(new.created)])?;
            Ok(WorkspaceRecord { id: new.id, name: new.name, created: new.created })
        })
    }

    fn workspace(&self, id: WorkspaceId) -> Answer<'_, WorkspaceRecord> {
        self.read(move |connection| {
            connection
                .prepare_cached("SELECT id, name, created FROM workspaces WHERE id = ?1")?
                .query_row([id_bytes(id)], record)
                .optional()?
                .ok_or_else(|| not_found(RecordKind::Workspace, id).into())
        })
    }

    fn workspace_named(&self, name: Name) -> Answer<'_, WorkspaceRecord> {
        self.read(move |connection| {
            connection
                .prepare_cached("SELECT id, name, created FROM workspaces WHERE name = ?1")?
                .query_row([name.as_str()], record)
                .optional()?
                .ok_or_else(|| Stop::from(not_found(RecordKind::Workspace, &name)))
        })
    }

    fn list_workspaces(&self, page: PageRequest) -> Answer<'_, Page<WorkspaceRecord>> {
        self.read(move |connection| {
            let items = connection
                .prepare_cached(
                    "SELECT id, name, created FROM workspaces WHERE id > ?1 ORDER BY id LIMIT ?2",
                )?
                .query_map(params![ids_after(page.after()), page.limit() as i64 + 1], record)?
                .collect::<rusqlite::Result<_>>()?;
            Ok(Page::cut(items, page.limit(), |workspace| workspace.id.as_u128()))
        })
    }
}
