//! The threads that answer what takes longer than a moment, and the queue before them.
//!
//! A request is answered in parts of some milliseconds, so that light requests do not wait for
//! heavy ones to end. Parts that read the same encoder go through its network together. A request
//! that nobody waits for any more is let go of at its next part.

mod fair_queue;
mod pace;
mod task;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use corral_classifier::{Embeddings, Encoder};
use corral_types::EndpointId;

use self::fair_queue::{FairQueue, Limits};
pub use self::pace::{Pace, Unit};
use self::task::{Cursor, PART_NANOS, Part, TOKENS_PER_BATCH, Task, answer_here};
use crate::opened::OpenModel;
use crate::predict::Worked;
use crate::{BATCH_TEXTS, Question, ServingError};

/// Bytes of text that are answered where the request arrived, on an async thread: well
/// below half a millisecond of lexical features.
const LIGHT_TEXT_BYTES: usize = 4096;

/// The work that may wait for a core before requests are refused: whoever is admitted is answered
/// soon, however many ask.
const WAITING: Duration = Duration::from_millis(100);

/// What a request costs at least, so that their number is bounded too.
const LEAST_NANOS: u64 = 50_000;

/// A request counts for no more than this part of what may wait: it is answered in turns with
/// others, who do not wait for all of it.
const MOST_OF_WAITING: u64 = 16;

/// The threads, as many as cores may be taken. Dropping it ends them after what they are at.
pub struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    work: Condvar,
    /// What a request counts at most.
    most_cost: u64,
}

struct State {
    queue: FairQueue<EndpointId, Cursor>,
    is_ending: bool,
}

impl Pool {
    /// # Errors
    /// When the system gives no threads.
    pub fn start(cores: usize) -> std::io::Result<Self> {
        let cores = cores.max(1);
        let waiting_cost = WAITING.as_nanos() as u64 * cores as u64;
        let limits = Limits { waiting_cost, light_cost: PART_NANOS };
        let state = State { queue: FairQueue::new(limits), is_ending: false };
        let most_cost = waiting_cost / MOST_OF_WAITING;
        let shared = Shared { state: Mutex::new(state), work: Condvar::new(), most_cost };
        let shared = Arc::new(shared);
        let mut pool = Self { shared, threads: Vec::with_capacity(cores) };
        for number in 0..cores {
            let shared = pool.shared.clone();
            let thread = std::thread::Builder::new().name(format!("predict {number}"));
            pool.threads.push(thread.spawn(move || shared.work())?);
        }
        Ok(pool)
    }

    /// Answers a question that was checked, in turn with those of other endpoints. Dropping the
    /// future gives it up.
    ///
    /// # Errors
    /// When the model cannot answer it, or too much is waiting.
    pub async fn answer(
        &self,
        endpoint: EndpointId,
        model: Arc<OpenModel>,
        encoder: Option<Arc<dyn Encoder>>,
        question: Question,
    ) -> Result<Worked, ServingError> {
        if encoder.is_none() && is_light(&question) {
            return answer_here(&model, &question);
        }
        let has_texts = !question.texts.is_empty();
        let (task, answers) = Task::new(model, encoder, question)?;
        if !has_texts {
            return Ok(Worked { answers: Vec::new(), core: Duration::ZERO });
        }
        let waiter = Waiter { pool: self, endpoint, task };
        self.shared.admit(endpoint, &waiter.task);
        let answered = answers.await;
        drop(waiter);
        answered.map_err(|_| ServingError::CutOff)?
    }
}

/// Whether a model without an encoder answers it in well under half a millisecond.
fn is_light(question: &Question) -> bool {
    question.texts.iter().map(String::len).sum::<usize>() <= LIGHT_TEXT_BYTES
}

/// Somebody who waits for a request.
struct Waiter<'a> {
    pool: &'a Pool,
    endpoint: EndpointId,
    task: Arc<Task>,
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.task.give_up();
        let is_own = |cursor: &Cursor| Arc::ptr_eq(&cursor.task, &self.task);
        self.pool.shared.lock().queue.remove(self.endpoint, is_own);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().is_ending = true;
        self.shared.work.notify_all();
        for thread in self.threads.drain(..) {
            // What it panicked of was said when it did.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a request; those that lose their place by it are told so.
    fn admit(&self, endpoint: EndpointId, task: &Arc<Task>) {
        let cost = task.nanos().clamp(LEAST_NANOS, self.most_cost);
        let (refused, waiting) = {
            let mut state = self.lock();
            let refused = state.queue.admit(endpoint, task.cursor(), cost);
            (refused, state.queue.waiting())
        };
        self.work.notify_one();
        for Cursor { task, .. } in refused {
            task.fail(ServingError::Busy { waiting });
        }
    }

    /// Answers parts until the pool ends.
    fn work(&self) {
        // A network spreads a batch over the pool that it is called in: this thread alone, since
        // the others have work of their own.
        let alone = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build();
        let _alone = alone.inspect_err(|error| {
            tracing::warn!(%error, "batches of encoders are spread over all cores");
        });
        while let Some(batch) = self.next_batch() {
            answer_all(&batch);
        }
    }

    /// Parts that are answered together; none when the pool ends.
    fn next_batch(&self) -> Option<Vec<Part>> {
        let mut state = self.lock();
        loop {
            if state.is_ending {
                return None;
            }
            if let Some(first) = state.queue.next() {
                let batch = fill(&mut state.queue, first);
                if state.queue.has_turns() {
                    self.work.notify_one();
                }
                return Some(batch);
            }
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// A part, and others that go through the same network in the same pass.
fn fill(queue: &mut FairQueue<EndpointId, Cursor>, first: Part) -> Vec<Part> {
    let mut units = first.units;
    let mut batch = vec![first];
    if batch[0].task.encoder.is_none() {
        return batch;
    }
    while units < TOKENS_PER_BATCH {
        let task = batch[0].task.clone();
        let fits = |cursor: &Cursor| {
            units + cursor.next_units() <= TOKENS_PER_BATCH && task.shares_pass(&cursor.task)
        };
        let Some(part) = queue.next_where(fits) else { break };
        units += part.units;
        batch.push(part);
    }
    batch
}

/// Answers parts of one encoder, or one part of none.
fn answer_all(batch: &[Part]) {
    let parts: Vec<&Part> = batch.iter().filter(|part| !part.task.is_given_up()).collect();
    let Some(first) = parts.first() else { return };
    let units: u64 = parts.iter().map(|part| part.units).sum();
    let begun = Instant::now();
    let answered = catch_unwind(AssertUnwindSafe(|| {
        let embeddings =
            first.task.encoder.as_deref().map_or_else(Embeddings::default, |encoder| {
                let texts = parts.iter().flat_map(|part| part.texts());
                let texts: Vec<&str> = texts.map(String::as_str).collect();
                encoder.embed(&texts, &first.task.views)
            });
        let network_nanos = begun.elapsed().as_nanos() as u64;
        let mut at = 0;
        for part in &parts {
            // What a pass took is shared by the work in it.
            part.task.spend(network_nanos * part.units / units.max(1));
            part.answer(&embeddings, at);
            at += part.texts().len();
        }
        at
    }));
    let nanos = begun.elapsed().as_nanos() as u64;
    match answered {
        Ok(texts) => {
            metrics::histogram!(BATCH_TEXTS.name).record(texts as f64);
            parts.iter().for_each(|part| part.task.model.pace.learn(units, nanos));
        }
        // A defect in the arithmetic costs these requests and not the server.
        Err(_) => parts.iter().for_each(|part| part.task.fail(ServingError::CutOff)),
    }
}
