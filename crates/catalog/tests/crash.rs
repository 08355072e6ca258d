//! Kills a process that changes the catalog, again and again, and compares what is there with
//! what that process was told had happened.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use corral_catalog::behaviour::run;
use corral_catalog::{
    Catalog, DEFAULT_WORKSPACE as W, DatasetRecords, EndpointRecords, EndpointTarget, Lineage,
    ModelRecords, NewDatasetVersion, NewEndpointVersion, NewModelVersion, NewRecord, RunRecord,
    RunRecords, RunStatus, SqliteCatalog, all_pages,
};
use corral_types::{BlobHash, EndpointId, Id, Kind, Timestamp};

/// Where the process to be killed finds the catalog; unset in the test itself.
const CATALOG_VARIABLE: &str = "CORRAL_CRASH_TEST_CATALOG";

const KILLS: u64 = 120;

/// Chains of changes that go on at the same time, so that commits are grouped.
const CHAINS: u32 = 4;

/// Runs in each batch: all or none must be there.
const BATCH: u32 = 5;

/// What a chain does; each kind is counted for itself.
const KINDS: [&str; 4] = ["dataset", "model", "endpoint", "runs"];

fn id<K: Kind>(chain: u32) -> Id<K> {
    Id::from_u128(u128::from(chain) + 1)
}

fn new<K: Kind>(chain: u32) -> NewRecord<Id<K>> {
    let name = format!("chain-{chain}").parse().unwrap();
    NewRecord { id: id(chain), name, created: Timestamp::from_millis(1) }
}

/// How many changes of a kind the records of a chain show.
async fn count(catalog: &SqliteCatalog, kind: &str, chain: u32) -> u32 {
    match kind {
        "dataset" => catalog.dataset(W, id(chain)).await.map_or(0, |dataset| dataset.head.number),
        "model" => {
            let model = catalog.model(W, id(chain)).await.ok();
            model.and_then(|model| model.latest).map_or(0, |version| version.number)
        }
        "endpoint" => {
            let endpoint: NewRecord<EndpointId> = new(chain);
            catalog.endpoint_named(W, endpoint.name).await.map_or(0, |endpoint| endpoint.revision)
        }
        _ => {
            let runs = all_pages(|page| catalog.list_runs(W, id(chain), page)).await.unwrap();
            assert_eq!(runs.len() as u32 % BATCH, 0, "chain {chain}: a batch of runs was torn");
            runs.len() as u32 / BATCH
        }
    }
}

/// Makes the change with this number, counted from 1.
async fn change(catalog: &SqliteCatalog, kind: &str, chain: u32, number: u32) {
    let created = Timestamp::from_millis(number.into());
    let blob = |what: &str| BlobHash::of(format!("{what} {chain} {number}").as_bytes());
    match kind {
        "dataset" => {
            let version = NewDatasetVersion {
                manifest: blob("manifest"),
                rows: number.into(),
                bytes: 1,
                created,
                note: "append".to_owned(),
                blobs: vec![blob("part"), blob("other part")],
            };
            if number == 1 {
                catalog.create_dataset(W, new(chain), version).await.unwrap();
            } else {
                catalog.add_dataset_version(W, id(chain), number - 1, version).await.unwrap();
            }
        }
        "model" => {
            let version = NewModelVersion {
                file: blob("model"),
                bytes: 1,
                lineage: Lineage { job: Some(id(number)), ..Lineage::default() },
                metrics_json: "{}".to_owned(),
                encoder: None,
                created,
                report: Some(blob("report")),
            };
            let version = catalog.add_model_version(W, new(chain), version).await.unwrap();
            assert_eq!(version.number, number);
        }
        "endpoint" => {
            if number == 1 {
                let target = EndpointTarget::Model { model: id(chain), version: 1 };
                let new = NewEndpointVersion { endpoint: new(chain), target, at: created };
                catalog.add_endpoint_version(W, new).await.unwrap();
            } else {
                let routing = format!("routing {number}");
                let set = catalog.set_endpoint_routing(W, id(chain), number - 1, routing, created);
                set.await.unwrap();
            }
        }
        _ => {
            let run = |index| RunRecord {
                number: (number - 1) * BATCH + index,
                status: RunStatus::Finished,
                params_json: "{}".to_owned(),
                metrics_json: "{}".to_owned(),
                started: created,
                ended: Some(created),
            };
            catalog.record_runs(W, id(chain), (0..BATCH).map(run).collect()).await.unwrap();
        }
    }
}

/// The process that is killed: it goes on from what the catalog holds, and says each change
/// that was answered.
#[test]
fn changes_until_it_is_killed() {
    let Some(file) = std::env::var_os(CATALOG_VARIABLE) else { return };
    let catalog = Arc::new(SqliteCatalog::open(&PathBuf::from(file)).unwrap());
    run(async {
        let mut chains = tokio::task::JoinSet::new();
        for chain in 0..CHAINS {
            let catalog = Arc::clone(&catalog);
            chains.spawn(async move {
                loop {
                    for kind in KINDS {
                        let number = count(&catalog, kind, chain).await + 1;
                        change(&catalog, kind, chain, number).await;
                        let line = format!("done {kind} {chain} {number}\n");
                        std::io::stdout().write_all(line.as_bytes()).unwrap();
                    }
                }
            });
        }
        panic!("a chain ended: {:?}", chains.join_next().await);
    });
}

/// Starts the process, waits for some of its changes, kills it, and notes what it had said.
fn kill_after(changes: u64, file: &Path, said: &mut BTreeMap<(String, u32), u32>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "changes_until_it_is_killed", "--nocapture", "--test-threads=1"])
        .env(CATALOG_VARIABLE, file)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut seen = 0;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        // The test harness writes before the first; a number that the kill cut short is only
        // smaller than it was.
        let Some((_, rest)) = line.split_once("done ") else { continue };
        let words: Vec<&str> = rest.split(' ').collect();
        if let [kind, chain, number] = words[..]
            && let (Ok(chain), Ok(number)) = (chain.parse(), number.parse::<u32>())
        {
            let entry = said.entry((kind.to_owned(), chain)).or_default();
            *entry = number.max(*entry);
            seen += 1;
            if seen == changes {
                // What is still in the pipe is read as well.
                child.kill().unwrap();
            }
        }
    }
    child.wait().unwrap();
    assert!(seen >= changes, "the process ended by itself after {seen} changes");
}

#[test]
fn nothing_answered_is_lost_when_the_process_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("catalog.sqlite");
    let mut said = BTreeMap::new();
    for kill in 0..KILLS {
        // From the very first change to amid a busy run.
        let changes = 1 + kill * kill % 37;
        kill_after(changes, &file, &mut said);
        let catalog = SqliteCatalog::open(&file).unwrap();
        run(async {
            for (&(ref kind, chain), told) in &mut said {
                let found = count(&catalog, kind, chain).await;
                assert!(
                    found == *told || found == *told + 1,
                    "kill {kill}: {kind} of chain {chain}: told {told}, found {found}"
                );
                // What was there once, answered or not, must stay.
                *told = found;
            }
            if kill % 10 == 0 {
                assert_eq!(catalog.check().await.unwrap(), [""; 0], "kill {kill}");
            }
        });
    }
    let told: u32 = said.values().sum();
    println!("{KILLS} kills, {told} changes answered, none lost");
}
