use corral_types::{EndpointId, Name, WorkspaceId};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::column::{
    choice, choice_column, choice_text, id, id_bytes, ids_after, millis, name_not_found, not_found,
    numbers_after, parsed, require_free, time,
};
use super::models;
use super::{Outcome, SqliteCatalog};
use crate::{
    Answer, EndpointChange, EndpointRecord, EndpointRecords, EndpointTarget, Page, PageRequest,
    PointEndpoint, RecordKind,
};

/// An endpoint joined with its model and the version that its target means now.
const RECORD: &str = "SELECT e.id, e.name, e.created AS made, e.updated, e.version,
    m.name AS model_name, v.* FROM endpoints e
    JOIN models m ON m.workspace = e.workspace AND m.id = e.model
    JOIN model_versions v ON v.workspace = e.workspace AND v.model = e.model
    AND v.number = coalesce(e.version, m.latest)";

fn record(row: &Row<'_>) -> rusqlite::Result<EndpointRecord> {
    Ok(EndpointRecord {
        id: id(row, "id")?,
        name: parsed(row, "name")?,
        created: time(row, "made")?,
        updated: time(row, "updated")?,
        target: target(row)?,
        model_name: parsed(row, "model_name")?,
        serves: models::version(row)?,
    })
}

fn target(row: &Row<'_>) -> rusqlite::Result<EndpointTarget> {
    Ok(EndpointTarget { model: id(row, "model")?, version: choice(row, "version")? })
}

fn change(row: &Row<'_>) -> rusqlite::Result<EndpointChange> {
    Ok(EndpointChange {
        number: row.get("number")?,
        target: target(row)?,
        served: row.get("served")?,
        at: time(row, "at")?,
    })
}

fn by_name(
    connection: &Connection,
    workspace: WorkspaceId,
    name: &Name,
) -> Outcome<Option<EndpointRecord>> {
    let endpoint = connection
        .prepare_cached(&format!("{RECORD} WHERE e.workspace = ?1 AND e.name = ?2"))?
        .query_row(params![id_bytes(workspace), name.as_str()], record)
        .optional()?;
    Ok(endpoint)
}

impl EndpointRecords for SqliteCatalog {
    fn point_endpoint(
        &self,
        workspace: WorkspaceId,
        wish: PointEndpoint,
    ) -> Answer<'_, EndpointRecord> {
        self.write(move |connection| {
            let PointEndpoint { endpoint, target, at } = wish;
            let model = models::by_id(connection, workspace, target.model)?;
            let model_name = model.name.clone();
            let serves = models::choose(connection, workspace, model, target.version)?;
            if serves.removed.is_some() {
                let name = format!("{model_name}@{}", choice_text(target.version));
                return Err(not_found(RecordKind::ModelVersion, name).into());
            }
            let version = choice_column(target.version);
            let id = match by_name(connection, workspace, &endpoint.name)? {
                Some(there) => {
                    connection
                        .prepare_cached(
                            "UPDATE endpoints SET model = ?3, version = ?4, updated = ?5
                             WHERE workspace = ?1 AND id = ?2",
                        )?
                        .execute(params![
                            id_bytes(workspace),
                            id_bytes(there.id),
                            id_bytes(target.model),
                            version,
                            millis(at),
                        ])?;
                    there.id
                }
                None => {
                    let what = RecordKind::Endpoint;
                    let name = &endpoint.name;
                    require_free(connection, what, "endpoints", workspace, endpoint.id, name)?;
                    connection
                        .prepare_cached(
                            "INSERT INTO endpoints
                                (workspace, id, name, created, updated, model, version)
                             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                        )?
                        .execute(params![
                            id_bytes(workspace),
                            id_bytes(endpoint.id),
                            name.as_str(),
                            millis(endpoint.created),
                            millis(at),
                            id_bytes(target.model),
                            version,
                        ])?;
                    endpoint.id
                }
            };
            connection
                .prepare_cached(
                    "INSERT INTO endpoint_changes
                        (workspace, endpoint, number, model, version, served, at)
                     SELECT ?1, ?2, coalesce(max(number), 0) + 1, ?3, ?4, ?5, ?6
                     FROM endpoint_changes WHERE workspace = ?1 AND endpoint = ?2",
                )?
                .execute(params![
                    id_bytes(workspace),
                    id_bytes(id),
                    id_bytes(target.model),
                    version,
                    serves.number,
                    millis(at),
                ])?;
            by_name(connection, workspace, &endpoint.name)?
                .ok_or_else(|| not_found(RecordKind::Endpoint, &endpoint.name).into())
        })
    }

    fn endpoint_named(&self, workspace: WorkspaceId, name: Name) -> Answer<'_, EndpointRecord> {
        self.read(move |connection| match by_name(connection, workspace, &name)? {
            Some(endpoint) => Ok(endpoint),
            None => {
                let what = RecordKind::Endpoint;
                Err(name_not_found(connection, what, "endpoints", workspace, &name)?.into())
            }
        })
    }

    fn list_endpoints(
        &self,
        workspace: WorkspaceId,
        page: PageRequest,
    ) -> Answer<'_, Page<EndpointRecord>> {
        self.read(move |connection| {
            let after = ids_after(page.after());
            let items = connection
                .prepare_cached(&format!(
                    "{RECORD} WHERE e.workspace = ?1 AND e.id > ?2 ORDER BY e.id LIMIT ?3"
                ))?
                .query_map(params![id_bytes(workspace), after, page.limit() as i64 + 1], record)?
                .collect::<rusqlite::Result<_>>()?;
            Ok(Page::cut(items, page.limit(), |endpoint| endpoint.id.as_u128()))
        })
    }

    fn list_endpoint_changes(
        &self,
        workspace: WorkspaceId,
        id: EndpointId,
        page: PageRequest,
    ) -> Answer<'_, Page<EndpointChange>> {
        self.read(move |connection| {
            let there = connection
                .prepare_cached("SELECT 1 FROM endpoints WHERE workspace = ?1 AND id = ?2")?
                .exists([id_bytes(workspace), id_bytes(id)])?;
            if !there {
                return Err(not_found(RecordKind::Endpoint, id).into());
            }
            let items = connection
                .prepare_cached(
                    "SELECT * FROM endpoint_changes
                     WHERE workspace = ?1 AND endpoint = ?2 AND number > ?3
                     ORDER BY number LIMIT ?4",
                )?
                .query_map(
                    params![
                        id_bytes(workspace),
                        id_bytes(id),
                        numbers_after(page.after()),
                        page.limit() as i64 + 1
                    ],
                    change,
                )?
                .collect::<rusqlite::Result<_>>()?;
            Ok(Page::cut(items, page.limit(), |change| change.number.into()))
        })
    }

    fn remove_endpoint(&self, workspace: WorkspaceId, id: EndpointId) -> Answer<'_, ()> {
        self.write(move |connection| {
            let removed = connection
                .prepare_cached("DELETE FROM endpoints WHERE workspace = ?1 AND id = ?2")?
                .execute([id_bytes(workspace), id_bytes(id)])?;
            match removed {
                0 => Err(not_found(RecordKind::Endpoint, id).into()),
                _ => Ok(()),
            }
        })
    }
}
