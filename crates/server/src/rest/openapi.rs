//! `/openapi.json`: the API described, from the handlers themselves.

use axum::Json;
use utoipa::OpenApi;
use utoipa::openapi::OpenApi as Document;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};

use super::{
    admin, app_logs, apps, backup, batch, calls, containers, datasets, endpoints, functions, jobs,
    labeling, labeling_functions, models, observing, taxonomies, train, usage,
};

#[derive(OpenApi)]
#[openapi(
    info(title = "Corral", description = "Classifiers from text and a taxonomy."),
    security(("token" = [])),
    paths(
        admin::whoami,
        admin::list_workspaces,
        admin::create_workspace,
        admin::list_tokens,
        admin::create_token,
        admin::revoke_token,
        admin::set_token_limits,
        admin::remove_token_limits,
        admin::set_workspace_limits,
        admin::remove_workspace_limits,
        admin::workers,
        admin::collect,
        backup::backup,
        datasets::list,
        datasets::show,
        datasets::import,
        datasets::head,
        datasets::export,
        datasets::remove,
        labeling_functions::list,
        labeling_functions::import,
        labeling_functions::show,
        labeling_functions::put,
        labeling_functions::remove,
        labeling::statistics,
        labeling::events,
        labeling::rows,
        labeling::suggestions,
        labeling::test,
        labeling::label,
        taxonomies::list,
        taxonomies::show,
        taxonomies::import,
        taxonomies::matches,
        taxonomies::remove,
        train::train,
        batch::predict,
        jobs::list,
        jobs::show,
        jobs::logs,
        jobs::events,
        jobs::runs,
        jobs::output,
        jobs::cancel,
        jobs::finish,
        jobs::probe,
        models::list,
        models::show,
        models::export,
        models::note,
        models::report,
        models::report_page,
        models::import,
        models::remove,
        models::list_encoders,
        models::add_encoder,
        models::remove_encoder,
        endpoints::list,
        endpoints::show,
        endpoints::deploy,
        endpoints::remove,
        endpoints::set_alias,
        endpoints::remove_alias,
        endpoints::set_traffic,
        endpoints::set_keep_warm,
        endpoints::remove_keep_warm,
        endpoints::set_mirror,
        endpoints::remove_mirror,
        endpoints::remove_version,
        endpoints::predict,
        endpoints::predict_version,
        observing::set_log,
        observing::remove_log,
        observing::log_dataset,
        observing::set_drift,
        observing::remove_drift,
        usage::usage,
        apps::environments,
        apps::list,
        apps::show,
        apps::history,
        apps::stop,
        apps::rollback,
        app_logs::of_app,
        app_logs::of_container,
        functions::list,
        functions::show,
        calls::create,
        calls::show,
        calls::cancel,
        containers::list,
        containers::show,
        containers::stop,
    )
)]
struct Api;

/// The document, with the token scheme and the body of errors.
pub fn document() -> Document {
    let mut document = Api::openapi();
    let components = document.components.get_or_insert_default();
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    components.add_security_scheme("token", SecurityScheme::Http(bearer));
    document
}

pub async fn serve() -> Json<Document> {
    Json(document())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Paths that are for machines and described by their own conventions.
    const UNDESCRIBED: [&str; 4] = ["/healthz", "/readyz", "/metrics", "/openapi.json"];

    #[test]
    fn every_route_is_described_and_nothing_else() {
        let source = include_str!("mod.rs");
        let routes = source.split(".route(\"").skip(1).map(|rest| {
            let (path, rest) = rest.split_once("\", ").unwrap();
            let method = rest.split_once('(').unwrap().0;
            format!("{method} {path}")
        });
        let routes: BTreeSet<String> =
            routes.filter(|route| !UNDESCRIBED.iter().any(|path| route.ends_with(path))).collect();
        let document = serde_json::to_value(document()).unwrap();
        let described =
            document["paths"].as_object().unwrap().iter().flat_map(|(path, methods)| {
                methods.as_object().unwrap().keys().map(move |method| format!("{method} {path}"))
            });
        assert_eq!(routes, described.collect());
    }

    #[test]
    fn every_answer_and_body_has_a_schema() {
        let document = serde_json::to_string(&document()).unwrap();
        for name in [
            "TrainRequest",
            "DatasetDetail",
            "PredictAnswer",
            "PredictedLine",
            "JobDetail",
            "CallDetail",
        ] {
            assert!(document.contains(&format!("#/components/schemas/{name}")), "{name}");
        }
    }
}
