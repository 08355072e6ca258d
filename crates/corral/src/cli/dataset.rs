//! `corral dataset`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use corral_data::{SHARES_COLUMN, WEIGHT_COLUMN};
use corral_server::api::{DatasetDetail, DatasetSummary, ImportAnswer, ImportQuery, Page, Rows};
use corral_types::{ErrorKind, Failure, display_bytes, display_count};
use futures_util::StreamExt;
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::Method;
use serde_json::Value;
use tokio_util::io::ReaderStream;

use super::{Context, Versioned};
use crate::client::Client;
use crate::failure::refusal;
use crate::output::{draws_progress, fields, table};

/// Bytes read from a file at once: large enough that neither disk nor socket waits.
const UPLOAD_BLOCK_BYTES: usize = 256 * 1024;

/// How many classes `show` lists before it says how many more there are.
const SHOWN_CLASSES: usize = 20;

#[derive(Debug, Subcommand)]
pub enum DatasetCommand {
    /// Import files as a data set, or append to one
    Import(Box<ImportArgs>),
    /// List the data sets
    Ls,
    /// Show schema, sizes, classes and text lengths
    Show {
        /// The data set, or NAME@VERSION
        name: Versioned,
    },
    /// Show the first rows
    Head {
        /// The data set, or NAME@VERSION
        name: Versioned,
        /// How many rows
        #[arg(short = 'n', long, default_value_t = 10)]
        rows: u32,
    },
    /// Write a data set to a file or standard output
    Export {
        /// The data set, or NAME@VERSION
        name: Versioned,
        #[arg(long, value_enum, default_value = "jsonl")]
        format: ExportFormat,
        /// Where to write; standard output when absent
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Remove a data set and what was derived from it
    Rm { name: String },
}

#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The data set's name
    name: String,
    /// CSV, TSV, JSONL, Parquet, Arrow, XLSX or plain text; also gzip or zstd.
    /// SPLIT=FILE puts all its rows into that split
    #[arg(required = true, value_name = "FILE")]
    files: Vec<String>,
    /// The column that holds the text
    #[arg(long, value_name = "COLUMN")]
    text: Option<String>,
    /// The column that holds the label, the list of labels, or an object of labels and how
    /// likely each is, as in {"billing": 0.7, "other": 0.3}
    #[arg(long, value_name = "COLUMN")]
    label: Option<String>,
    /// The column that holds how likely each label of a row's list is: a list as long
    #[arg(long, value_name = "COLUMN")]
    shares: Option<String>,
    /// The column that says what a row counts: 0 leaves it out, and 1 is usual
    #[arg(long, value_name = "COLUMN")]
    weight: Option<String>,
    /// The column that names the split
    #[arg(long, value_name = "COLUMN")]
    split: Option<String>,
    /// Draw splits, stratified by class, as in test=0.1,valid=0.1
    #[arg(long, value_name = "SHARES", conflicts_with = "split")]
    draw: Option<String>,
    /// The seed of the draw
    #[arg(long, requires = "draw")]
    seed: Option<u64>,
    /// Append to the data set instead of creating it
    #[arg(long)]
    append: bool,
    /// What to do with rows that cannot be read
    #[arg(long, value_enum)]
    on_error: Option<OnError>,
    /// csv, tsv, jsonl, parquet, arrow, xlsx or text, instead of finding out
    #[arg(long)]
    format: Option<String>,
    /// The character between fields, or `tab`
    #[arg(long, value_name = "CHAR")]
    delimiter: Option<String>,
    /// utf-8, utf-16le, utf-16be or windows-1252
    #[arg(long)]
    encoding: Option<String>,
    /// Whether the first line names the columns: present or absent
    #[arg(long)]
    header: Option<String>,
    /// Separates several labels in one field
    #[arg(long, value_name = "TEXT")]
    label_separator: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OnError {
    /// Import nothing
    Fail,
    /// Leave the rows out and say which
    Skip,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ExportFormat {
    Csv,
    Jsonl,
    Parquet,
    Arrow,
    Xlsx,
}

pub async fn run(command: DatasetCommand, context: &Context) -> anyhow::Result<()> {
    let client = context.client()?;
    match command {
        DatasetCommand::Import(args) => import(*args, context, &client).await,
        DatasetCommand::Ls => {
            let items = client.list::<DatasetSummary>(&["v1", "datasets"]).await?;
            context.output.show(&Page { items, next: None }, |page| {
                let rows = page.items.iter().map(|set| {
                    [
                        set.name.clone(),
                        set.version.to_string(),
                        display_count(set.rows),
                        display_bytes(set.bytes),
                        set.created.clone(),
                    ]
                });
                table(["name", "#version", "#rows", "#size", "created"], rows)
            });
            Ok(())
        }
        DatasetCommand::Show { name } => {
            let request = client.get(&["v1", "datasets", &name.name]).query(&name.query());
            let detail: DatasetDetail = client.json(request).await?;
            context.output.show(&detail, describe);
            Ok(())
        }
        DatasetCommand::Head { name, rows } => {
            let request = client
                .get(&["v1", "datasets", &name.name, "rows"])
                .query(&name.query())
                .query(&[("limit", rows)]);
            let rows: Rows = client.json(request).await?;
            context.output.show(&rows, first_rows);
            Ok(())
        }
        DatasetCommand::Export { name, format, output } => {
            let format = match format {
                ExportFormat::Csv => "csv",
                ExportFormat::Jsonl => "jsonl",
                ExportFormat::Parquet => "parquet",
                ExportFormat::Arrow => "arrow",
                ExportFormat::Xlsx => "xlsx",
            };
            let request = client
                .get(&["v1", "datasets", &name.name, "export"])
                .query(&name.query())
                .query(&[("format", format)]);
            client.download(request, output.as_deref()).await
        }
        DatasetCommand::Rm { name } => {
            client.send(client.request(Method::DELETE, &["v1", "datasets", &name])).await?;
            eprintln!("removed the data set {name}");
            Ok(())
        }
    }
}

async fn import(args: ImportArgs, context: &Context, client: &Client) -> anyhow::Result<()> {
    let query = ImportQuery {
        text: args.text,
        label: args.label,
        shares: args.shares,
        weight: args.weight,
        split: args.split,
        roles: None,
        format: args.format,
        delimiter: args.delimiter,
        encoding: args.encoding,
        header: args.header,
        label_separator: args.label_separator,
        on_error: args.on_error.map(|on_error| match on_error {
            OnError::Fail => "fail".to_owned(),
            OnError::Skip => "skip".to_owned(),
        }),
        draw: args.draw,
        seed: args.seed,
        mode: Some(if args.append { "append" } else { "create" }.to_owned()),
        file_name: None,
    };
    let bar = ProgressBar::hidden();
    let mut uploads = Vec::new();
    for argument in &args.files {
        let (split, path) = split_and_path(argument);
        uploads.push(Upload::open(split, &path, &bar).await?);
    }
    if draws_progress() {
        bar.set_draw_target(indicatif::ProgressDrawTarget::stderr());
        bar.set_length(uploads.iter().map(|upload| upload.bytes).sum());
        bar.set_style(
            ProgressStyle::with_template("importing {bar:30} {bytes}/{total_bytes} {eta}")
                .expect("the template is well formed"),
        );
    }
    let request = client.post(&["v1", "datasets", &args.name, "import"]).query(&query);
    let request = match uploads.as_mut_slice() {
        // One file is read by the server as it comes; several are received first.
        [Upload { split: None, .. }] => {
            let Upload { file_name, bytes, body, .. } = uploads.remove(0);
            request
                .query(&[("file_name", file_name)])
                .header(reqwest::header::CONTENT_LENGTH, bytes)
                .body(body)
        }
        _ => {
            let parts = uploads.into_iter().map(|upload| {
                let part = reqwest::multipart::Part::stream_with_length(upload.body, upload.bytes);
                // The field's name carries the split, so that a plain form can do the same.
                let field =
                    upload.split.map_or_else(|| "file".to_owned(), |split| format!("file:{split}"));
                (field, part.file_name(upload.file_name))
            });
            let form = parts.fold(reqwest::multipart::Form::new(), |form, (field, part)| {
                form.part(field, part)
            });
            request.multipart(form)
        }
    };
    let answer: anyhow::Result<ImportAnswer> = client.json(request).await;
    bar.finish_and_clear();
    context.output.show(&answer?, |answer| {
        let report = &answer.report;
        let mut text = String::new();
        for file in &report.files {
            text +=
                &format!("{}: {} rows, {}\n", file.file, display_count(file.rows), file.read_as);
        }
        if report.skipped_rows > 0 {
            text += &format!("\nleft out {} rows:\n", display_count(report.skipped_rows));
            for problem in &report.problems {
                text += &format!("  {problem}\n");
            }
        }
        for note in &report.notes {
            text += &format!("{note}\n");
        }
        text + "\n" + &describe(&answer.dataset)
    });
    Ok(())
}

/// A file on its way to the server.
pub(super) struct Upload {
    pub split: Option<String>,
    pub file_name: String,
    pub bytes: u64,
    pub body: reqwest::Body,
}

impl Upload {
    pub async fn open(
        split: Option<String>,
        path: &Path,
        bar: &ProgressBar,
    ) -> anyhow::Result<Self> {
        let file = tokio::fs::File::open(path).await.map_err(|error| {
            refusal(Failure::new(ErrorKind::NotFound, format!("open {}: {error}", path.display())))
        })?;
        let bytes = file.metadata().await.context("read the file's length")?.len();
        let sent = bar.clone();
        let stream = ReaderStream::with_capacity(file, UPLOAD_BLOCK_BYTES).inspect(move |block| {
            if let Ok(block) = block {
                sent.inc(block.len() as u64);
            }
        });
        let file_name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { split, file_name, bytes, body: reqwest::Body::wrap_stream(stream) })
    }
}

/// `SPLIT=FILE` taken apart, unless a file of that whole name is there.
fn split_and_path(argument: &str) -> (Option<String>, PathBuf) {
    let whole = PathBuf::from(argument);
    match argument.split_once('=') {
        Some((split, path)) if !whole.exists() && !split.is_empty() && !split.contains('/') => {
            (Some(split.to_owned()), PathBuf::from(path))
        }
        _ => (None, whole),
    }
}

fn first_rows(rows: &Rows) -> String {
    let cell = |row: &BTreeMap<String, Value>, key: &str| match row.get(key) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => shorten(text),
        Some(other) => other.to_string(),
    };
    let labels = |row: &BTreeMap<String, Value>| {
        let shares = row.get(SHARES_COLUMN).and_then(Value::as_array);
        let names = row.get("labels").and_then(Value::as_array).into_iter().flatten();
        let shared = names.filter_map(Value::as_str).enumerate().map(|(at, name)| {
            let share = shares.and_then(|shares| shares.get(at));
            share.map_or_else(|| name.to_owned(), |share| format!("{name} {share}"))
        });
        shared.collect::<Vec<_>>().join(", ")
    };
    let rows = &rows.rows;
    if rows.iter().any(|row| row.contains_key(WEIGHT_COLUMN)) {
        let lines = rows.iter().map(|row| {
            let weight = cell(row, WEIGHT_COLUMN);
            [cell(row, "row_id"), cell(row, "split"), weight, labels(row), cell(row, "text")]
        });
        return table(["#row", "split", "#weight", "labels", "text"], lines);
    }
    let lines = rows
        .iter()
        .map(|row| [cell(row, "row_id"), cell(row, "split"), labels(row), cell(row, "text")]);
    table(["#row", "split", "labels", "text"], lines)
}

