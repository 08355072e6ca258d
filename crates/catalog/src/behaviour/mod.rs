//! What every implementation of the port does, as scenarios that its tests run.
//!
//! Each scenario is handed a fresh catalog. [`behaviour_tests!`](crate::behaviour_tests) makes a test of each.

#![expect(clippy::unwrap_used, reason = "scenarios are tests, though other crates call them")]

mod apps;
mod blobs;
mod models;
mod pages;
mod random;
mod requests;
mod runs;
mod tokens;
mod usage;
mod versions;

pub use apps::*;
pub use blobs::*;
pub use models::*;
pub use pages::*;
pub use random::RandomChanges;
pub use requests::*;
pub use runs::*;
pub use tokens::*;
pub use usage::*;
pub use versions::*;

use std::fmt::Debug;
use std::sync::Arc;

use corral_types::{
    BlobHash, DatasetId, Id, Kind, ModelId, Name, TaxonomyId, Timestamp, WorkspaceId,
};

use crate::{
    Catalog, CatalogError, DatasetRecord, Lineage, ModelVersion, NewDatasetVersion,
    NewModelVersion, NewRecord, NewTaxonomyVersion, TaxonomyRecord,
};

/// Makes a test of every scenario. `$open` is a function that gives a fresh
/// `Arc<dyn Catalog>` and whatever must live as long as it.
#[macro_export]
macro_rules! behaviour_tests {
    ($open:path) => {
        $crate::behaviour_tests! {
            $open:
            the_default_workspace_is_there
            workspaces_have_unique_names
            tokens_are_found_by_their_secret
            tokens_stay_in_their_workspace
            uses_of_tokens_only_move_forward
            references_decide_what_a_workspace_may_read
            removal_releases_what_nothing_else_refers_to
            owners_that_are_records_must_be_there
            referenced_blobs_come_in_order_and_once
            data_sets_grow_by_versions
            functions_of_data_sets_grow_by_versions
            data_sets_stay_in_their_workspace
            a_moved_head_is_a_conflict
            removed_data_sets_free_their_name_and_blobs
            taxonomies_grow_by_versions
            names_that_are_not_there_get_the_nearest
            model_versions_are_numbered_and_stay
            notes_of_versions_are_made_changed_and_taken_away
            a_result_delivered_twice_is_one_version
            endpoints_grow_by_versions
            routings_are_replaced_at_their_revision
            endpoints_keep_their_versions_from_removal
            models_and_endpoints_stay_in_their_workspace
            encoders_have_one_default
            runs_are_replaced_and_listed_by_number
            keys_are_done_once
            unfinished_and_expired_keys_are_given_back
            keys_stay_in_their_workspace
            settings_are_kept
            environments_have_unique_names
            apps_have_names_while_they_live
            publishing_an_app_swaps_all_definitions
            functions_and_classes_stay_in_their_app
            secrets_have_unique_names
            images_and_mounts_are_noted_once
            files_are_known_where_they_were_sent
            uploads_are_forgotten_by_their_age
            usage_adds_up_and_is_never_counted_twice
            pages_partition_a_list
            pages_hold_what_was_there_under_concurrent_inserts
            concurrent_versions_are_all_kept
            limits_are_refused_by_name
            a_backup_must_not_overwrite
            a_fresh_catalog_checks_out
        }
    };
    ($open:path : $($scenario:ident)*) => {
        $(
            #[test]
            fn $scenario() {
                let (catalog, _kept_until_the_end) = $open();
                $crate::behaviour::run($crate::behaviour::$scenario(catalog));
            }
        )*
    };
}

/// Runs a scenario on a runtime of its own.
pub fn run(scenario: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(scenario);
}

fn id<K: Kind>(value: u128) -> Id<K> {
    Id::from_u128(value)
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn blob(text: &str) -> BlobHash {
    BlobHash::of(text.as_bytes())
}

fn new<K: Kind>(value: u128, text: &str) -> NewRecord<Id<K>> {
    NewRecord { id: id(value), name: name(text), created: at(value as u64) }
}

/// Two workspaces of one catalog.
async fn two_workspaces(catalog: &Arc<dyn Catalog>) -> (WorkspaceId, WorkspaceId) {
    let first = catalog.create_workspace(new(901, "first")).await.unwrap();
    let second = catalog.create_workspace(new(902, "second")).await.unwrap();
    (first.id, second.id)
}

fn dataset_version(manifest: &str, blobs: &[&str]) -> NewDatasetVersion {
    NewDatasetVersion {
        manifest: blob(manifest),
        rows: 10,
        bytes: u64::MAX,
        created: at(5),
        note: "import".to_owned(),
        blobs: blobs.iter().map(|text| blob(text)).collect(),
    }
}

async fn dataset(
    catalog: &Arc<dyn Catalog>,
    workspace: WorkspaceId,
    value: u128,
    text: &str,
) -> DatasetRecord {
    let first = dataset_version(&format!("manifest of {text}"), &["part"]);
    let new: NewRecord<DatasetId> = new(value, text);
    catalog.create_dataset(workspace, new, first).await.unwrap()
}

async fn taxonomy(
    catalog: &Arc<dyn Catalog>,
    workspace: WorkspaceId,
    value: u128,
    text: &str,
) -> TaxonomyRecord {
    let first = NewTaxonomyVersion { document: blob(text), classes: 3, created: at(6) };
    let new: NewRecord<TaxonomyId> = new(value, text);
    catalog.create_taxonomy(workspace, new, first).await.unwrap()
}

fn model_version(file: &str) -> NewModelVersion {
    NewModelVersion {
        file: blob(file),
        bytes: 80,
        lineage: Lineage::default(),
        metrics_json: r#"{"accuracy":0.9}"#.to_owned(),
        encoder: None,
        created: at(7),
        report: Some(blob("report")),
    }
}

async fn model(
    catalog: &Arc<dyn Catalog>,
    workspace: WorkspaceId,
    value: u128,
    text: &str,
    file: &str,
) -> ModelVersion {
    let new: NewRecord<ModelId> = new(value, text);
    catalog.add_model_version(workspace, new, model_version(file)).await.unwrap()
}

/// That the answer says the thing is not there, and nothing else.
#[track_caller]
fn absent<T: Debug>(answer: Result<T, CatalogError>) {
    match answer {
        Err(CatalogError::NotFound { .. }) => {}
        other => panic!("expected not found, got {other:?}"),
    }
}

#[track_caller]
fn taken<T: Debug>(answer: Result<T, CatalogError>) {
    match answer {
        Err(CatalogError::AlreadyExists { .. }) => {}
        other => panic!("expected already there, got {other:?}"),
    }
}

#[track_caller]
fn in_use<T: Debug>(answer: Result<T, CatalogError>, users: &[&str]) {
    match answer {
        Err(CatalogError::InUse { by, .. }) => assert_eq!(by, users),
        other => panic!("expected in use, got {other:?}"),
    }
}

#[track_caller]
fn too_large<T: Debug>(answer: Result<T, CatalogError>) {
    match answer {
        Err(CatalogError::TooLarge { .. }) => {}
        other => panic!("expected too large, got {other:?}"),
    }
}
