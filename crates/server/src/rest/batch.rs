//! `/v1/predict`.

use axum::Json;
use axum::extract::State;
use corral_batch::{BatchOptions, RefusalsAsked};
use corral_catalog::CatalogError;
use corral_classifier::Model;
use corral_data::ExportFormat;
use corral_datasets::DatasetsError;
use corral_types::{Caller, Name};

use super::answer::{Answer, ApiError, Body, invalid, name, versioned};
use super::jobs::read;
use super::upload::cut_off;
use crate::api::{BatchRequest, JobDetail};
use crate::asking::Addressed;
use crate::auth::Writer;
use crate::batch_job::{BatchOrder, BatchOutput};
use crate::state::App;

/// Asks an endpoint for every row of a data set in the background. The answer is the job.
#[utoipa::path(post, path = "/v1/predict", tag = "jobs", request_body = BatchRequest,
    responses((status = 200, body = JobDetail)))]
pub async fn predict(
    State(app): State<App>,
    Writer(caller): Writer,
    Body(request): Body<BatchRequest>,
) -> Answer<Json<JobDetail>> {
    let (endpoint, version) = match request.endpoint.split_once('/') {
        Some((endpoint, version)) => (endpoint, Some(version)),
        None => (request.endpoint.as_str(), None),
    };
    let Addressed { endpoint, version } = Addressed::read(endpoint, version)?;
    let output = output(&request)?;
    let pinned = app.serving.pin(&caller, &endpoint, version.as_ref())?;
    let (dataset, number) = versioned(&request.dataset)?;
    let set = app.datasets.load(&caller, dataset, number).await?;
    if let BatchOutput::Dataset { name } = &output {
        refuse_taken(&app, &caller, name).await?;
    }
    let encoder_bytes = match pinned.encoder {
        Some(file) => app.catalog.encoder(caller.workspace, file).await?.bytes,
        None => 0,
    };
    let path = app.blobs.local_path(&pinned.file)?;
    let model = tokio::task::spawn_blocking(move || Model::open(&path));
    let model = model.await.map_err(|_| cut_off())??;
    let largest = app.jobs.workers().await.iter().map(|worker| worker.capacity.milli_cpu).max();
    let order = BatchOrder {
        endpoint,
        pinned,
        options: BatchOptions {
            top_k: request.top_k.unwrap_or(1),
            threshold: request.threshold,
            prefix: request.prefix,
            back_off: request.back_off,
            refusals: match request.answer_all {
                true => RefusalsAsked::Ignore,
                false => RefusalsAsked::Apply,
            },
            column_prefix: request.column_prefix.unwrap_or_default(),
        },
        output,
        memory_bytes: request.memory_bytes,
        time_limit_ms: request.time_limit_seconds.map(|seconds| seconds.saturating_mul(1000)),
        milli_cpu: largest.unwrap_or(1000),
    };
    let job_request = order.into_request(&set, &model, encoder_bytes).map_err(ApiError)?;
    let job = app.jobs.submit(&caller, job_request).await?;
    read(&app, &caller, job).await
}

fn output(request: &BatchRequest) -> Answer<BatchOutput> {
    match (&request.to, &request.format) {
        (Some(_), Some(_)) => Err(invalid("a batch makes a data set, `to`, or a file, `format`")),
        (Some(to), None) => Ok(BatchOutput::Dataset { name: name(to)? }),
        (None, format) => {
            let format = format.as_deref().unwrap_or(ExportFormat::Parquet.as_str());
            let format: ExportFormat = format.parse().map_err(invalid)?;
            Ok(BatchOutput::File { format: format.to_string() })
        }
    }
}

/// A name that is taken would fail the job at its end: it fails it now.
async fn refuse_taken(app: &App, caller: &Caller, name: &Name) -> Answer<()> {
    match app.datasets.load(caller, name.clone(), None).await {
        Ok(_) => {
            let what = corral_catalog::RecordKind::Dataset;
            Err(CatalogError::AlreadyExists { what, name: name.to_string() }.into())
        }
        Err(DatasetsError::Catalog(CatalogError::NotFound { .. })) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
