//! `/v1/datasets/NAME/labeling` and `/v1/label`: what functions vote, and labels made of it.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{Path, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use corral_datasets::DatasetsError;
use corral_labeling::{
    Answer as Found, Function, LabelOptions, Program, SeenRow, Stage, SuggestionSource, Ties,
    Uncovered, Which, next_rows, voted_rows,
};
use corral_labels::{Interval, Method, SetStatistics, Vote};
use corral_types::{Caller, ErrorKind, Explain, Name};
use futures_util::Stream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::answer::{Answer, ApiError, Body, Query, invalid, name};
use super::jobs::read;
use super::train::{Prepared, prepare};
use crate::api::{
    ClassPrecision, FunctionPair, FunctionStatistics, JobDetail, LabelRequest,
    LabelingFunctionQuery, LabelingRow, LabelingRows, LabelingStatistics, MAX_PAGE, NextRowsQuery,
    Share, Suggestion, SuggestionQuery, Suggestions, TestAnswer, TestRequest,
};
use crate::auth::{Reader, Writer};
use crate::label_job::{LabelOrder, LabelPayload, refuse_other};
use crate::labeling::{Workbench, find_needs, unknown_word};
use crate::state::App;
use crate::training_job::TrainPayload;

/// Pairs of functions that statistics list.
const MAX_PAIRS: usize = 50;

/// Rows that are shown when nothing is said, and at most.
const DEFAULT_ROWS: u32 = 20;
const DEFAULT_TEST_ROWS: u32 = 10;
const MAX_TEST_ROWS: u32 = 100;
const MAX_SUGGESTIONS: u32 = 200;

/// The pause between signs of life while all rows are being gone through.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Statistics of the functions over all rows.
#[utoipa::path(get, path = "/v1/datasets/{name}/labeling", tag = "labeling",
    params(("name" = String, Path), LabelingFunctionQuery),
    responses((status = 200, body = LabelingStatistics)))]
pub async fn statistics(
    State(app): State<App>,
    Reader(caller): Reader,
    Path(text): Path<String>,
    Query(query): Query<LabelingFunctionQuery>,
) -> Answer<Json<LabelingStatistics>> {
    let begun = Instant::now();
    let bench = Workbench::open(&app, &caller, &text, query.version).await?;
    let found = bench.work(|job| Ok(job.exact()?.answer())).await?;
    Ok(Json(told(&bench, &found, begun)))
}

/// The same as server-sent events: first, as `sample`, from the gold rows and a sample where all
/// rows take longer; then, as `exact`, from all. What goes wrong is the event `error`.
#[utoipa::path(get, path = "/v1/datasets/{name}/labeling/events", tag = "labeling",
    params(("name" = String, Path), LabelingFunctionQuery),
    responses((status = 200, body = String, content_type = "text/event-stream")))]
