//! `corral predict --file` and `--dataset`: a batch as a job, followed to its end.
//!
//! A batch into a file leaves a small note beside the file while it runs: the key by which the
//! server knows the request. The same command, run again after whatever ended it, finds the note
//! and goes on with the same job; nothing is asked twice.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use anyhow::Context as _;
use clap::Args;
use corral_data::ExportFormat;
use corral_server::api::{BatchRequest, ImportAnswer, ImportQuery, JobDetail};
use corral_server::batch_job::PREDICTIONS_OUTPUT;
use corral_types::{ErrorKind, Failure, display_count, parse_bytes};
use indicatif::ProgressBar;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Context;
use super::dataset::Upload;
use super::events::wait_with_progress;
use crate::client::Client;
use crate::failure::{kind_of, refusal};

/// What the note's name adds to that of the file.
const NOTE_SUFFIX: &str = ".corral-batch";

/// Hexadecimal digits of a key: no two batches share one.
const KEY_DIGITS: usize = 24;

#[derive(Debug, Args)]
pub struct BatchArgs {
    /// Predict every row of this file: CSV, TSV, JSONL, Parquet, Arrow, XLSX or plain text
    #[arg(long, value_name = "FILE", conflicts_with = "dataset", help_heading = "Batches")]
    file: Option<PathBuf>,
    /// Predict every row of a data set, or NAME@VERSION
    #[arg(long, value_name = "NAME", help_heading = "Batches")]
    dataset: Option<String>,
    /// Write rows and answers to this file, by its suffix: csv, jsonl, parquet, arrow or xlsx
    #[arg(long, value_name = "FILE", conflicts_with = "to", help_heading = "Batches")]
    out: Option<PathBuf>,
    /// Make a data set of rows and answers
    #[arg(long, value_name = "NAME", help_heading = "Batches")]
    to: Option<String>,
    /// The column of the file that holds the text
    #[arg(long, value_name = "COLUMN", requires = "file", help_heading = "Batches")]
    text: Option<String>,
    /// What stands before the names of the answers' columns
    #[arg(long, value_name = "PREFIX", help_heading = "Batches")]
    column_prefix: Option<String>,
    /// The memory that the job may take, such as 1GiB; by the model when absent
    #[arg(long, value_name = "SIZE", help_heading = "Batches")]
    memory: Option<String>,
}

impl BatchArgs {
    /// Whether a batch is asked for.
    pub fn is_asked(&self) -> bool {
        let Self { file, dataset, out, to, .. } = self;
        file.is_some() || dataset.is_some() || out.is_some() || to.is_some()
    }
}

/// Runs a batch to its end, or goes on with one that was begun.
pub async fn run(
    args: &BatchArgs,
    mut request: BatchRequest,
    context: &Context,
) -> anyhow::Result<()> {
    let client = context.client()?;
    complete(&mut request, args)?;
    // Asked before anything is uploaded: a wrong name shall cost nothing.
    let endpoint = request.endpoint.split('/').next().unwrap_or_default();
    client.send(client.get(&["v1", "endpoints", endpoint])).await?;
    let note = match &args.out {
        Some(out) => Some(Note::open(out, Asked::of(&request, args)?)?),
        None => None,
    };
    let key = note.as_ref().map_or_else(new_key, |note| note.content.key.clone());
    let scratch = args.file.as_ref().map(|_| format!("batch-{key}"));
    let begun = begin(&client, args, request, &key, scratch.as_deref()).await;
    let fetched = match begun {
        Ok(job) => {
            let fetched = fetch(&client, args, &job).await;
            let is_over = fetched.is_ok() || has_failed(&client, &job).await;
            fetched.map_err(|error| (is_over, error))
        }
        // What is refused is refused again; a server that is away comes back.
        Err(error) => Err((!kind_of(&error).is_some_and(ErrorKind::is_retryable), error)),
    };
    if fetched.as_ref().map_or_else(|(is_over, _)| *is_over, |_| true) {
        forget(&client, note.as_ref(), scratch.as_deref()).await?;
    }
    let result = fetched.map_err(|(_, error)| error)?;
    context.output.show(&result, |result| describe(result, args));
    Ok(())
}

