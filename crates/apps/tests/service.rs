//! The service over a real catalog.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use corral_apps::{
    AppPhase, Apps, AppsError, Deployment, FunctionRole, FunctionSpec, ImageBase, ImageDefinition,
    MISSED_BEATS, MountFile, NewApp, NewSecret, PublishApp, Published, ResourceSpec, ScalingSpec,
    SecretMode, SpecChange,
};
use corral_blobs::{BlobStore, BlobStoreOptions};
use corral_catalog::{Catalog, NewRecord, SqliteCatalog};
use corral_containers::{Base, Network, SecretValue};
use corral_types::{
    AppId, BlobHash, Caller, ErrorKind, Explain, FunctionId, ImageId, ManualClock, Scope, Scopes,
    Timestamp, WorkspaceId,
};
use tempfile::TempDir;

struct Service {
    apps: Apps,
    blobs: BlobStore,
    clock: Arc<ManualClock>,
    catalog: Arc<dyn Catalog>,
    first: Caller,
    second: Caller,
    folder: TempDir,
}

fn caller(workspace: WorkspaceId) -> Caller {
    Caller { workspace, token: None, scopes: Scopes::ALL }
}

async fn start() -> Service {
    let folder = tempfile::tempdir().unwrap();
    let options = BlobStoreOptions { reserve_bytes: 0 };
    let blobs = BlobStore::open_with(folder.path().join("blobs"), options).unwrap();
    let catalog: Arc<dyn Catalog> =
        Arc::new(SqliteCatalog::open(&folder.path().join("catalog.sqlite")).unwrap());
    let mut callers = Vec::new();
    for (value, name) in [(1, "first"), (2, "second")] {
        let new = NewRecord {
            id: WorkspaceId::from_u128(value << 64),
            name: name.parse().unwrap(),
            created: Timestamp::from_millis(1),
        };
        callers.push(caller(catalog.create_workspace(new).await.unwrap().id));
    }
    let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_000_000)));
    let apps = Apps::open(catalog.clone(), blobs.clone(), folder.path(), clock.clone()).unwrap();
    let [first, second] = callers.try_into().unwrap();
    Service { apps, blobs, clock, catalog, first, second, folder }
}

fn image() -> ImageDefinition {
    ImageDefinition {
        base: ImageBase::Reference("python:3.11-slim".to_owned()),
        commands: vec!["RUN true".to_owned()],
        context_files: Vec::new(),
        context: None,
        build_arguments: BTreeMap::new(),
        secrets: Vec::new(),
        run: None,
        force_build: None,
        builder_version: "2025.06".to_owned(),
        client_version: "1.6.4".to_owned(),
    }
}

fn spec(image: ImageId) -> FunctionSpec {
    FunctionSpec {
        role: FunctionRole::Function,
        image,
        mounts: Vec::new(),
        secrets: Vec::new(),
        dependencies: Vec::new(),
        resources: ResourceSpec::default(),
        scaling: ScalingSpec::default(),
        max_concurrent_inputs: 1,
        target_concurrent_inputs: 1,
        batching: None,
        single_use: false,
        timeout_s: 60,
        startup_timeout_s: 60,
        retries: None,
        snapshot: false,
        network: Network::Outbound,
        module: "shop".to_owned(),
        client_version: "1.6.4".to_owned(),
        builder_version: "2025.06".to_owned(),
    }
}

impl Service {
    async fn app(&self, phase: AppPhase, key: &str) -> AppId {
        let new = NewApp {
            environment: String::new(),
            description: "shop".to_owned(),
            phase,
            tags: BTreeMap::new(),
            client_version: "1.6.4".to_owned(),
            idempotency_key: key.to_owned(),
        };
        self.apps.create_app(&self.first, new).await.unwrap().id
    }

    async fn define(&self, app: AppId, tag: &str, text: &str) -> FunctionId {
        let image = self.apps.put_image(&self.first, &image()).await.unwrap();
        let definition = text.as_bytes().to_vec();
        let spec = spec(image);
        let defined = self.apps.define_function(&self.first, app, tag, &spec, definition).await;
        defined.unwrap().id
    }

    async fn publish(&self, app: AppId, functions: &[FunctionId]) -> Published {
        self.try_publish(app, functions).await.unwrap()
    }

    async fn try_publish(
        &self,
        app: AppId,
        functions: &[FunctionId],
    ) -> Result<Published, AppsError> {
        let mut named = BTreeMap::new();
        for id in functions {
            let tag = self.catalog.function(self.first.workspace, *id).await.unwrap().tag;
            named.insert(tag, (*id, None));
        }
        let publish = PublishApp {
            app,
            name: "Shop".to_owned(),
            phase: Some(AppPhase::Deployed),
            functions: named,
            classes: BTreeMap::new(),
            tags: BTreeMap::new(),
            deployment: Deployment::default(),
        };
        self.apps.publish(&self.first, publish).await
    }