pub async fn events(
    State(app): State<App>,
    Reader(caller): Reader,
    Path(text): Path<String>,
    Query(query): Query<LabelingFunctionQuery>,
) -> Answer<Sse<impl Stream<Item = Result<Event, Infallible>>>> {
    let begun = Instant::now();
    let bench = Workbench::open(&app, &caller, &text, query.version).await?;
    let (sender, receiver) = mpsc::channel(2);
    tokio::spawn(async move {
        let answers = async {
            if let Some(first) = bench.work(|job| job.first()).await? {
                send(&sender, "sample", &told(&bench, &first, begun)).await;
            }
            let exact = bench.work(|job| Ok(job.exact()?.answer())).await?;
            send(&sender, "exact", &told(&bench, &exact, begun)).await;
            Ok::<(), ApiError>(())
        };
        // Whoever asked may be gone: then the rest is not worth doing.
        let ended = tokio::select! {
            ended = answers => ended,
            () = sender.closed() => return,
        };
        if let Err(ApiError(failure)) = ended {
            send(&sender, "error", &crate::api::ErrorBody::from(&failure)).await;
        }
    });
    Ok(Sse::new(ReceiverStream::new(receiver)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

async fn send(
    sender: &mpsc::Sender<Result<Event, Infallible>>,
    name: &str,
    body: &impl serde::Serialize,
) {
    if let Ok(event) = Event::default().event(name).json_data(body) {
        // A stream that is closed needs no event.
        let _ = sender.send(Ok(event)).await;
    }
}

/// Tries a function without keeping it: what it votes among the others, and rows that it votes
/// on.
#[utoipa::path(post, path = "/v1/datasets/{name}/labeling/test", tag = "labeling",
    params(("name" = String, Path)), request_body = TestRequest,
    responses((status = 200, body = TestAnswer)))]
pub async fn test(
    State(app): State<App>,
    Reader(caller): Reader,
    Path(text): Path<String>,
    Body(request): Body<TestRequest>,
) -> Answer<Json<TestAnswer>> {
    let function = Function::from_value(request.function)?;
    let limit = limit_of(request.limit, DEFAULT_TEST_ROWS, MAX_TEST_ROWS)?;
    let name_of_it = function.name.clone();
    let bench = Workbench::with(&app, &caller, &text, function).await?;
    let at = bench.program.functions.iter().position(|ready| ready.name == name_of_it);
    let at = at.ok_or_else(|| invalid("the function is not there"))?;
    let (answer, rows) = bench
        .work(move |job| {
            let exact = job.exact()?;
            let rows = voted_rows(job.program, &job.rows, &exact, at, limit)?;
            Ok((exact.answer(), rows))
        })
        .await?;
    Ok(Json(TestAnswer {
        statistics: of_function(&bench, &answer.statistics, at),
        classes: bench.program.classes.names().to_vec(),
        rows: rows.into_iter().map(|row| row_of(&bench.program, row)).collect(),
    }))
}

/// The rows most worth a look.
#[utoipa::path(get, path = "/v1/datasets/{name}/labeling/rows", tag = "labeling",
    params(("name" = String, Path), NextRowsQuery),
    responses((status = 200, body = LabelingRows)))]
pub async fn rows(
    State(app): State<App>,
    Reader(caller): Reader,
    Path(text): Path<String>,
    Query(query): Query<NextRowsQuery>,
) -> Answer<Json<LabelingRows>> {
    let words = Which::ALL.map(Which::as_str);
    let which = Which::ALL.into_iter().find(|which| which.as_str() == query.which);
    let which = which.ok_or_else(|| unknown_word("which", &query.which, &words))?;
    let limit = limit_of(query.limit, DEFAULT_ROWS, MAX_PAGE)?;
    let bench = Workbench::open(&app, &caller, &text, None).await?;
    let found = bench
        .work(move |job| next_rows(job.program, &job.rows, &job.exact()?, which, limit))
        .await?;
    let has_model = matches!(which, Which::Uncertain | Which::Wrong);
    Ok(Json(LabelingRows {
        label_model: has_model.then(|| Method::Weighted.to_string()),
        rows: found.into_iter().map(|row| row_of(&bench.program, row)).collect(),
    }))
}

/// Functions that might be added, the most useful first.
#[utoipa::path(get, path = "/v1/datasets/{name}/labeling/suggestions", tag = "labeling",
    params(("name" = String, Path), SuggestionQuery),
    responses((status = 200, body = Suggestions)))]
pub async fn suggestions(
    State(app): State<App>,
    Reader(caller): Reader,
    Path(text): Path<String>,
    Query(query): Query<SuggestionQuery>,
) -> Answer<Json<Suggestions>> {
    let limit = limit_of(query.limit, DEFAULT_ROWS, MAX_SUGGESTIONS)?;
    let bench = Workbench::open_even_empty(&app, &caller, &text).await?;
    let functions = bench.loaded.set.definitions();
    let (source, found) = bench.work(move |job| job.suggest(&functions, limit)).await?;
    let told = |suggestion: corral_labeling::Suggestion| Suggestion {
        definition: suggestion.definition,
        precision: suggestion.precision.map(share),
        coverage: suggestion.coverage,
        aimed: suggestion.aimed,
    };
    Ok(Json(Suggestions {
        suggestions: found.into_iter().map(told).collect(),
        basis: match source {
            SuggestionSource::Gold => "gold",
            SuggestionSource::Names => "names",
        }
        .to_owned(),
    }))
}

