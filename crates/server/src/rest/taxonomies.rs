//! `/v1/taxonomies`.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use corral_datasets::LoadedTaxonomy;
use corral_taxonomy::{MissingParents, ParseOptions};

use super::answer::{Answer, Query, invalid, name, page_of, page_request, time};
use crate::api::{
    ClassDetail, MatchAnswer, MatchQuery, Page, PageQuery, TaxonomyDetail, TaxonomyImportQuery,
    TaxonomySummary, UnknownLabelDetail, VersionQuery,
};
use crate::auth::{Reader, Writer};
use crate::state::App;

/// Takes a file as a taxonomy's first or next version.
#[utoipa::path(post, path = "/v1/taxonomies/{name}/import", tag = "taxonomies",
    params(("name" = String, Path), TaxonomyImportQuery),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, body = TaxonomyDetail)))]
pub async fn import(
    State(app): State<App>,
    Writer(caller): Writer,
    Path(text): Path<String>,
    Query(query): Query<TaxonomyImportQuery>,
    body: Bytes,
) -> Answer<Json<TaxonomyDetail>> {
    let levels = query.levels.unwrap_or_default();
    let lengths = levels.split(',').map(str::trim).filter(|length| !length.is_empty());
    let prefix_lengths = lengths
        .map(|length| {
            length.parse().map_err(|_| {
                invalid(format!("`{levels}` are not lengths of prefixes, as in 2,4,6"))
            })
        })
        .collect::<Answer<Vec<usize>>>()?;
    let options = ParseOptions {
        missing_parents: if prefix_lengths.is_empty() {
            MissingParents::Refuse
        } else {
            MissingParents::Create
        },
        prefix_lengths,
        ..ParseOptions::default()
    };
    let file_name = query.file_name.unwrap_or_default();
    let loaded =
        app.taxonomies.import(&caller, name(&text)?, &file_name, body.to_vec(), options).await?;
    Ok(Json(detail(&loaded)))
}

/// The taxonomies of the workspace.
#[utoipa::path(get, path = "/v1/taxonomies", tag = "taxonomies", params(PageQuery),
    responses((status = 200, body = Page<TaxonomySummary>)))]
pub async fn list(
    State(app): State<App>,
    Reader(caller): Reader,
    Query(query): Query<PageQuery>,
) -> Answer<Json<Page<TaxonomySummary>>> {
    let page = app.taxonomies.list(&caller, page_request(&query)?).await?;
    Ok(page_of(page, |record| TaxonomySummary {
        name: record.name.to_string(),
        id: record.id.to_string(),
        version: record.head.number,
        classes: record.head.classes.into(),
        created: time(record.created),
    }))
}

/// A version with all its classes.
#[utoipa::path(get, path = "/v1/taxonomies/{name}", tag = "taxonomies",
    params(("name" = String, Path), VersionQuery),
    responses((status = 200, body = TaxonomyDetail)))]
pub async fn show(
    State(app): State<App>,
    Reader(caller): Reader,
    Path(text): Path<String>,
    Query(query): Query<VersionQuery>,
) -> Answer<Json<TaxonomyDetail>> {
    let loaded = app.taxonomies.load(&caller, name(&text)?, query.version).await?;
    Ok(Json(detail(&loaded)))
}

/// Holds a data set's labels against the taxonomy.
#[utoipa::path(get, path = "/v1/taxonomies/{name}/match", tag = "taxonomies",
    params(("name" = String, Path), MatchQuery),
    responses((status = 200, body = MatchAnswer)))]
pub async fn matches(
    State(app): State<App>,
    Reader(caller): Reader,
    Path(text): Path<String>,
    Query(query): Query<MatchQuery>,
) -> Answer<Json<MatchAnswer>> {
    let loaded = app.taxonomies.load(&caller, name(&text)?, None).await?;
    let set = app.datasets.load(&caller, name(&query.dataset)?, query.version).await?;
    let labels = set.manifest.labels.names.iter().map(String::as_str);
    let matched = loaded.taxonomy.match_labels(labels.zip(set.manifest.class_rows()));
    let unknown = matched.unknown.into_iter().map(|unknown| UnknownLabelDetail {
        label: unknown.label,
        rows: unknown.count,
        nearest: unknown.nearest,
    });
    Ok(Json(MatchAnswer {
        known_labels: matched.matched.len() as u64,
        known_rows: matched.matched.iter().map(|label| label.count).sum(),
        unknown: unknown.collect(),
    }))
}

/// Removes a taxonomy; models made by it keep their classes.
#[utoipa::path(delete, path = "/v1/taxonomies/{name}", tag = "taxonomies",
    params(("name" = String, Path)), responses((status = 204)))]
pub async fn remove(
    State(app): State<App>,
    Writer(caller): Writer,
    Path(text): Path<String>,
) -> Answer<StatusCode> {
    app.taxonomies.remove(&caller, name(&text)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn detail(loaded: &LoadedTaxonomy) -> TaxonomyDetail {
    let taxonomy = &loaded.taxonomy;
    let classes = taxonomy.classes().iter().map(|class| ClassDetail {
        id: class.id.clone(),
        name: class.name.clone(),
        parent: class.parent.map(|parent| taxonomy.class(parent).id.clone()),
        description: class.description.clone(),
        examples: class.examples.clone(),
    });
    TaxonomyDetail {
        name: loaded.record.name.to_string(),
        id: loaded.record.id.to_string(),
        version: loaded.version.number,
        hash: loaded.version.document.to_string(),
        created: time(loaded.version.created),
        leaves: taxonomy.leaves().count() as u64,
        levels: taxonomy.levels() as u64,
        classes: classes.collect(),
    }
}
