//! Measures the catalog: changes answered from disk, and lookups, per second.
//!
//! `cargo run --release -p corral-catalog --example catalog_speed [FOLDER]`

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use corral_catalog::{
    Catalog, CatalogError, DEFAULT_WORKSPACE as W, EndpointTarget, Lineage, NewDatasetVersion,
    NewEndpointVersion, NewModelVersion, NewRecord, NewToken, PageRequest, RunRecord, RunStatus,
    SecretHash, SqliteCatalog,
};
use corral_types::{BlobHash, Id, Scopes, Timestamp};

/// How long each figure is measured.
const WINDOW: Duration = Duration::from_secs(2);

/// Models, endpoints and tokens that lookups choose from.
const RECORDS: u128 = 10_000;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let folder = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let file = folder.join(format!("catalog-speed-{}.sqlite", std::process::id()));
    let catalog: Arc<dyn Catalog> = Arc::new(SqliteCatalog::open(&file)?);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(measure(&catalog));
    drop(catalog);
    for suffix in ["", "-wal", "-shm"] {
        // The last two are gone already when all was closed in order.
        let _ = std::fs::remove_file(format!("{}{suffix}", file.display()));
    }
    result
}

async fn measure(catalog: &Arc<dyn Catalog>) -> Result<(), Failure> {
    for tasks in [1, 16, 64] {
        rate(&format!("data sets made, {tasks} at a time"), tasks, catalog, make_dataset).await?;
    }
    rate("batches of 100 runs noted, 4 at a time", 4, catalog, note_runs).await?;
    let mut making = tokio::task::JoinSet::new();
    for task in 0..64 {
        let catalog = Arc::clone(catalog);
        making.spawn(async move {
            for key in (task..RECORDS).step_by(64) {
                make_endpoint(&catalog, key).await?;
            }
            Ok::<_, CatalogError>(())
        });
    }
    while let Some(made) = making.join_next().await {
        made??;
    }
    for tasks in [1, 16] {
        rate(&format!("tokens found by secret, {tasks} at a time"), tasks, catalog, find_token)
            .await?;
        rate(&format!("endpoints found by name, {tasks} at a time"), tasks, catalog, find_endpoint)
            .await?;
    }
    rate("pages of 1,000 endpoints, 1 at a time", 1, catalog, list_endpoints).await?;
    Ok(())
}

/// Prints how often `work` is done in a second by so many tasks, and the median time of one.
async fn rate<W>(
    what: &str,
    tasks: u128,
    catalog: &Arc<dyn Catalog>,
    work: impl Fn(Arc<dyn Catalog>, u128) -> W + Copy + Send + 'static,
) -> Result<(), Failure>
where
    W: Future<Output = Result<(), CatalogError>> + Send,
{
    let begun = Instant::now();
    let mut running = tokio::task::JoinSet::new();
    for task in 0..tasks {
        let catalog = Arc::clone(catalog);
        running.spawn(async move {
            let mut times = Vec::new();
            while begun.elapsed() < WINDOW {
                let start = Instant::now();
                // Distinct over tasks and rounds.
                work(Arc::clone(&catalog), times.len() as u128 * tasks + task).await?;
                times.push(start.elapsed());
            }
            Ok::<_, CatalogError>(times)
        });
    }
    let mut times = Vec::new();
    while let Some(joined) = running.join_next().await {
        times.append(&mut joined??);
    }
    times.sort_unstable();
    let per_second = times.len() as f64 / begun.elapsed().as_secs_f64();
    let median = times[times.len() / 2].as_secs_f64() * 1e6;
    println!("{what:<45} {per_second:>10.0} /s   median {median:>8.1} µs");
    Ok(())
}

const NOW: Timestamp = Timestamp::from_millis(1);

fn name(prefix: &str, key: u128) -> corral_types::Name {
    format!("{prefix}{key}").parse().expect("letters and digits are a name")
}

async fn make_dataset(catalog: Arc<dyn Catalog>, _: u128) -> Result<(), CatalogError> {
    let id: corral_types::DatasetId = Id::generate();
    let blob = BlobHash::of(&id.as_u128().to_be_bytes());
    let version = NewDatasetVersion {
        manifest: blob,
        rows: 1,
        bytes: 1,
        created: NOW,
        note: "import".to_owned(),
        blobs: vec![blob],
    };
    let new = NewRecord { id, name: name("d", id.as_u128()), created: NOW };
    catalog.create_dataset(W, new, version).await.map(|_| ())
}

async fn note_runs(catalog: Arc<dyn Catalog>, key: u128) -> Result<(), CatalogError> {
    let run = |number| RunRecord {
        number,
        status: RunStatus::Finished,
        params_json: r#"{"c":1.0,"ngrams":[1,2],"learner":"svm"}"#.to_owned(),
        metrics_json: r#"{"accuracy":0.93,"macro_f1":0.92}"#.to_owned(),
        started: NOW,
        ended: Some(NOW),
    };
    catalog.record_runs(W, Id::from_u128(key), (0..100).map(run).collect()).await
}

async fn make_endpoint(catalog: &Arc<dyn Catalog>, key: u128) -> Result<(), CatalogError> {
    let version = NewModelVersion {
        file: BlobHash::of(&key.to_be_bytes()),
        bytes: 1,
        lineage: Lineage::default(),
        metrics_json: "{}".to_owned(),
        encoder: None,
        report: None,
        created: NOW,
    };
    let new = NewRecord { id: Id::from_u128(key), name: name("m", key), created: NOW };
    let model = catalog.add_model_version(W, new, version).await?.model;
    let endpoint = NewRecord { id: Id::from_u128(key), name: name("e", key), created: NOW };
    let target = EndpointTarget::Model { model, version: 1 };
    catalog.add_endpoint_version(W, NewEndpointVersion { endpoint, target, at: NOW }).await?;
    let token = NewToken {
        id: Id::from_u128(key),
        name: name("t", key),
        scopes: Scopes::ALL,
        secret: SecretHash::of(&key.to_string()),
        created: NOW,
        expires: None,
    };
    catalog.create_token(W, token).await.map(|_| ())
}

async fn find_token(catalog: Arc<dyn Catalog>, key: u128) -> Result<(), CatalogError> {
    let secret = SecretHash::of(&(key * 7919 % RECORDS).to_string());
    let found = catalog.token_by_secret(secret).await?;
    assert!(found.is_some(), "the token was made");
    Ok(())
}

async fn find_endpoint(catalog: Arc<dyn Catalog>, key: u128) -> Result<(), CatalogError> {
    catalog.endpoint_named(W, name("e", key * 7919 % RECORDS)).await.map(|_| ())
}

async fn list_endpoints(catalog: Arc<dyn Catalog>, _: u128) -> Result<(), CatalogError> {
    catalog.list_endpoints(W, PageRequest::default()).await.map(|_| ())
}
