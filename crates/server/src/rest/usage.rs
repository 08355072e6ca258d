//! `/v1/usage`.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use corral_catalog::UsageRecord;
use corral_functions::FunctionUsage;
use corral_jobs::{Job, JobFilter};
use corral_serving::UsageSpan;
use corral_types::{Caller, FunctionId, Timestamp};

use super::answer::{Answer, Query, invalid, name, time};
use crate::api::{FunctionUsageDetail, JobUsageDetail, UsageAnswer, UsageDetail, UsageQuery};
use crate::auth::Reader;
use crate::state::{App, Prices};

/// How far back usage is told when nothing is said.
const USUAL_DAYS: u64 = 30;

const HOUR_MS: u64 = 3_600_000;

/// Jobs read at a time.
const JOBS_PER_PAGE: usize = 1_000;

/// What the endpoints of the workspace used; in totals of all endpoints also what functions and
/// jobs took.
#[utoipa::path(get, path = "/v1/usage", tag = "endpoints", params(UsageQuery),
    responses((status = 200, body = UsageAnswer)))]
pub async fn usage(
    State(app): State<App>,
    Reader(caller): Reader,
    Query(query): Query<UsageQuery>,
) -> Answer<Json<UsageAnswer>> {
    let span = match query.by.as_deref() {
        None | Some("total") => UsageSpan::Total,
        Some("day") => UsageSpan::Day,
        Some("hour") => UsageSpan::Hour,
        Some(other) => return Err(invalid(format!("`by` is hour, day or total, not `{other}`"))),
    };
    let endpoint = query.endpoint.as_deref().map(name).transpose()?;
    let back = Duration::from_secs(query.since_seconds.unwrap_or(USUAL_DAYS * 86_400));
    let since = Timestamp::now().as_millis().saturating_sub(back.as_millis() as u64);
    let since = Timestamp::from_millis(since);
    let is_whole = endpoint.is_none() && span == UsageSpan::Total;
    let used = app.serving.usage(&caller, endpoint, since, span).await?;
    Ok(Json(UsageAnswer {
        since: time(since),
        cpu_hour_price: app.prices.cpu_hour,
        gib_hour_price: app.prices.gib_hour,
        gpu_hour_price: app.prices.gpu_hour,
        items: used.iter().map(|used| detail(used, span, app.prices)).collect(),
        functions: if is_whole { functions(&app, &caller).await? } else { Vec::new() },
        jobs: if is_whole { jobs(&app, &caller, since).await? } else { Vec::new() },
    }))
}

/// What an amount of each costs, by the prices that are known; none where none is.
fn cost(prices: Prices, cpu_hours: f64, gib_hours: f64, gpu_hours: f64) -> Option<f64> {
    let parts =
        [(prices.cpu_hour, cpu_hours), (prices.gib_hour, gib_hours), (prices.gpu_hour, gpu_hours)];
    let priced = parts.iter().filter_map(|(price, hours)| price.map(|price| price * hours));
    parts.iter().any(|(price, _)| price.is_some()).then(|| priced.sum())
}

/// By app and name: runs of one app under one name count together, and functions with other
/// parameters as theirs.
async fn functions(app: &App, caller: &Caller) -> Answer<Vec<FunctionUsageDetail>> {
    let mut sums: BTreeMap<(String, String), (FunctionId, FunctionUsage)> = BTreeMap::new();
    for (id, of, used) in app.functions.usage(caller.workspace).await {
        // What an app took is told as long as the app is known.
        let Ok(function) = app.apps.function(caller, id).await else { continue };
        let Ok(record) = app.apps.app(caller, of).await else { continue };
        let title = record.name.unwrap_or(record.description);
        let key = (title, function.record.tag.clone());
        let first = || (function.base(), FunctionUsage::default());
        sums.entry(key).or_insert_with(first).1.add(&used);
    }
    let details = sums.into_iter().map(|((of, name), (id, used))| {
        let (cpu, gib, gpu) = (used.cpu_seconds(), used.memory_gib_seconds(), used.gpu_seconds());
        FunctionUsageDetail {
            app: of,
            function: name,
            function_id: id.to_string(),
            inputs_succeeded: used.inputs_succeeded,
            inputs_failed: used.inputs_failed,
            cpu_seconds: cpu,
            memory_gib_seconds: gib,
            gpu_seconds: gpu,
            container_seconds: used.wall_ms as f64 / 1e3,
            starts: used.starts(),
            failed_starts: used.failed_starts,
            cold_share: used.cold_share(),
            cost: cost(app.prices, cpu / 3600.0, gib / 3600.0, gpu / 3600.0),
        }
    });
    Ok(details.collect())
}

/// By kind, of the jobs that were submitted since then and are still kept.
async fn jobs(app: &App, caller: &Caller, since: Timestamp) -> Answer<Vec<JobUsageDetail>> {
    let mut sums: BTreeMap<String, JobUsageDetail> = BTreeMap::new();
    let mut after = None;
    loop {
        let page = app.jobs.list(caller, &JobFilter::default(), after, JOBS_PER_PAGE).await?;
        for job in page.jobs.iter().filter(|job| job.submitted_at >= since) {
            let sum = sums.entry(job.request.kind.clone()).or_default();
            sum.jobs += 1;
            sum.cpu_seconds += job.accounting.cpu_ms as f64 / 1e3;
            sum.memory_gib_seconds += memory_gib_seconds(job);
        }
        // The newest come first.
        let is_past = page.jobs.last().is_some_and(|job| job.submitted_at < since);
        after = page.next;
        if after.is_none() || is_past {
            break;
        }
    }
    let details = sums.into_iter().map(|(kind, sum)| JobUsageDetail {
        kind,
        cost: cost(app.prices, sum.cpu_seconds / 3600.0, sum.memory_gib_seconds / 3600.0, 0.0),
        ..sum
    });
    Ok(details.collect())
}

fn memory_gib_seconds(job: &Job) -> f64 {
    let bytes = job.request.memory_request_bytes.max(job.accounting.peak_memory_bytes);
    bytes as f64 / f64::from(1 << 30) * (job.accounting.wall_ms as f64 / 1e3)
}

fn detail(used: &UsageRecord, span: UsageSpan, prices: Prices) -> UsageDetail {
    let core_hours = used.core_micros as f64 / 3.6e9;
    let memory_gib_hours = used.memory_byte_seconds as f64 / (f64::from(1 << 30) * 3600.0);
    let from = Timestamp::from_millis(used.hour.saturating_mul(HOUR_MS));
    UsageDetail {
        endpoint: used.endpoint.to_string(),
        from: (span != UsageSpan::Total).then(|| time(from)),
        requests: used.requests,
        errors: used.errors,
        texts: used.texts,
        core_seconds: used.core_micros as f64 / 1e6,
        memory_gib_hours,
        cost: cost(prices, core_hours, memory_gib_hours, 0.0),
    }
}
