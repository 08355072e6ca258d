//! Functions made ready to run, and running them on a block.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use corral_classifier::{EmbeddingView, Encoder, Model, PredictOptions};
use corral_labels::{BlockVotes, RowSet, Vote, Voter};
use corral_types::{BlobHash, nearest};

use crate::block::Block;
use crate::classes::Classes;
use crate::definition::{
    Condition, Function, Given, Keywords, Lengths, ModelVoter, Rule, Shape, Similar,
};
use crate::error::LabelingError;
use crate::kinds::keyword::KeywordScan;
use crate::kinds::pattern::{PatternError, PatternRule};
use crate::kinds::{TextBlock, column, no_rows, set, text};

/// Functions of one data set at most.
pub const MAX_FUNCTIONS: usize = 10_000;

/// Texts that are embedded with one pass of the network.
const TEXTS_A_PASS: usize = 64;

/// What functions may need beside the rows.
#[derive(Clone, Default)]
pub struct Resources {
    pub encoder: Option<Arc<dyn Encoder>>,
    /// Models by how functions name them, each with its file's hash.
    pub models: BTreeMap<String, (BlobHash, Arc<Model>)>,
}

/// All functions of a data set, ready to run.
pub struct Program {
    pub functions: Vec<Ready>,
    pub classes: Classes,
    resources: Resources,
}

/// A function that is ready to run.
pub struct Ready {
    pub name: String,
    /// What its votes depend on, beside the rows.
    pub hash: BlobHash,
    pub voter: Voter,
    /// Whether it asks a network of every row.
    pub is_slow: bool,
    column: Option<String>,
    rule: ReadyRule,
}

enum ReadyRule {
    Keyword(Keywords),
    Pattern(PatternRule),
    Length(Lengths),
    Shape(Shape),
    Column(crate::definition::Comparison),
    Given(Given, Vec<String>),
    Combine(ReadyCondition),
    Similar(Examples),
    Model(Arc<Model>, ModelVoter, Vec<Option<u32>>),
}

enum ReadyCondition {
    And(Vec<Self>),
    Or(Vec<Self>),
    Not(Box<Self>),
    AtLeast(usize, Vec<Self>),
    Keyword(Option<String>, KeywordScan),
    Rule(Option<String>, Box<ReadyRule>),
}

/// Embedded examples.
struct Examples {
    threshold: f32,
    nearest: usize,
    /// One embedding after the other, each of norm 1, and its vote.
    embeddings: Vec<f32>,
    votes: Vec<usize>,
}

impl Program {
    /// Compiles functions.
    ///
    /// # Errors
    /// What is wrong with the first that cannot be compiled.
    pub fn new(
        functions: &[Function],
        classes: Classes,
        resources: Resources,
    ) -> Result<Self, LabelingError> {
        if functions.len() > MAX_FUNCTIONS {
            let (found, limit) = (functions.len(), MAX_FUNCTIONS);
            return Err(LabelingError::TooManyFunctions { found, limit });
        }
        let compiler = Compiler::new(functions, &resources)?;
        let mut classes = classes;
        let mut ready = Vec::with_capacity(functions.len());
        for function in functions {
            let rule = compiler.rule(function, &function.rule)?;
            let votes = match &rule {
                ReadyRule::Model(model, voter, _) if voter.classes.is_empty() => {
                    model_votes(model, &mut classes)
                }
                _ => classes.votes(function)?,
            };
            let mut voter = Voter::new(votes);
            voter.is_trusted = function.is_trusted;
            ready.push(Ready {
                name: function.name.clone(),
                hash: compiler.hash(&function.name).unwrap_or_else(|| BlobHash::of(b"")),
                voter,
                is_slow: rule.is_slow(),
                column: function.column.clone(),
                rule,
            });
        }
        Ok(Self { functions: ready, classes, resources })
    }

    /// The columns that functions look at beside the text, each with a function that does.
    pub fn columns(&self) -> impl Iterator<Item = (&str, &str)> {
        self.functions
            .iter()
            .filter_map(|ready| Some((ready.column.as_deref()?, ready.name.as_str())))
    }

    pub fn voters(&self) -> Vec<Voter> {
        self.functions.iter().map(|ready| ready.voter.clone()).collect()
    }
}

