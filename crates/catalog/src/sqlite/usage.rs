use std::ops::Range;

use corral_types::{Name, WorkspaceId};
use rusqlite::{OptionalExtension, Row, params};

use super::SqliteCatalog;
use super::column::{id, id_bytes, parsed, require_at_most, require_workspace, size};
use crate::{Answer, MAX_USAGE_SUMS, UsageRecord, UsageRecords};

/// The setting that holds the name of the last note.
const LAST_NOTE: &str = "usage_note";

fn record(row: &Row<'_>) -> rusqlite::Result<UsageRecord> {
    Ok(UsageRecord {
        workspace: id(row, "workspace")?,
        endpoint: parsed(row, "endpoint")?,
        hour: size(row, "first_hour")?,
        requests: size(row, "requests")?,
        errors: size(row, "errors")?,
        texts: size(row, "texts")?,
        core_micros: size(row, "core_micros")?,
        memory_byte_seconds: size(row, "memory_byte_seconds")?,
    })
}

/// A whole number as a column; a span beyond the range stands for all hours.
fn integer(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

impl UsageRecords for SqliteCatalog {
    fn add_usage(&self, note: String, records: Vec<UsageRecord>) -> Answer<'_, ()> {
        self.write(move |connection| {
            let last: Option<String> = connection
                .prepare_cached("SELECT value FROM settings WHERE key = ?1")?
                .query_row([LAST_NOTE], |row| row.get(0))
                .optional()?;
            if last.as_ref() == Some(&note) {
                return Ok(());
            }
            let mut add = connection.prepare_cached(
                "INSERT INTO usage (workspace, hour, endpoint, requests, errors, texts,
                    core_micros, memory_byte_seconds)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
                 ON CONFLICT DO UPDATE SET
                    requests = requests + excluded.requests,
                    errors = errors + excluded.errors,
                    texts = texts + excluded.texts,
                    core_micros = core_micros + excluded.core_micros,
                    memory_byte_seconds = memory_byte_seconds + excluded.memory_byte_seconds",
            )?;
            for record in records {
                require_workspace(connection, record.workspace)?;
                add.execute(params![
                    id_bytes(record.workspace),
                    integer(record.hour),
                    record.endpoint.as_str(),
                    integer(record.requests),
                    integer(record.errors),
                    integer(record.texts),
                    integer(record.core_micros),
                    integer(record.memory_byte_seconds),
                ])?;
            }
            connection
                .prepare_cached("INSERT OR REPLACE INTO settings (key, value) VALUES (?1, ?2)")?
                .execute([LAST_NOTE, note.as_str()])?;
            Ok(())
        })
    }

    fn usage(
        &self,
        workspace: WorkspaceId,
        endpoint: Option<Name>,
        hours: Range<u64>,
        span_hours: u64,
    ) -> Answer<'_, Vec<UsageRecord>> {
        self.read(move |connection| {
            let endpoint = endpoint.as_ref().map(Name::as_str);
            let found = connection
                .prepare_cached(
                    "SELECT workspace, endpoint, hour / ?5 * ?5 AS first_hour,
                        sum(requests) AS requests, sum(errors) AS errors, sum(texts) AS texts,
                        sum(core_micros) AS core_micros,
                        sum(memory_byte_seconds) AS memory_byte_seconds
                     FROM usage WHERE workspace = ?1 AND hour >= ?2 AND hour < ?3
                        AND (?4 IS NULL OR endpoint = ?4)
                     GROUP BY first_hour, endpoint ORDER BY first_hour, endpoint LIMIT ?6",
                )?
                .query_map(
                    params![
                        id_bytes(workspace),
                        integer(hours.start),
                        integer(hours.end),
                        endpoint,
                        integer(span_hours.max(1)),
                        MAX_USAGE_SUMS as i64 + 1,
                    ],
                    record,
                )?
                .collect::<rusqlite::Result<Vec<_>>>()?;
            require_at_most("list of usage", found.len(), MAX_USAGE_SUMS)?;
            Ok(found)
        })
    }

    fn forget_usage(&self, before_hour: u64, limit: usize) -> Answer<'_, usize> {
        self.write(move |connection| {
            let removed = connection
                .prepare_cached(
                    "DELETE FROM usage WHERE (workspace, hour, endpoint) IN
                        (SELECT workspace, hour, endpoint FROM usage
                         WHERE workspace IN (SELECT id FROM workspaces) AND hour < ?1 LIMIT ?2)",
                )?
                .execute(params![integer(before_hour), limit as i64])?;
            Ok(removed)
        })
    }
}
