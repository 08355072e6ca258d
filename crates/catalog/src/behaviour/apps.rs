//! Environments, apps with their versions and functions, and what containers are made of.

use std::sync::Arc;

use corral_types::{AppId, EnvironmentId, WorkspaceId};

use super::{absent, at, blob, id, in_use, taken, too_large, two_workspaces};
use crate::{
    AppPhase, AppRecord, Binding, BlobOwner, Catalog, CatalogError, ClsRecord, EnvironmentRecord,
    FileRecord, FunctionRecord, ImageRecord, MAX_SEALED_BYTES, MountRecord, NewAppVersion,
    NewDefinition, SecretRecord,
};

fn environment(value: u128, name: &str) -> EnvironmentRecord {
    EnvironmentRecord {
        id: id(value),
        name: name.to_owned(),
        created: at(1),
        settings_json: "{}".to_owned(),
    }
}

fn app(value: u128, environment: EnvironmentId, name: Option<&str>) -> AppRecord {
    AppRecord {
        id: id(value),
        environment,
        name: name.map(str::to_owned),
        description: format!("app {value}"),
        phase: AppPhase::Initializing,
        created: at(value as u64),
        ended: None,
        revision: 1,
        version: 0,
        detail_json: "{}".to_owned(),
    }
}

fn function(value: u128, app: AppId, tag: &str) -> FunctionRecord {
    FunctionRecord {
        id: id(value),
        app,
        tag: tag.to_owned(),
        created: at(value as u64),
        bound: None,
        definition: 0,
        latest: 0,
    }
}

fn definition(text: &str) -> NewDefinition {
    NewDefinition {
        created: at(9),
        settings_json: "{}".to_owned(),
        definition: text.as_bytes().to_vec(),
    }
}

fn version(layout: &str) -> NewAppVersion {
    NewAppVersion { created: at(20), layout_json: layout.to_owned(), definitions: Vec::new() }
}

/// An environment and an app in it.
async fn app_in(catalog: &Arc<dyn Catalog>, workspace: WorkspaceId) -> AppRecord {
    let main = catalog.create_environment(workspace, environment(1, "main")).await.unwrap();
    catalog.create_app(workspace, app(2, main.id, None)).await.unwrap()
}

pub async fn environments_have_unique_names(catalog: Arc<dyn Catalog>) {
    let (first, second) = two_workspaces(&catalog).await;
    let main = catalog.create_environment(first, environment(1, "main")).await.unwrap();
    taken(catalog.create_environment(first, environment(2, "main")).await);
    taken(catalog.create_environment(first, environment(1, "other")).await);
    catalog.create_environment(second, environment(1, "main")).await.unwrap();
    catalog.create_environment(first, environment(3, "Dev")).await.unwrap();
    assert_eq!(catalog.environment_named(first, "main".to_owned()).await.unwrap(), main);
    let names = catalog.list_environments(first).await.unwrap();
    let names: Vec<&str> = names.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["main", "Dev"]);
    taken(catalog.change_environment(first, environment(3, "main")).await);
    catalog.change_environment(first, environment(3, "test")).await.unwrap();
    absent(catalog.environment_named(first, "Dev".to_owned()).await);
    absent(catalog.change_environment(second, environment(3, "x")).await);
    absent(catalog.environment(second, id(3)).await);

    let secret = secret(5, main.id, Some("s"));
    catalog.put_secret(first, secret.clone()).await.unwrap();
    let mut living = catalog.create_app(first, app(2, main.id, None)).await.unwrap();
    in_use(catalog.remove_environment(first, main.id).await, &["app 2"]);
    living.ended = Some(at(30));
    catalog.change_app(first, living).await.unwrap();
    catalog.remove_environment(first, main.id).await.unwrap();
    absent(catalog.app(first, id(2)).await);
    absent(catalog.secret(first, secret.id).await);
    absent(catalog.remove_environment(first, main.id).await);
}

