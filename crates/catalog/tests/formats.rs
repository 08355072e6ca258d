//! Catalogs of every format version that was released: each must open for ever.
//!
//! `CORRAL_WRITE_FIXTURE=FILE cargo test -p corral-catalog --test formats` writes one in the
//! present format; the fixture of a released version is never written again.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;

use corral_catalog::behaviour::run;
use corral_catalog::{
    AppPhase, AppRecord, BeginRequest, Begun, Binding, BlobOwner, Catalog, ClsRecord,
    DEFAULT_WORKSPACE, EndpointTarget, EnvironmentRecord, FileRecord, FunctionRecord, ImageRecord,
    Lineage, MountRecord, NewAppVersion, NewDatasetVersion, NewDefinition, NewEncoder,
    NewEndpointVersion, NewLabelingVersion, NewModelVersion, NewRecord, NewTaxonomyVersion,
    NewToken, NoteChange, NoteKind, PageRequest, RunRecord, RunStatus, SecretHash, SecretRecord,
    Served, SqliteCatalog, StoredResponse, UsageRecord, VersionChoice,
};
use corral_types::{BlobHash, Id, Kind, Scope, Timestamp, WorkspaceId};

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn blob(text: &str) -> BlobHash {
    BlobHash::of(text.as_bytes())
}

fn id<K: Kind>(value: u128) -> Id<K> {
    Id::from_u128(value << 64 | 1)
}

fn new<K: Kind>(value: u128, name: &str) -> NewRecord<Id<K>> {
    NewRecord { id: id(value), name: name.parse().unwrap(), created: at(100) }
}

fn workspace() -> WorkspaceId {
    id(1)
}

fn request(begun: u64) -> BeginRequest {
    BeginRequest {
        key: "key".to_owned(),
        route: "POST /v1/datasets".to_owned(),
        request: blob("request"),
        begun: at(begun),
        expires: at(1_000),
    }
}

fn usage() -> UsageRecord {
    UsageRecord {
        workspace: workspace(),
        endpoint: "newest".parse().unwrap(),
        hour: 20,
        requests: 1,
        errors: 2,
        texts: 3,
        core_micros: 4,
        memory_byte_seconds: 5,
    }
}

/// One of every record, every optional field once with and once without.
async fn fill(catalog: &dyn Catalog) {
    let w = workspace();
    catalog.create_workspace(new(1, "team")).await.unwrap();
    let token = |value, expires| NewToken {
        id: id(value),
        name: "laptop".parse().unwrap(),
        scopes: [Scope::Read, Scope::Admin].into_iter().collect(),
        secret: SecretHash::of(&format!("secret {value}")),
        created: at(100),
        expires,
    };
    catalog.create_token(w, token(2, None)).await.unwrap();
    catalog.create_token(w, token(3, Some(at(500)))).await.unwrap();
    catalog.record_token_uses(vec![(id(3), at(200))]).await.unwrap();
    catalog.revoke_token(w, id(3), at(300)).await.unwrap();

    let version = |text: &str| NewDatasetVersion {
        manifest: blob(text),
        rows: 7,
        bytes: 70,
        created: at(110),
        note: "import".to_owned(),
        blobs: vec![blob("part")],
    };
    catalog.create_dataset(w, new(4, "tickets"), version("m1")).await.unwrap();
    catalog.add_dataset_version(w, id(4), 1, version("m2")).await.unwrap();
    let functions = NewLabelingVersion {
        document: blob("functions"),
        functions: 3,
        created: at(115),
        note: "add money".to_owned(),
    };
    catalog.add_labeling_version(w, id(4), 0, functions).await.unwrap();
    let document = NewTaxonomyVersion { document: blob("t1"), classes: 5, created: at(120) };
    catalog.create_taxonomy(w, new(5, "topics"), document).await.unwrap();
    let encoder = NewEncoder {
        file: blob("encoder"),
        name: "mini".parse().unwrap(),
        dimension: 384,
        bytes: 22,
        created: at(130),
    };
    catalog.add_encoder(w, encoder).await.unwrap();
    let lineage = Lineage {
        job: Some(id(7)),
        dataset: Some((id(4), 2)),
        taxonomy: Some((id(5), 1)),
        code: Some("0.1.0".to_owned()),
    };
    let model = |file: &str, lineage, encoder| NewModelVersion {
        file: blob(file),
        bytes: 80,
        lineage,
        metrics_json: r#"{"accuracy":0.5}"#.to_owned(),
        encoder,
        created: at(140),
        report: Some(blob("report")),
    };
    let plain = model("f1", Lineage::default(), None);
    catalog.add_model_version(w, new(6, "intent"), plain).await.unwrap();
    let full = model("f2", lineage, Some(blob("encoder")));
    catalog.add_model_version(w, new(6, "intent"), full).await.unwrap();
    let note = |kind, value: &str| NoteChange {
        kind,
        name: "note".to_owned(),
        value: Some(value.to_owned()),
    };
    let notes = vec![note(NoteKind::Tag, "tag"), note(NoteKind::Metric, "0.5")];
    catalog.change_model_notes(w, id(6), 2, notes).await.unwrap();
    for (value, name) in [(8, "fixed"), (9, "newest")] {
        let target = EndpointTarget::Model { model: id(6), version: 2 };
        let new = NewEndpointVersion { endpoint: new(value, name), target, at: at(150) };
        catalog.add_endpoint_version(w, new).await.unwrap();
    }
    catalog.set_endpoint_routing(w, id(9), 1, "routing".to_owned(), at(155)).await.unwrap();
    catalog.set_endpoint_observing(w, id(8), 1, "watch".to_owned(), at(156)).await.unwrap();
    let target = EndpointTarget::Fixed { answer_json: "answer".to_owned() };
    let constant = NewEndpointVersion { endpoint: new(11, "constant"), target, at: at(150) };
    catalog.add_endpoint_version(w, constant).await.unwrap();
    catalog.remove_model_version(w, id(6), 1, at(160)).await.unwrap();
    let run = |number, status, ended| RunRecord {
        number,
        status,
        params_json: "{}".to_owned(),
        metrics_json: r#"{"f1":0.25}"#.to_owned(),
        started: at(170),
        ended,
    };
    let runs = vec![
        run(0, RunStatus::Running, None),
        run(1, RunStatus::Finished, Some(at(180))),
        run(2, RunStatus::Failed, Some(at(180))),
        run(3, RunStatus::Stopped, Some(at(180))),
    ];
    catalog.record_runs(w, id(7), runs).await.unwrap();
    catalog.add_references(w, BlobOwner::Job(id(7)), vec![blob("input")]).await.unwrap();
    catalog.add_references(w, BlobOwner::Upload(id(10)), vec![blob("upload")]).await.unwrap();
    catalog.begin_request(w, request(190)).await.unwrap();
    let response = StoredResponse { status: 201, body: b"{}".to_vec() };
    catalog.finish_request(w, "key".to_owned(), response).await.unwrap();
    catalog.add_usage("note".to_owned(), vec![usage()]).await.unwrap();
    catalog.put_setting("instance".to_owned(), "here".to_owned()).await.unwrap();
    fill_apps(catalog).await;
}

