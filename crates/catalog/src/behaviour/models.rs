//! Models, encoders and endpoints.

use std::fmt::Debug;
use std::sync::Arc;

use corral_types::{EndpointId, ModelId, WorkspaceId};

use super::{
    absent, at, blob, id, in_use, model, model_version, name, new, taken, too_large, two_workspaces,
};
use crate::{
    Catalog, CatalogError, DEFAULT_WORKSPACE, EndpointRecord, EndpointTarget, EndpointVersion,
    Lineage, MAX_ENDPOINT_JSON_BYTES, MAX_MODEL_NOTES, MAX_NOTE_VALUE_BYTES, NewEncoder,
    NewEndpointVersion, NewModelVersion, NewRecord, NoteChange, NoteKind, PageRequest, Served,
    VersionChoice,
};

const W: WorkspaceId = DEFAULT_WORKSPACE;

pub async fn model_versions_are_numbered_and_stay(catalog: Arc<dyn Catalog>) {
    let first = model(&catalog, W, 1, "intent", "f1").await;
    let lineage = Lineage {
        job: Some(id(5)),
        dataset: Some((id(6), 2)),
        taxonomy: Some((id(7), 3)),
        code: Some("0.1.0".to_owned()),
    };
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

pub async fn notes_of_versions_are_made_changed_and_taken_away(catalog: Arc<dyn Catalog>) {
    model(&catalog, W, 1, "intent", "f1").await;
    model(&catalog, W, 1, "intent", "f2").await;
    let set = |kind, name: &str, value: Option<&str>| NoteChange {
        kind,
        name: name.to_owned(),
        value: value.map(str::to_owned),
    };
    let change =
        async |number, changes| catalog.change_model_notes(W, id(1), number, changes).await;
    let both = vec![
        set(NoteKind::Tag, "stage", Some("live")),
        set(NoteKind::Metric, "agreement", Some("0.5")),
    ];
    change(1, both.clone()).await.unwrap();
    change(2, vec![set(NoteKind::Tag, "stage", Some("tried"))]).await.unwrap();
    change(1, vec![set(NoteKind::Tag, "stage", Some("old"))]).await.unwrap();
    let notes = catalog.model_notes(W, id(1)).await.unwrap();
    let found: Vec<_> =
        notes.iter().map(|note| (note.number, note.kind, &*note.name, &*note.value)).collect();
    let expect = [
        (1, NoteKind::Tag, "stage", "old"),
        (1, NoteKind::Metric, "agreement", "0.5"),
        (2, NoteKind::Tag, "stage", "tried"),
    ];
    assert_eq!(found, expect);

    // All of a change or nothing of it.
    let long = "x".repeat(MAX_NOTE_VALUE_BYTES + 1);
    let wrong = vec![set(NoteKind::Tag, "stage", None), set(NoteKind::Tag, "why", Some(&long))];
    too_large(change(1, wrong).await);
    let many = (0..=MAX_MODEL_NOTES).map(|at| set(NoteKind::Tag, &format!("t{at}"), Some("")));
    too_large(change(2, many.collect()).await);
    assert_eq!(catalog.model_notes(W, id(1)).await.unwrap(), notes);
    absent(change(3, both.clone()).await);
    absent(catalog.change_model_notes(W, id(9), 1, both).await);

    change(1, vec![set(NoteKind::Metric, "agreement", None)]).await.unwrap();
    assert_eq!(catalog.model_notes(W, id(1)).await.unwrap().len(), 2);
    catalog.remove_model(W, id(1)).await.unwrap();
    model(&catalog, W, 1, "intent", "f1").await;
    assert_eq!(catalog.model_notes(W, id(1)).await.unwrap(), []);
    assert_eq!(catalog.check().await.unwrap(), [""; 0]);
}

async fn deploy(
    catalog: &Arc<dyn Catalog>,
    workspace: WorkspaceId,
    text: &str,
    (model, version): (u128, u32),
    when: u64,
) -> Result<EndpointRecord, CatalogError> {
    let endpoint: NewRecord<EndpointId> = new(u128::from(when), text);
    let target = EndpointTarget::Model { model: id(model), version };
    let new = NewEndpointVersion { endpoint, target, at: at(when) };
    catalog.add_endpoint_version(workspace, new).await
}

fn head_moved<T: Debug>(answer: Result<T, CatalogError>) {
    match answer {
        Err(CatalogError::HeadMoved { .. }) => {}
        other => panic!("expected a moved head, got {other:?}"),
    }
}

pub async fn endpoints_grow_by_versions(catalog: Arc<dyn Catalog>) {
    let first = model(&catalog, W, 1, "m", "f1").await;
    let other = model(&catalog, W, 2, "other", "f2").await;
    let made = deploy(&catalog, W, "live", (1, 1), 10).await.unwrap();
    assert_eq!((made.created, made.updated, made.id), (at(10), at(10), id(10)));
    assert_eq!((made.revision, made.routing_json.as_str()), (1, ""));
    let serves = Served::Model { name: name("m"), version: Box::new(first.clone()) };
    assert_eq!(made.versions, [EndpointVersion { number: 1, created: at(10), serves }]);

    let moved = deploy(&catalog, W, "live", (2, 1), 11).await.unwrap();
    assert_eq!((moved.created, moved.updated, moved.id), (at(10), at(11), id(10)));
    assert_eq!((moved.revision, moved.versions.len()), (2, 2));
    assert_eq!(moved.versions[0], made.versions[0]);
    assert_eq!(
        moved.latest().serves,
        Served::Model { name: name("other"), version: Box::new(other) }
    );
    assert_eq!(catalog.endpoint_named(W, name("live")).await.unwrap(), moved);

    absent(deploy(&catalog, W, "live", (3, 1), 12).await);
    absent(deploy(&catalog, W, "live", (1, 2), 12).await);
    catalog.add_model_version(W, new(1, "m"), model_version("f3")).await.unwrap();
    catalog.remove_model_version(W, id(1), 2, at(13)).await.unwrap();
    absent(deploy(&catalog, W, "live", (1, 2), 14).await);
    assert_eq!(catalog.endpoint_named(W, name("live")).await.unwrap(), moved);

    let fixed = |size: usize| NewEndpointVersion {
        endpoint: new(40, "live"),
        target: EndpointTarget::Fixed { answer_json: "7".repeat(size) },
        at: at(15),
    };
    too_large(catalog.add_endpoint_version(W, fixed(MAX_ENDPOINT_JSON_BYTES + 1)).await);
    let fixed = catalog.add_endpoint_version(W, fixed(1)).await.unwrap();
    let serves = Served::Fixed { answer_json: "7".to_owned() };
    assert_eq!(fixed.versions[2], EndpointVersion { number: 3, created: at(15), serves });

    let remove = async |revision, number| {
        catalog.remove_endpoint_version(W, id(10), revision, number, at(16)).await
    };
    head_moved(remove(2, 3).await);
    absent(remove(3, 4).await);
    let left = remove(3, 3).await.unwrap();
    assert_eq!((left.revision, left.updated, left.versions), (4, at(16), moved.versions));
    remove(4, 2).await.unwrap();
    in_use(remove(5, 1).await, &["endpoint `live`, which has no other"]);
    // A number is never given twice.
    let again = deploy(&catalog, W, "live", (1, 1), 17).await.unwrap();
    let numbers: Vec<u32> = again.versions.iter().map(|version| version.number).collect();
    assert_eq!(numbers, [1, 4]);

    catalog.remove_endpoint(W, id(10)).await.unwrap();
    absent(catalog.endpoint_named(W, name("live")).await);
    absent(catalog.remove_endpoint(W, id(10)).await);
    absent(remove(6, 1).await);
    assert_eq!(catalog.list_endpoints(W, PageRequest::default()).await.unwrap().items, []);
}

pub async fn routings_are_replaced_at_their_revision(catalog: Arc<dyn Catalog>) {
    model(&catalog, W, 1, "m", "f1").await;
    let made = deploy(&catalog, W, "live", (1, 1), 10).await.unwrap();
    let set = async |revision, text: &str| {
        catalog.set_endpoint_routing(W, id(10), revision, text.to_owned(), at(20)).await
    };
    let first = set(1, "first").await.unwrap();
    assert_eq!((first.revision, first.routing_json.as_str()), (2, "first"));
    assert_eq!((first.updated, &first.versions), (at(20), &made.versions));
    head_moved(set(1, "late").await);
    too_large(set(2, &"x".repeat(MAX_ENDPOINT_JSON_BYTES + 1)).await);
    deploy(&catalog, W, "live", (1, 1), 21).await.unwrap();
    head_moved(set(2, "late").await);
    assert_eq!(catalog.endpoint_named(W, name("live")).await.unwrap().routing_json, "first");
    absent(catalog.set_endpoint_routing(W, id(99), 1, String::new(), at(22)).await);
    let watched = catalog.set_endpoint_observing(W, id(10), 3, "watch".to_owned(), at(23)).await;
    let watched = watched.unwrap();
    let documents = (watched.routing_json.as_str(), watched.observing_json.as_str());
    assert_eq!((watched.revision, documents), (4, ("first", "watch")));
    head_moved(catalog.set_endpoint_observing(W, id(10), 3, String::new(), at(24)).await);
}

pub async fn endpoints_keep_their_versions_from_removal(catalog: Arc<dyn Catalog>) {
    for file in ["f1", "f2", "f3"] {
        model(&catalog, W, 1, "m", file).await;
    }
    deploy(&catalog, W, "first", (1, 1), 10).await.unwrap();
    deploy(&catalog, W, "first", (1, 3), 11).await.unwrap();
    deploy(&catalog, W, "second", (1, 3), 12).await.unwrap();
    let remove = async |number| catalog.remove_model_version(W, id(1), number, at(20)).await;
    in_use(remove(1).await, &["endpoint `first/1`"]);
    in_use(remove(3).await, &["endpoint `first/2`", "endpoint `second/1`"]);
    remove(2).await.unwrap();
    let all = ["endpoint `first/1`", "endpoint `first/2`", "endpoint `second/1`"];
    in_use(catalog.remove_model(W, id(1)).await, &all);
    catalog.remove_endpoint_version(W, id(10), 2, 1, at(21)).await.unwrap();
    remove(1).await.unwrap();
    catalog.remove_endpoint(W, id(10)).await.unwrap();
    catalog.remove_endpoint(W, id(12)).await.unwrap();
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

    absent(deploy(&catalog, second, "live", (1, 1), 10).await);
    let theirs = model(&catalog, second, 1, "m", "f2").await;
    deploy(&catalog, first, "live", (1, 1), 10).await.unwrap();
    absent(catalog.endpoint_named(second, name("live")).await);
    absent(catalog.set_endpoint_routing(second, id(10), 1, String::new(), at(9)).await);
    absent(catalog.remove_endpoint_version(second, id(10), 1, 1, at(9)).await);
    absent(catalog.remove_endpoint(second, id(10)).await);
    assert_eq!(catalog.list_endpoints(second, page).await.unwrap().items, []);
    let live = deploy(&catalog, second, "live", (1, 1), 11).await.unwrap();
    assert_eq!(live.latest().serves, Served::Model { name: name("m"), version: Box::new(theirs) });
    // An endpoint keeps only its own workspace's model from removal.
    catalog.remove_endpoint(second, id(11)).await.unwrap();
    catalog.remove_model(second, id(1)).await.unwrap();
    let live = catalog.endpoint_named(first, name("live")).await.unwrap();
    let Served::Model { version, .. } = &live.latest().serves else { panic!("{live:?}") };
    assert_eq!(version.file, blob("f1"));
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
