//! Models, encoders and endpoints.

use std::sync::Arc;

use corral_types::{EndpointId, ModelId, WorkspaceId};

use super::{absent, at, blob, id, in_use, model, model_version, name, new, taken, two_workspaces};
use crate::{
    Catalog, CatalogError, DEFAULT_WORKSPACE, EndpointRecord, EndpointTarget, Lineage, NewEncoder,
    NewModelVersion, NewRecord, PageRequest, PointEndpoint, VersionChoice,
};

const W: WorkspaceId = DEFAULT_WORKSPACE;

pub async fn model_versions_are_numbered_and_stay(catalog: Arc<dyn Catalog>) {
    let first = model(&catalog, W, 1, "intent", "f1").await;
    let lineage =
        Lineage { job: Some(id(5)), dataset: Some((id(6), 2)), taxonomy: Some((id(7), 3)) };
    let second = NewModelVersion {
        lineage: lineage.clone(),
        encoder: Some(blob("encoder")),
        ..model_version("f2")
    };
    // The name decides which model; the id of a second one is not used.
    let second = catalog.add_model_version(W, new(99, "intent"), second).await.unwrap();
    assert_eq!((second.model, second.number), (id(1), 2));
    assert_eq!((&second.lineage, second.encoder), (&lineage, Some(blob("encoder"))));
    assert_eq!(second.report, Some(blob("report")));
    absent(catalog.model(W, id(99)).await);
    let record = catalog.model_named(W, name("intent")).await.unwrap();
    assert_eq!(record.latest.as_ref(), Some(&second));
    assert_eq!(catalog.model(W, id(1)).await.unwrap(), record);
    assert!(catalog.has_reference(W, blob("report")).await.unwrap());
    assert!(catalog.has_reference(W, blob("encoder")).await.unwrap());

    let free = catalog.remove_model_version(W, id(1), 2, at(40)).await.unwrap();
    assert!(free.contains(&blob("f2")) && !free.contains(&blob("report")), "{free:?}");
    assert_eq!(catalog.remove_model_version(W, id(1), 2, at(50)).await.unwrap(), []);
    let version = async |choice| catalog.model_version(W, id(1), choice).await;
    assert_eq!(version(VersionChoice::Latest).await.unwrap(), first);
    let removed = version(VersionChoice::Number(2)).await.unwrap();
    assert_eq!((removed.removed, &removed.lineage), (Some(at(40)), &lineage));
    let third = model(&catalog, W, 1, "intent", "f2").await;
    assert_eq!(third.number, 3, "a number is not given twice");
    let all = catalog.list_model_versions(W, id(1), PageRequest::default()).await.unwrap();
    assert_eq!(all.items, [first, removed, third]);

    catalog.remove_model_version(W, id(1), 3, at(60)).await.unwrap();
    catalog.remove_model_version(W, id(1), 1, at(60)).await.unwrap();
    assert_eq!(catalog.model(W, id(1)).await.unwrap().latest, None);
    absent(version(VersionChoice::Latest).await);
    absent(catalog.remove_model_version(W, id(1), 4, at(60)).await);
    assert!(!catalog.has_reference(W, blob("report")).await.unwrap());
    assert_eq!(catalog.check().await.unwrap(), [""; 0]);
    assert_eq!(catalog.remove_model(W, id(1)).await.unwrap(), []);
    absent(catalog.model_named(W, name("intent")).await);
    assert_eq!(model(&catalog, W, 2, "intent", "f1").await.number, 1);
}

pub async fn a_result_delivered_twice_is_one_version(catalog: Arc<dyn Catalog>) {
    let lineage = Lineage { job: Some(id(5)), ..Lineage::default() };
    let version = || NewModelVersion { lineage: lineage.clone(), ..model_version("f") };
    let add = async |version| catalog.add_model_version(W, new(1, "m"), version).await.unwrap();
    let first = add(version()).await;
    assert_eq!(add(version()).await, first);
    // Another job that made the same bytes made another version.
    let other = Lineage { job: Some(id(6)), ..Lineage::default() };
    assert_eq!(add(NewModelVersion { lineage: other, ..version() }).await.number, 2);
    assert_eq!(add(NewModelVersion { file: blob("g"), ..version() }).await.number, 3);
    // Without a job every file is a version of its own.
    assert_eq!(add(model_version("f")).await.number, 4);
    assert_eq!(add(model_version("f")).await.number, 5);
}

