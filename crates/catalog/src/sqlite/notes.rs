//! What people note of versions of models.

use corral_types::{ModelId, WorkspaceId};
use rusqlite::{Connection, params};

use super::Outcome;
use super::column::{id_bytes, require_at_most};
use super::models::{by_id, choose};
use crate::{
    MAX_MODEL_NOTES, MAX_NOTE_NAME_BYTES, MAX_NOTE_VALUE_BYTES, ModelNote, NoteChange, NoteKind,
    VersionChoice,
};

const fn code(kind: NoteKind) -> i64 {
    match kind {
        NoteKind::Tag => 0,
        NoteKind::Metric => 1,
    }
}

pub(super) fn change(
    connection: &Connection,
    workspace: WorkspaceId,
    id: ModelId,
    number: u32,
    changes: Vec<NoteChange>,
) -> Outcome<()> {
    let model = by_id(connection, workspace, id)?;
    choose(connection, workspace, model, VersionChoice::Number(number))?;
    for NoteChange { kind, name, value } in changes {
        require_at_most("name of a note", name.len(), MAX_NOTE_NAME_BYTES)?;
        let key = params![id_bytes(workspace), id_bytes(id), number, code(kind), name];
        connection
            .prepare_cached(
                "DELETE FROM model_notes
                 WHERE workspace = ?1 AND model = ?2 AND number = ?3 AND kind = ?4 AND name = ?5",
            )?
            .execute(key)?;
        let Some(value) = value else { continue };
        require_at_most("value of a note", value.len(), MAX_NOTE_VALUE_BYTES)?;
        connection
            .prepare_cached(
                "INSERT INTO model_notes (workspace, model, number, kind, name, value)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![id_bytes(workspace), id_bytes(id), number, code(kind), name, value])?;
    }
    let notes = connection
        .prepare_cached(
            "SELECT count(*) FROM model_notes
             WHERE workspace = ?1 AND model = ?2 AND number = ?3",
        )?
        .query_row(params![id_bytes(workspace), id_bytes(id), number], |row| {
            row.get::<_, i64>(0)
        })?;
    require_at_most("notes of a model", notes as usize, MAX_MODEL_NOTES)
}

pub(super) fn of_model(
    connection: &Connection,
    workspace: WorkspaceId,
    id: ModelId,
) -> Outcome<Vec<ModelNote>> {
    let note = |row: &rusqlite::Row<'_>| {
        let kind = if row.get::<_, i64>("kind")? == code(NoteKind::Tag) {
            NoteKind::Tag
        } else {
            NoteKind::Metric
        };
        Ok(ModelNote {
            number: row.get("number")?,
            kind,
            name: row.get("name")?,
            value: row.get("value")?,
        })
    };
    let notes = connection
        .prepare_cached(
            "SELECT number, kind, name, value FROM model_notes
             WHERE workspace = ?1 AND model = ?2 ORDER BY number, kind, name",
        )?
        .query_map([id_bytes(workspace), id_bytes(id)], note)?
        .collect::<rusqlite::Result<_>>()?;
    Ok(notes)
}
