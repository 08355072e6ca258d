//! Random changes, compared with a model of plain maps.

use std::collections::{BTreeMap, BTreeSet};

use corral_types::{BlobHash, WorkspaceId};

use super::{at, blob, dataset_version, id, model_version, new};
use crate::{
    BlobOwner, Catalog, CatalogError, DEFAULT_WORKSPACE, EndpointTarget, NewDatasetVersion,
    NewEndpointVersion, NewModelVersion, Served, all_pages,
};

/// Few enough that changes meet each other.
const NAMES: u64 = 5;
const BLOBS: u64 = 8;

/// SplitMix64 (Steele, Lea and Flood, 2014): small, and good enough to choose changes with.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }

    fn key(&mut self) -> u128 {
        u128::from(self.below(NAMES)) + 1
    }

    fn blobs(&mut self) -> Vec<String> {
        (0..self.below(4)).map(|_| self.blob()).collect()
    }

    fn blob(&mut self) -> String {
        format!("blob {}", self.below(BLOBS))
    }
}

/// What a workspace should hold; records by id, and ids and names are chosen apart.
#[derive(Default)]
struct Workspace {
    /// Name, and the manifest of each version.
    datasets: BTreeMap<u128, (String, Vec<String>)>,
    /// Name, and of each version its file, or nothing when it was removed.
    models: BTreeMap<u128, (String, Vec<Option<String>>)>,
    /// By name: id, and the model and its version of each version.
    endpoints: BTreeMap<String, (u128, Vec<(u128, u32)>)>,
    references: BTreeMap<Owner, BTreeSet<String>>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    Upload(u128),
    Dataset(u128),
    ModelVersion(u128, u32),
}

impl Workspace {
    fn refer(&mut self, owner: Owner, blobs: &[String]) {
        self.references.entry(owner).or_default().extend(blobs.iter().cloned());
    }

    fn latest(&self, model: u128) -> Option<u32> {
        let (_, versions) = self.models.get(&model)?;
        versions.iter().rposition(Option::is_some).map(|index| index as u32 + 1)
    }

    fn is_used(&self, model: u128, number: Option<u32>) -> bool {
        let mut served = self.endpoints.values().flat_map(|(_, versions)| versions);
        served.any(|&(of, version)| of == model && number.is_none_or(|number| number == version))
    }
}

/// A sequence of random changes and what they should have led to.
pub struct RandomChanges {
    seed: u64,
    random: Random,
    step: u32,
    /// `default`, and one that the first step makes.
    workspaces: [(WorkspaceId, Workspace); 2],
}

/// What a change should answer, where that is no value.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    NotFound,
    AlreadyExists,
    HeadMoved,
    InUse,
}

fn refusal(error: CatalogError) -> Refusal {
    match error {
        CatalogError::NotFound { .. } => Refusal::NotFound,
        CatalogError::AlreadyExists { .. } => Refusal::AlreadyExists,
        CatalogError::HeadMoved { .. } => Refusal::HeadMoved,
        CatalogError::InUse { .. } => Refusal::InUse,
        other => panic!("{other}"),
    }
}

impl RandomChanges {
    pub fn new(seed: u64) -> Self {
        let workspaces =
            [(DEFAULT_WORKSPACE, Workspace::default()), (id(50), Workspace::default())];
        Self { seed, random: Random(seed), step: 0, workspaces }
    }

    /// A number below `limit`, for choices of the test around the changes.
    pub fn choose(&mut self, limit: u64) -> u64 {
        self.random.below(limit)
    }

    /// Makes one change, and compares the answer.
    ///
    /// # Panics
    /// When the answer is not the model's.
    pub async fn step(&mut self, catalog: &dyn Catalog) {
        if self.step == 0 {
            catalog.create_workspace(new(50, "other")).await.unwrap();
        }
        self.step += 1;
        let side = self.random.below(2) as usize;
        let change = self.random.below(9);
        let (answer, expect) = match change {
            0 => self.create_dataset(catalog, side).await,
            1 => self.add_dataset_version(catalog, side).await,
            2 => self.remove_dataset(catalog, side).await,
            3 | 4 => self.add_model_version(catalog, side).await,
            5 => self.remove_model(catalog, side).await,
            6 => self.add_endpoint_version(catalog, side).await,
            7 => self.remove_endpoint(catalog, side).await,
            _ => self.change_upload(catalog, side).await,
        };
        let answer = answer.map_err(refusal);
        assert_eq!(answer, expect, "seed {}, step {}, change {change}", self.seed, self.step);
    }

