//! `/v1/datasets`.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequest, Multipart, Path, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use corral_data::{
    ColumnChoice, Compression, DrawFrom, DrawSplits, ExportFormat, ExportOptions, FileReport,
    Fraction, Header, ImportOptions, LabelArity, NoProgress, OnError, RoleNames, SHARES_COLUMN,
    Source, Value, WEIGHT_COLUMN,
};
use corral_datasets::{Datasets, ImportMode, ImportedSet, OpenSet};
use corral_types::{Caller, ErrorKind, Failure};
use serde_json::{Value as Json_, json};
use tokio::io::AsyncWriteExt;

use super::answer::{Answer, ApiError, Query, invalid, name, page_of, page_request, time};
use super::upload::{self, cut_off};
use crate::api::{
    ColumnDetail, DatasetDetail, DatasetSummary, ExportQuery, HeadQuery, ImportAnswer, ImportQuery,
    ImportReport, ImportedFile, MAX_PAGE, Page, PageQuery, Quantile, Rows, SplitDetail,
    VersionDetail, VersionQuery,
};
use crate::auth::{Reader, Writer};
use crate::state::App;

/// Files of one import.
const MAX_FILES: usize = 1000;

/// Rows that `rows` answers with when nothing is said.
const DEFAULT_HEAD_ROWS: u32 = 10;

/// Percentiles of text length, in thousandths.
const QUANTILES: [u16; 8] = [0, 50, 250, 500, 750, 950, 990, 1000];

/// Imports files as a data set or its next version. The body is one file, with its name in
/// the query, or a form with any number of them; a form field `file:SPLIT` puts all rows of
/// its file into that split.
#[utoipa::path(post, path = "/v1/datasets/{name}/import", tag = "datasets",
    params(("name" = String, Path), ImportQuery),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, body = ImportAnswer)))]
pub async fn import(
    State(app): State<App>,
    Writer(caller): Writer,
    Path(text): Path<String>,
    Query(query): Query<ImportQuery>,
    request: Request,
) -> Answer<Json<ImportAnswer>> {
    let name = name(&text)?;
    let mode = match query.mode.as_deref() {
        None | Some("create") => ImportMode::Create,
        Some("append") => ImportMode::Append,
        Some(other) => return Err(invalid(format!("`mode` is create or append, not `{other}`"))),
    };
    let options = import_options(&query)?;
    let content_type = request.headers().get(header::CONTENT_TYPE);
    let is_form = content_type.is_some_and(|value| value.as_bytes().starts_with(b"multipart/"));
    // What was received lies in files that go when this does.
    let received;
    let sources = if is_form {
        let form = Multipart::from_request(request, &())
            .await
            .map_err(|rejection| invalid(rejection.body_text()))?;
        received = receive_files(&app, form).await?;
        received.iter().map(ReceivedFile::source).collect::<Answer<Vec<_>>>()?
    } else {
        vec![Source {
            file_name: query.file_name.clone().unwrap_or_else(|| "body".to_owned()),
            reader: Box::new(upload::reader(request.into_body())),
            split: None,
        }]
    };
    let imported =
        app.datasets.import(&caller, name, mode, sources, options, Arc::new(NoProgress)).await?;
    let report = import_report(&imported);
    let dataset = detail(&app.datasets, &caller, &imported.set).await?;
    Ok(Json(ImportAnswer { dataset, report }))
}

/// A file of a form, received whole: several can only be told apart by reading them in order,
/// while an import may want to look at all first.
struct ReceivedFile {
    name: String,
    split: Option<String>,
    file: tempfile::TempPath,
}

impl ReceivedFile {
    fn source(&self) -> Answer<Source<'static>> {
        let file = std::fs::File::open(&self.file)
            .map_err(|error| internal("open a received file", &error))?;
        Ok(Source {
            file_name: self.name.clone(),
            reader: Box::new(file),
            split: self.split.clone(),
        })
    }
}