fn limit_of(asked: Option<u32>, usual: u32, most: u32) -> Answer<usize> {
    let limit = asked.unwrap_or(usual);
    if !(1..=most).contains(&limit) {
        return Err(invalid(format!("`limit` is {limit}; it is from 1 to {most}")));
    }
    Ok(limit as usize)
}

fn row_of(program: &Program, row: SeenRow) -> LabelingRow {
    let votes = row.votes.iter().map(|&(function, vote)| {
        let ready = &program.functions[function];
        (ready.name.clone(), written(program, &ready.voter.votes[vote]))
    });
    LabelingRow {
        row_id: row.row_id,
        votes: votes.collect(),
        text: row.text,
        gold: row.gold,
        probabilities: row.probabilities,
    }
}

/// Labels a data set by its functions, and trains on the labels if asked to, in the background.
/// The answer is the job.
#[utoipa::path(post, path = "/v1/label", tag = "labeling", request_body = LabelRequest,
    responses((status = 200, body = JobDetail)))]
pub async fn label(
    State(app): State<App>,
    Writer(caller): Writer,
    Body(request): Body<LabelRequest>,
) -> Answer<Json<JobDetail>> {
    let reading = Caller { scopes: caller.scopes.with(corral_types::Scope::Read), ..caller };
    let bench = Workbench::open(&app, &reading, &request.dataset, request.functions).await?;
    let dataset = bench.set.record.name.clone();
    let to = match &request.to {
        Some(to) => name(to)?,
        None => name(&format!("{dataset}-labeled"))?,
    };
    refuse_target(&app, &caller, &to, &dataset).await?;
    let options = options(&request, &bench)?;
    let needs = find_needs(&app, &caller, &bench.loaded.set).await?;
    let (train, training) = match &request.train {
        None => (None, None),
        Some(asked) => {
            let (train, request) = training(&app, &caller, asked, &bench).await?;
            (Some(train), Some(request))
        }
    };
    let document = bench.loaded.document.ok_or_else(|| invalid("there are no functions"))?;
    let payload = LabelPayload {
        dataset: (dataset, bench.set.record.id, bench.set.version.number),
        manifest: bench.set.version.manifest,
        functions: (bench.loaded.version, document),
        taxonomy: needs
            .taxonomy
            .map(|loaded| (loaded.record.name.clone(), loaded.version.document)),
        encoder: needs.encoder.map(|encoder| encoder.file),
        models: needs.models,
        options,
        to,
        train,
    };
    let largest = app.jobs.workers().await.iter().map(|worker| worker.capacity.milli_cpu).max();
    let order = LabelOrder {
        payload,
        function_count: bench.program.functions.len() as u64,
        memory_bytes: request.memory_bytes,
        time_limit_ms: request.time_limit_seconds.map(|seconds| seconds.saturating_mul(1000)),
        milli_cpu: largest.unwrap_or(1000),
        training,
    };
    let job = app.jobs.submit(&caller, order.into_request(&bench.set)).await?;
    read(&app, &caller, job).await
}

/// A name that is taken would fail the job at its end: it fails it now.
async fn refuse_target(app: &App, caller: &Caller, to: &Name, dataset: &Name) -> Answer<()> {
    let target = match app.datasets.load(caller, to.clone(), None).await {
        Ok(target) => Some(target),
        Err(DatasetsError::Catalog(error)) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error.into()),
    };
    refuse_other(target.as_ref(), dataset).map_err(ApiError)
}

fn options(request: &LabelRequest, bench: &Workbench) -> Answer<LabelOptions> {
    Ok(LabelOptions {
        model: request.label_model.as_deref().map(str::parse).transpose().map_err(invalid)?,
        arity: bench.arity(),
        prior: request.prior.clone(),
        uncovered: match request.uncovered.as_deref() {
            None | Some("leave") => Uncovered::Leave,
            Some("prior") => Uncovered::Prior,
            Some(word) => return Err(unknown_word("uncovered", word, &["leave", "prior"])),
        },
        ties: match request.ties.as_deref() {
            None | Some("share") => Ties::Share,
            Some("leave") => Ties::Leave,
            Some("first") => Ties::First,
            Some(word) => return Err(unknown_word("ties", word, &["share", "leave", "first"])),
        },
    })
}

