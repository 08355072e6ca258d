//! Data sets and taxonomies with their versions.

use std::sync::Arc;

use corral_types::{DatasetId, TaxonomyId};

use super::{
    absent, at, blob, dataset, dataset_version, id, name, new, taken, taxonomy, two_workspaces,
};
use crate::{
    Catalog, CatalogError, DEFAULT_WORKSPACE, NewLabelingVersion, NewTaxonomyVersion, PageRequest,
    RecordKind, VersionChoice,
};

const W: corral_types::WorkspaceId = DEFAULT_WORKSPACE;

pub async fn data_sets_grow_by_versions(catalog: Arc<dyn Catalog>) {
    let made = dataset(&catalog, W, 1, "tickets").await;
    assert_eq!((made.head.number, made.head.bytes), (1, u64::MAX));
    assert_eq!(catalog.dataset(W, id(1)).await.unwrap(), made);
    assert_eq!(catalog.dataset_named(W, name("tickets")).await.unwrap(), made);
    let second = dataset_version("m2", &["part", "part 2"]);
    let second = catalog.add_dataset_version(W, id(1), 1, second).await.unwrap();
    assert_eq!(second.number, 2);

    let head = catalog.dataset(W, id(1)).await.unwrap();
    assert_eq!((head.created, head.head), (made.created, second.clone()));
    let version = async |choice| catalog.dataset_version(W, id(1), choice).await;
    assert_eq!(version(VersionChoice::Latest).await.unwrap(), second);
    assert_eq!(version(VersionChoice::Number(1)).await.unwrap(), made.head);
    absent(version(VersionChoice::Number(3)).await);
    absent(version(VersionChoice::Number(0)).await);
    absent(catalog.dataset_version(W, id(2), VersionChoice::Latest).await);
    let all = catalog.list_dataset_versions(W, id(1), PageRequest::default()).await.unwrap();
    assert_eq!(all.items, [made.head, second]);
    for text in ["manifest of tickets", "part", "m2", "part 2"] {
        assert!(catalog.has_reference(W, blob(text)).await.unwrap(), "{text}");
    }
    let again: crate::NewRecord<DatasetId> = new(9, "tickets");
    taken(catalog.create_dataset(W, again, dataset_version("x", &[])).await);
    let again: crate::NewRecord<DatasetId> = new(1, "other");
    taken(catalog.create_dataset(W, again, dataset_version("x", &[])).await);
    // What was refused left nothing.
    assert!(!catalog.has_reference(W, blob("x")).await.unwrap());
}

pub async fn functions_of_data_sets_grow_by_versions(catalog: Arc<dyn Catalog>) {
    dataset(&catalog, W, 1, "tickets").await;
    let new = |text: &str| NewLabelingVersion {
        document: blob(text),
        functions: 2,
        created: at(8),
        note: text.to_owned(),
    };
    let latest = async || catalog.labeling_version(W, id(1), VersionChoice::Latest).await;
    assert_eq!(latest().await.unwrap(), None);
    let first = catalog.add_labeling_version(W, id(1), 0, new("one")).await.unwrap();
    assert_eq!((first.number, first.document), (1, blob("one")));
    let moved = catalog.add_labeling_version(W, id(1), 0, new("x")).await;
    assert!(matches!(moved, Err(CatalogError::HeadMoved { expected: 0, found: 1, .. })));
    assert!(!catalog.has_reference(W, blob("x")).await.unwrap());
    let second = catalog.add_labeling_version(W, id(1), 1, new("two")).await.unwrap();
    assert_eq!(latest().await.unwrap(), Some(second.clone()));
    let number = VersionChoice::Number(1);
    assert_eq!(catalog.labeling_version(W, id(1), number).await.unwrap(), Some(first.clone()));
    let page = PageRequest::default();
    let all = catalog.list_labeling_versions(W, id(1), page).await.unwrap();
    assert_eq!(all.items, [first, second]);
    absent(catalog.add_labeling_version(W, id(2), 0, new("x")).await);
    let (_, other) = two_workspaces(&catalog).await;
    absent(catalog.labeling_version(other, id(1), VersionChoice::Latest).await);
    // They go with their data set.
    let freed = catalog.remove_dataset(W, id(1)).await.unwrap();
    assert!(freed.contains(&blob("one")) && freed.contains(&blob("two")));
}

pub async fn data_sets_stay_in_their_workspace(catalog: Arc<dyn Catalog>) {
    let (first, second) = two_workspaces(&catalog).await;
    let made = dataset(&catalog, first, 1, "tickets").await;
    absent(catalog.dataset(second, id(1)).await);
    absent(catalog.dataset_named(second, name("tickets")).await);
    absent(catalog.dataset_version(second, id(1), VersionChoice::Latest).await);
    absent(catalog.list_dataset_versions(second, id(1), PageRequest::default()).await);
    absent(catalog.add_dataset_version(second, id(1), 1, dataset_version("x", &[])).await);
    absent(catalog.remove_dataset(second, id(1)).await);
    let listed = catalog.list_datasets(second, PageRequest::default()).await.unwrap();
    assert_eq!(listed.items, []);
    assert!(!catalog.has_reference(second, made.head.manifest).await.unwrap());

    // The same name, and even the same id, is another data set there.
    let theirs = dataset(&catalog, second, 1, "tickets").await;
    catalog.add_dataset_version(second, id(1), 1, dataset_version("x", &[])).await.unwrap();
    assert_eq!(catalog.dataset(first, id(1)).await.unwrap(), made);
    catalog.remove_dataset(first, id(1)).await.unwrap();
    assert_eq!(catalog.dataset(second, theirs.id).await.unwrap().head.number, 2);
    let new: crate::NewRecord<DatasetId> = new(5, "d");
    absent(catalog.create_dataset(id(77), new, dataset_version("y", &[])).await);
}