pub async fn apps_have_names_while_they_live(catalog: Arc<dyn Catalog>) {
    let (first, second) = two_workspaces(&catalog).await;
    let main = catalog.create_environment(first, environment(1, "main")).await.unwrap().id;
    let dev = catalog.create_environment(first, environment(2, "dev")).await.unwrap().id;
    absent(catalog.create_app(second, app(3, main, None)).await);
    let shop = catalog.create_app(first, app(3, main, Some("Shop"))).await.unwrap();
    taken(catalog.create_app(first, app(4, main, Some("Shop"))).await);
    catalog.create_app(first, app(5, dev, Some("Shop"))).await.unwrap();
    let mut other = catalog.create_app(first, app(6, main, None)).await.unwrap();
    other.name = Some("Shop".to_owned());
    taken(catalog.change_app(first, other.clone()).await);
    let named = async |environment| catalog.app_named(first, environment, "Shop".to_owned()).await;
    assert_eq!(named(main).await.unwrap(), shop);
    absent(catalog.app(second, shop.id).await);

    let ended = AppRecord { ended: Some(at(40)), phase: AppPhase::Stopped, ..shop.clone() };
    let ended = catalog.change_app(first, ended).await.unwrap();
    assert_eq!((ended.revision, ended.phase), (2, AppPhase::Stopped));
    absent(named(main).await);
    catalog.change_app(first, other).await.unwrap();
    assert_eq!(named(main).await.unwrap().id, id(6));
    let moved = catalog.change_app(first, shop).await;
    assert!(matches!(moved, Err(CatalogError::HeadMoved { expected: 1, found: 2, .. })));

    let listed = catalog.list_apps(first, main).await.unwrap();
    let listed: Vec<AppId> = listed.iter().map(|app| app.id).collect();
    assert_eq!(listed, [id(6), id(3)]);
    let living = catalog.apps_not_ended().await.unwrap();
    let living: Vec<_> = living.into_iter().map(|(workspace, app)| (workspace, app.id)).collect();
    assert_eq!(living, [(first, id(5)), (first, id(6))]);
    assert_eq!(catalog.forget_apps(at(40)).await.unwrap(), 0);
    assert_eq!(catalog.forget_apps(at(41)).await.unwrap(), 1);
    absent(catalog.app(first, id(3)).await);
}

pub async fn publishing_an_app_swaps_all_definitions(catalog: Arc<dyn Catalog>) {
    let (first, _) = two_workspaces(&catalog).await;
    let app = app_in(&catalog, first).await;
    let (f, g) = (function(10, app.id, "f"), function(11, app.id, "g"));
    for one in [&f, &g] {
        catalog.create_function(first, one.clone()).await.unwrap();
        let defined = catalog.add_definition(first, one.id, definition("1")).await.unwrap();
        assert_eq!((defined.definition, defined.latest), (0, 1));
    }
    let mut one = version("one");
    one.definitions = vec![(f.id, 1), (g.id, 1)];
    let published = catalog.publish_app(first, app.clone(), one).await.unwrap();
    assert_eq!((published.version, published.revision), (1, 2));

    catalog.add_definition(first, f.id, definition("2")).await.unwrap();
    let same = catalog.add_definition(first, f.id, definition("2")).await.unwrap();
    assert_eq!((same.definition, same.latest), (1, 2));
    // All or none: what is not there keeps the rest from counting.
    let mut two = version("two");
    two.definitions = vec![(f.id, 2), (g.id, 2)];
    absent(catalog.publish_app(first, published.clone(), two.clone()).await);
    assert_eq!(catalog.function(first, f.id).await.unwrap().definition, 1);
    two.definitions.pop();
    let stale = catalog.publish_app(first, app, two.clone()).await;
    assert!(matches!(stale, Err(CatalogError::HeadMoved { .. })));
    let published = catalog.publish_app(first, published, two).await.unwrap();
    assert_eq!(catalog.function(first, f.id).await.unwrap().definition, 2);
    let versions = catalog.list_app_versions(first, published.id).await.unwrap();
    let versions: Vec<_> =
        versions.iter().map(|one| (one.number, one.layout_json.as_str())).collect();
    assert_eq!(versions, [(1, "one"), (2, "two")]);
    assert_eq!(catalog.app_version(first, published.id, 1).await.unwrap().layout_json, "one");
    absent(catalog.app_version(first, published.id, 3).await);
    let kept = catalog.definition(first, f.id, 1).await.unwrap();
    assert_eq!(kept.definition, b"1");
    absent(catalog.definition(first, f.id, 3).await);
}

