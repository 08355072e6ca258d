//! Data sets for tests and examples, read where `CORRAL_TEST_DATA` says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use corral_taxonomy::{MissingParents, ParseOptions, Taxonomy, parse};
use corral_training::{LabelKind, RowLabels, Split, TrainingRows};

/// A data set held in memory.
#[derive(Default)]
pub struct DataSet {
    pub texts: Vec<String>,
    pub labels: Vec<Vec<String>>,
    pub splits: Vec<Split>,
    pub taxonomy: Option<Taxonomy>,
    /// The label of rows of no class, in sets that have such.
    pub none_label: Option<String>,
}

pub fn data_dir() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    std::env::var_os("CORRAL_TEST_DATA")
        .map_or_else(|| workspace.join("../shared/data"), PathBuf::from)
}

/// The data set, or `None` with a line that says so where it is absent.
pub fn load(name: &str) -> Option<DataSet> {
    let folder = data_dir().join(name.strip_suffix("_oos").unwrap_or(name));
    if !folder.exists() {
        println!("skipped: no data set at {}", folder.display());
        return None;
    }
    let mut set = DataSet::default();
    if name == "onet" {
        load_onet(&folder, &mut set);
        return Some(set);
    }
    if name == CLINC150_OOS {
        set.none_label = Some("oos".to_owned());
    }
    for (file, split) in files(name) {
        let Ok(content) = std::fs::read_to_string(folder.join(file).with_extension("jsonl")) else {
            continue;
        };
        for line in content.lines() {
            let row: serde_json::Value = serde_json::from_str(line).expect("a JSON object a line");
            let label =
                row["label"].as_str().map_or_else(|| row["label"].to_string(), str::to_owned);
            set.push(row["text"].as_str().expect("a text").to_owned(), vec![label], split);
        }
    }
    Some(set)
}

/// CLINC150 with its rows of no class, labelled `oos`.
pub const CLINC150_OOS: &str = "clinc150_oos";

/// The files of a set and the splits that they are.
fn files(name: &str) -> Vec<(&'static str, Split)> {
    let mut files = vec![("train", Split::Train), ("valid", Split::Valid), ("test", Split::Test)];
    if name == CLINC150_OOS {
        let none =
            [("oos_train", Split::Train), ("oos_valid", Split::Valid), ("oos_test", Split::Test)];
        files.extend(none);
    }
    files
}

impl DataSet {
    pub fn push(&mut self, text: String, labels: Vec<String>, split: Split) {
        self.texts.push(text);
        self.labels.push(labels);
        self.splits.push(split);
    }

    pub fn rows(&self) -> TrainingRows<'_> {
        let names: BTreeSet<&str> = self.labels.iter().flatten().map(String::as_str).collect();
        let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        let mut labels = RowLabels::new();
        for row in &self.labels {
            let codes: Vec<u32> = row
                .iter()
                .map(|label| names.binary_search(label).expect("a known label") as u32)
                .collect();
            labels.push_several(&codes);
        }
        TrainingRows {
            kind: LabelKind::SingleChoice,
            label_names: names,
            texts: self.texts.iter().map(String::as_str).collect(),
            labels,
            splits: self.splits.clone(),
            row_ids: (0..self.texts.len() as u64).collect(),
            weights: None,
        }
    }
}

/// Distinct lower-cased titles with their sets of codes; a tenth, drawn by hash, is the test
/// split; names and descriptions come with the taxonomy.
fn load_onet(folder: &Path, set: &mut DataSet) {
    let table = |file: &str| -> Vec<Vec<String>> {
        let content = std::fs::read_to_string(folder.join(file)).expect("a file of O*NET");
        content.lines().skip(1).map(|line| line.split('\t').map(str::to_owned).collect()).collect()
    };
    let mut titles: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in ["Alternate Titles.txt", "Sample of Reported Titles.txt"] {
        for row in table(file) {
            titles.entry(row[1].to_lowercase()).or_default().insert(row[0].clone());
        }
    }
    for (title, codes) in titles {
        let hash = blake3::hash(title.as_bytes());
        let (first, _) = hash.as_bytes().split_first_chunk().expect("a hash has 32 bytes");
        let is_test = u64::from_le_bytes(*first) % 10 == 0;
        let split = if is_test { Split::Test } else { Split::Train };
        set.push(title, codes.into_iter().collect(), split);
    }
    // The tree is made of the codes' prefixes.
    let mut lines = vec!["id,name,description".to_owned()];
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    for row in table("Occupation Data.txt") {
        lines.push(format!("{},{},{}", row[0], quoted(&row[1]), quoted(&row[2])));
    }
    let options = ParseOptions {
        prefix_lengths: vec![2, 4, 6, 7],
        missing_parents: MissingParents::Create,
        ..ParseOptions::default()
    };
    let taxonomy = parse("onet.csv", lines.join("\n").as_bytes(), &options);
    set.taxonomy = Some(taxonomy.expect("a tree of codes"));
}