/// Fills in what the command line says of a batch alone.
fn complete(request: &mut BatchRequest, args: &BatchArgs) -> anyhow::Result<()> {
    request.column_prefix.clone_from(&args.column_prefix);
    request.to.clone_from(&args.to);
    let memory = args.memory.as_deref().map(parse_bytes).transpose();
    request.memory_bytes = memory.map_err(|error| invalid(error.to_string()))?;
    if request.endpoint.is_empty() {
        return Err(invalid("name the endpoint that is to answer: `corral predict ENDPOINT …`"));
    }
    if args.file.is_none() && args.dataset.is_none() {
        return Err(invalid("say what is to be predicted: --file or --dataset"));
    }
    match (&args.out, &args.to) {
        (Some(out), None) => {
            let format = ExportFormat::of_file_name(&file_name(out)).map_err(invalid)?;
            request.format = Some(format.to_string());
            Ok(())
        }
        (None, Some(_)) => Ok(()),
        _ => Err(invalid("say where the answers go: a file by --out, or a data set by --to")),
    }
}

/// Uploads and submits; whatever of it was done before is found done.
async fn begin(
    client: &Client,
    args: &BatchArgs,
    mut request: BatchRequest,
    key: &str,
    scratch: Option<&str>,
) -> anyhow::Result<String> {
    request.dataset = match (&args.file, &args.dataset, scratch) {
        (Some(file), _, Some(name)) => {
            upload(client, file, args.text.as_deref(), name).await?;
            name.to_owned()
        }
        (_, dataset, _) => dataset.clone().unwrap_or_default(),
    };
    let post = client.post(&["v1", "predict"]).header("idempotency-key", key).json(&request);
    let job: JobDetail = client.json(post).await?;
    eprintln!("corral: batch {}; it goes on when this ends, and so does this, run again", job.id);
    Ok(job.id)
}

/// Follows the job and fetches its file, if it makes one. What came of it is the answer.
async fn fetch(client: &Client, args: &BatchArgs, job: &str) -> anyhow::Result<Value> {
    let result = wait_with_progress(client, job).await?.result.unwrap_or_default();
    if let Some(out) = &args.out {
        let output = client.get(&["v1", "jobs", job, "outputs", PREDICTIONS_OUTPUT]);
        client.download(output, Some(out)).await?;
    }
    Ok(result)
}

/// Whether the job has come to an end without a result, so that it is not to be found again.
async fn has_failed(client: &Client, job: &str) -> bool {
    let detail: anyhow::Result<JobDetail> = client.json(client.get(&["v1", "jobs", job])).await;
    detail.is_ok_and(|job| job.ended.is_some() && job.result.is_none())
}

fn describe(result: &Value, args: &BatchArgs) -> String {
    let number = |key: &str| result[key].as_u64().unwrap_or(0);
    let seconds = number("answering_ms") as f64 / 1000.0;
    let rows = number("rows") - number("resumed_from");
    let place = match (&args.out, &args.to) {
        (Some(out), _) => out.display().to_string(),
        (None, to) => format!("the data set {}", to.as_deref().unwrap_or_default()),
    };
    format!(
        "{} rows by {}@{} into {place}; {:.0} rows/s\n",
        display_count(number("rows")),
        result["model"].as_str().unwrap_or_default(),
        number("model_version"),
        rows as f64 / seconds.max(1e-3)
    )
}

/// The file as a data set for the job alone, unless an earlier run has uploaded it.
async fn upload(
    client: &Client,
    file: &Path,
    text: Option<&str>,
    name: &str,
) -> anyhow::Result<()> {
    if client.send(client.get(&["v1", "datasets", name])).await.is_ok() {
        return Ok(());
    }
    let Upload { file_name, bytes, body, .. } =
        Upload::open(None, file, &ProgressBar::hidden()).await?;
    let query = ImportQuery {
        text: text.map(str::to_owned),
        roles: Some("text".to_owned()),
        file_name: Some(file_name),
        ..ImportQuery::default()
    };
    let request = client
        .post(&["v1", "datasets", name, "import"])
        .query(&query)
        .header(reqwest::header::CONTENT_LENGTH, bytes)
        .body(body);
    let _imported: ImportAnswer = client.json(request).await?;
    Ok(())
}