/// A model's own classes, each with a vote.
fn model_votes(model: &Model, classes: &mut Classes) -> Vec<Vote> {
    let names = (0..model.output_count()).filter_map(|output| model.output_class(output));
    names.map(|class| Vote::one(classes.position_or_add(class.name))).collect()
}

impl ReadyRule {
    fn is_slow(&self) -> bool {
        match self {
            Self::Similar(_) | Self::Model(..) => true,
            Self::Combine(condition) => condition.is_slow(),
            _ => false,
        }
    }
}

impl ReadyCondition {
    fn is_slow(&self) -> bool {
        match self {
            Self::And(conditions) | Self::Or(conditions) | Self::AtLeast(_, conditions) => {
                conditions.iter().any(Self::is_slow)
            }
            Self::Not(condition) => condition.is_slow(),
            Self::Keyword(..) => false,
            Self::Rule(_, rule) => rule.is_slow(),
        }
    }
}

struct Compiler<'a> {
    by_name: HashMap<&'a str, &'a Function>,
    hashes: HashMap<String, BlobHash>,
    resources: &'a Resources,
}

impl<'a> Compiler<'a> {
    fn new(functions: &'a [Function], resources: &'a Resources) -> Result<Self, LabelingError> {
        let mut by_name = HashMap::new();
        for function in functions {
            if by_name.insert(function.name.as_str(), function).is_some() {
                return Err(LabelingError::TwiceNamed { function: function.name.clone() });
            }
        }
        let mut compiler = Self { by_name, hashes: HashMap::new(), resources };
        for function in functions {
            compiler.hash_of(&function.name, &mut Vec::new())?;
        }
        Ok(compiler)
    }

    fn hash(&self, name: &str) -> Option<BlobHash> {
        self.hashes.get(name).copied()
    }

    /// Hashes a function after those it names.
    fn hash_of(&mut self, name: &str, path: &mut Vec<String>) -> Result<(), LabelingError> {
        if self.hashes.contains_key(name) {
            return Ok(());
        }
        let function = self.function(name)?;
        path.push(name.to_owned());
        if path[..path.len() - 1].iter().any(|above| above == name) {
            return Err(LabelingError::Circle { names: path.join(" → ") });
        }
        if let Rule::Combine(combination) = &function.rule {
            for named in combination.when.functions() {
                self.hash_of(named, path)?;
            }
        }
        path.pop();
        let mut hash = function.content_hash(&|named| self.hash(named));
        // What networks answer depends on their files too.
        let file = match &function.rule {
            Rule::Model(voter) => self.model(function, voter).ok().map(|(hash, _)| hash),
            Rule::Similar(_) => self.resources.encoder.as_ref().map(|encoder| encoder.id()),
            _ => None,
        };
        if let Some(file) = file {
            hash = BlobHash::of(&[*hash.as_bytes(), *file.as_bytes()].concat());
        }
        self.hashes.insert(name.to_owned(), hash);
        Ok(())
    }

