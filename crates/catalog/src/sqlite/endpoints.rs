use std::collections::HashMap;

use corral_types::{EndpointId, Name, Timestamp, WorkspaceId};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::column::{
    id, id_bytes, ids_after, millis, name_not_found, not_found, parsed, require_at_most,
    require_free, time,
};
use super::{Outcome, SqliteCatalog, models};
use crate::{
    Answer, CatalogError, EndpointRecord, EndpointRecords, EndpointTarget, EndpointVersion,
    MAX_ENDPOINT_JSON_BYTES, MAX_ENDPOINT_VERSIONS, NewEndpointVersion, Page, PageRequest,
    RecordKind, Served, VersionChoice,
};

/// An endpoint without its versions.
fn record(row: &Row<'_>) -> rusqlite::Result<EndpointRecord> {
    Ok(EndpointRecord {
        id: id(row, "id")?,
        name: parsed(row, "name")?,
        created: time(row, "created")?,
        updated: time(row, "updated")?,
        revision: row.get("revision")?,
        routing_json: row.get("routing_json")?,
        observing_json: row.get("observing_json")?,
        versions: Vec::new(),
    })
}

/// Versions of endpoints, each joined with the model's version that it serves, if it does.
const VERSIONS: &str = "SELECT e.endpoint, e.number AS endpoint_number, e.created AS made,
    e.answer_json, m.name AS model_name, v.* FROM endpoint_versions e
    LEFT JOIN models m ON m.workspace = e.workspace AND m.id = e.model
    LEFT JOIN model_versions v ON v.workspace = e.workspace AND v.model = e.model
    AND v.number = e.model_version";

fn version(row: &Row<'_>) -> rusqlite::Result<(EndpointId, EndpointVersion)> {
    let serves = match row.get("answer_json")? {
        Some(answer_json) => Served::Fixed { answer_json },
        None => Served::Model {
            name: parsed(row, "model_name")?,
            version: Box::new(models::version(row)?),
        },
    };
    let number = row.get("endpoint_number")?;
    Ok((id(row, "endpoint")?, EndpointVersion { number, created: time(row, "made")?, serves }))
}

/// Gives endpoints, in the order of their ids, their versions.
fn with_versions(
    connection: &Connection,
    workspace: WorkspaceId,
    mut endpoints: Vec<EndpointRecord>,
) -> Outcome<Vec<EndpointRecord>> {
    let (Some(first), Some(last)) = (endpoints.first(), endpoints.last()) else {
        return Ok(endpoints);
    };
    let mut statement = connection.prepare_cached(&format!(
        "{VERSIONS} WHERE e.workspace = ?1 AND e.endpoint BETWEEN ?2 AND ?3
         ORDER BY e.endpoint, e.number"
    ))?;
    let range = [id_bytes(workspace), id_bytes(first.id), id_bytes(last.id)];
    let mut of_endpoint: HashMap<EndpointId, Vec<EndpointVersion>> = HashMap::new();
    for found in statement.query_map(range, version)? {
        let (endpoint, version) = found?;
        of_endpoint.entry(endpoint).or_default().push(version);
    }
    for endpoint in &mut endpoints {
        endpoint.versions = of_endpoint.remove(&endpoint.id).unwrap_or_default();
        if endpoint.versions.is_empty() {
            let what = format!("endpoint `{}` has no version", endpoint.name);
            return Err(CatalogError::Damaged(what).into());
        }
    }
    Ok(endpoints)
}

fn by_name(
    connection: &Connection,
    workspace: WorkspaceId,
    name: &Name,
) -> Outcome<Option<EndpointRecord>> {
    let endpoint = connection
        .prepare_cached("SELECT * FROM endpoints WHERE workspace = ?1 AND name = ?2")?
        .query_row(params![id_bytes(workspace), name.as_str()], record)
        .optional()?;
    Ok(with_versions(connection, workspace, endpoint.into_iter().collect())?.pop())
}