async fn point(
    catalog: &Arc<dyn Catalog>,
    workspace: WorkspaceId,
    text: &str,
    (model, version): (u128, VersionChoice),
    when: u64,
) -> Result<EndpointRecord, CatalogError> {
    let endpoint: NewRecord<EndpointId> = new(u128::from(when), text);
    let target = EndpointTarget { model: id(model), version };
    let wish = PointEndpoint { endpoint, target, at: at(when) };
    catalog.point_endpoint(workspace, wish).await
}

pub async fn endpoints_are_pointed_at_once(catalog: Arc<dyn Catalog>) {
    use VersionChoice::{Latest, Number};
    let first = model(&catalog, W, 1, "m", "f1").await;
    let other = model(&catalog, W, 2, "other", "f2").await;
    let made = point(&catalog, W, "live", (1, Number(1)), 10).await.unwrap();
    assert_eq!((made.created, made.updated, made.id), (at(10), at(10), id(10)));
    assert_eq!((made.model_name.as_str(), &made.serves), ("m", &first));

    let moved = point(&catalog, W, "live", (2, Latest), 11).await.unwrap();
    assert_eq!((moved.created, moved.updated, moved.id), (at(10), at(11), id(10)));
    assert_eq!(moved.serves, other);
    assert_eq!(catalog.endpoint_named(W, name("live")).await.unwrap(), moved);
    // The latest is followed from the moment it exists.
    let newer = model(&catalog, W, 2, "other", "f3").await;
    assert_eq!(catalog.endpoint_named(W, name("live")).await.unwrap().serves, newer);

    absent(point(&catalog, W, "live", (3, Latest), 12).await);
    absent(point(&catalog, W, "live", (1, Number(2)), 12).await);
    catalog.remove_model_version(W, id(1), 1, at(13)).await.unwrap();
    absent(point(&catalog, W, "live", (1, Number(1)), 14).await);
    absent(point(&catalog, W, "live", (1, Latest), 14).await);
    assert_eq!(catalog.endpoint_named(W, name("live")).await.unwrap().updated, at(11));

    point(&catalog, W, "live", (2, Number(1)), 15).await.unwrap();
    let page = PageRequest::default();
    let changes = catalog.list_endpoint_changes(W, id(10), page).await.unwrap().items;
    let changes: Vec<_> = changes
        .iter()
        .map(|c| (c.number, c.target.model, c.target.version, c.served, c.at))
        .collect();
    assert_eq!(
        changes,
        [
            (1, id(1), Number(1), 1, at(10)),
            (2, id(2), Latest, 1, at(11)),
            (3, id(2), Number(1), 1, at(15)),
        ]
    );
    catalog.remove_endpoint(W, id(10)).await.unwrap();
    absent(catalog.endpoint_named(W, name("live")).await);
    absent(catalog.list_endpoint_changes(W, id(10), page).await);
    absent(catalog.remove_endpoint(W, id(10)).await);
    assert_eq!(catalog.list_endpoints(W, page).await.unwrap().items, []);
}

pub async fn endpoints_keep_their_versions_from_removal(catalog: Arc<dyn Catalog>) {
    use VersionChoice::{Latest, Number};
    for file in ["f1", "f2", "f3"] {
        model(&catalog, W, 1, "m", file).await;
    }
    point(&catalog, W, "fixed", (1, Number(1)), 10).await.unwrap();
    point(&catalog, W, "newest", (1, Latest), 11).await.unwrap();
    let remove = async |number| catalog.remove_model_version(W, id(1), number, at(20)).await;
    in_use(remove(1).await, &["endpoint `fixed`"]);
    in_use(remove(3).await, &["endpoint `newest`"]);
    remove(2).await.unwrap();
    in_use(catalog.remove_model(W, id(1)).await, &["endpoint `fixed`", "endpoint `newest`"]);
    catalog.remove_endpoint(W, id(11)).await.unwrap();
    remove(3).await.unwrap();
    catalog.remove_endpoint(W, id(10)).await.unwrap();
    catalog.remove_model(W, id(1)).await.unwrap();
    assert_eq!(catalog.check().await.unwrap(), [""; 0]);
}