pub async fn functions_and_classes_stay_in_their_app(catalog: Arc<dyn Catalog>) {
    let (first, second) = two_workspaces(&catalog).await;
    let app = app_in(&catalog, first).await;
    let f = function(10, app.id, "f");
    absent(catalog.create_function(second, f.clone()).await);
    catalog.create_function(first, f.clone()).await.unwrap();
    assert_eq!(catalog.create_function(first, f.clone()).await.unwrap(), f);
    taken(
        catalog.create_function(first, FunctionRecord { tag: "g".to_owned(), ..f.clone() }).await,
    );
    let bound = FunctionRecord {
        id: id(12),
        bound: Some(Binding { base: f.id, parameters: vec![1], options: vec![2] }),
        ..f.clone()
    };
    let made = catalog.create_function(first, bound.clone()).await.unwrap();
    assert_eq!(made, bound);
    assert_eq!(catalog.create_function(first, bound.clone()).await.unwrap(), bound);
    let lost = Binding { base: id(99), parameters: Vec::new(), options: Vec::new() };
    absent(
        catalog
            .create_function(first, FunctionRecord { id: id(13), bound: Some(lost), ..f.clone() })
            .await,
    );
    let all = catalog.functions_of_app(first, app.id).await.unwrap();
    assert_eq!(all.iter().map(|one| one.id).collect::<Vec<_>>(), [f.id, bound.id]);
    absent(catalog.function(second, f.id).await);
    absent(catalog.add_definition(second, f.id, definition("x")).await);

    let cls = |text: &str| ClsRecord {
        id: id(20),
        app: app.id,
        created: at(3),
        detail_json: text.to_owned(),
    };
    catalog.put_cls(first, cls("a")).await.unwrap();
    catalog.put_cls(first, cls("b")).await.unwrap();
    assert_eq!(catalog.cls(first, id(20)).await.unwrap(), cls("b"));
    absent(catalog.cls(second, id(20)).await);
    absent(catalog.put_cls(second, cls("a")).await);
}

fn secret(value: u128, environment: EnvironmentId, name: Option<&str>) -> SecretRecord {
    SecretRecord {
        id: id(value),
        environment,
        name: name.map(str::to_owned),
        created: at(5),
        detail_json: "{}".to_owned(),
        sealed: vec![7],
    }
}

pub async fn secrets_have_unique_names(catalog: Arc<dyn Catalog>) {
    let (first, second) = two_workspaces(&catalog).await;
    let main = catalog.create_environment(first, environment(1, "main")).await.unwrap().id;
    absent(catalog.put_secret(second, secret(5, main, None)).await);
    for (value, name) in [(5, Some("b")), (6, Some("a")), (7, None), (8, None)] {
        catalog.put_secret(first, secret(value, main, name)).await.unwrap();
    }
    taken(catalog.put_secret(first, secret(9, main, Some("a"))).await);
    let replaced = SecretRecord { sealed: vec![8], ..secret(6, main, Some("a")) };
    catalog.put_secret(first, replaced.clone()).await.unwrap();
    assert_eq!(catalog.secret_named(first, main, "a".to_owned()).await.unwrap(), replaced);
    let listed = catalog.list_secrets(first, main).await.unwrap();
    assert_eq!(listed.iter().map(|one| one.id).collect::<Vec<_>>(), [id(6), id(5)]);
    absent(catalog.secret(second, id(6)).await);
    let long = SecretRecord { sealed: vec![0; MAX_SEALED_BYTES + 1], ..secret(9, main, None) };
    too_large(catalog.put_secret(first, long).await);
    absent(catalog.remove_secret(second, id(6)).await);
    catalog.remove_secret(first, id(6)).await.unwrap();
    absent(catalog.secret(first, id(6)).await);
}