fn by_id(
    connection: &Connection,
    workspace: WorkspaceId,
    id: EndpointId,
) -> Outcome<EndpointRecord> {
    let endpoint = connection
        .prepare_cached("SELECT * FROM endpoints WHERE workspace = ?1 AND id = ?2")?
        .query_row([id_bytes(workspace), id_bytes(id)], record)
        .optional()?
        .ok_or_else(|| not_found(RecordKind::Endpoint, id))?;
    let found = with_versions(connection, workspace, vec![endpoint])?.pop();
    Ok(found.expect("as many endpoints as were given"))
}

/// The endpoint, if it is at this revision.
fn at_revision(
    connection: &Connection,
    workspace: WorkspaceId,
    id: EndpointId,
    expected: u32,
) -> Outcome<EndpointRecord> {
    let endpoint = by_id(connection, workspace, id)?;
    let found = endpoint.revision;
    if found != expected {
        let (what, name) = (RecordKind::Endpoint, endpoint.name.to_string());
        return Err(CatalogError::HeadMoved { what, name, expected, found }.into());
    }
    Ok(endpoint)
}

/// Notes that an endpoint has changed.
fn touch(
    connection: &Connection,
    workspace: WorkspaceId,
    id: EndpointId,
    at: Timestamp,
) -> Outcome<()> {
    connection
        .prepare_cached(
            "UPDATE endpoints SET updated = ?3, revision = revision + 1
             WHERE workspace = ?1 AND id = ?2",
        )?
        .execute(params![id_bytes(workspace), id_bytes(id), millis(at)])?;
    Ok(())
}

fn insert_version(
    connection: &Connection,
    workspace: WorkspaceId,
    id: EndpointId,
    target: &EndpointTarget,
    at: Timestamp,
) -> Outcome<()> {
    let head = connection
        .prepare_cached(
            "UPDATE endpoints SET head = head + 1 WHERE workspace = ?1 AND id = ?2
             RETURNING head",
        )?
        .query_row([id_bytes(workspace), id_bytes(id)], |row| row.get::<_, u32>("head"))?;
    let (model, model_version, answer_json) = match target {
        EndpointTarget::Model { model, version } => (Some(id_bytes(*model)), Some(version), None),
        EndpointTarget::Fixed { answer_json } => (None, None, Some(answer_json)),
    };
    connection
        .prepare_cached(
            "INSERT INTO endpoint_versions
                (workspace, endpoint, number, model, model_version, answer_json, created)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            id_bytes(workspace),
            id_bytes(id),
            head,
            model,
            model_version,
            answer_json,
            millis(at),
        ])?;
    Ok(())
}

/// Refuses what cannot be served.
fn require_target(
    connection: &Connection,
    workspace: WorkspaceId,
    target: &EndpointTarget,
) -> Outcome<()> {
    match target {
        EndpointTarget::Fixed { answer_json } => {
            require_at_most("fixed answer", answer_json.len(), MAX_ENDPOINT_JSON_BYTES)
        }
        EndpointTarget::Model { model, version } => {
            let model = models::by_id(connection, workspace, *model)?;
            let name = format!("{}@{version}", model.name);
            let choice = VersionChoice::Number(*version);
            let version = models::choose(connection, workspace, model, choice)?;
            if version.removed.is_some() {
                return Err(not_found(RecordKind::ModelVersion, name).into());
            }
            Ok(())
        }
    }
}

