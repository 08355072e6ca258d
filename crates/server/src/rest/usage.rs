//! `/v1/usage`.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use corral_catalog::UsageRecord;
use corral_serving::UsageSpan;
use corral_types::Timestamp;

use super::answer::{Answer, Query, invalid, name, time};
use crate::api::{UsageAnswer, UsageDetail, UsageQuery};
use crate::auth::Reader;
use crate::state::{App, Prices};

/// How far back usage is told when nothing is said.
const USUAL_DAYS: u64 = 30;

const HOUR_MS: u64 = 3_600_000;

/// What the endpoints of the workspace used.
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
    let used = app.serving.usage(&caller, endpoint, since, span).await?;
    Ok(Json(UsageAnswer {
        since: time(since),
        cpu_hour_price: app.prices.cpu_hour,
        gib_hour_price: app.prices.gib_hour,
        items: used.iter().map(|used| detail(used, span, app.prices)).collect(),
    }))
}

fn detail(used: &UsageRecord, span: UsageSpan, prices: Prices) -> UsageDetail {
    let core_hours = used.core_micros as f64 / 3.6e9;
    let memory_gib_hours = used.memory_byte_seconds as f64 / (f64::from(1 << 30) * 3600.0);
    let part = |price: Option<f64>, hours: f64| price.map(|price| price * hours);
    let parts = [part(prices.cpu_hour, core_hours), part(prices.gib_hour, memory_gib_hours)];
    let from = Timestamp::from_millis(used.hour.saturating_mul(HOUR_MS));
    UsageDetail {
        endpoint: used.endpoint.to_string(),
        from: (span != UsageSpan::Total).then(|| time(from)),
        requests: used.requests,
        errors: used.errors,
        texts: used.texts,
        core_seconds: used.core_micros as f64 / 1e6,
        memory_gib_hours,
        cost: parts.iter().any(Option::is_some).then(|| parts.iter().flatten().sum()),
    }
}