    /// Compares everything that can be asked.
    ///
    /// # Panics
    /// When anything is not as in the model.
    pub async fn compare(&self, catalog: &dyn Catalog) {
        let context = format!("seed {}, step {}", self.seed, self.step);
        let mut all_blobs = BTreeSet::new();
        for (workspace, expect) in &self.workspaces {
            let workspace = *workspace;
            let datasets = all_pages(|page| catalog.list_datasets(workspace, page)).await.unwrap();
            let mut found = BTreeMap::new();
            for dataset in datasets {
                let list = |page| catalog.list_dataset_versions(workspace, dataset.id, page);
                let versions = all_pages(list).await.unwrap();
                assert_eq!(versions.last(), Some(&dataset.head), "{context}");
                let manifests: Vec<_> = versions.iter().map(|v| v.note.clone()).collect();
                found.insert(dataset.id.as_u128(), (dataset.name.to_string(), manifests));
            }
            assert_eq!(found, expect.datasets, "{context}");

            let models = all_pages(|page| catalog.list_models(workspace, page)).await.unwrap();
            let mut found = BTreeMap::new();
            for model in models {
                let latest = model.latest.as_ref().map(|version| version.number);
                assert_eq!(latest, expect.latest(model.id.as_u128()), "{context}");
                let list = |page| catalog.list_model_versions(workspace, model.id, page);
                let versions = all_pages(list).await.unwrap();
                let files = versions.iter().map(|version| match version.removed {
                    Some(_) => None,
                    None => Some(version.metrics_json.clone()),
                });
                found.insert(model.id.as_u128(), (model.name.to_string(), files.collect()));
            }
            assert_eq!(found, expect.models, "{context}");

            let list = |page| catalog.list_endpoints(workspace, page);
            let endpoints = all_pages(list).await.unwrap();
            let mut found = BTreeMap::new();
            for endpoint in endpoints {
                let served = endpoint.versions.iter().map(|version| match &version.serves {
                    Served::Model { version, .. } => (version.model.as_u128(), version.number),
                    Served::Fixed { .. } => panic!("{context}: nothing fixed was deployed"),
                });
                let found_here = (endpoint.id.as_u128(), served.collect());
                found.insert(endpoint.name.to_string(), found_here);
            }
            assert_eq!(found, expect.endpoints, "{context}");

            for number in 0..BLOBS {
                let text = format!("blob {number}");
                let there = expect.references.values().any(|blobs| blobs.contains(&text));
                let found = catalog.has_reference(workspace, blob(&text)).await.unwrap();
                assert_eq!(found, there, "{context}: {text}");
            }
            all_blobs.extend(expect.references.values().flatten().map(|text| blob(text)));
        }
        let found: Vec<BlobHash> = catalog.referenced_blobs(None, 1000).await.unwrap();
        assert_eq!(found, all_blobs.into_iter().collect::<Vec<_>>(), "{context}");
        assert_eq!(catalog.check().await.unwrap(), [""; 0], "{context}");
    }

    /// Gives up an owner's references; the blobs that nothing refers to any more, in order.
    fn release(&mut self, side: usize, owner: Owner) -> Vec<BlobHash> {
        let blobs = self.workspaces[side].1.references.remove(&owner).unwrap_or_default();
        let is_free = |text: &String| {
            !self.workspaces.iter().any(|(_, workspace)| {
                workspace.references.values().any(|blobs| blobs.contains(text))
            })
        };
        let mut free: Vec<_> = blobs.iter().filter(|text| is_free(text)).collect();
        free.dedup();
        sorted(free.into_iter().map(|text| blob(text)).collect())
    }