impl EndpointRecords for SqliteCatalog {
    fn add_endpoint_version(
        &self,
        workspace: WorkspaceId,
        new: NewEndpointVersion,
    ) -> Answer<'_, EndpointRecord> {
        self.write(move |connection| {
            let NewEndpointVersion { endpoint, target, at } = new;
            require_target(connection, workspace, &target)?;
            let id = match by_name(connection, workspace, &endpoint.name)? {
                Some(there) => {
                    let count = there.versions.len() + 1;
                    require_at_most("list of an endpoint's versions", count, MAX_ENDPOINT_VERSIONS)?;
                    touch(connection, workspace, there.id, at)?;
                    there.id
                }
                None => {
                    let what = RecordKind::Endpoint;
                    let name = &endpoint.name;
                    require_free(connection, what, "endpoints", workspace, endpoint.id, name)?;
                    connection
                        .prepare_cached(
                            "INSERT INTO endpoints
                                (workspace, id, name, created, updated, revision, head, routing_json)
                             VALUES (?1, ?2, ?3, ?4, ?5, 1, 0, '')",
                        )?
                        .execute(params![
                            id_bytes(workspace),
                            id_bytes(endpoint.id),
                            name.as_str(),
                            millis(endpoint.created),
                            millis(at),
                        ])?;
                    endpoint.id
                }
            };
            insert_version(connection, workspace, id, &target, at)?;
            by_id(connection, workspace, id)
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
                .prepare_cached(
                    "SELECT * FROM endpoints WHERE workspace = ?1 AND id > ?2
                     ORDER BY id LIMIT ?3",
                )?
                .query_map(params![id_bytes(workspace), after, page.limit() as i64 + 1], record)?
                .collect::<rusqlite::Result<_>>()?;
            let items = with_versions(connection, workspace, items)?;
            Ok(Page::cut(items, page.limit(), |endpoint| endpoint.id.as_u128()))
        })
    }

    fn set_endpoint_routing(
        &self,
        workspace: WorkspaceId,
        id: EndpointId,
        revision: u32,
        routing_json: String,
        at: Timestamp,
    ) -> Answer<'_, EndpointRecord> {
        self.write(move |connection| {
            require_at_most("routing document", routing_json.len(), MAX_ENDPOINT_JSON_BYTES)?;
            at_revision(connection, workspace, id, revision)?;
            touch(connection, workspace, id, at)?;
            connection
                .prepare_cached(
                    "UPDATE endpoints SET routing_json = ?3 WHERE workspace = ?1 AND id = ?2",
                )?
                .execute(params![id_bytes(workspace), id_bytes(id), routing_json])?;
            by_id(connection, workspace, id)
        })
    }

    fn set_endpoint_observing(
        &self,
        workspace: WorkspaceId,
        id: EndpointId,
        revision: u32,
        observing_json: String,
        at: Timestamp,
    ) -> Answer<'_, EndpointRecord> {
        self.write(move |connection| {
            let (what, limit) = ("document of what is observed", MAX_ENDPOINT_JSON_BYTES);
            require_at_most(what, observing_json.len(), limit)?;
            at_revision(connection, workspace, id, revision)?;
            touch(connection, workspace, id, at)?;
            connection
                .prepare_cached(
                    "UPDATE endpoints SET observing_json = ?3 WHERE workspace = ?1 AND id = ?2",
                )?
                .execute(params![id_bytes(workspace), id_bytes(id), observing_json])?;
            by_id(connection, workspace, id)
        })
    }

    fn remove_endpoint_version(
        &self,
        workspace: WorkspaceId,
        id: EndpointId,
        revision: u32,
        number: u32,
        at: Timestamp,
    ) -> Answer<'_, EndpointRecord> {
        self.write(move |connection| {
            let endpoint = at_revision(connection, workspace, id, revision)?;
            let (what, name) = (RecordKind::EndpointVersion, format!("{}/{number}", endpoint.name));
            if !endpoint.versions.iter().any(|version| version.number == number) {
                return Err(not_found(what, name).into());
            }
            if endpoint.versions.len() == 1 {
                let by = vec![format!("endpoint `{}`, which has no other", endpoint.name)];
                return Err(CatalogError::InUse { what, name, by }.into());
            }
            connection
                .prepare_cached(
                    "DELETE FROM endpoint_versions
                     WHERE workspace = ?1 AND endpoint = ?2 AND number = ?3",
                )?
                .execute(params![id_bytes(workspace), id_bytes(id), number])?;
            touch(connection, workspace, id, at)?;
            by_id(connection, workspace, id)
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