    fn function(&self, name: &str) -> Result<&'a Function, LabelingError> {
        self.by_name.get(name).copied().ok_or_else(|| LabelingError::NoSuchFunction {
            function: name.to_owned(),
            nearest: nearest(name, self.by_name.keys().copied(), 3)
                .into_iter()
                .map(str::to_owned)
                .collect(),
        })
    }

    fn model(
        &self,
        function: &Function,
        voter: &ModelVoter,
    ) -> Result<(BlobHash, Arc<Model>), LabelingError> {
        let named = voter.reference();
        let found = named.as_ref().and_then(|named| self.resources.models.get(named));
        found.cloned().ok_or_else(|| LabelingError::Needs {
            function: function.name.clone(),
            what: match named {
                Some(named) => format!("the model {named}, which is not there"),
                None => "either a `model` or an `endpoint`".to_owned(),
            },
        })
    }

    fn rule(&self, function: &Function, rule: &Rule) -> Result<ReadyRule, LabelingError> {
        let wrong =
            |reason: String| LabelingError::Definition { function: function.name.clone(), reason };
        Ok(match rule {
            Rule::Keyword(keywords) => {
                KeywordScan::new(&[keywords]).map_err(wrong)?;
                ReadyRule::Keyword(keywords.clone())
            }
            Rule::Regex(pattern) => {
                ReadyRule::Pattern(PatternRule::new(pattern).map_err(|error| match error {
                    PatternError::LookAround => {
                        LabelingError::LookAround { function: function.name.clone() }
                    }
                    PatternError::Other(reason) => wrong(reason),
                })?)
            }
            Rule::Length(lengths) => ReadyRule::Length(lengths.clone()),
            Rule::Shape(shape) => ReadyRule::Shape(shape.clone()),
            Rule::Column(comparison) => {
                column::check(comparison).map_err(wrong)?;
                ReadyRule::Column(comparison.clone())
            }
            Rule::Given(given) => ReadyRule::Given(given.clone(), rule.classes()),
            Rule::Combine(combination) => {
                ReadyRule::Combine(self.condition(function, &combination.when)?)
            }
            Rule::Similar(similar) => self.similar(function, similar)?,
            Rule::Model(voter) => {
                let (_, model) = self.model(function, voter)?;
                if model.encoder().is_some() && self.resources.encoder.is_none() {
                    return Err(self.needs_encoder(function));
                }
                let said = rule.classes();
                let votes = (0..model.output_count()).map(|output| {
                    let class = model.output_class(output)?;
                    if voter.classes.is_empty() {
                        return Some(output as u32);
                    }
                    let name =
                        voter.classes.get(class.name).or_else(|| voter.classes.get(class.id));
                    said.binary_search(name?).ok().map(|at| at as u32)
                });
                let votes = votes.collect();
                ReadyRule::Model(model, voter.clone(), votes)
            }
        })
    }

    fn needs_encoder(&self, function: &Function) -> LabelingError {
        LabelingError::Needs {
            function: function.name.clone(),
            what: "a sentence encoder; install one with `corral encoder install`".to_owned(),
        }
    }

    fn similar(&self, function: &Function, similar: &Similar) -> Result<ReadyRule, LabelingError> {
        let Some(encoder) = &self.resources.encoder else {
            return Err(self.needs_encoder(function));
        };
        let mut texts: Vec<(&str, usize)> =
            similar.examples.iter().map(|text| (text.as_str(), 0)).collect();
        for (vote, examples) in similar.classes.values().enumerate() {
            texts.extend(examples.iter().map(|text| (text.as_str(), vote)));
        }
        if texts.is_empty() {
            return Err(LabelingError::Definition {
                function: function.name.clone(),
                reason: "it has no `examples`, and no `classes` with some each".to_owned(),
            });
        }
        let words: Vec<&str> = texts.iter().map(|(text, _)| *text).collect();
        Ok(ReadyRule::Similar(Examples {
            threshold: similar.threshold,
            nearest: similar.nearest.unwrap_or(1).max(1),
            embeddings: embed(encoder.as_ref(), &words),
            votes: texts.into_iter().map(|(_, vote)| vote).collect(),
        }))
    }

    fn condition(
        &self,
        function: &Function,
        condition: &Condition,
    ) -> Result<ReadyCondition, LabelingError> {
        let all = |conditions: &[Condition]| {
            conditions.iter().map(|inner| self.condition(function, inner)).collect::<Result<_, _>>()
        };
        Ok(match condition {
            Condition::And(conditions) => ReadyCondition::And(all(conditions)?),
            Condition::Or(conditions) => ReadyCondition::Or(all(conditions)?),
            Condition::Not(inner) => {
                ReadyCondition::Not(Box::new(self.condition(function, inner)?))
            }
            Condition::AtLeast(count, conditions) => {
                ReadyCondition::AtLeast(*count, all(conditions)?)
            }
            Condition::Function(name) => {
                let named = self.function(name)?;
                self.leaf(named, named.column.as_ref(), &named.rule)?
            }
            Condition::Rule(column, rule) => self.leaf(function, column.as_ref(), rule)?,
        })
    }

    fn leaf(
        &self,
        function: &Function,
        column: Option<&String>,
        rule: &Rule,
    ) -> Result<ReadyCondition, LabelingError> {
        let column = column.cloned();
        Ok(match self.rule(function, rule)? {
            ReadyRule::Keyword(keywords) => {
                let scan = KeywordScan::new(&[&keywords]).map_err(|reason| {
                    LabelingError::Definition { function: function.name.clone(), reason }
                })?;
                ReadyCondition::Keyword(column, scan)
            }
            rule => ReadyCondition::Rule(column, Box::new(rule)),
        })
    }
}