    async fn create_dataset(&mut self, catalog: &dyn Catalog, side: usize) -> Step {
        let (key, text) = (self.random.key(), format!("d{}", self.random.key()));
        let (manifest, blobs) = (self.random.blob(), self.random.blobs());
        let (workspace, state) = &mut self.workspaces[side];
        let version = noted(&manifest, &blobs);
        let made = catalog.create_dataset(*workspace, new(key, &text), version).await;
        let answer = made.map(|_| Vec::new());
        let named = state.datasets.values().any(|(name, _)| *name == text);
        if named || state.datasets.contains_key(&key) {
            return (answer, Err(Refusal::AlreadyExists));
        }
        state.refer(Owner::Dataset(key), &[blobs, vec![manifest.clone()]].concat());
        state.datasets.insert(key, (text, vec![manifest]));
        (answer, Ok(Vec::new()))
    }

    async fn add_dataset_version(&mut self, catalog: &dyn Catalog, side: usize) -> Step {
        let key = self.random.key();
        let (manifest, blobs) = (self.random.blob(), self.random.blobs());
        let guess = self.random.below(4) as u32;
        let (workspace, state) = &mut self.workspaces[side];
        let head = state.datasets.get(&key).map_or(0, |(_, versions)| versions.len() as u32);
        let built_on = if guess > 0 { head } else { head + 1 };
        let version = noted(&manifest, &blobs);
        let added = catalog.add_dataset_version(*workspace, id(key), built_on, version).await;
        let answer = added.map(|_| Vec::new());
        let Some((_, versions)) = state.datasets.get_mut(&key) else {
            return (answer, Err(Refusal::NotFound));
        };
        if built_on != head {
            return (answer, Err(Refusal::HeadMoved));
        }
        versions.push(manifest.clone());
        state.refer(Owner::Dataset(key), &[blobs, vec![manifest]].concat());
        (answer, Ok(Vec::new()))
    }

    async fn remove_dataset(&mut self, catalog: &dyn Catalog, side: usize) -> Step {
        let key = self.random.key();
        let (workspace, state) = &mut self.workspaces[side];
        let answer = catalog.remove_dataset(*workspace, id(key)).await.map(sorted);
        if state.datasets.remove(&key).is_none() {
            return (answer, Err(Refusal::NotFound));
        }
        (answer, Ok(self.release(side, Owner::Dataset(key))))
    }

    async fn add_model_version(&mut self, catalog: &dyn Catalog, side: usize) -> Step {
        let (key, text) = (self.random.key(), format!("m{}", self.random.key()));
        let file = self.random.blob();
        let (workspace, state) = &mut self.workspaces[side];
        let version =
            NewModelVersion { metrics_json: file.clone(), report: None, ..model_version(&file) };
        let added = catalog.add_model_version(*workspace, new(key, &text), version).await;
        let answer = added.map(|_| Vec::new());
        let named = state.models.iter().find(|(_, (name, _))| *name == text).map(|(&id, _)| id);
        let model = match named {
            Some(model) => model,
            None if state.models.contains_key(&key) => {
                return (answer, Err(Refusal::AlreadyExists));
            }
            None => key,
        };
        let (_, versions) = state.models.entry(model).or_insert((text, Vec::new()));
        versions.push(Some(file.clone()));
        let number = versions.len() as u32;
        state.refer(Owner::ModelVersion(model, number), &[file]);
        (answer, Ok(Vec::new()))
    }