/// Of apps and what belongs to them, one of every record.
async fn fill_apps(catalog: &dyn Catalog) {
    let w = workspace();
    let environment = EnvironmentRecord {
        id: id(20),
        name: "default".to_owned(),
        created: at(300),
        settings_json: "settings".to_owned(),
    };
    catalog.create_environment(w, environment).await.unwrap();
    let shop = catalog.create_app(w, app()).await.unwrap();
    let function = |value, bound| FunctionRecord {
        id: id(value),
        app: shop.id,
        tag: "f".to_owned(),
        created: at(310),
        bound,
        definition: 0,
        latest: 0,
    };
    catalog.create_function(w, function(22, None)).await.unwrap();
    let definition = NewDefinition {
        created: at(320),
        settings_json: "asked".to_owned(),
        definition: b"sent".to_vec(),
    };
    catalog.add_definition(w, id(22), definition).await.unwrap();
    let binding = Binding { base: id(22), parameters: vec![1], options: vec![2] };
    catalog.create_function(w, function(23, Some(binding))).await.unwrap();
    let version = NewAppVersion {
        created: at(330),
        layout_json: "layout".to_owned(),
        definitions: vec![(id(22), 1)],
    };
    catalog.publish_app(w, shop, version).await.unwrap();
    let cls = ClsRecord { id: id(24), app: id(21), created: at(340), detail_json: "c".to_owned() };
    catalog.put_cls(w, cls).await.unwrap();
    let recipe_json = "recipe".to_owned();
    catalog.put_image(w, ImageRecord { id: id(25), created: at(350), recipe_json }).await.unwrap();
    let mount = MountRecord { id: id(26), created: at(360), files_json: "files".to_owned() };
    catalog.put_mount(w, mount, vec![blob("mounted")]).await.unwrap();
    for (value, name) in [(27, Some("s".to_owned())), (28, None)] {
        let secret = SecretRecord {
            id: id(value),
            environment: id(20),
            name,
            created: at(370),
            detail_json: "keys".to_owned(),
            sealed: vec![3],
        };
        catalog.put_secret(w, secret).await.unwrap();
    }
    let file = FileRecord { sha256: [4; 32], blob: blob("file") };
    catalog.put_file(w, file, at(380)).await.unwrap();
}

