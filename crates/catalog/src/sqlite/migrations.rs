//! The format of the file, and the way from each older one to it.

use std::path::Path;
use std::sync::Arc;

use corral_types::Timestamp;
use rusqlite::{Connection, TransactionBehavior, params};

use super::column::id_bytes;
use super::storage_error;
use crate::{CatalogError, DEFAULT_WORKSPACE};

/// Marks the file as ours (SQLite's `application_id`): "Crrl".
const APPLICATION_ID: i32 = 0x4372_726c;

/// One step: from the format version that is its position to the next.
type Migration = fn(&Connection) -> rusqlite::Result<()>;

/// All steps, in order. One that was released is never changed.
pub(super) const ALL: [Migration; 7] =
    [first, model_reports, endpoint_versions, observed_endpoints, model_notes, apps, labelings];

/// The format version that this code reads and writes (SQLite's `user_version`).
pub const FORMAT_VERSION: u32 = ALL.len() as u32;

fn first(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(include_str!("schema_v1.sql"))?;
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    connection.execute(
        "INSERT INTO workspaces (id, name, created) VALUES (?1, 'default', ?2)",
        params![id_bytes(DEFAULT_WORKSPACE), Timestamp::now().as_millis() as i64],
    )?;
    Ok(())
}

/// Model versions name their report. Those made before keep theirs as a reference without a name.
fn model_reports(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch("ALTER TABLE model_versions ADD COLUMN report BLOB")
}

/// Endpoints get versions that never change, and a routing.
fn endpoint_versions(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(include_str!("endpoint_versions.sql"))
}

/// Endpoints say what is watched of them, and usage is noted.
fn observed_endpoints(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(include_str!("observed_endpoints.sql"))
}

/// Model versions name the code that trained them, and people note tags and metrics of them.
fn model_notes(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(include_str!("model_notes.sql"))
}

/// Environments, apps, functions, and what containers are made of.
fn apps(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(include_str!("apps.sql"))
}

/// The labeling functions of data sets.
fn labelings(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(include_str!("labeling.sql"))
}

/// Brings the file to the version after the last step, each step in a transaction of its own.
pub(super) fn migrate(
    connection: &mut Connection,
    path: &Path,
    steps: &[Migration],
) -> Result<(), CatalogError> {
    let supported = steps.len() as u32;
    loop {
        let failed = |source: rusqlite::Error| match storage_error(source) {
            CatalogError::Storage(source) => CatalogError::Open { path: path.to_owned(), source },
            other => other,
        };
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        let pragma = |name| transaction.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let application = pragma("application_id").map_err(failed)?;
        let found = pragma("user_version").map_err(failed)?;
        let is_empty = transaction
            .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))
            .map_err(failed)?
            == 0;
        if application != i64::from(APPLICATION_ID) && !(is_empty && found == 0) {
            return Err(CatalogError::Foreign { path: path.to_owned() });
        }
        let found = u32::try_from(found).map_err(|source| CatalogError::Open {
            path: path.to_owned(),
            source: Arc::new(source),
        })?;
        if found > supported {
            return Err(CatalogError::NewerFormat { found, supported });
        }
        let Some(step) = steps.get(found as usize) else { return Ok(()) };
        step(&transaction)
            .and_then(|()| transaction.pragma_update(None, "user_version", found + 1))
            .and_then(|()| transaction.commit())
            .map_err(failed)?;
        if found > 0 {
            tracing::info!(from = found, to = found + 1, "migrated the catalog");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(connection: &Connection) -> i64 {
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
    }

    fn add_colour(connection: &Connection) -> rusqlite::Result<()> {
        connection.execute_batch("ALTER TABLE workspaces ADD COLUMN colour TEXT")
    }

    fn fail_halfway(connection: &Connection) -> rusqlite::Result<()> {
        connection.execute_batch("DROP TABLE runs; CREATE TABLE runs_2 (x); SELECT no_such()")
    }

    #[test]
    fn steps_run_once_each_and_a_failed_one_leaves_nothing() {
        let mut connection = Connection::open_in_memory().unwrap();
        let path = Path::new("memory");
        migrate(&mut connection, path, &[first]).unwrap();
        assert_eq!(version(&connection), 1);
        migrate(&mut connection, path, &[first]).unwrap();

        assert!(matches!(
            migrate(&mut connection, path, &[first, fail_halfway]),
            Err(CatalogError::Open { .. })
        ));
        assert_eq!(version(&connection), 1);
        connection.execute("DELETE FROM runs", []).unwrap();

        migrate(&mut connection, path, &[first, add_colour]).unwrap();
        assert_eq!(version(&connection), 2);
        connection.execute("UPDATE workspaces SET colour = 'red'", []).unwrap();

        let error = migrate(&mut connection, path, &[first]).unwrap_err();
        assert!(matches!(error, CatalogError::NewerFormat { found: 2, supported: 1 }));
    }

    #[test]
    fn other_databases_are_refused() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE theirs (x)").unwrap();
        let error = migrate(&mut connection, Path::new("x.db"), &ALL).unwrap_err();
        assert_eq!(error.to_string(), "x.db is not a catalog of Corral");
    }
}
