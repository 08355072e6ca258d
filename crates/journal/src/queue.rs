//! What waits for the disk.
//!
//! Appenders add their records to the frame that gathers; the writer takes that frame as it is.
//! The one lock is held for no longer than it takes to copy the records.

use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use tokio::sync::{Semaphore, SemaphorePermit, TryAcquireError, oneshot};

use crate::frame::{
    FRAME_HEADER_BYTES, LENGTH_BYTES, MAX_BATCH_BYTES, MAX_RECORD_BYTES, QUEUE_BYTES, push_record,
};
use crate::{JournalError, SequenceNumber};

/// What a batch costs of [`QUEUE_BYTES`] beside its bytes: the channel and its waiter.
const WAITER_BYTES: usize = 128;

/// A buffer that a burst has blown up beyond this is not kept.
const KEPT_BUFFER_BYTES: usize = 1 << 20;

type Acknowledgement = oneshot::Sender<Result<(), JournalError>>;

/// The number of a batch's last record, and where its acknowledgement comes.
type Queued = (SequenceNumber, oneshot::Receiver<Result<(), JournalError>>);

/// Records as they stand in a frame.
pub(crate) struct Batch {
    body: Vec<u8>,
    records: u32,
}

impl Batch {
    /// # Errors
    /// When a record or the whole is over its limit.
    pub(crate) fn encode<P: AsRef<[u8]>>(payloads: &[P]) -> Result<Self, JournalError> {
        let mut bytes = 0;
        for payload in payloads {
            let length = payload.as_ref().len();
            if length > MAX_RECORD_BYTES {
                let limit_bytes = MAX_RECORD_BYTES;
                return Err(JournalError::RecordTooLarge { bytes: length, limit_bytes });
            }
            bytes += LENGTH_BYTES + length;
        }
        if bytes > MAX_BATCH_BYTES {
            return Err(JournalError::BatchTooLarge { bytes, limit_bytes: MAX_BATCH_BYTES });
        }
        let mut body = Vec::with_capacity(bytes);
        for payload in payloads {
            push_record(&mut body, payload.as_ref());
        }
        let records = u32::try_from(payloads.len()).expect("each record has bytes, and few fit");
        Ok(Self { body, records })
    }

    fn charged_bytes(&self) -> usize {
        self.body.len() + WAITER_BYTES
    }
}

/// The records of one frame, and who waits for them.
#[derive(Default)]
pub(crate) struct Group {
    pub first: SequenceNumber,
    pub records: u32,
    /// A frame whose header is yet to be filled in.
    pub frame: Vec<u8>,
    waiters: Vec<Acknowledgement>,
    charged_bytes: usize,
}

impl Group {
    fn clear(&mut self) {
        self.records = 0;
        self.charged_bytes = 0;
        self.waiters.clear();
        if self.frame.capacity() > KEPT_BUFFER_BYTES {
            self.frame = Vec::new();
        }
        self.frame.clear();
        self.frame.resize(FRAME_HEADER_BYTES, 0);
    }
}

pub(crate) struct Queue {
    state: Mutex<State>,
    /// There is something to take, or the queue is closed.
    ready: Condvar,
    room: Semaphore,
}

struct State {
    gathering: Group,
    /// The number of the next record.
    next: SequenceNumber,
    /// Why nothing is taken any more.
    closed: Option<JournalError>,
}

impl Queue {
    pub(crate) fn new(next: SequenceNumber) -> Arc<Self> {
        let mut gathering = Group { first: next, ..Group::default() };
        gathering.clear();
        Arc::new(Self {
            state: Mutex::new(State { gathering, next, closed: None }),
            ready: Condvar::new(),
            room: Semaphore::new(QUEUE_BYTES),
        })
    }

    /// The number of the last record that was taken into the queue.
    pub(crate) fn last(&self) -> SequenceNumber {
        self.lock().next.previous()
    }