fn app() -> AppRecord {
    AppRecord {
        id: id(21),
        environment: id(20),
        name: Some("Shop".to_owned()),
        description: "the shop".to_owned(),
        phase: AppPhase::Deployed,
        created: at(305),
        ended: None,
        revision: 1,
        version: 0,
        detail_json: "detail".to_owned(),
    }
}

/// Checks what a catalog kept of apps.
async fn require_apps(catalog: &dyn Catalog) {
    let w = workspace();
    let environment = catalog.environment_named(w, "default".to_owned()).await.unwrap();
    assert_eq!((environment.id, &*environment.settings_json), (id(20), "settings"));
    let shop = catalog.app_named(w, id(20), "Shop".to_owned()).await.unwrap();
    assert_eq!(shop, AppRecord { revision: 2, version: 1, ..app() });
    let layout = catalog.app_version(w, id(21), 1).await.unwrap();
    assert_eq!((layout.created, &*layout.layout_json), (at(330), "layout"));
    let function = catalog.function(w, id(22)).await.unwrap();
    assert_eq!((function.definition, function.latest, &*function.tag), (1, 1, "f"));
    let definition = catalog.definition(w, id(22), 1).await.unwrap();
    assert_eq!((&*definition.settings_json, &*definition.definition), ("asked", &b"sent"[..]));
    let bound = catalog.function(w, id(23)).await.unwrap().bound.unwrap();
    assert_eq!((bound.base, bound.parameters, bound.options), (id(22), vec![1], vec![2]));
    assert_eq!(catalog.cls(w, id(24)).await.unwrap().detail_json, "c");
    assert_eq!(catalog.image(w, id(25)).await.unwrap().recipe_json, "recipe");
    assert_eq!(catalog.mount(w, id(26)).await.unwrap().files_json, "files");
    assert!(catalog.has_reference(w, blob("mounted")).await.unwrap());
    let secret = catalog.secret_named(w, id(20), "s".to_owned()).await.unwrap();
    assert_eq!((secret.id, secret.sealed), (id(27), vec![3]));
    assert_eq!(catalog.secret(w, id(28)).await.unwrap().name, None);
    let files = catalog.files(w, vec![[4; 32]], at(390)).await.unwrap();
    assert_eq!(files, [FileRecord { sha256: [4; 32], blob: blob("file") }]);
}