    async fn text_of(&self, tag: &str) -> Result<(Vec<u8>, u64), AppsError> {
        let found = self.apps.function_named(&self.first, "", "Shop", tag).await?;
        Ok((found.definition.clone(), found.generation))
    }
}

#[track_caller]
fn kind<T: std::fmt::Debug>(answer: Result<T, AppsError>) -> ErrorKind {
    answer.unwrap_err().kind()
}

#[tokio::test]
async fn a_definition_counts_from_its_publishing_on() {
    let service = start().await;
    let app = service.app(AppPhase::Initializing, "a").await;
    let f = service.define(app, "f", "f 1").await;
    let g = service.define(app, "g", "g 1").await;
    assert_eq!(kind(service.text_of("f").await), ErrorKind::NotFound);
    let published = service.publish(app, &[f, g]).await;
    assert!(published.is_new && published.retired.is_empty());
    assert_eq!(published.functions.len(), 2);
    assert_eq!(service.text_of("f").await.unwrap(), (b"f 1".to_vec(), 1));

    assert_eq!(service.define(app, "f", "f 2").await, f);
    assert_eq!(service.text_of("f").await.unwrap().0, b"f 1");
    service.publish(app, &[f, g]).await;
    assert_eq!(service.text_of("f").await.unwrap(), (b"f 2".to_vec(), 2));
    // What has not changed keeps its containers.
    assert_eq!(service.text_of("g").await.unwrap(), (b"g 1".to_vec(), 1));
    assert!(!service.publish(app, &[f, g]).await.is_new);

    let published = service.publish(app, &[f]).await;
    assert_eq!(published.retired, [g]);
    assert_eq!(kind(service.text_of("g").await), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_rollback_brings_definitions_back_and_a_rollover_containers() {
    let service = start().await;
    let app = service.app(AppPhase::Initializing, "a").await;
    let f = service.define(app, "f", "f 1").await;
    service.publish(app, &[f]).await;
    service.define(app, "f", "f 2").await;
    let g = service.define(app, "g", "g 1").await;
    service.publish(app, &[f, g]).await;
    let back = service.apps.rollback(&service.first, app, -1, "1.6.4").await.unwrap();
    assert_eq!((back.app.version, back.retired), (3, vec![g]));
    assert_eq!(service.text_of("f").await.unwrap(), (b"f 1".to_vec(), 3));
    assert_eq!(kind(service.apps.rollback(&service.first, app, 9, "").await), ErrorKind::NotFound);
    assert_eq!(kind(service.apps.rollback(&service.first, app, -3, "").await), ErrorKind::NotFound);
    service.apps.rollover(&service.first, app, "1.6.4").await.unwrap();
    assert_eq!(service.text_of("f").await.unwrap(), (b"f 1".to_vec(), 4));
    let versions = service.apps.versions(&service.first, app).await.unwrap();
    assert_eq!(versions.len(), 4);
}

#[tokio::test]
async fn bound_functions_follow_their_base() {
    let service = start().await;
    let app = service.app(AppPhase::Initializing, "a").await;
    let f = service.define(app, "C.*", "c 1").await;
    service.publish(app, &[f]).await;
    let (apps, first) = (&service.apps, &service.first);
    let change = SpecChange { timeout_s: Some(5), ..SpecChange::default() };
    let bound = apps.bind_function(first, f, b"p".to_vec(), &change).await.unwrap();
    let again = apps.bind_function(first, f, b"p".to_vec(), &change).await.unwrap();
    assert_eq!(bound.record.id, again.record.id);
    assert_eq!((bound.spec.timeout_s, bound.parameters()), (5, &b"p"[..]));
    let other = apps.bind_function(first, f, b"q".to_vec(), &change).await.unwrap();
    assert_ne!(bound.record.id, other.record.id);
    // Bound once more, the earlier options stay where nothing else was asked for.
    let more = SpecChange { max_concurrent_inputs: Some(7), ..SpecChange::default() };
    let twice = apps.bind_function(first, bound.record.id, Vec::new(), &more).await.unwrap();
    assert_eq!((twice.spec.timeout_s, twice.spec.max_concurrent_inputs), (5, 7));
    assert_eq!((twice.parameters(), twice.base()), (&b"p"[..], f));

    service.define(app, "C.*", "c 2").await;
    let published = service.publish(app, &[f]).await;
    assert_eq!(published.functions.len(), 4);
    let now = apps.function(first, bound.record.id).await.unwrap();
    assert_eq!((&now.definition[..], now.generation), (&b"c 2"[..], 2));
    assert_eq!(kind(apps.function(&service.second, f).await), ErrorKind::NotFound);
    let stopped = apps.stop(first, app, None).await.unwrap();
    assert_eq!(stopped.retired.len(), 4);
}

#[tokio::test]
async fn apps_end_with_their_clients_or_not() {
    let service = start().await;
    let (apps, first) = (&service.apps, &service.first);
    let ephemeral = service.app(AppPhase::Ephemeral, "a").await;
    assert_eq!(service.app(AppPhase::Ephemeral, "a").await, ephemeral);
    let detached = service.app(AppPhase::Detached, "b").await;
    assert!(apps.disconnect(first, detached, None).await.unwrap().is_none());
    let beats = corral_apps::BEAT_INTERVAL * MISSED_BEATS;
    service.clock.advance(beats);
    apps.heartbeat(first, ephemeral).await.unwrap();
    assert_eq!(kind(apps.heartbeat(&service.second, ephemeral).await), ErrorKind::NotFound);
    service.clock.advance(beats);
    assert!(apps.abandoned().is_empty());
    service.clock.advance(Duration::from_secs(1));
    assert_eq!(apps.abandoned(), [(first.workspace, ephemeral)]);
    let ended = apps.disconnect(first, ephemeral, Some("over".to_owned())).await.unwrap().unwrap();
    assert_eq!(ended.app.phase, AppPhase::Stopped);
    assert_eq!(apps.detail(&ended.app).unwrap().end_reason.as_deref(), Some("over"));
    assert!(apps.abandoned().is_empty());
    let refused = apps.precreate_function(first, ephemeral, "f").await;
    assert_eq!(kind(refused), ErrorKind::Conflict);

    // A server that starts expects the clients to be heard of, from then on.
    let third = service.app(AppPhase::Ephemeral, "c").await;
    let path = service.folder.path();
    let again =
        Apps::open(service.catalog.clone(), service.blobs.clone(), path, service.clock.clone())
            .unwrap();
    assert_eq!(again.resume().await.unwrap().len(), 2);
    service.clock.advance(beats + Duration::from_secs(1));
    assert_eq!(again.abandoned(), [(first.workspace, third)]);
}

#[tokio::test]
async fn environments_keep_names_apart() {
    let service = start().await;
    let (apps, first) = (&service.apps, &service.first);
    let default = apps.environment(first, "").await.unwrap();
    assert_eq!(default.name, corral_apps::DEFAULT_ENVIRONMENT);
    assert_eq!(kind(apps.environment(first, "dev").await), ErrorKind::NotFound);
    apps.create_environment(first, "dev").await.unwrap();
    let app = service.app(AppPhase::Initializing, "a").await;
    let f = service.define(app, "f", "1").await;
    service.publish(app, &[f]).await;
    assert_eq!(kind(apps.function_named(first, "dev", "Shop", "f").await), ErrorKind::NotFound);
    assert!(apps.rename_environment(first, "default", "main").await.is_err());
    apps.rename_environment(first, "dev", "test").await.unwrap();
    apps.remove_environment(first, "test").await.unwrap();
    assert_eq!(kind(apps.remove_environment(first, "").await), ErrorKind::Conflict);
    let reader = Caller { scopes: [Scope::Read].into_iter().collect(), ..service.first };
    assert_eq!(kind(apps.create_environment(&reader, "x").await), ErrorKind::Forbidden);
    assert_eq!(kind(apps.stop(&reader, app, None).await), ErrorKind::Forbidden);
}

#[tokio::test]
async fn values_of_secrets_are_sealed() {
    let service = start().await;
    let (apps, first) = (&service.apps, &service.first);
    let environment = apps.environment(first, "").await.unwrap().id;
    let new = |name: Option<&str>, value: &str, mode| NewSecret {
        environment,
        name: name.map(str::to_owned),
        values: BTreeMap::from([("TOKEN".to_owned(), SecretValue::new(value.to_owned()))]),
        mode,
    };
    let put = async |name, value, mode| apps.put_secret(first, new(name, value, mode)).await;
    let kept = put(Some("s"), "hush-hush", SecretMode::CreateOrFail).await.unwrap();
    assert_eq!(kind(put(Some("s"), "x", SecretMode::CreateOrFail).await), ErrorKind::Conflict);
    let same = put(Some("s"), "x", SecretMode::CreateIfMissing).await.unwrap();
    assert_eq!(same.id, kept.id);
    let values = apps.secret_values(first, &[kept.id]).await.unwrap();
    assert_eq!(values["TOKEN"].expose(), "hush-hush");
    let stored = std::fs::read(service.folder.path().join("catalog.sqlite-wal")).unwrap();
    assert!(!stored.windows(9).any(|part| part == b"hush-hush"));
    assert!(apps.secret_values(&service.second, &[kept.id]).await.is_err());

    let anonymous = put(None, "a", SecretMode::Overwrite).await.unwrap();
    assert_eq!(put(None, "a", SecretMode::Overwrite).await.unwrap().id, anonymous.id);
    assert_ne!(put(None, "b", SecretMode::Overwrite).await.unwrap().id, anonymous.id);
    let changes = vec![
        ("MORE".to_owned(), Some(SecretValue::new("m".to_owned()))),
        ("TOKEN".to_owned(), None),
    ];
    let changed = apps.change_secret(first, kept.id, changes).await.unwrap();
    assert_eq!(changed.detail.keys, ["MORE"]);
    let missing = apps.secret_named(first, environment, "s", &["TOKEN".to_owned()]).await;
    assert_eq!(missing.unwrap_err().to_string(), "the secret `s` lacks TOKEN");
    assert_eq!(apps.secrets(first, environment).await.unwrap().len(), 1);
    apps.remove_secret(first, kept.id).await.unwrap();
}

#[tokio::test]
async fn files_exist_where_they_were_sent() {
    let service = start().await;
    let (apps, first, second) = (&service.apps, &service.first, &service.second);
    let put = service.blobs.put_bytes(b"print()").unwrap();
    // Any 32 bytes will do for the hash that clients know it by.
    let sha256 = *BlobHash::of(b"sha").as_bytes();
    apps.put_file(first, sha256, put.hash).await.unwrap();
    assert_eq!(apps.known_files(first, vec![sha256, [1; 32]]).await.unwrap(), [sha256]);
    assert!(apps.known_files(second, vec![sha256]).await.unwrap().is_empty());
    let file = MountFile { path: "/root/a.py".to_owned(), sha256, mode: Some(0o100_755) };
    let mount = apps.put_mount(first, vec![file.clone()]).await.unwrap();
    assert_eq!(apps.put_mount(first, vec![file.clone()]).await.unwrap(), mount);
    let tree = apps.mount(first, mount).await.unwrap().tree;
    assert_eq!((tree.files[0].blob, tree.files[0].mode), (put.hash, 0o755));
    let refused = apps.put_mount(second, vec![file]).await.unwrap_err();
    assert_eq!(refused.to_string(), "files of a mount were not sent: /root/a.py");
    assert!(apps.may_read(first, put.hash).await.unwrap());
    assert!(!apps.may_read(second, put.hash).await.unwrap());
    let global = apps.global_mount(first, "modal-client-mount-1.6.4").await.unwrap();
    let contents = apps.mount(first, global).await.unwrap();
    assert_eq!(contents.global.as_deref(), Some("modal-client-mount-1.6.4"));
}

#[tokio::test]
async fn images_are_chains_with_the_values_of_their_secrets() {
    let service = start().await;
    let (apps, first) = (&service.apps, &service.first);
    let environment = apps.environment(first, "").await.unwrap().id;
    let secret = NewSecret {
        environment,
        name: None,
        values: BTreeMap::from([("T".to_owned(), SecretValue::new("v".to_owned()))]),
        mode: SecretMode::Overwrite,
    };
    let secret = apps.put_secret(first, secret).await.unwrap().id;
    let below = apps.put_image(first, &image()).await.unwrap();
    let other_client = ImageDefinition { client_version: "1.0.5".to_owned(), ..image() };
    assert_eq!(apps.put_image(first, &other_client).await.unwrap(), below);
    let over = ImageDefinition {
        base: ImageBase::Image(below),
        commands: vec!["ENV A=b".to_owned()],
        secrets: vec![secret],
        ..image()
    };
    let over = apps.put_image(first, &over).await.unwrap();
    let recipe = apps.recipe(first, over).await.unwrap();
    assert_eq!(recipe.chain().len(), 2);
    assert_eq!(recipe.step.secrets["T"].expose(), "v");
    assert!(matches!(recipe.base, Base::Image { .. }));
    let lost = ImageDefinition { base: ImageBase::Image(ImageId::from_u128(5)), ..image() };
    assert_eq!(kind(apps.put_image(first, &lost).await), ErrorKind::NotFound);
    assert_eq!(kind(apps.recipe(&service.second, over).await), ErrorKind::NotFound);
}