/// Some functions of a program, run together block by block.
pub struct Runner<'p> {
    program: &'p Program,
    which: Vec<usize>,
    /// By column: the keywords of all functions that look at it, and their places in `which`.
    scans: Vec<(Option<&'p str>, KeywordScan, Vec<usize>)>,
}

impl<'p> Runner<'p> {
    /// # Errors
    /// When the words of all of them are too many for one search.
    pub fn new(program: &'p Program, which: Vec<usize>) -> Result<Self, LabelingError> {
        let mut by_column: BTreeMap<Option<&str>, Vec<usize>> = BTreeMap::new();
        for (place, &at) in which.iter().enumerate() {
            let ready = &program.functions[at];
            if matches!(ready.rule, ReadyRule::Keyword(_)) {
                by_column.entry(ready.column.as_deref()).or_default().push(place);
            }
        }
        let mut scans = Vec::new();
        for (column, places) in by_column {
            let keywords =
                places.iter().filter_map(|&place| match &program.functions[which[place]].rule {
                    ReadyRule::Keyword(keywords) => Some(keywords),
                    _ => None,
                });
            let scan = KeywordScan::new(&keywords.collect::<Vec<_>>()).map_err(|reason| {
                let function = program.functions[which[places[0]]].name.clone();
                LabelingError::Definition { function, reason }
            })?;
            scans.push((column, scan, places));
        }
        Ok(Self { program, which, scans })
    }

    /// The votes of each of the functions on a block.
    pub fn run(&self, block: &Block) -> Vec<BlockVotes> {
        let rows = block.rows();
        let mut found: Vec<Option<Vec<Vec<u64>>>> = vec![None; self.which.len()];
        for (column, scan, places) in &self.scans {
            let Some(texts) = TextBlock::of_column(block, *column) else { continue };
            for (&place, votes) in places.iter().zip(scan.run(&texts)) {
                found[place] = Some(votes);
            }
        }
        let embeddings = Embedded::default();
        let votes = self.which.iter().zip(found).map(|(&at, found)| {
            let ready = &self.program.functions[at];
            let bits = found.unwrap_or_else(|| {
                let column = ready.column.as_deref();
                self.evaluate(&ready.rule, column, ready.voter.votes.len(), block, &embeddings)
            });
            let mut sets: Vec<RowSet> =
                bits.into_iter().map(|bits| RowSet::of_bits(bits, rows)).collect();
            sets.resize(ready.voter.votes.len(), RowSet::List(Vec::new()));
            BlockVotes::new(rows, sets)
        });
        votes.collect()
    }

    /// By vote, the rows that have it.
    fn evaluate(
        &self,
        rule: &ReadyRule,
        column: Option<&str>,
        votes: usize,
        block: &Block,
        embeddings: &Embedded,
    ) -> Vec<Vec<u64>> {
        let nothing = || vec![no_rows(block.rows()); votes];
        let texts = || TextBlock::of_column(block, column);
        match rule {
            // A column that is empty here, else the search has found them.
            ReadyRule::Keyword(_) => nothing(),
            ReadyRule::Pattern(pattern) => {
                texts().map_or_else(nothing, |texts| pattern.run(&texts))
            }
            ReadyRule::Length(lengths) => {
                texts().map_or_else(nothing, |texts| vec![text::length(lengths, &texts)])
            }
            ReadyRule::Shape(shape) => {
                texts().map_or_else(nothing, |texts| vec![text::shape(shape, &texts)])
            }
            ReadyRule::Column(comparison) => {
                vec![column::compare(comparison, block, column.unwrap_or_default())]
            }
            ReadyRule::Given(given, classes) => {
                column::given(given, classes, block, column.unwrap_or_default())
            }
            ReadyRule::Combine(condition) => vec![self.holds(condition, block, embeddings)],
            ReadyRule::Similar(examples) => {
                self.similar(examples, column, votes, block, embeddings)
            }
            ReadyRule::Model(model, voter, of_output) => {
                self.by_model(model, voter, of_output, votes, block, column)
            }
        }
    }