/// Checks what a catalog of a format version kept.
async fn require_all(catalog: &dyn Catalog, format: u32) {
    let w = workspace();
    let page = PageRequest::default();
    assert_eq!(catalog.check().await.unwrap(), [""; 0]);
    assert_eq!(catalog.workspace(DEFAULT_WORKSPACE).await.unwrap().name.as_str(), "default");
    assert_eq!(catalog.workspace(w).await.unwrap().name.as_str(), "team");
    let tokens = catalog.list_tokens(w, page).await.unwrap().items;
    assert_eq!(tokens[0].expires, None);
    assert_eq!(tokens[1].expires, Some(at(500)));
    assert_eq!((tokens[1].last_used, tokens[1].revoked), (Some(at(200)), Some(at(300))));
    let found = catalog.token_by_secret(SecretHash::of("secret 2")).await.unwrap().unwrap();
    assert_eq!((found.id, found.scopes.to_string().as_str()), (id(2), "read,admin"));

    let dataset = catalog.dataset(w, id(4)).await.unwrap();
    assert_eq!((dataset.name.as_str(), dataset.created), ("tickets", at(100)));
    let head = dataset.head;
    assert_eq!((head.number, head.manifest, head.rows, head.bytes), (2, blob("m2"), 7, 70));
    assert_eq!((head.created, head.note.as_str()), (at(110), "import"));
    // Up to version 6 data sets had no labeling functions.
    let functions = catalog.labeling_version(w, id(4), VersionChoice::Latest).await.unwrap();
    let functions =
        functions.map(|found| (found.number, found.document, found.functions, found.note));
    let kept = (1, blob("functions"), 3, "add money".to_owned());
    assert_eq!(functions, (format >= 7).then_some(kept));
    assert_eq!(catalog.has_reference(w, blob("functions")).await.unwrap(), format >= 7);
    let topics = catalog.taxonomy_named(w, "topics".parse().unwrap()).await.unwrap().head;
    assert_eq!((topics.document, topics.classes), (blob("t1"), 5));
    let encoder = catalog.default_encoder(w).await.unwrap().unwrap();
    assert_eq!((encoder.dimension, encoder.name.as_str()), (384, "mini"));

    let versions = catalog.list_model_versions(w, id(6), page).await.unwrap().items;
    assert_eq!(versions[0].removed, Some(at(160)));
    assert_eq!((&versions[0].lineage, versions[0].encoder), (&Lineage::default(), None));
    assert_eq!((versions[1].removed, versions[1].encoder), (None, Some(blob("encoder"))));
    // Version 1 did not say which of a model's blobs is its report.
    let report = (format >= 2).then(|| blob("report"));
    assert_eq!((versions[0].report, versions[1].report), (report, report));
    assert_eq!(versions[1].lineage.job, Some(id(7)));
    assert_eq!(versions[1].lineage.dataset, Some((id(4), 2)));
    assert_eq!(versions[1].lineage.taxonomy, Some((id(5), 1)));
    assert_eq!(versions[1].metrics_json, r#"{"accuracy":0.5}"#);
    // Up to version 3 nobody said what code a model is from, nor noted anything of it.
    let code = (format >= 5).then(|| "0.1.0".to_owned());
    assert_eq!(versions[1].lineage.code, code);
    let notes = catalog.model_notes(w, id(6)).await.unwrap();
    let notes: Vec<_> = notes.iter().map(|note| (note.number, note.kind, &*note.value)).collect();
    let expect = [(2, NoteKind::Tag, "tag"), (2, NoteKind::Metric, "0.5")];
    assert_eq!(notes, if format >= 5 { &expect[..] } else { &[] });
    let endpoints = catalog.list_endpoints(w, page).await.unwrap().items;
    for endpoint in &endpoints[..2] {
        let [version] = endpoint.versions.as_slice() else { panic!("{endpoint:?}") };
        assert_eq!((version.number, version.created), (1, at(150)));
        let Served::Model { name, version } = &version.serves else { panic!("{endpoint:?}") };
        assert_eq!((name.as_str(), version.number, version.file), ("intent", 2, blob("f2")));
    }
    // Up to version 2 endpoints had no routing, and answered with models alone.
    let routing = if format >= 3 { "routing" } else { "" };
    assert_eq!((endpoints[0].routing_json.as_str(), &*endpoints[1].routing_json), ("", routing));
    // From version 4 on it is noted what is watched of them, and what they used.
    let watch = if format >= 4 { "watch" } else { "" };
    assert_eq!((&*endpoints[0].observing_json, &*endpoints[1].observing_json), (watch, ""));
    let used = catalog.usage(w, None, 0..100, 1).await.unwrap();
    assert_eq!(used, if format >= 4 { vec![usage()] } else { Vec::new() });
    assert_eq!(endpoints.len(), if format >= 3 { 3 } else { 2 });
    if let Some(constant) = endpoints.get(2) {
        let answer_json = "answer".to_owned();
        assert_eq!(constant.latest().serves, Served::Fixed { answer_json });
    }

    let runs = catalog.list_runs(w, id(7), page).await.unwrap().items;
    let statuses: Vec<RunStatus> = runs.iter().map(|run| run.status).collect();
    use RunStatus::{Failed, Finished, Running, Stopped};
    assert_eq!(statuses, [Running, Finished, Failed, Stopped]);
    assert_eq!((runs[0].ended, runs[1].ended), (None, Some(at(180))));
    for (text, there) in [("input", true), ("upload", true), ("part", true), ("f1", false)] {
        assert_eq!(catalog.has_reference(w, blob(text)).await.unwrap(), there, "{text}");
    }
    if format >= 6 {
        require_apps(catalog).await;
    }
    let begun = catalog.begin_request(w, request(999)).await.unwrap();
    let Begun::Done(response) = begun else { panic!("{begun:?}") };
    assert_eq!((response.status, response.body.as_slice()), (201, &b"{}"[..]));
    let setting = catalog.setting("instance".to_owned()).await.unwrap();
    assert_eq!(setting.as_deref(), Some("here"));
}

#[test]
fn catalogs_of_every_version_open() {
    if let Some(file) = std::env::var_os("CORRAL_WRITE_FIXTURE") {
        run(async { fill(&SqliteCatalog::open(Path::new(&file)).unwrap()).await });
        println!("wrote {}", Path::new(&file).display());
    }
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    for version in 1..=corral_catalog::FORMAT_VERSION {
        let fixture = fixtures.join(format!("catalog_v{version}.sqlite"));
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("catalog.sqlite");
        std::fs::copy(&fixture, &copy).unwrap();
        run(async {
            let catalog: Box<dyn Catalog> = Box::new(SqliteCatalog::open(&copy).unwrap());
            require_all(&*catalog, version).await;
            // And it goes on.
            let target = EndpointTarget::Model { model: id(6), version: 2 };
            let new = NewEndpointVersion { endpoint: new(9, "newest"), target, at: at(2_000) };
            catalog.add_endpoint_version(workspace(), new).await.unwrap();
        });
    }
}
