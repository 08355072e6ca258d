//! Runs of jobs.

use std::sync::Arc;

use super::{absent, at, id, too_large, two_workspaces};
use crate::{
    Catalog, MAX_RUN_JSON_BYTES, MAX_RUNS_PER_CALL, PageRequest, RunRecord, RunStatus, all_pages,
};

fn run(number: u32, status: RunStatus) -> RunRecord {
    RunRecord {
        number,
        status,
        params_json: format!(r#"{{"c":{number}}}"#),
        metrics_json: "{}".to_owned(),
        started: at(u64::from(number)),
        ended: (status != RunStatus::Running).then(|| at(1_000)),
    }
}

pub async fn runs_are_replaced_and_listed_by_number(catalog: Arc<dyn Catalog>) {
    let (first, second) = two_workspaces(&catalog).await;
    let (job, other) = (id(1), id(2));
    let batch =
        vec![run(2, RunStatus::Failed), run(0, RunStatus::Running), run(1, RunStatus::Stopped)];
    catalog.record_runs(first, job, batch).await.unwrap();
    catalog.record_runs(first, other, vec![run(0, RunStatus::Running)]).await.unwrap();
    catalog.record_runs(first, job, vec![run(0, RunStatus::Finished)]).await.unwrap();
    let expect =
        [run(0, RunStatus::Finished), run(1, RunStatus::Stopped), run(2, RunStatus::Failed)];
    assert_eq!(all_pages(|page| catalog.list_runs(first, job, page)).await.unwrap(), expect);
    let page = catalog.list_runs(first, job, PageRequest::new(None, 1)).await.unwrap();
    assert_eq!(page.items, expect[..1]);
    let page = catalog.list_runs(first, job, PageRequest::new(page.next, 2)).await.unwrap();
    assert_eq!((&page.items[..], page.next), (&expect[1..], None));
    assert_eq!(catalog.run(first, job, 2).await.unwrap(), expect[2]);
    absent(catalog.run(first, job, 3).await);

    absent(catalog.run(second, job, 0).await);
    assert_eq!(catalog.list_runs(second, job, PageRequest::default()).await.unwrap().items, []);
    assert_eq!(catalog.remove_runs(second, job).await.unwrap(), 0);
    absent(catalog.record_runs(id(77), job, vec![run(0, RunStatus::Failed)]).await);
    assert_eq!(catalog.remove_runs(first, job).await.unwrap(), 3);
    assert_eq!(catalog.run(first, other, 0).await.unwrap().status, RunStatus::Running);
}

pub async fn limits_are_refused_by_name(catalog: Arc<dyn Catalog>) {
    let (first, _) = two_workspaces(&catalog).await;
    let long = RunRecord {
        metrics_json: "x".repeat(MAX_RUN_JSON_BYTES + 1),
        ..run(1, RunStatus::Finished)
    };
    // All or none: the run before the one that is too large is not kept.
    too_large(catalog.record_runs(first, id(1), vec![run(0, RunStatus::Finished), long]).await);
    absent(catalog.run(first, id(1), 0).await);
    let many = (0..=MAX_RUNS_PER_CALL as u32).map(|n| run(n, RunStatus::Finished)).collect();
    too_large(catalog.record_runs(first, id(1), many).await);
    let mut version = super::model_version("f");
    version.metrics_json = "x".repeat(crate::MAX_METRICS_BYTES + 1);
    too_large(catalog.add_model_version(first, super::new(1, "m"), version).await);
    absent(catalog.model_named(first, super::name("m")).await);
}