    fn holds(&self, condition: &ReadyCondition, block: &Block, embeddings: &Embedded) -> Vec<u64> {
        let rows = block.rows();
        let any_of = |votes: Vec<Vec<u64>>| {
            let mut any = no_rows(rows);
            for bits in votes {
                any.iter_mut().zip(bits).for_each(|(any, bits)| *any |= bits);
            }
            any
        };
        match condition {
            ReadyCondition::And(conditions) => {
                let mut all = self.holds(&ReadyCondition::Or(Vec::new()), block, embeddings);
                invert(&mut all, rows);
                for condition in conditions {
                    let bits = self.holds(condition, block, embeddings);
                    all.iter_mut().zip(bits).for_each(|(all, bits)| *all &= bits);
                }
                all
            }
            ReadyCondition::Or(conditions) => any_of(
                conditions.iter().map(|inner| self.holds(inner, block, embeddings)).collect(),
            ),
            ReadyCondition::Not(inner) => {
                let mut bits = self.holds(inner, block, embeddings);
                invert(&mut bits, rows);
                bits
            }
            ReadyCondition::AtLeast(count, conditions) => {
                let mut counts = vec![0usize; rows];
                for condition in conditions {
                    let bits = self.holds(condition, block, embeddings);
                    RowSet::of_bits(bits, rows).for_each(|row| counts[row] += 1);
                }
                crate::kinds::rows_where(rows, |row| counts[row] >= *count)
            }
            ReadyCondition::Keyword(column, scan) => {
                match TextBlock::of_column(block, column.as_deref()) {
                    Some(block) => any_of(scan.run(&block).swap_remove(0)),
                    None => no_rows(rows),
                }
            }
            ReadyCondition::Rule(column, rule) => {
                let votes = match &**rule {
                    ReadyRule::Similar(examples) => examples.vote_count(),
                    ReadyRule::Model(model, ..) => model.output_count(),
                    _ => 1,
                };
                any_of(self.evaluate(rule, column.as_deref(), votes, block, embeddings))
            }
        }
    }

    fn similar(
        &self,
        examples: &Examples,
        column: Option<&str>,
        votes: usize,
        block: &Block,
        embeddings: &Embedded,
    ) -> Vec<Vec<u64>> {
        let mut found = vec![no_rows(block.rows()); votes];
        let (Some(encoder), Some(column_texts)) =
            (&self.program.resources.encoder, TextBlock::of_column(block, column))
        else {
            return found;
        };
        let rows = embeddings.of(column, || {
            let texts: Vec<&str> =
                (0..column_texts.rows()).map(|row| column_texts.text(row)).collect();
            embed(encoder.as_ref(), &texts)
        });
        let width = examples.embeddings.len() / examples.votes.len();
        for (row, embedding) in rows.chunks(width).enumerate() {
            if let Some(vote) = examples.vote(embedding, votes) {
                set(&mut found[vote], row);
            }
        }
        found
    }

    fn by_model(
        &self,
        model: &Model,
        voter: &ModelVoter,
        of_output: &[Option<u32>],
        votes: usize,
        block: &Block,
        column: Option<&str>,
    ) -> Vec<Vec<u64>> {
        let mut found = vec![no_rows(block.rows()); votes];
        let Some(texts) = TextBlock::of_column(block, column) else { return found };
        let texts: Vec<&str> = (0..texts.rows()).map(|row| texts.text(row)).collect();
        let encoder = self.program.resources.encoder.as_deref();
        let options = PredictOptions { top_k: 1, ..PredictOptions::default() };
        let Ok(predictions) = model.predict_batch(&texts, encoder, &options) else { return found };
        let output_of: HashMap<u32, usize> = (0..model.output_count())
            .filter_map(|output| Some((model.output_class(output)?.index, output)))
            .collect();
        for (row, prediction) in predictions.iter().enumerate() {
            let Some(first) = prediction.ranked.first() else { continue };
            let output = output_of.get(&first.class).copied();
            let vote = output.and_then(|output| of_output.get(output).copied().flatten());
            if let Some(vote) = vote.filter(|_| first.probability >= voter.threshold) {
                set(&mut found[vote as usize], row);
            }
        }
        found
    }
}