    /// Waits until the batch has room and adds it to the frame that gathers: the number of its
    /// last record (of the last before it, when it is empty), and where the acknowledgement comes.
    pub(crate) async fn push(&self, batch: &Batch) -> Result<Queued, JournalError> {
        match self.room.acquire_many(permits(batch)).await {
            Ok(room) => self.add(batch, room),
            Err(_) => Err(self.why_closed()),
        }
    }

    /// [`push`](Self::push), unless it would have to wait.
    pub(crate) fn try_push(&self, batch: &Batch) -> Result<Queued, JournalError> {
        match self.room.try_acquire_many(permits(batch)) {
            Ok(room) => self.add(batch, room),
            Err(TryAcquireError::NoPermits) => {
                Err(JournalError::QueueFull { limit_bytes: QUEUE_BYTES })
            }
            Err(TryAcquireError::Closed) => Err(self.why_closed()),
        }
    }

    fn add(&self, batch: &Batch, room: SemaphorePermit<'_>) -> Result<Queued, JournalError> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.lock();
        if let Some(error) = &state.closed {
            return Err(error.clone());
        }
        state.gathering.frame.extend_from_slice(&batch.body);
        state.gathering.records += batch.records;
        state.gathering.waiters.push(sender);
        state.gathering.charged_bytes += batch.charged_bytes();
        state.next = state.next.plus(u64::from(batch.records));
        let last = state.next.previous();
        drop(state);
        // The room goes with the group, which gives it back when it is settled.
        room.forget();
        self.ready.notify_one();
        Ok((last, receiver))
    }

    /// Takes what has gathered, or waits for it; `spare` is filled in its place. None once the
    /// queue is closed and empty.
    pub(crate) fn take(&self, mut spare: Group) -> Option<Group> {
        spare.clear();
        let mut state = self.lock();
        while state.gathering.waiters.is_empty() {
            if state.closed.is_some() {
                return None;
            }
            state = self.ready.wait(state).expect(UNPOISONED);
        }
        spare.first = state.next;
        Some(mem::replace(&mut state.gathering, spare))
    }

    /// Tells everyone who waits for the group that it is on disk.
    pub(crate) fn acknowledge(&self, group: &mut Group) {
        for waiter in group.waiters.drain(..) {
            // Nobody has to wait for an acknowledgement.
            let _ = waiter.send(Ok(()));
        }
        self.room.add_permits(mem::take(&mut group.charged_bytes));
    }

    /// Fails the group, of which nothing was written, and everything behind it; their numbers
    /// are given out again.
    pub(crate) fn refuse(&self, group: &mut Group, error: &JournalError) {
        let mut behind = Group::default();
        behind.clear();
        behind.first = group.first;
        {
            let mut state = self.lock();
            state.next = group.first;
            mem::swap(&mut behind, &mut state.gathering);
        }
        self.fail(group, error);
        self.fail(&mut behind, error);
    }

    /// Takes nothing more; what waits is still taken by the writer.
    pub(crate) fn close(&self) {
        self.lock().closed.get_or_insert(JournalError::Closed);
        self.room.close();
        self.ready.notify_all();
    }

    /// Takes nothing more and fails everything that waits.
    pub(crate) fn poison(&self, group: &mut Group, error: &JournalError) {
        let mut behind = {
            let mut state = self.lock();
            state.closed = Some(error.clone());
            mem::take(&mut state.gathering)
        };
        self.room.close();
        self.fail(group, error);
        self.fail(&mut behind, error);
    }

    fn fail(&self, group: &mut Group, error: &JournalError) {
        for waiter in group.waiters.drain(..) {
            let _ = waiter.send(Err(error.clone()));
        }
        self.room.add_permits(mem::take(&mut group.charged_bytes));
    }

    fn why_closed(&self) -> JournalError {
        self.lock().closed.clone().unwrap_or(JournalError::Closed)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect(UNPOISONED)
    }
}

const UNPOISONED: &str = "nothing panics while the queue is locked";

fn permits(batch: &Batch) -> u32 {
    u32::try_from(batch.charged_bytes()).expect("a batch is limited to less than the queue")
}