pub async fn images_and_mounts_are_noted_once(catalog: Arc<dyn Catalog>) {
    let (first, second) = two_workspaces(&catalog).await;
    let image =
        |text: &str| ImageRecord { id: id(1), created: at(1), recipe_json: text.to_owned() };
    catalog.put_image(first, image("one")).await.unwrap();
    catalog.put_image(first, image("two")).await.unwrap();
    assert_eq!(catalog.image(first, id(1)).await.unwrap(), image("one"));
    absent(catalog.image(second, id(1)).await);
    let mount = MountRecord { id: id(2), created: at(1), files_json: "[]".to_owned() };
    let blobs = vec![blob("a"), blob("b")];
    catalog.put_mount(first, mount.clone(), blobs.clone()).await.unwrap();
    catalog.put_mount(first, mount.clone(), blobs.clone()).await.unwrap();
    assert_eq!(catalog.mount(first, id(2)).await.unwrap(), mount);
    absent(catalog.mount(second, id(2)).await);
    let mut expect = blobs;
    expect.sort();
    let owner = BlobOwner::Mount(id(2));
    assert_eq!(catalog.references_of(first, owner).await.unwrap(), expect);
    assert_eq!(catalog.references_of(second, owner).await.unwrap(), []);
    absent(catalog.add_references(second, owner, vec![blob("a")]).await);
}

pub async fn files_are_known_where_they_were_sent(catalog: Arc<dyn Catalog>) {
    let (first, second) = two_workspaces(&catalog).await;
    let file = |name: &str| FileRecord { sha256: *blob(name).as_bytes(), blob: blob(name) };
    let (old, new) = (file("old"), file("new"));
    catalog.put_file(first, old, at(10)).await.unwrap();
    catalog.put_file(first, new, at(10)).await.unwrap();
    let asked = vec![new.sha256, file("never").sha256];
    assert_eq!(catalog.files(first, asked.clone(), at(20)).await.unwrap(), [new]);
    assert_eq!(catalog.files(second, asked, at(20)).await.unwrap(), []);
    assert!(catalog.has_reference(first, old.blob).await.unwrap());
    assert!(!catalog.has_reference(second, old.blob).await.unwrap());
    // Asked for, it counts as seen.
    assert_eq!(catalog.forget_files(at(15)).await.unwrap(), 1);
    assert!(!catalog.has_reference(first, old.blob).await.unwrap());
    assert!(catalog.has_reference(first, new.blob).await.unwrap());
}

pub async fn uploads_are_forgotten_by_their_age(catalog: Arc<dyn Catalog>) {
    let (first, _) = two_workspaces(&catalog).await;
    let upload = |millis| corral_types::Id::from_parts(at(millis), [1; 10]);
    for (millis, text) in [(1_000, "old"), (2_000, "new")] {
        let owner = BlobOwner::Upload(upload(millis));
        catalog.add_references(first, owner, vec![blob(text)]).await.unwrap();
    }
    let job = BlobOwner::Job(id(1));
    catalog.add_references(first, job, vec![blob("of a job")]).await.unwrap();
    assert_eq!(catalog.forget_uploads(at(2_000)).await.unwrap(), 1);
    for (text, there) in [("old", false), ("new", true), ("of a job", true)] {
        assert_eq!(catalog.has_reference(first, blob(text)).await.unwrap(), there, "{text}");
    }
}
