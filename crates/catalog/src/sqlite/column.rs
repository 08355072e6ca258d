//! Between the port's types and columns.

use corral_types::{BlobHash, Id, Kind, MAX_NAME_BYTES, Name, Timestamp, WorkspaceId, nearest};
use rusqlite::types::{FromSqlError, Type};
use rusqlite::{Connection, Row, params};

use super::Outcome;
use crate::{CatalogError, RecordKind, VersionChoice};

/// Names looked at for ones like a name that is not there.
const MAX_NAMES_SEARCHED: u32 = 10_000;

/// Nearest names given.
const MAX_NEAREST: usize = 3;

pub(super) fn id_bytes<K: Kind>(id: Id<K>) -> [u8; 16] {
    id.as_u128().to_be_bytes()
}

/// The first id after a cursor's position: all when there is none.
pub(super) fn ids_after(position: Option<u128>) -> Vec<u8> {
    // The empty blob sorts before every id.
    position.map_or_else(Vec::new, |position| position.to_be_bytes().to_vec())
}

/// The number after which a list of numbered things goes on.
pub(super) fn numbers_after(position: Option<u128>) -> i64 {
    position.map_or(0, |position| i64::try_from(position).unwrap_or(i64::MAX))
}

pub(super) fn id<K: Kind>(row: &Row<'_>, column: &str) -> rusqlite::Result<Id<K>> {
    row.get::<_, [u8; 16]>(column).map(|bytes| Id::from_u128(u128::from_be_bytes(bytes)))
}

pub(super) fn optional_id<K: Kind>(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<Id<K>>> {
    let bytes = row.get::<_, Option<[u8; 16]>>(column)?;
    Ok(bytes.map(|bytes| Id::from_u128(u128::from_be_bytes(bytes))))
}

pub(super) fn hash(row: &Row<'_>, column: &str) -> rusqlite::Result<BlobHash> {
    row.get::<_, [u8; 32]>(column).map(BlobHash::from_bytes)
}

pub(super) fn optional_hash(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<BlobHash>> {
    Ok(row.get::<_, Option<[u8; 32]>>(column)?.map(BlobHash::from_bytes))
}

pub(super) fn time(row: &Row<'_>, column: &str) -> rusqlite::Result<Timestamp> {
    size(row, column).map(Timestamp::from_millis)
}

pub(super) fn optional_time(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<Timestamp>> {
    let millis = row.get::<_, Option<i64>>(column)?;
    Ok(millis.map(|millis| Timestamp::from_millis(millis as u64)))
}

/// SQLite's integers are signed; a value beyond them is stored as a negative one and read
/// back as it was.
pub(super) fn size(row: &Row<'_>, column: &str) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(|value| value as u64)
}

pub(super) fn millis(time: Timestamp) -> i64 {
    time.as_millis() as i64
}

/// A column whose text the port parses, such as a name.
pub(super) fn parsed<T>(row: &Row<'_>, column: &str) -> rusqlite::Result<T>
where
    T: std::str::FromStr<Err: Into<Box<dyn std::error::Error + Send + Sync>>>,
{
    let text = row.get_ref(column)?.as_str()?;
    text.parse().map_err(|error: T::Err| {
        let at = row.as_ref().column_index(column).unwrap_or_default();
        rusqlite::Error::FromSqlConversionFailure(at, Type::Text, error.into())
    })
}

pub(super) fn out_of_range(value: i64) -> rusqlite::Error {
    FromSqlError::OutOfRange(value).into()
}

/// The version as people write it after the name.
pub(super) fn choice_text(choice: VersionChoice) -> String {
    match choice {
        VersionChoice::Latest => "latest".to_owned(),
        VersionChoice::Number(number) => number.to_string(),
    }
}

pub(super) fn not_found(what: RecordKind, name: impl ToString) -> CatalogError {
    CatalogError::NotFound { what, name: name.to_string(), nearest: Vec::new() }
}

/// The error for a name that is not there, with those like it. `table` is a table of this
/// schema with the columns `workspace` and `name`.
pub(super) fn name_not_found(
    connection: &Connection,
    what: RecordKind,
    table: &'static str,
    workspace: WorkspaceId,
    name: &Name,
) -> Outcome<CatalogError> {
    debug_assert!(name.as_str().len() <= MAX_NAME_BYTES);
    let sql = format!("SELECT name FROM {table} WHERE workspace = ?1 ORDER BY name LIMIT ?2");
    let known = connection
        .prepare_cached(&sql)?
        .query_map(params![id_bytes(workspace), MAX_NAMES_SEARCHED], |row| row.get(0))?
        .collect::<rusqlite::Result<Vec<String>>>()?;
    let near = nearest(name.as_str(), known.iter().map(String::as_str), MAX_NEAREST);
    let nearest = near.into_iter().map(str::to_owned).collect();
    Ok(CatalogError::NotFound { what, name: name.to_string(), nearest })
}

/// Refuses a name or an id that is taken. `table` is a table of this schema with the columns
/// `workspace`, `id` and `name`.
pub(super) fn require_free<K: Kind>(
    connection: &Connection,
    what: RecordKind,
    table: &'static str,
    workspace: WorkspaceId,
    id: Id<K>,
    name: &Name,
) -> Outcome<()> {
    require_workspace(connection, workspace)?;
    let sql = format!("SELECT 1 FROM {table} WHERE workspace = ?1 AND (name = ?2 OR id = ?3)");
    let taken = connection.prepare_cached(&sql)?.exists(params![
        id_bytes(workspace),
        name.as_str(),
        id_bytes(id)
    ])?;
    if taken {
        return Err(CatalogError::AlreadyExists { what, name: name.to_string() }.into());
    }
    Ok(())
}

/// Refuses a workspace that is not there.
pub(super) fn require_workspace(connection: &Connection, workspace: WorkspaceId) -> Outcome<()> {
    let there = connection
        .prepare_cached("SELECT 1 FROM workspaces WHERE id = ?1")?
        .exists([id_bytes(workspace)])?;
    if there { Ok(()) } else { Err(not_found(RecordKind::Workspace, workspace).into()) }
}

/// Refuses a text or list beyond its limit.
pub(super) fn require_at_most(what: &'static str, size: usize, limit: usize) -> Outcome<()> {
    if size > limit {
        return Err(CatalogError::TooLarge { what, size, limit }.into());
    }
    Ok(())
}