async fn receive_files(app: &App, mut form: Multipart) -> Answer<Vec<ReceivedFile>> {
    let mut files = Vec::new();
    loop {
        let field = form.next_field().await.map_err(|error| invalid(error.body_text()))?;
        let Some(mut field) = field else { break };
        if files.len() == MAX_FILES {
            return Err(invalid(format!("an import has at most {MAX_FILES} files")));
        }
        let field_name = field.name().unwrap_or_default();
        let split = match field_name.split_once(':') {
            Some(("file", split)) => Some(split.to_owned()),
            None if field_name == "file" => None,
            _ => return Err(invalid(format!("the form field `{field_name}` is not `file`"))),
        };
        let name = field.file_name().unwrap_or("file").to_owned();
        app.blobs.check_room(0)?;
        let file = tempfile::NamedTempFile::new_in(app.blobs.scratch_folder())
            .map_err(|error| internal("make a file for an upload", &error))?;
        let (file, path) = file.into_parts();
        let mut file = tokio::fs::File::from_std(file);
        while let Some(block) = field.chunk().await.map_err(|error| invalid(error.body_text()))? {
            file.write_all(&block)
                .await
                .map_err(|error| internal("write an upload to disk", &error))?;
        }
        file.flush().await.map_err(|error| internal("write an upload to disk", &error))?;
        files.push(ReceivedFile { name, split, file: path });
    }
    if files.is_empty() {
        return Err(invalid("the form has no file; send them in fields called `file`"));
    }
    Ok(files)
}

fn internal(doing: &str, error: &io::Error) -> ApiError {
    ApiError(Failure::new(ErrorKind::Internal, format!("{doing}: {error}")))
}

fn import_options(query: &ImportQuery) -> Answer<ImportOptions> {
    let unnamed = match query.roles.as_deref() {
        None | Some("usual") => ColumnChoice::Detect,
        Some("text") => ColumnChoice::Absent,
        Some(other) => return Err(invalid(format!("`roles` is usual or text, not `{other}`"))),
    };
    let column =
        |choice: &Option<String>| choice.clone().map_or(unnamed.clone(), ColumnChoice::Named);
    let format = match query.format.as_deref() {
        Some("text") => Some("lines"),
        other => other,
    };
    Ok(ImportOptions {
        format: format.map(str::parse).transpose().map_err(invalid)?,
        encoding: query.encoding.as_deref().map(str::parse).transpose().map_err(invalid)?,
        delimiter: query.delimiter.as_deref().map(delimiter).transpose()?,
        header: match query.header.as_deref() {
            None => Header::Detect,
            Some("present") => Header::Present,
            Some("absent") => Header::Absent,
            Some(other) => {
                return Err(invalid(format!("`header` is present or absent, not `{other}`")));
            }
        },
        text: query.text.clone(),
        label: column(&query.label),
        split: column(&query.split),
        weight: column(&query.weight),
        shares: column(&query.shares),
        role_names: match unnamed {
            ColumnChoice::Absent => RoleNames::Free,
            _ => RoleNames::Reserved,
        },
        label_separator: query.label_separator.clone(),
        on_error: match query.on_error.as_deref() {
            None | Some("fail") => OnError::Fail,
            Some("skip") => OnError::Skip,
            Some(other) => {
                return Err(invalid(format!("`on_error` is fail or skip, not `{other}`")));
            }
        },
        draw: query.draw.as_deref().map(|draw| draw_splits(draw, query.seed)).transpose()?,
        ..ImportOptions::default()
    })
}

fn delimiter(text: &str) -> Answer<u8> {
    match text.as_bytes() {
        b"tab" | b"\\t" => Ok(b'\t'),
        [byte] if byte.is_ascii() => Ok(*byte),
        _ => Err(invalid(format!("`{text}` is not a delimiter: one ASCII character, or tab"))),
    }
}

/// `test=0.1,valid=0.1`; the rest is the split `train`.
fn draw_splits(text: &str, seed: Option<u64>) -> Answer<DrawSplits> {
    let refuse =
        || invalid(format!("`{text}` is not a draw of splits: name them as in test=0.1,valid=0.1"));
    let mut fractions = Vec::new();
    for share in text.split(',') {
        let (split, share) = share.split_once('=').ok_or_else(refuse)?;
        let share = share.trim().parse().ok().and_then(Fraction::from_f64).ok_or_else(refuse)?;
        fractions.push((split.trim().to_owned(), share));
    }
    let draw = DrawSplits {
        fractions,
        rest: "train".to_owned(),
        from: DrawFrom::default(),
        seed: seed.unwrap_or(0),
    };
    draw.check().map_err(|error| invalid(error.to_string()))?;
    Ok(draw)
}