fn describe(set: &DatasetDetail) -> String {
    let columns: Vec<_> =
        set.columns.iter().map(|column| format!("{} {}", column.name, column.kind)).collect();
    let splits: Vec<_> = set
        .splits
        .iter()
        .map(|split| {
            let name = if split.name.is_empty() { "(none)" } else { &split.name };
            format!("{name} {}", display_count(split.rows))
        })
        .collect();
    let lengths: Vec<_> = set
        .text_chars
        .iter()
        .map(|q| format!("{}% {}", q.percent, display_count(q.value)))
        .collect();
    let weights = match (set.weighted_rows, set.weightless_rows) {
        (0, _) => "none".to_owned(),
        (weighted, weightless) => {
            format!("on {} rows, 0 on {}", display_count(weighted), display_count(weightless))
        }
    };
    let mut text = fields([
        ("data set", format!("{}@{}", set.name, set.version)),
        ("manifest", set.manifest.clone()),
        ("rows", display_count(set.rows)),
        ("size", format!("{} in {} parts", display_bytes(set.bytes), set.parts)),
        ("columns", columns.join(", ")),
        ("text", set.text_column.clone()),
        ("splits", splits.join(", ")),
        (
            "classes",
            format!(
                "{}{}",
                display_count(set.classes.len() as u64),
                match (set.multi_label, set.probabilistic_rows) {
                    (false, _) => String::new(),
                    (true, 0) => ", several a row".to_owned(),
                    (true, rows) => format!(", with shares on {} rows", display_count(rows)),
                }
            ),
        ),
        ("weights", weights),
        ("unlabelled", display_count(set.unlabelled_rows)),
        ("duplicates", display_count(set.duplicate_rows)),
        ("empty texts", display_count(set.empty_texts)),
        ("characters", lengths.join("  ")),
    ]);
    let mut classes: Vec<_> = set.classes.iter().collect();
    classes.sort_by_key(|(name, rows)| (std::cmp::Reverse(**rows), name.as_str()));
    let most = classes.first().map_or(1, |(_, rows)| (**rows).max(1));
    if !classes.is_empty() {
        text += "\n";
        let rows = classes.iter().take(SHOWN_CLASSES).map(|(name, rows)| {
            let bar = "▇".repeat((**rows * 30).div_ceil(most) as usize);
            [shorten(name), display_count(**rows), bar]
        });
        text += &table(["class", "#rows", ""], rows);
        text += "\n";
    }
    if classes.len() > SHOWN_CLASSES {
        text += &format!(
            "and {} more classes\n",
            display_count((classes.len() - SHOWN_CLASSES) as u64)
        );
    }
    text
}

/// One line of at most 100 characters.
fn shorten(text: &str) -> String {
    const SHOWN_CHARS: usize = 100;
    let mut line: String =
        text.chars().take(SHOWN_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(SHOWN_CHARS).is_some() {
        line.push('…');
    }
    line
}
