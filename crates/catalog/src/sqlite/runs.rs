use corral_types::{JobId, WorkspaceId};
use rusqlite::{OptionalExtension, Row, params};

use super::SqliteCatalog;
use super::column::{
    id_bytes, millis, not_found, optional_time, out_of_range, require_at_most, require_workspace,
    time,
};
use crate::{
    Answer, MAX_RUN_JSON_BYTES, MAX_RUNS_PER_CALL, Page, PageRequest, RecordKind, RunRecord,
    RunRecords, RunStatus,
};

fn status_column(status: RunStatus) -> i64 {
    match status {
        RunStatus::Running => 1,
        RunStatus::Finished => 2,
        RunStatus::Failed => 3,
        RunStatus::Stopped => 4,
    }
}

fn record(row: &Row<'_>) -> rusqlite::Result<RunRecord> {
    let status = match row.get("status")? {
        1 => RunStatus::Running,
        2 => RunStatus::Finished,
        3 => RunStatus::Failed,
        4 => RunStatus::Stopped,
        other => return Err(out_of_range(other)),
    };
    Ok(RunRecord {
        number: row.get("number")?,
        status,
        params_json: row.get("params_json")?,
        metrics_json: row.get("metrics_json")?,
        started: time(row, "started")?,
        ended: optional_time(row, "ended")?,
    })
}

impl RunRecords for SqliteCatalog {
    fn record_runs(
        &self,
        workspace: WorkspaceId,
        job: JobId,
        runs: Vec<RunRecord>,
    ) -> Answer<'_, ()> {
        self.write(move |connection| {
            require_workspace(connection, workspace)?;
            require_at_most("list of runs", runs.len(), MAX_RUNS_PER_CALL)?;
            let mut insert = connection.prepare_cached(
                "INSERT OR REPLACE INTO runs
                    (workspace, job, number, status, params_json, metrics_json, started, ended)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?;
            for run in runs {
                require_at_most("parameters of a run", run.params_json.len(), MAX_RUN_JSON_BYTES)?;
                require_at_most("metrics of a run", run.metrics_json.len(), MAX_RUN_JSON_BYTES)?;
                insert.execute(params![
                    id_bytes(workspace),
                    id_bytes(job),
                    run.number,
                    status_column(run.status),
                    run.params_json,
                    run.metrics_json,
                    millis(run.started),
                    run.ended.map(millis),
                ])?;
            }
            Ok(())
        })
    }

    fn run(&self, workspace: WorkspaceId, job: JobId, number: u32) -> Answer<'_, RunRecord> {
        self.read(move |connection| {
            connection
                .prepare_cached(
                    "SELECT * FROM runs WHERE workspace = ?1 AND job = ?2 AND number = ?3",
                )?
                .query_row(params![id_bytes(workspace), id_bytes(job), number], record)
                .optional()?
                .ok_or_else(|| not_found(RecordKind::Run, format!("{job}/{number}")).into())
        })
    }

    fn list_runs(
        &self,
        workspace: WorkspaceId,
        job: JobId,
        page: PageRequest,
    ) -> Answer<'_, Page<RunRecord>> {
        self.read(move |connection| {
            // Runs may be numbered from 0: before the first page comes -1.
            let after = page.after().map_or(-1, |after| i64::try_from(after).unwrap_or(i64::MAX));
            let items = connection
                .prepare_cached(
                    "SELECT * FROM runs WHERE workspace = ?1 AND job = ?2 AND number > ?3
                     ORDER BY number LIMIT ?4",
                )?
                .query_map(
                    params![id_bytes(workspace), id_bytes(job), after, page.limit() as i64 + 1],
                    record,
                )?
                .collect::<rusqlite::Result<_>>()?;
            Ok(Page::cut(items, page.limit(), |run| run.number.into()))
        })
    }

    fn remove_runs(&self, workspace: WorkspaceId, job: JobId) -> Answer<'_, u64> {
        self.write(move |connection| {
            let removed = connection
                .prepare_cached("DELETE FROM runs WHERE workspace = ?1 AND job = ?2")?
                .execute([id_bytes(workspace), id_bytes(job)])?;
            Ok(removed as u64)
        })
    }
}
