//! The texts that models were trained on, for what their endpoints get to be compared with.

use std::collections::BTreeSet;
use std::sync::Arc;

use corral_catalog::Catalog;
use corral_data::Dataset;
use corral_datasets::{Datasets, DatasetsError};
use corral_serving::{Texts, TrainingTexts};
use corral_types::{Caller, DatasetId, Scopes, WorkspaceId, source_chain};

/// Rows that a model did not learn from, in whose place all rows are taken where there are fewer.
const ENOUGH_HELD_OUT: u64 = 200;

/// Splits of rows that a model did not learn from.
const HELD_OUT: [&str; 2] = ["test", "valid"];

/// Reads them from the data sets of the server.
pub struct StoredTexts {
    pub catalog: Arc<dyn Catalog>,
    pub datasets: Datasets,
}

impl TrainingTexts for StoredTexts {
    fn texts(
        &self,
        workspace: WorkspaceId,
        dataset: DatasetId,
        version: u32,
        limit: usize,
    ) -> Texts<'_> {
        Box::pin(async move {
            let opened = self.open(workspace, dataset, version).await;
            let opened = opened.map_err(|error| {
                let causes = source_chain(&error);
                std::iter::once(error.to_string()).chain(causes).collect::<Vec<_>>().join(": ")
            })?;
            let read = tokio::task::spawn_blocking(move || spread(&opened, limit)).await;
            read.map_err(|_| "the work was cut off".to_owned())?.map_err(|error| error.to_string())
        })
    }
}

impl StoredTexts {
    async fn open(
        &self,
        workspace: WorkspaceId,
        dataset: DatasetId,
        version: u32,
    ) -> Result<Dataset, DatasetsError> {
        let name = self.catalog.dataset(workspace, dataset).await?.name;
        let caller = Caller { workspace, token: None, scopes: Scopes::ALL };
        let set = self.datasets.load(&caller, name, Some(version)).await?;
        self.datasets.open(set.manifest).await
    }
}

/// At most so many texts, as far from one another as can be.
fn spread(dataset: &Dataset, limit: usize) -> Result<Vec<String>, corral_data::ReadError> {
    let manifest = dataset.manifest();
    let named = manifest.splits.iter().enumerate();
    let held_out: BTreeSet<u16> = named
        .filter(|(_, name)| HELD_OUT.contains(&name.as_str()))
        .filter_map(|(code, _)| u16::try_from(code).ok())
        .collect();
    let is_held_out = |split: Option<u16>| split.is_some_and(|code| held_out.contains(&code));
    let of_splits = manifest.statistics.splits.iter();
    let held_out_rows: u64 =
        of_splits.filter(|split| is_held_out(split.split)).map(|split| split.rows).sum();
    let takes_all = held_out_rows < ENOUGH_HELD_OUT;
    let rows = if takes_all { dataset.rows() } else { held_out_rows };
    let step = rows.div_ceil(limit as u64).max(1);
    let (mut seen, mut texts) = (0, Vec::new());
    for batch in dataset.iter() {
        let batch = batch?;
        for row in 0..batch.len() {
            if takes_all || is_held_out(batch.split(row)) {
                if seen % step == 0 {
                    texts.push(batch.text(row).to_owned());
                }
                seen += 1;
            }
        }
    }
    Ok(texts)
}