/// The training that follows, resolved as if all rows had labels of the classes that are voted
/// for: the most that they may have.
async fn training(
    app: &App,
    caller: &Caller,
    asked: &crate::api::TrainRequest,
    bench: &Workbench,
) -> Answer<(TrainPayload, corral_jobs::JobRequest)> {
    if asked.dataset.is_some() {
        return Err(invalid("a training on labels that are being made names no `dataset`"));
    }
    let mut manifest = bench.set.manifest.clone();
    manifest.statistics.unlabelled_rows = 0;
    for class in bench.program.classes.names() {
        if manifest.label_code(class).is_none() {
            manifest.labels.names.push(class.clone());
        }
    }
    let (record, version) = (bench.set.record.clone(), bench.set.version.clone());
    let labeled = corral_datasets::OpenSet { record, version, manifest };
    let Prepared { order, taxonomy, encoder } = prepare(app, caller, asked, Some(&labeled)).await?;
    let mut payload = order.payload.clone();
    let request = order
        .into_request(Some(&labeled), taxonomy.as_ref(), encoder.as_ref())
        .map_err(ApiError)?;
    // What was reckoned with goes on: memory and threads.
    if let Ok(reckoned) = serde_json::from_value::<TrainPayload>(request.payload.clone()) {
        payload = reckoned;
    }
    let functions = bench.loaded.version;
    payload.options.provenance.insert("functions".to_owned(), functions.to_string());
    Ok((payload, request))
}

/// The statistics as the API has them.
pub fn told(bench: &Workbench, found: &Found, begun: Instant) -> LabelingStatistics {
    let statistics = &found.statistics;
    let program = &bench.program;
    let name = |voter: usize| program.functions[voter].name.clone();
    LabelingStatistics {
        dataset: bench.set.record.name.to_string(),
        version: bench.set.version.number,
        functions_version: bench.loaded.version,
        stage: match found.stage {
            Stage::Sample => "sample",
            Stage::Exact => "exact",
        }
        .to_owned(),
        rows: statistics.rows,
        dataset_rows: bench.set.manifest.rows(),
        gold_rows: statistics.gold_rows,
        coverage: statistics.coverage,
        conflict: statistics.conflict,
        classes: program.classes.names().to_vec(),
        functions: (0..program.functions.len())
            .map(|voter| of_function(bench, statistics, voter))
            .collect(),
        pairs: statistics
            .pairs
            .iter()
            .take(MAX_PAIRS)
            .map(|pair| FunctionPair {
                functions: (name(pair.voters.0), name(pair.voters.1)),
                both: pair.both,
                conflicts: pair.conflicts,
                correlation: pair.correlation,
                redundant: pair.is_redundant,
            })
            .collect(),
        took_ms: begun.elapsed().as_secs_f64() * 1000.0,
    }
}

/// The statistics of one function as the API has them.
pub fn of_function(
    bench: &Workbench,
    statistics: &SetStatistics,
    voter: usize,
) -> FunctionStatistics {
    let (program, found) = (&bench.program, &statistics.functions[voter]);
    let ready = &program.functions[voter];
    let kind = bench.loaded.set.get(&ready.name).map(|function| function.function.rule.kind());
    FunctionStatistics {
        name: ready.name.clone(),
        kind: kind.unwrap_or_default().to_owned(),
        votes: ready.voter.votes.iter().map(|vote| written(program, vote)).collect(),
        rows: found.rows,
        coverage: found.coverage,
        overlap: found.overlap,
        conflict: found.conflict,
        accuracy: found.accuracy.map(share),
        by_class: found
            .classes
            .iter()
            .map(|class| ClassPrecision {
                class: program.classes.name(class.class).to_owned(),
                against: class.is_against,
                precision: class.precision.map(share),
                recall: class.recall.map(share),
            })
            .collect(),
    }
}

/// A vote as people read it.
pub fn written(program: &Program, vote: &Vote) -> String {
    let names: Vec<&str> = vote.named().iter().map(|&class| program.classes.name(class)).collect();
    match vote {
        Vote::For(_) => names.join(" or "),
        Vote::Against(_) => format!("not {}", names.join(" nor ")),
    }
}

fn share(interval: Interval) -> Share {
    let Interval { share, low, high, rows, .. } = interval;
    Share { share, low, high, rows }
}