/// The data sets of the workspace.
#[utoipa::path(get, path = "/v1/datasets", tag = "datasets", params(PageQuery),
    responses((status = 200, body = Page<DatasetSummary>)))]
pub async fn list(
    State(app): State<App>,
    Reader(caller): Reader,
    Query(query): Query<PageQuery>,
) -> Answer<Json<Page<DatasetSummary>>> {
    let page = app.datasets.list(&caller, page_request(&query)?).await?;
    Ok(page_of(page, |record| DatasetSummary {
        name: record.name.to_string(),
        id: record.id.to_string(),
        version: record.head.number,
        rows: record.head.rows,
        bytes: record.head.bytes,
        created: time(record.created),
    }))
}

/// Schema, sizes, classes and text lengths of a version.
#[utoipa::path(get, path = "/v1/datasets/{name}", tag = "datasets",
    params(("name" = String, Path), VersionQuery),
    responses((status = 200, body = DatasetDetail)))]
pub async fn show(
    State(app): State<App>,
    Reader(caller): Reader,
    Path(text): Path<String>,
    Query(query): Query<VersionQuery>,
) -> Answer<Json<DatasetDetail>> {
    let set = app.datasets.load(&caller, name(&text)?, query.version).await?;
    Ok(Json(detail(&app.datasets, &caller, &set).await?))
}

/// The first rows of a version.
#[utoipa::path(get, path = "/v1/datasets/{name}/rows", tag = "datasets",
    params(("name" = String, Path), HeadQuery), responses((status = 200, body = Rows)))]
pub async fn head(
    State(app): State<App>,
    Reader(caller): Reader,
    Path(text): Path<String>,
    Query(query): Query<HeadQuery>,
) -> Answer<Json<Rows>> {
    let limit = query.limit.unwrap_or(DEFAULT_HEAD_ROWS);
    if limit > MAX_PAGE {
        return Err(invalid(format!("`limit` is {limit}; it is at most {MAX_PAGE}")));
    }
    let set = app.datasets.load(&caller, name(&text)?, query.version).await?;
    let dataset = app.datasets.open(set.manifest.clone()).await?;
    let rows = tokio::task::spawn_blocking(move || dataset.head(limit.into()))
        .await
        .map_err(|_| cut_off())?
        .map_err(corral_datasets::DatasetsError::from)?;
    let rows = rows.iter().map(|row| {
        let mut fields = BTreeMap::new();
        fields.insert("row_id".to_owned(), json!(row.id()));
        fields.insert("text".to_owned(), json!(row.text()));
        let names = row.labels().iter().map(|code| &set.manifest.labels.names[*code as usize]);
        fields.insert("labels".to_owned(), json!(names.collect::<Vec<_>>()));
        let split = row.split().map(|code| &set.manifest.splits[usize::from(code)]);
        fields.insert("split".to_owned(), json!(split));
        if set.manifest.has_shares() {
            fields.insert(
                SHARES_COLUMN.to_owned(),
                json!(
                    row.shares().map(|shares| shares
                        .iter()
                        .copied()
                        .map(as_written)
                        .collect::<Vec<_>>())
                ),
            );
        }
        if set.manifest.statistics.weighted_rows > 0 {
            fields.insert(WEIGHT_COLUMN.to_owned(), json!(row.weight().map(as_written)));
        }
        for column in &set.manifest.schema.columns {
            let value = match row.value(&column.name) {
                None => Json_::Null,
                Some(Value::String(text)) => json!(text),
                Some(Value::Int(number)) => json!(number),
                Some(Value::Float(number)) => json!(number),
                Some(Value::Bool(truth)) => json!(truth),
            };
            fields.entry(column.name.clone()).or_insert(value);
        }
        fields
    });
    Ok(Json(Rows { rows: rows.collect() }))
}

/// The number that a person would write for it, without the digits that a wider type adds.
fn as_written(value: f32) -> f64 {
    value.to_string().parse().unwrap_or_else(|_| f64::from(value))
}

/// A version as a file.
#[utoipa::path(get, path = "/v1/datasets/{name}/export", tag = "datasets",
    params(("name" = String, Path), ExportQuery),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream")))]
