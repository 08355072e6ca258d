//! One request on its way through the pool.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use corral_classifier::{ClassSubset, EmbeddingView, Embeddings, Encoder, PredictOptions, Scratch};
use tokio::sync::oneshot;

use super::fair_queue::{Cut, Divisible};
use crate::opened::OpenModel;
use crate::predict::Worked;
use crate::{Answer, Question, ServingError};

/// What a part takes, by estimate: whoever comes meanwhile waits for no more.
pub const PART_NANOS: u64 = 4_000_000;

/// Word pieces that go through a network together, of as many requests as fit: more make it no
/// faster, and the first of them wait for the last. A text may have more by itself.
pub const TOKENS_PER_BATCH: u64 = 256;

type Answers = Result<Vec<Answer>, ServingError>;
type Outcome = Result<Worked, ServingError>;

/// A request that was checked, with what answers it.
pub struct Task {
    pub model: Arc<OpenModel>,
    pub encoder: Option<Arc<dyn Encoder>>,
    /// What the model reads of the encoder.
    pub views: Vec<EmbeddingView>,
    question: Question,
    subset: Option<ClassSubset>,
    /// Whether nobody waits for the answer any more.
    is_given_up: AtomicBool,
    core_nanos: AtomicU64,
    progress: Mutex<Progress>,
}

struct Progress {
    answers: Vec<Answer>,
    left: usize,
    /// Taken when the request ends.
    done: Option<oneshot::Sender<Outcome>>,
}

/// Where a request stands: texts before `next` were cut off.
pub struct Cursor {
    pub task: Arc<Task>,
    next: usize,
}

/// Some texts of a request.
pub struct Part {
    pub task: Arc<Task>,
    texts: Range<usize>,
    /// The work in it, by the model's pace.
    pub units: u64,
}

impl Task {
    /// # Errors
    /// When the encoder is not the model's, or no class has the prefix.
    pub fn new(
        model: Arc<OpenModel>,
        encoder: Option<Arc<dyn Encoder>>,
        question: Question,
    ) -> Result<(Arc<Self>, oneshot::Receiver<Outcome>), ServingError> {
        let views = model.model.views_of(encoder.as_deref()).map_err(ServingError::Predict)?;
        let subset = subset(&model, &question)?;
        let (done, answers) = oneshot::channel();
        let left = question.texts.len();
        let progress = Progress { answers: vec![Answer::default(); left], left, done: Some(done) };
        let task = Self {
            model,
            encoder,
            views,
            question,
            subset,
            is_given_up: AtomicBool::new(false),
            core_nanos: AtomicU64::new(0),
            progress: Mutex::new(progress),
        };
        Ok((Arc::new(task), answers))
    }

    /// What the whole request is expected to take, in nanoseconds.
    pub fn nanos(&self) -> u64 {
        let pace = &self.model.pace;
        pace.nanos(self.question.texts.iter().map(|text| pace.units(text)).sum())
    }

    pub fn cursor(self: &Arc<Self>) -> Cursor {
        Cursor { task: self.clone(), next: 0 }
    }

    pub fn give_up(&self) {
        self.is_given_up.store(true, Ordering::Relaxed);
    }

    pub fn is_given_up(&self) -> bool {
        self.is_given_up.load(Ordering::Relaxed)
    }

    /// Notes time on a core.
    pub fn spend(&self, nanos: u64) {
        self.core_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// Ends the request before it was answered.
    pub fn fail(&self, error: ServingError) {
        let done = self.progress.lock().unwrap_or_else(PoisonError::into_inner).done.take();
        // Nobody may be waiting any more.
        let _ = done.map(|done| done.send(Err(error)));
    }

    /// Whether both read the same of the same encoder, and so can share a pass of the network.
    pub fn shares_pass(&self, other: &Self) -> bool {
        let id = |task: &Self| task.encoder.as_ref().map(|encoder| encoder.id());
        id(self) == id(other) && self.views == other.views
    }
}

impl Divisible for Cursor {
    type Part = Part;

    fn cut(&mut self) -> Cut<Part> {
        let (texts, pace) = (&self.task.question.texts, &self.task.model.pace);
        let is_encoded = self.task.encoder.is_some();
        let (begin, mut end, mut units) = (self.next, self.next, 0);
        while let Some(text) = texts.get(end) {
            let more = units + pace.units(text);
            let fits = pace.nanos(more) <= PART_NANOS && !(is_encoded && more > TOKENS_PER_BATCH);
            if end > begin && !fits {
                break;
            }
            (units, end) = (more, end + 1);
        }
        self.next = end;
        let part = Part { task: self.task.clone(), texts: begin..end, units };
        Cut { part, cost: pace.nanos(units), is_last: end >= texts.len() }
    }
}

impl Cursor {
    /// The work in the next text.
    pub fn next_units(&self) -> u64 {
        let next = self.task.question.texts.get(self.next);
        next.map_or(0, |text| self.task.model.pace.units(text))
    }
}

impl Part {
    pub fn texts(&self) -> &[String] {
        &self.task.question.texts[self.texts.clone()]
    }

    /// Answers the part, whose texts have the embeddings from `first` on.
    pub fn answer(&self, embeddings: &Embeddings, first: usize) {
        let Task { model, question, subset, progress, .. } = &*self.task;
        let begun = Instant::now();
        let answered = answer(model, question, subset.as_ref(), self.texts(), embeddings, first);
        self.task.spend(begun.elapsed().as_nanos() as u64);
        match answered {
            Err(error) => self.task.fail(error),
            Ok(answers) => {
                let mut progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
                progress.left -= answers.len();
                for (place, answer) in progress.answers[self.texts.clone()].iter_mut().zip(answers)
                {
                    *place = answer;
                }
                if progress.left == 0
                    && let Some(done) = progress.done.take()
                {
                    let core = Duration::from_nanos(self.task.core_nanos.load(Ordering::Relaxed));
                    let answers = std::mem::take(&mut progress.answers);
                    let _ = done.send(Ok(Worked { answers, core }));
                }
            }
        }
    }
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Answers a question of a model without an encoder on the calling thread.
///
/// # Errors
/// When the model cannot answer it.
pub fn answer_here(model: &OpenModel, question: &Question) -> Outcome {
    let begun = Instant::now();
    model.model.views_of(None).map_err(ServingError::Predict)?;
    let subset = subset(model, question)?;
    let none = Embeddings::default();
    let answers = answer(model, question, subset.as_ref(), &question.texts, &none, 0)?;
    Ok(Worked { answers, core: begun.elapsed() })
}

fn subset(model: &OpenModel, question: &Question) -> Result<Option<ClassSubset>, ServingError> {
    let prefix = question.prefix.as_deref();
    prefix.map(|prefix| model.model.subset(prefix)).transpose().map_err(ServingError::Predict)
}

fn answer(
    model: &OpenModel,
    question: &Question,
    subset: Option<&ClassSubset>,
    texts: &[String],
    embeddings: &Embeddings,
    first: usize,
) -> Answers {
    let model = &model.model;
    let options = PredictOptions {
        top_k: question.top_k as usize,
        threshold: question.threshold,
        subset,
        back_off: question.back_off,
        refusals: question.refusals,
        ..PredictOptions::default()
    };
    SCRATCH.with_borrow_mut(|scratch| {
        let texts = texts.iter().enumerate();
        texts
            .map(|(index, text)| {
                let prediction = model
                    .predict(text, embeddings.text(first + index), scratch, &options)
                    .map_err(ServingError::Predict)?;
                Ok(Answer::of(model, &prediction, question.threshold))
            })
            .collect()
    })
}