fn invert(bits: &mut [u64], rows: usize) {
    bits.iter_mut().for_each(|word| *word = !*word);
    if let (Some(last), over @ 1..) = (bits.last_mut(), rows % 64) {
        *last &= (1 << over) - 1;
    }
}

impl Examples {
    fn vote_count(&self) -> usize {
        self.votes.iter().max().map_or(1, |most| most + 1)
    }

    /// What the nearest examples say; `None` where none is near enough.
    fn vote(&self, embedding: &[f32], votes: usize) -> Option<usize> {
        let cosine =
            |example: &[f32]| example.iter().zip(embedding).map(|(a, b)| a * b).sum::<f32>();
        let mut near: Vec<(f32, usize)> = self
            .embeddings
            .chunks(embedding.len())
            .zip(&self.votes)
            .map(|(example, &vote)| (cosine(example), vote))
            .filter(|(cosine, _)| *cosine >= self.threshold)
            .collect();
        near.sort_by(|a, b| b.0.total_cmp(&a.0));
        near.truncate(self.nearest);
        let mut counts = vec![0; votes];
        near.iter().for_each(|(_, vote)| counts[*vote] += 1);
        // Of votes as frequent, the one with the nearest example.
        let most = counts.iter().copied().max().filter(|most| *most > 0)?;
        near.iter().map(|(_, vote)| *vote).find(|&vote| counts[vote] == most)
    }
}

/// The embeddings of a block's columns, made once for all functions that need them.
#[derive(Default)]
struct Embedded {
    by_column: std::cell::RefCell<HashMap<Option<String>, Arc<Vec<f32>>>>,
}

impl Embedded {
    fn of(&self, column: Option<&str>, make: impl FnOnce() -> Vec<f32>) -> Arc<Vec<f32>> {
        let mut by_column = self.by_column.borrow_mut();
        let known = by_column.entry(column.map(str::to_owned));
        Arc::clone(known.or_insert_with(|| Arc::new(make())))
    }
}

/// The pooled embeddings of texts, one after the other. The same text is embedded once.
fn embed(encoder: &dyn Encoder, texts: &[&str]) -> Vec<f32> {
    let width = encoder.dimension(EmbeddingView::Pooled).unwrap_or(0);
    let mut out = vec![0.0; texts.len() * width];
    for (texts, out) in texts.chunks(TEXTS_A_PASS).zip(out.chunks_mut(TEXTS_A_PASS * width.max(1)))
    {
        encoder.encode_view(EmbeddingView::Pooled, texts, out);
    }
    out
}

impl ModelVoter {
    /// How the model is named among the resources.
    pub fn reference(&self) -> Option<String> {
        match (&self.model, &self.endpoint) {
            (Some(model), None) => Some(format!("model {model}")),
            (None, Some(endpoint)) => Some(format!("endpoint {endpoint}")),
            _ => None,
        }
    }
}

/// What functions need beside the rows: models by reference, and whether an encoder.
pub fn needs(functions: &[Function]) -> (HashSet<String>, bool) {
    fn of_rule(rule: &Rule, models: &mut HashSet<String>, encoder: &mut bool) {
        match rule {
            Rule::Similar(_) => *encoder = true,
            Rule::Model(voter) => models.extend(voter.reference()),
            Rule::Combine(combination) => of_condition(&combination.when, models, encoder),
            _ => {}
        }
    }
    fn of_condition(condition: &Condition, models: &mut HashSet<String>, encoder: &mut bool) {
        match condition {
            Condition::Function(_) => {}
            Condition::And(inner) | Condition::Or(inner) | Condition::AtLeast(_, inner) => {
                inner.iter().for_each(|inner| of_condition(inner, models, encoder));
            }
            Condition::Not(inner) => of_condition(inner, models, encoder),
            Condition::Rule(_, rule) => of_rule(rule, models, encoder),
        }
    }
    let (mut models, mut encoder) = (HashSet::new(), false);
    functions.iter().for_each(|function| of_rule(&function.rule, &mut models, &mut encoder));
    (models, encoder)
}