pub async fn models_and_endpoints_stay_in_their_workspace(catalog: Arc<dyn Catalog>) {
    let (first, second) = two_workspaces(&catalog).await;
    let page = PageRequest::default();
    model(&catalog, first, 1, "m", "f1").await;
    absent(catalog.model(second, id(1)).await);
    absent(catalog.model_named(second, name("m")).await);
    absent(catalog.model_version(second, id(1), VersionChoice::Latest).await);
    absent(catalog.list_model_versions(second, id(1), page).await);
    absent(catalog.remove_model_version(second, id(1), 1, at(9)).await);
    absent(catalog.remove_model(second, id(1)).await);
    assert_eq!(catalog.list_models(second, page).await.unwrap().items, []);
    assert_eq!(catalog.list_models(first, page).await.unwrap().items.len(), 1);

    absent(point(&catalog, second, "live", (1, VersionChoice::Latest), 10).await);
    let theirs = model(&catalog, second, 1, "m", "f2").await;
    point(&catalog, first, "live", (1, VersionChoice::Latest), 10).await.unwrap();
    absent(catalog.endpoint_named(second, name("live")).await);
    absent(catalog.list_endpoint_changes(second, id(10), page).await);
    absent(catalog.remove_endpoint(second, id(10)).await);
    assert_eq!(catalog.list_endpoints(second, page).await.unwrap().items, []);
    let live = point(&catalog, second, "live", (1, VersionChoice::Latest), 11).await.unwrap();
    assert_eq!(live.serves, theirs);
    // An endpoint keeps only its own workspace's model from removal.
    catalog.remove_endpoint(second, id(11)).await.unwrap();
    catalog.remove_model(second, id(1)).await.unwrap();
    let live = catalog.endpoint_named(first, name("live")).await.unwrap();
    assert_eq!(live.serves.file, blob("f1"));
    let new: NewRecord<ModelId> = new(5, "m");
    absent(catalog.add_model_version(id(77), new, model_version("f")).await);
}

fn encoder(text: &str) -> NewEncoder {
    NewEncoder {
        file: blob(text),
        name: name(text),
        dimension: 384,
        bytes: 22_000_000,
        created: at(3),
    }
}

pub async fn encoders_have_one_default(catalog: Arc<dyn Catalog>) {
    let (first, second) = two_workspaces(&catalog).await;
    assert_eq!(catalog.default_encoder(first).await.unwrap(), None);
    let mini = catalog.add_encoder(first, encoder("mini")).await.unwrap();
    assert!(mini.is_default);
    let large = catalog.add_encoder(first, encoder("large")).await.unwrap();
    assert!(!large.is_default);
    assert_eq!(catalog.add_encoder(first, encoder("mini")).await.unwrap(), mini);
    let other = NewEncoder { file: blob("other"), ..encoder("mini") };
    taken(catalog.add_encoder(first, other).await);
    assert_eq!(catalog.encoder(first, blob("mini")).await.unwrap(), mini);
    assert_eq!(catalog.encoder_named(first, name("large")).await.unwrap(), large);
    assert!(catalog.has_reference(first, blob("mini")).await.unwrap());

    let large = catalog.set_default_encoder(first, blob("large")).await.unwrap();
    assert!(large.is_default);
    assert_eq!(catalog.default_encoder(first).await.unwrap(), Some(large));
    absent(catalog.set_default_encoder(first, blob("none")).await);
    let names = catalog.list_encoders(first).await.unwrap();
    let names: Vec<_> = names.iter().map(|e| (e.name.as_str(), e.is_default)).collect();
    assert_eq!(names, [("large", true), ("mini", false)]);

    absent(catalog.encoder(second, blob("mini")).await);
    absent(catalog.encoder_named(second, name("mini")).await);
    absent(catalog.set_default_encoder(second, blob("mini")).await);
    absent(catalog.remove_encoder(second, blob("mini")).await);
    assert_eq!(catalog.list_encoders(second).await.unwrap(), []);
    assert_eq!(catalog.default_encoder(second).await.unwrap(), None);

    let version = NewModelVersion { encoder: Some(blob("mini")), ..model_version("f") };
    catalog.add_model_version(first, new(1, "m"), version).await.unwrap();
    in_use(catalog.remove_encoder(first, blob("mini")).await, &["model `m@1`"]);
    catalog.remove_model(first, id(1)).await.unwrap();
    assert_eq!(catalog.remove_encoder(first, blob("mini")).await.unwrap(), [blob("mini")]);
    absent(catalog.encoder(first, blob("mini")).await);
}
