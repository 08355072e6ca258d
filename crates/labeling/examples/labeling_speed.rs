//! How fast functions, statistics and label models are, as JSON on standard output.
//!
//! `labeling_speed make FOLDER` writes texts, functions and votes that a peer is measured on too;
//! `labeling_speed PART FOLDER` measures `apply`, `models`, `edit`, `sparse` or `stream`.

#![expect(clippy::unwrap_used, reason = "a program that measures ends where it cannot go on")]

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use corral_data::{FolderStore, ImportOptions, Manifest, NoProgress, Source, import};
use corral_labeling::{
    Classes, Function, Program, Resources, Rows, Session, Unwatched, VoteCache, exact,
};
use corral_labels::{
    BlockGold, BlockVotes, Evidence, FitOptions, Gold, LabelArity, Method, Vote, VoteCounts,
    VoteLayer, VoteTable, Voter, fit, set_statistics,
};
use serde_json::{Value, json};

const TEXTS: usize = 100_000;
const EDIT_TEXTS: usize = 1_000_000;
const FUNCTIONS: usize = 50;
/// The least text of the streamed set.
const STREAM_BYTES: usize = 4 << 30;

/// Numbers that are the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

const SYLLABLES: [&str; 20] = [
    "ra", "ko", "mi", "te", "lun", "ber", "sa", "dor", "ne", "vi", "pol", "tur", "gen", "ha",
    "lis", "mon", "fer", "qua", "zo", "wen",
];
const KEYWORDS: [&str; 40] = [
    "refund",
    "card",
    "charge",
    "invoice",
    "payment",
    "broken",
    "late",
    "missing",
    "damaged",
    "parcel",
    "delivery",
    "password",
    "login",
    "account",
    "reset",
    "crash",
    "error",
    "update",
    "install",
    "slow",
    "cancel",
    "subscription",
    "renew",
    "price",
    "discount",
    "coupon",
    "return",
    "exchange",
    "size",
    "colour",
    "address",
    "phone",
    "email",
    "support",
    "agent",
    "wait",
    "angry",
    "thanks",
    "great",
    "love",
];

/// A text of some hundred bytes.
fn text(random: &mut Random, into: &mut String) {
    into.clear();
    for at in 0..12 + random.below(6) {
        if at > 0 {
            into.push(' ');
        }
        if random.below(25) == 0 {
            into.push_str(KEYWORDS[random.below(KEYWORDS.len())]);
        } else {
            for _ in 0..2 + random.below(2) {
                into.push_str(SYLLABLES[random.below(SYLLABLES.len())]);
            }
        }
    }
}

/// Keywords and regular expressions in turn.
fn definitions(count: usize) -> Vec<Value> {
    let word = |at: usize| KEYWORDS[at % KEYWORDS.len()];
    let one = |at: usize| {
        let class = ["billing", "shipping", "access", "praise"][at % 4];
        let words = [word(3 * at), word(3 * at + 1), word(3 * at + 2)];
        if at.is_multiple_of(2) {
            json!({"name": format!("f{at}"), "kind": "keyword", "class": class, "any": words})
        } else {
            let pattern = format!(r"(?i)\b({})\b.{{0,40}}\b{}", words.join("|"), word(7 * at + 2));
            let pattern = match at % 4 {
                1 => format!(r"(?i)\b({})\b", words.join("|")),
                _ => pattern,
            };
            json!({"name": format!("f{at}"), "kind": "regex", "class": class, "pattern": pattern})
        }
    };
    (0..count).map(one).collect()
}

fn functions(count: usize) -> Vec<Function> {
    definitions(count).into_iter().map(|value| Function::from_value(value).unwrap()).collect()
}

fn program(functions: &[Function]) -> Program {
    Program::new(functions, Classes::implied(functions, []), Resources::default()).unwrap()
}