/// Removes what stood for a batch that is over: the data set that its file became, and the note.
/// A data set that cannot be removed is in nobody's way, and `corral dataset rm` removes it.
async fn forget(client: &Client, note: Option<&Note>, scratch: Option<&str>) -> anyhow::Result<()> {
    if let Some(name) = scratch {
        let removed = client.send(client.request(Method::DELETE, &["v1", "datasets", name])).await;
        let is_there = |error: &anyhow::Error| kind_of(error) != Some(ErrorKind::NotFound);
        if removed.is_err_and(|error| is_there(&error)) {
            eprintln!("corral: the data set {name}, made for this batch, was not removed");
        }
    }
    note.map_or(Ok(()), Note::remove)
}

/// What was asked, so that a note of something else is not taken for this.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Asked {
    request: Value,
    file: Option<(PathBuf, u64, u64)>,
    dataset: Option<String>,
    text: Option<String>,
}

impl Asked {
    fn of(request: &BatchRequest, args: &BatchArgs) -> anyhow::Result<Self> {
        let file = args.file.as_deref().map(identity).transpose()?;
        Ok(Self {
            request: serde_json::to_value(request).context("write the request")?,
            file,
            dataset: args.dataset.clone(),
            text: args.text.clone(),
        })
    }
}

/// A file's path, length and time of change in milliseconds.
fn identity(path: &Path) -> anyhow::Result<(PathBuf, u64, u64)> {
    let failed = |error: std::io::Error| {
        let kind = match error.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            _ => ErrorKind::Invalid,
        };
        refusal(Failure::new(kind, format!("open {}: {error}", path.display())))
    };
    let path_whole = std::fs::canonicalize(path).map_err(failed)?;
    let metadata = std::fs::metadata(path).map_err(failed)?;
    let changed = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let changed_ms = changed.map_or(0, |since| since.as_millis() as u64);
    Ok((path_whole, metadata.len(), changed_ms))
}

/// The note beside the file that is to be made.
struct Note {
    path: PathBuf,
    content: NoteContent,
}

#[derive(Serialize, Deserialize)]
struct NoteContent {
    asked: Asked,
    key: String,
}

impl Note {
    /// The note of this very batch, or a new one; on disk when this returns.
    fn open(out: &Path, asked: Asked) -> anyhow::Result<Self> {
        let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new(".")).to_owned();
        let path = folder.join(format!("{}{NOTE_SUFFIX}", file_name(out)));
        if out.is_dir() {
            return Err(invalid(format!("{} is a folder, not a file to write", out.display())));
        }
        let found = std::fs::read(&path).ok();
        let found = found.and_then(|bytes| serde_json::from_slice::<NoteContent>(&bytes).ok());
        if let Some(content) = found.filter(|found| found.asked == asked) {
            return Ok(Self { path, content });
        }
        let content = NoteContent { asked, key: new_key() };
        let unwritable = |error: std::io::Error| {
            refusal(
                Failure::new(
                    ErrorKind::Invalid,
                    format!("{} cannot be written: {error}", out.display()),
                )
                .with_hint("name a file in a folder that is there and may be written to"),
            )
        };
        let mut file = tempfile::NamedTempFile::new_in(&folder).map_err(unwritable)?;
        let bytes = serde_json::to_vec(&content).context("write the batch's note")?;
        file.write_all(&bytes).map_err(unwritable)?;
        file.as_file().sync_all().map_err(unwritable)?;
        file.persist(&path).map_err(|error| unwritable(error.error))?;
        Ok(Self { path, content })
    }

    fn remove(&self) -> anyhow::Result<()> {
        std::fs::remove_file(&self.path).with_context(|| format!("remove {}", self.path.display()))
    }
}

/// A key that no other batch has.
fn new_key() -> String {
    let seed = format!(
        "{:?} {} {:?}",
        std::time::SystemTime::now(),
        std::process::id(),
        std::thread::current().id()
    );
    blake3::hash(seed.as_bytes()).to_hex()[..KEY_DIGITS].to_owned()
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn invalid(message: impl Into<String>) -> anyhow::Error {
    refusal(Failure::new(ErrorKind::Invalid, message))
}