pub async fn export(
    State(app): State<App>,
    Reader(caller): Reader,
    Path(text): Path<String>,
    Query(query): Query<ExportQuery>,
) -> Answer<Response> {
    let format: ExportFormat =
        query.format.as_deref().unwrap_or("jsonl").parse().map_err(invalid)?;
    let set = app.datasets.load(&caller, name(&text)?, query.version).await?;
    let dataset = app.datasets.open(set.manifest).await?;
    let body = upload::written_by(move |writer| {
        corral_data::export(&dataset, format, &ExportOptions::default(), writer)
            .map(drop)
            .map_err(io::Error::other)
    });
    Ok(([(header::CONTENT_TYPE, format.media_type())], body).into_response())
}

/// Removes a data set and what was derived from it.
#[utoipa::path(delete, path = "/v1/datasets/{name}", tag = "datasets",
    params(("name" = String, Path)), responses((status = 204)))]
pub async fn remove(
    State(app): State<App>,
    Writer(caller): Writer,
    Path(text): Path<String>,
) -> Answer<StatusCode> {
    app.datasets.remove(&caller, name(&text)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn detail(
    datasets: &Datasets,
    caller: &Caller,
    set: &OpenSet,
) -> Answer<DatasetDetail> {
    let manifest = &set.manifest;
    let statistics = &manifest.statistics;
    let versions = datasets.versions(caller, set.record.id).await?;
    let split_name = |code: Option<u16>| {
        code.map_or_else(String::new, |code| manifest.splits[usize::from(code)].clone())
    };
    let names = manifest.labels.names.iter().cloned();
    Ok(DatasetDetail {
        name: set.record.name.to_string(),
        id: set.record.id.to_string(),
        version: set.version.number,
        manifest: set.version.manifest.to_string(),
        created: time(set.version.created),
        note: set.version.note.clone(),
        rows: statistics.rows,
        bytes: set.version.bytes,
        parts: manifest.parts.len() as u64,
        columns: manifest
            .schema
            .columns
            .iter()
            .map(|column| ColumnDetail {
                name: column.name.clone(),
                kind: column.column_type.to_string(),
            })
            .collect(),
        text_column: manifest.schema.text_column.clone(),
        multi_label: manifest.labels.arity == LabelArity::Multi,
        unlabelled_rows: statistics.unlabelled_rows,
        probabilistic_rows: statistics.probabilistic_rows,
        weighted_rows: statistics.weighted_rows,
        weightless_rows: statistics.weightless_rows,
        empty_texts: statistics.empty_texts,
        duplicate_rows: statistics.duplicate_rows,
        splits: statistics
            .splits
            .iter()
            .map(|split| SplitDetail { name: split_name(split.split), rows: split.rows })
            .collect(),
        classes: names.zip(manifest.class_rows()).collect(),
        text_chars: QUANTILES
            .iter()
            .map(|&per_mille| Quantile {
                percent: f64::from(per_mille) / 10.0,
                value: statistics.chars.quantile(per_mille),
            })
            .collect(),
        versions: versions
            .iter()
            .map(|version| VersionDetail {
                version: version.number,
                rows: version.rows,
                created: time(version.created),
                note: version.note.clone(),
            })
            .collect(),
    })
}

pub(super) fn import_report(imported: &ImportedSet) -> ImportReport {
    let report = &imported.report;
    ImportReport {
        rows_added: report.files.iter().map(|file| file.rows).sum(),
        bytes_read: report.files.iter().map(|file| file.bytes_read).sum(),
        files: report
            .files
            .iter()
            .map(|file| ImportedFile {
                file: file.file.clone(),
                rows: file.rows,
                read_as: read_as(file),
            })
            .collect(),
        skipped_rows: report.problems.total,
        skipped_by_reason: report
            .problems
            .by_reason
            .iter()
            .map(|(reason, rows)| ((*reason).to_owned(), *rows))
            .collect(),
        problems: report.problems.first.iter().map(ToString::to_string).collect(),
        notes: report.notes.clone(),
    }
}

/// How a file was read, in a few words.
fn read_as(file: &FileReport) -> String {
    let mut words = vec![file.format.to_string()];
    if file.compression != Compression::None {
        words.push(file.compression.as_str().to_owned());
    }
    words.extend(file.encoding.as_ref().map(|encoding| encoding.as_str().to_owned()));
    words.extend(file.delimiter.map(|delimiter| match delimiter {
        '\t' => "tab between fields".to_owned(),
        other => format!("`{other}` between fields"),
    }));
    words.extend(file.has_header.map(|has| if has { "header" } else { "no header" }.to_owned()));
    words.join(", ")
}