fn imported(store: &FolderStore, texts: usize, folder: &Path, seed: u64) -> Arc<Manifest> {
    let path = folder.join("texts.txt");
    let mut file = std::io::BufWriter::new(std::fs::File::create(&path).unwrap());
    let (mut random, mut line) = (Random(seed), String::new());
    writeln!(file, "text").unwrap();
    for _ in 0..texts {
        text(&mut random, &mut line);
        writeln!(file, "{line}").unwrap();
    }
    file.into_inner().unwrap();
    let source = Source {
        file_name: "texts.csv".to_owned(),
        reader: Box::new(std::fs::File::open(&path).unwrap()),
        split: None,
    };
    let options = ImportOptions::default();
    let manifest = import(vec![source], &options, store, None, &NoProgress).unwrap().manifest;
    std::fs::remove_file(path).unwrap();
    Arc::new(manifest)
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let (part, folder) = (arguments[1].as_str(), Path::new(&arguments[2]));
    let told = match part {
        "make" => make(folder),
        "apply" => apply(folder),
        "models" => models(folder),
        "edit" => edit(folder),
        "sparse" => sparse(),
        "stream" => stream(folder),
        other => panic!("{other} is no part"),
    };
    println!("{told}");
}

/// Texts, functions, and planted votes of 50 functions on 100,000 rows of 2 classes.
fn make(folder: &Path) -> Value {
    let mut file =
        std::io::BufWriter::new(std::fs::File::create(folder.join("texts.jsonl")).unwrap());
    let (mut random, mut line) = (Random(1), String::new());
    for _ in 0..TEXTS {
        text(&mut random, &mut line);
        writeln!(file, "{}", json!({ "text": line })).unwrap();
    }
    std::fs::write(folder.join("functions.json"), Value::from(definitions(10)).to_string())
        .unwrap();
    let (votes, truth) = planted();
    let bytes: Vec<u8> = votes.iter().flatten().map(|vote| *vote as u8).collect();
    std::fs::write(folder.join("votes.bin"), bytes).unwrap();
    std::fs::write(folder.join("truth.bin"), &truth).unwrap();
    json!({ "texts": TEXTS, "functions": FUNCTIONS })
}

/// Row by row: each function's vote, -1 where it abstains; and the class.
fn planted() -> (Vec<Vec<i8>>, Vec<u8>) {
    let mut random = Random(2);
    let of: Vec<(f64, f64)> =
        (0..FUNCTIONS).map(|_| (0.55 + 0.4 * random.unit(), 0.05 + 0.35 * random.unit())).collect();
    let truth: Vec<u8> = (0..TEXTS).map(|_| random.below(2) as u8).collect();
    let row = |class: &u8| {
        let vote = |(accuracy, coverage): &(f64, f64)| {
            if random.unit() >= *coverage {
                -1
            } else if random.unit() < *accuracy {
                *class as i8
            } else {
                1 - *class as i8
            }
        };
        of.iter().map(vote).collect()
    };
    (truth.iter().map(row).collect(), truth)
}

/// Ten functions over 100,000 texts on one thread.
fn apply(folder: &Path) -> Value {
    let store = FolderStore::within(folder).unwrap();
    let manifest = imported(&store, TEXTS, folder, 1);
    let functions = functions(10);
    let rows = Rows { manifest, store: &store };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let mut seconds = f64::INFINITY;
    let mut votes = Vec::new();
    for _ in 0..5 {
        let begun = Instant::now();
        let table = pool.install(|| {
            let program = program(&functions);
            let cache = VoteCache::new(None);
            corral_labeling::vote_table(&program, &rows, LabelArity::Single, &cache, &Unwatched)
        });
        seconds = seconds.min(begun.elapsed().as_secs_f64());
        let table = table.unwrap();
        votes = (0..10)
            .map(|function| {
                let blocks = table.blocks();
                blocks.iter().map(|&(part, block)| table.block(part, block)[function].voted()).sum()
            })
            .collect::<Vec<usize>>();
    }
    json!({ "seconds": seconds, "rows_per_s": TEXTS as f64 / seconds, "votes": votes })
}

