//! The SQLite implementation: the behaviour of the port, and what is its own.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;
use std::sync::Arc;

use corral_catalog::behaviour::{RandomChanges, run};
use corral_catalog::{
    Catalog, CatalogError, DatasetRecords, FORMAT_VERSION, NewDatasetVersion, NewRecord,
    SqliteCatalog,
};
use corral_types::{BlobHash, Id, Timestamp};
use tempfile::TempDir;

fn fresh() -> (Arc<dyn Catalog>, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let catalog = SqliteCatalog::open(&folder.path().join("catalog.sqlite")).unwrap();
    (Arc::new(catalog), folder)
}

corral_catalog::behaviour_tests!(fresh);

const W: corral_types::WorkspaceId = corral_catalog::DEFAULT_WORKSPACE;

fn new_dataset(value: u128) -> (NewRecord<corral_types::DatasetId>, NewDatasetVersion) {
    let created = Timestamp::from_millis(1);
    let name = format!("d{value}").parse().unwrap();
    let version = NewDatasetVersion {
        manifest: BlobHash::of(&value.to_be_bytes()),
        rows: 1,
        bytes: 2,
        created,
        note: "import".to_owned(),
        blobs: Vec::new(),
    };
    (NewRecord { id: Id::from_u128(value), name, created }, version)
}

async fn add(catalog: &dyn Catalog, value: u128) {
    let (new, version) = new_dataset(value);
    catalog.create_dataset(W, new, version).await.unwrap();
}

#[test]
fn what_was_answered_is_there_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("catalog.sqlite");
    run(async {
        for round in 0..5 {
            let catalog = SqliteCatalog::open(&file).unwrap();
            let page = corral_catalog::PageRequest::default();
            assert_eq!(catalog.list_datasets(W, page).await.unwrap().items.len(), round as usize);
            add(&catalog, round + 1).await;
        }
    });
}

#[test]
fn a_backup_is_a_catalog_of_its_own() {
    let (catalog, folder) = fresh();
    let copy = folder.path().join("backup.sqlite");
    run(async {
        add(&*catalog, 1).await;
        // Taken amid changes, it holds what was there before and is sound.
        let writer = tokio::spawn({
            let catalog = Arc::clone(&catalog);
            async move {
                for value in 2..200 {
                    add(&*catalog, value).await;
                }
            }
        });
        catalog.backup_to(copy.clone()).await.unwrap();
        writer.await.unwrap();
        let backup = SqliteCatalog::open(&copy).unwrap();
        assert_eq!(backup.check().await.unwrap(), [""; 0]);
        let first = backup.dataset(W, Id::from_u128(1)).await.unwrap();
        assert_eq!(first, catalog.dataset(W, Id::from_u128(1)).await.unwrap());
        add(&backup, 1000).await;
        assert!(catalog.dataset(W, Id::from_u128(1000)).await.is_err());
    });
}

fn open_error(file: &Path) -> CatalogError {
    match SqliteCatalog::open(file) {
        Ok(_) => panic!("{} was opened", file.display()),
        Err(error) => error,
    }
}

#[test]
fn newer_foreign_and_damaged_files_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("catalog.sqlite");
    drop(SqliteCatalog::open(&file).unwrap());
    let connection = rusqlite::Connection::open(&file).unwrap();
    connection.pragma_update(None, "user_version", FORMAT_VERSION + 1).unwrap();
    drop(connection);
    let error = open_error(&file);
    assert_eq!(
        error.to_string(),
        format!(
            "the catalog has format version {}; this version of Corral reads up to {FORMAT_VERSION}",
            FORMAT_VERSION + 1
        )
    );

    let text = folder.path().join("text");
    std::fs::write(&text, "This is no catalog, but long enough to have a header. ".repeat(50))
        .unwrap();
    assert!(matches!(open_error(&text), CatalogError::Damaged(_)), "{:?}", open_error(&text));
    let nowhere = folder.path().join("no such folder/catalog.sqlite");
    assert!(matches!(open_error(&nowhere), CatalogError::Open { .. }));
}

#[test]
fn damage_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("catalog.sqlite");
    run(async {
        let catalog = SqliteCatalog::open(&file).unwrap();
        for value in 1..300 {
            add(&catalog, value).await;
        }
    });
    let sound = std::fs::read(&file).unwrap();

    // Records that contradict each other.
    let connection = rusqlite::Connection::open(&file).unwrap();
    connection.pragma_update(None, "foreign_keys", false).unwrap();
    connection
        .execute_batch(
            "UPDATE datasets SET head = 7 WHERE name = 'd5';
             DELETE FROM blob_references WHERE blob IN
                (SELECT manifest FROM dataset_versions v JOIN datasets d ON d.id = v.dataset
                 WHERE d.name = 'd6');
             DELETE FROM datasets WHERE name = 'd7';",
        )
        .unwrap();
    drop(connection);
    run(async {
        let catalog = SqliteCatalog::open(&file).unwrap();
        let findings = catalog.check().await.unwrap();
        assert_eq!(findings.len(), 3, "{findings:?}");
        assert!(findings.contains(&"data set without its newest version: d5".to_owned()));
    });

    // Bytes gone wrong: every page but the first in turn, in a copy.
    let page = 4096;
    let mut noticed = 0;
    let pages = sound.len() / page;
    for index in 1..pages {
        let mut damaged = sound.clone();
        damaged[index * page..index * page + 64].fill(0xA5);
        let copy = folder.path().join("damaged.sqlite");
        std::fs::write(&copy, damaged).unwrap();
        let found = match SqliteCatalog::open(&copy) {
            Err(_) => true,
            Ok(catalog) => {
                let mut found = true;
                run(async {
                    found = match catalog.check().await {
                        Ok(findings) => !findings.is_empty(),
                        Err(_) => true,
                    };
                });
                found
            }
        };
        noticed += usize::from(found);
    }
    // Free pages hold nothing to damage.
    assert!(noticed * 10 >= (pages - 1) * 9, "{noticed} of {} pages", pages - 1);
}

#[test]
fn a_change_that_nobody_waits_for_is_whole() {
    let (catalog, _folder) = fresh();
    run(async {
        for value in 1..50u128 {
            let (new, version) = new_dataset(value);
            let change = catalog.create_dataset(W, new, version);
            // Polled once, so that it is queued, and then dropped.
            let _ = tokio::time::timeout(std::time::Duration::ZERO, change).await;
        }
        add(&*catalog, 1000).await;
        assert_eq!(catalog.check().await.unwrap(), [""; 0]);
        let default = catalog.workspace(W).await.unwrap();
        assert_eq!(default.name.as_str(), "default");
    });
}

#[test]
fn random_changes_agree_with_a_model_across_reopening() {
    for seed in 0..16 {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("catalog.sqlite");
        run(async {
            let mut changes = RandomChanges::new(seed);
            let mut catalog = SqliteCatalog::open(&file).unwrap();
            for _ in 0..10 {
                for _ in 0..1 + changes.choose(30) {
                    changes.step(&catalog).await;
                }
                if changes.choose(2) == 0 {
                    drop(catalog);
                    catalog = SqliteCatalog::open(&file).unwrap();
                }
                changes.compare(&catalog).await;
            }
        });
    }
}