pub async fn a_moved_head_is_a_conflict(catalog: Arc<dyn Catalog>) {
    dataset(&catalog, W, 1, "tickets").await;
    catalog.add_dataset_version(W, id(1), 1, dataset_version("m2", &[])).await.unwrap();
    let late = catalog.add_dataset_version(W, id(1), 1, dataset_version("m3", &["p3"])).await;
    match late {
        Err(CatalogError::HeadMoved { what, name, expected, found }) => {
            assert_eq!((what, name.as_str()), (RecordKind::Dataset, "tickets"));
            assert_eq!((expected, found), (1, 2));
        }
        other => panic!("{other:?}"),
    }
    assert!(!catalog.has_reference(W, blob("p3")).await.unwrap());
    assert_eq!(catalog.dataset(W, id(1)).await.unwrap().head.manifest, blob("m2"));
    taxonomy(&catalog, W, 1, "topics").await;
    let next = NewTaxonomyVersion { document: blob("t2"), classes: 4, created: at(8) };
    let early = catalog.add_taxonomy_version(W, id(1), 2, next).await;
    assert!(matches!(early, Err(CatalogError::HeadMoved { expected: 2, found: 1, .. })));
}

pub async fn removed_data_sets_free_their_name_and_blobs(catalog: Arc<dyn Catalog>) {
    dataset(&catalog, W, 1, "a").await;
    dataset(&catalog, W, 2, "b").await;
    catalog.add_dataset_version(W, id(1), 1, dataset_version("a2", &["only a"])).await.unwrap();
    let mut free = catalog.remove_dataset(W, id(1)).await.unwrap();
    free.sort();
    // `part` is a part of `b` as well.
    let mut expect = [blob("manifest of a"), blob("a2"), blob("only a")];
    expect.sort();
    assert_eq!(free, expect);
    absent(catalog.dataset(W, id(1)).await);
    absent(catalog.dataset_version(W, id(1), VersionChoice::Number(1)).await);
    absent(catalog.remove_dataset(W, id(1)).await);
    let again = dataset(&catalog, W, 3, "a").await;
    assert_eq!(again.head.number, 1);
    let free = catalog.remove_dataset(W, id(2)).await.unwrap();
    assert_eq!(free, [blob("manifest of b")]);
    assert_eq!(catalog.check().await.unwrap(), [""; 0]);
}

pub async fn taxonomies_grow_by_versions(catalog: Arc<dyn Catalog>) {
    let (first, second) = two_workspaces(&catalog).await;
    let made = taxonomy(&catalog, first, 1, "topics").await;
    assert_eq!((made.head.number, made.head.classes), (1, 3));
    assert_eq!(catalog.taxonomy(first, id(1)).await.unwrap(), made);
    assert_eq!(catalog.taxonomy_named(first, name("topics")).await.unwrap(), made);
    let next = NewTaxonomyVersion { document: blob("t2"), classes: 4, created: at(8) };
    let next = catalog.add_taxonomy_version(first, id(1), 1, next).await.unwrap();
    let version = async |choice| catalog.taxonomy_version(first, id(1), choice).await;
    assert_eq!(version(VersionChoice::Latest).await.unwrap(), next);
    assert_eq!(version(VersionChoice::Number(1)).await.unwrap(), made.head);
    absent(version(VersionChoice::Number(3)).await);
    let page = PageRequest::default();
    let all = catalog.list_taxonomy_versions(first, id(1), page).await.unwrap();
    assert_eq!(all.items, [made.head, next]);
    let again: crate::NewRecord<TaxonomyId> = new(2, "topics");
    let document = NewTaxonomyVersion { document: blob("t3"), classes: 1, created: at(8) };
    taken(catalog.create_taxonomy(first, again, document.clone()).await);

    absent(catalog.taxonomy(second, id(1)).await);
    absent(catalog.taxonomy_named(second, name("topics")).await);
    absent(catalog.taxonomy_version(second, id(1), VersionChoice::Latest).await);
    absent(catalog.list_taxonomy_versions(second, id(1), page).await);
    absent(catalog.add_taxonomy_version(second, id(1), 2, document).await);
    absent(catalog.remove_taxonomy(second, id(1)).await);
    assert_eq!(catalog.list_taxonomies(second, page).await.unwrap().items, []);
    assert_eq!(catalog.list_taxonomies(first, page).await.unwrap().items.len(), 1);

    let mut free = catalog.remove_taxonomy(first, id(1)).await.unwrap();
    free.sort();
    let mut expect = [blob("topics"), blob("t2")];
    expect.sort();
    assert_eq!(free, expect);
    absent(catalog.taxonomy(first, id(1)).await);
}

pub async fn names_that_are_not_there_get_the_nearest(catalog: Arc<dyn Catalog>) {
    let (first, second) = two_workspaces(&catalog).await;
    dataset(&catalog, first, 1, "tickets").await;
    dataset(&catalog, second, 2, "thickets").await;
    dataset(&catalog, first, 3, "weather").await;
    match catalog.dataset_named(first, name("tikets")).await {
        // A near name of another workspace stays its secret.
        Err(CatalogError::NotFound { what: RecordKind::Dataset, name, nearest }) => {
            assert_eq!(name, "tikets");
            assert_eq!(nearest, ["tickets"]);
        }
        other => panic!("{other:?}"),
    }
}