    async fn remove_model(&mut self, catalog: &dyn Catalog, side: usize) -> Step {
        let (key, number) = (self.random.key(), self.random.below(5) as u32);
        let (workspace, state) = &mut self.workspaces[side];
        if number == 0 {
            let answer = catalog.remove_model(*workspace, id(key)).await.map(sorted);
            if !state.models.contains_key(&key) {
                return (answer, Err(Refusal::NotFound));
            }
            if state.is_used(key, None) {
                return (answer, Err(Refusal::InUse));
            }
            let count = state.models.remove(&key).map_or(0, |(_, versions)| versions.len());
            let mut free = Vec::new();
            for number in 1..=count as u32 {
                free.append(&mut self.release(side, Owner::ModelVersion(key, number)));
            }
            return (answer, Ok(sorted(free)));
        }
        let removed = catalog.remove_model_version(*workspace, id(key), number, at(1)).await;
        let answer = removed.map(sorted);
        let used = state.is_used(key, Some(number));
        let version = state
            .models
            .get_mut(&key)
            .and_then(|(_, versions)| versions.get_mut(number as usize - 1));
        match version {
            None => (answer, Err(Refusal::NotFound)),
            Some(None) => (answer, Ok(Vec::new())),
            Some(_) if used => (answer, Err(Refusal::InUse)),
            Some(version) => {
                *version = None;
                (answer, Ok(self.release(side, Owner::ModelVersion(key, number))))
            }
        }
    }

    async fn add_endpoint_version(&mut self, catalog: &dyn Catalog, side: usize) -> Step {
        let (key, text) = (self.random.key(), format!("e{}", self.random.key()));
        let (model, number) = (self.random.key(), self.random.below(4) as u32);
        let (workspace, state) = &mut self.workspaces[side];
        let target = EndpointTarget::Model { model: id(model), version: number };
        let new = NewEndpointVersion { endpoint: new(key, &text), target, at: at(9) };
        let answer = catalog.add_endpoint_version(*workspace, new).await.map(|_| Vec::new());
        let serves = state
            .models
            .get(&model)
            .and_then(|(_, versions)| versions.get((number as usize).checked_sub(1)?)?.as_ref());
        if serves.is_none() {
            return (answer, Err(Refusal::NotFound));
        }
        let id_taken = state.endpoints.values().any(|&(id, _)| id == key);
        if !state.endpoints.contains_key(&text) && id_taken {
            return (answer, Err(Refusal::AlreadyExists));
        }
        let (_, versions) = state.endpoints.entry(text).or_insert((key, Vec::new()));
        versions.push((model, number));
        (answer, Ok(Vec::new()))
    }

    async fn remove_endpoint(&mut self, catalog: &dyn Catalog, side: usize) -> Step {
        let key = self.random.key();
        let (workspace, state) = &mut self.workspaces[side];
        let removed = catalog.remove_endpoint(*workspace, id(key)).await;
        let answer = removed.map(|()| Vec::new());
        let before = state.endpoints.len();
        state.endpoints.retain(|_, (id, _)| *id != key);
        let there = state.endpoints.len() < before;
        (answer, if there { Ok(Vec::new()) } else { Err(Refusal::NotFound) })
    }

    async fn change_upload(&mut self, catalog: &dyn Catalog, side: usize) -> Step {
        let key = self.random.key();
        let (remove, blobs) = (self.random.below(2) == 0, self.random.blobs());
        let (workspace, state) = &mut self.workspaces[side];
        let owner = BlobOwner::Upload(id(key));
        if remove {
            let answer = catalog.remove_references(*workspace, owner).await.map(sorted);
            return (answer, Ok(self.release(side, Owner::Upload(key))));
        }
        let hashes = blobs.iter().map(|text| blob(text)).collect();
        let added = catalog.add_references(*workspace, owner, hashes).await;
        state.refer(Owner::Upload(key), &blobs);
        (added.map(|()| Vec::new()), Ok(Vec::new()))
    }
}

/// The answer of the catalog and that of the model: the blobs set free.
type Step = (Result<Vec<BlobHash>, CatalogError>, Result<Vec<BlobHash>, Refusal>);

/// A version whose note tells its manifest, so that lists show it.
fn noted(manifest: &str, blobs: &[String]) -> NewDatasetVersion {
    let blobs: Vec<&str> = blobs.iter().map(String::as_str).collect();
    NewDatasetVersion { note: manifest.to_owned(), ..dataset_version(manifest, &blobs) }
}

fn sorted(mut blobs: Vec<BlobHash>) -> Vec<BlobHash> {
    blobs.sort();
    blobs
}