/// Statistics with gold, and the moment-based model, on the planted votes; one thread.
fn models(folder: &Path) -> Value {
    let bytes = std::fs::read(folder.join("votes.bin")).unwrap();
    let truth = std::fs::read(folder.join("truth.bin")).unwrap();
    let voters = (0..FUNCTIONS).map(|_| Voter::new(vec![Vote::one(0), Vote::one(1)])).collect();
    let mut table = VoteTable::new(voters, 2, LabelArity::Single);
    let mut gold = Gold::default();
    for (votes, truth) in bytes.chunks(50_000 * FUNCTIONS).zip(truth.chunks(50_000)) {
        let layer = |function: usize| {
            let of = votes.chunks(FUNCTIONS).map(|row| usize::try_from(row[function] as i8).ok());
            Arc::new(VoteLayer { blocks: vec![BlockVotes::of_rows(2, of)] })
        };
        table.push_part((0..FUNCTIONS).map(layer).collect());
        let mut block = BlockGold::default();
        truth.iter().enumerate().for_each(|(row, class)| block.push(row, &[u32::from(*class)]));
        gold.parts.push(vec![block]);
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let (mut statistics, mut fitting) = (f64::INFINITY, f64::INFINITY);
    let mut right = 0.0;
    for _ in 0..5 {
        let begun = Instant::now();
        let found = pool.install(|| set_statistics(&table, &VoteCounts::of(&table, &gold)));
        statistics = statistics.min(begun.elapsed().as_secs_f64());
        assert_eq!(found.functions.len(), FUNCTIONS);
        let begun = Instant::now();
        let model = pool.install(|| {
            let evidence = Evidence::of(&table).unwrap();
            fit(&evidence, Method::Moments, &FitOptions::default()).unwrap()
        });
        let mut probabilities = [0.0; 2];
        let mut labels = Vec::with_capacity(truth.len());
        for (part, block) in table.blocks() {
            for items in table.rows_of_block(part, block).iter() {
                model.posterior(items, &mut probabilities);
                labels.push(u8::from(probabilities[1] > probabilities[0]));
            }
        }
        fitting = fitting.min(begun.elapsed().as_secs_f64());
        right = labels.iter().zip(&truth).filter(|(label, class)| label == class).count() as f64;
    }
    json!({
        "statistics_seconds": statistics,
        "fit_predict_seconds": fitting,
        "accuracy": right / truth.len() as f64,
    })
}

/// One edited expression among 50 functions over 1,000,000 texts, on two threads.
fn edit(folder: &Path) -> Value {
    let store = FolderStore::within(folder).unwrap();
    let manifest = imported(&store, EDIT_TEXTS, folder, 3);
    let mut functions = functions(FUNCTIONS);
    let rows = Rows { manifest, store: &store };
    let cache = VoteCache::new(Some(folder.join("votes")));
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    pool.install(|| {
        let session = Session::open(&rows).unwrap();
        let before = program(&functions);
        session.answer(&before, LabelArity::Single).unwrap();
        let begun = Instant::now();
        exact(&before, &rows, LabelArity::Single, &cache, &Unwatched).unwrap();
        let all = begun.elapsed().as_secs_f64();
        let (mut first, mut whole) = (Vec::new(), Vec::new());
        for round in 0..5 {
            let mut pattern = String::new();
            write!(pattern, r"(?i)\b(broken|late|missing|edit{round})\b").unwrap();
            let edited =
                json!({"name": "f1", "kind": "regex", "class": "shipping", "pattern": pattern});
            functions[1] = Function::from_value(edited).unwrap();
            let begun = Instant::now();
            let after = program(&functions);
            session.answer(&after, LabelArity::Single).unwrap();
            first.push(begun.elapsed().as_secs_f64() * 1000.0);
            let found = exact(&after, &rows, LabelArity::Single, &cache, &Unwatched).unwrap();
            assert_eq!(found.answer().statistics.functions.len(), FUNCTIONS);
            whole.push(begun.elapsed().as_secs_f64() * 1000.0);
        }
        json!({ "first_ms": first, "exact_ms": whole, "all_functions_seconds": all })
    })
}

/// 1,000 functions of one class each, of 100, on 1,000,000 rows, some ten votes a row.
fn sparse() -> Value {
    const FUNCTIONS: usize = 1_000;
    const CLASSES: usize = 100;
    const BLOCK: usize = 62_500;
    let mut random = Random(5);
    let voters =
        (0..FUNCTIONS).map(|at| Voter::new(vec![Vote::one((at % CLASSES) as u32)])).collect();
    let mut table = VoteTable::new(voters, CLASSES, LabelArity::Single);
    let (mut gold, mut votes) = (Gold::default(), 0);
    for _ in 0..16 {
        let mut members = vec![Vec::new(); FUNCTIONS];
        let mut block = BlockGold::default();
        for row in 0..BLOCK {
            let class = random.below(CLASSES);
            block.push(row, &[class as u32]);
            for _ in 0..10 {
                let right = random.unit() < 0.7;
                let voted = if right { class } else { random.below(CLASSES) };
                let function = voted + CLASSES * random.below(FUNCTIONS / CLASSES);
                if members[function].last() != Some(&(row as u16)) {
                    members[function].push(row as u16);
                    votes += 1;
                }
            }
        }
        let layer = |rows: Vec<u16>| {
            let set = corral_labels::RowSet::of_ascending(rows, BLOCK);
            Arc::new(VoteLayer { blocks: vec![BlockVotes::new(BLOCK, vec![set])] })
        };
        table.push_part(members.into_iter().map(layer).collect());
        gold.parts.push(vec![block]);
    }
    let mut told = json!({ "votes": votes });
    let begun = Instant::now();
    let evidence = Evidence::of(&table).unwrap();
    told["evidence_seconds"] = json!(begun.elapsed().as_secs_f64());
    for method in Method::ALL {
        let begun = Instant::now();
        let model = fit(&evidence, method, &FitOptions::default()).unwrap();
        let seconds = begun.elapsed().as_secs_f64();
        let (right, rows) = model.score(&table, &gold);
        told[method.as_str()] = json!({ "seconds": seconds, "accuracy": right / rows as f64 });
    }
    told["peak_bytes"] = json!(peak_bytes());
    told
}

/// Ten functions over 4 GiB of text, on two threads.
fn stream(folder: &Path) -> Value {
    let store = FolderStore::within(folder).unwrap();
    let (mut random, mut line, mut block) = (Random(6), String::new(), String::from("text\n"));
    while block.len() < 64 << 20 {
        text(&mut random, &mut line);
        writeln!(block, "{line}").unwrap();
    }
    // The same rows over and over: what is measured is reading and voting.
    let repeats = STREAM_BYTES / block.len() + 1;
    let mut manifest = None;
    for _ in 0..repeats {
        let source = Source {
            file_name: "texts.csv".to_owned(),
            reader: Box::new(std::io::Cursor::new(block.clone().into_bytes())),
            split: None,
        };
        let options = ImportOptions::default();
        let made = import(vec![source], &options, &store, manifest.as_ref(), &NoProgress).unwrap();
        manifest = Some(made.manifest);
    }
    let manifest = Arc::new(manifest.unwrap());
    let bytes = manifest.statistics.text_bytes;
    drop(block);
    let functions = functions(10);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    pool.install(|| {
        let program = program(&functions);
        let rows = Rows { manifest: Arc::clone(&manifest), store: &store };
        let cache = VoteCache::new(None);
        let begun = Instant::now();
        let found = exact(&program, &rows, LabelArity::Single, &cache, &Unwatched).unwrap();
        let seconds = begun.elapsed().as_secs_f64();
        json!({
            "bytes": bytes,
            "rows": found.counts.rows,
            "seconds": seconds,
            "mb_per_s": bytes as f64 / 1e6 / seconds,
            "anonymous_bytes": anonymous_bytes(),
        })
    })
}

fn status(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

fn peak_bytes() -> u64 {
    status("VmHWM")
}

fn anonymous_bytes() -> u64 {
    status("RssAnon")
}
