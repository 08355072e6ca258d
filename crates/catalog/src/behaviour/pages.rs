//! Lists in pages, and much at once.

use std::collections::BTreeSet;
use std::sync::Arc;

use corral_types::{DatasetId, ErrorKind, Explain};

use super::{at, dataset, dataset_version, id, name, two_workspaces};
use crate::{
    Catalog, CatalogError, DEFAULT_WORKSPACE, NewRecord, PageRequest, VersionChoice, all_pages,
};

const W: corral_types::WorkspaceId = DEFAULT_WORKSPACE;

pub async fn pages_partition_a_list(catalog: Arc<dyn Catalog>) {
    let (first, second) = two_workspaces(&catalog).await;
    // Ids beyond 64 bits, made in no order.
    let ids: Vec<u128> = (0..23).map(|i| (i * 7 % 23 + 1) << 100 | 5).collect();
    for (index, &value) in ids.iter().enumerate() {
        let new: NewRecord<DatasetId> =
            NewRecord { id: id(value), name: name(&format!("d{index}")), created: at(1) };
        catalog.create_dataset(first, new, dataset_version("m", &[])).await.unwrap();
    }
    dataset(&catalog, second, 3, "theirs").await;
    let mut sorted = ids;
    sorted.sort_unstable();
    for limit in [1, 2, 22, 23, 24, 1000] {
        let mut listed = Vec::new();
        let mut after = None;
        loop {
            let page = catalog.list_datasets(first, PageRequest::new(after, limit)).await.unwrap();
            assert!(page.items.len() <= limit as usize);
            listed.extend(page.items.into_iter().map(|dataset| dataset.id.as_u128()));
            // A cursor survives its way through a client as text.
            after = page.next.map(|cursor| cursor.to_string().parse().unwrap());
            if after.is_none() {
                break;
            }
        }
        assert_eq!(listed, sorted, "limit {limit}");
    }
    let one = catalog.list_datasets(first, PageRequest::new(None, 0)).await.unwrap();
    assert_eq!(one.items.len(), 1);
}

pub async fn pages_hold_what_was_there_under_concurrent_inserts(catalog: Arc<dyn Catalog>) {
    for value in 1..=40 {
        dataset(&catalog, W, value * 1000, &format!("before-{value}")).await;
    }
    let writer = tokio::spawn({
        let catalog = Arc::clone(&catalog);
        async move {
            for value in 1..=120u128 {
                let key = value * 337 % 41_000;
                dataset(&catalog, W, key * 1000 + value, &format!("during-{value}")).await;
            }
        }
    });
    loop {
        let ended = writer.is_finished();
        let mut listed = Vec::new();
        let mut after = None;
        loop {
            let page = catalog.list_datasets(W, PageRequest::new(after, 3)).await.unwrap();
            listed.extend(page.items.into_iter().map(|d| (d.id, d.name.to_string())));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert!(listed.is_sorted(), "in order, and nothing twice");
        let before = listed.iter().filter(|(_, name)| name.starts_with("before")).count();
        assert_eq!(before, 40, "nothing that was there is missed");
        if ended {
            assert_eq!(listed.len(), 160);
            break;
        }
    }
    writer.await.unwrap();
}

pub async fn concurrent_versions_are_all_kept(catalog: Arc<dyn Catalog>) {
    dataset(&catalog, W, 1, "d").await;
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let catalog = Arc::clone(&catalog);
            tokio::spawn(async move {
                let mut conflicts = 0;
                for step in 0..10 {
                    loop {
                        let head = catalog.dataset(W, id(1)).await.unwrap().head.number;
                        let manifest = format!("{writer}/{step}");
                        let new = dataset_version(&manifest, &[]);
                        match catalog.add_dataset_version(W, id(1), head, new).await {
                            Ok(version) => {
                                assert_eq!(version.number, head + 1);
                                break;
                            }
                            Err(CatalogError::HeadMoved { .. }) => conflicts += 1,
                            Err(other) => panic!("{other}"),
                        }
                    }
                }
                conflicts
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let versions = all_pages(|page| catalog.list_dataset_versions(W, id(1), page)).await.unwrap();
    let numbers: Vec<u32> = versions.iter().map(|version| version.number).collect();
    assert_eq!(numbers, (1..=81).collect::<Vec<_>>());
    let manifests: BTreeSet<_> = versions.iter().map(|version| version.manifest).collect();
    assert_eq!(manifests.len(), 81, "each writer's versions are there once");
}

pub async fn a_backup_must_not_overwrite(catalog: Arc<dyn Catalog>) {
    dataset(&catalog, W, 1, "d").await;
    let here = std::env::current_exe().unwrap();
    let error = catalog.backup_to(here).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    // A catalog goes on after a failed backup.
    catalog.dataset_version(W, id(1), VersionChoice::Latest).await.unwrap();
    let nowhere = std::env::temp_dir().join("no such folder").join("backup");
    assert!(matches!(catalog.backup_to(nowhere).await, Err(CatalogError::Backup { .. })));
}

pub async fn a_fresh_catalog_checks_out(catalog: Arc<dyn Catalog>) {
    assert_eq!(catalog.check().await.unwrap(), [""; 0]);
}
