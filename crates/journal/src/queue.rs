//! What waits for the disk.
//!
//! Appenders encode their records into the frame that gathers; the writer takes that frame as it
//! is. There is one lock, held for a copy of the payload; no allocation a record but the channel
//! that its acknowledgement comes back on.

use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use tokio::sync::{Semaphore, TryAcquireError, oneshot};

use crate::frame::{FRAME_HEADER_BYTES, QUEUE_BYTES, push_record};
use crate::{JournalError, SequenceNumber};

/// What an append costs of [`QUEUE_BYTES`] beside its bytes: the channel and its waiter.
pub(crate) const WAITER_BYTES: usize = 128;

/// A buffer that a burst has blown up beyond this is not kept.
const KEPT_BUFFER_BYTES: usize = 1 << 20;

type Acknowledgement = oneshot::Sender<Result<(), JournalError>>;

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

    /// Waits until `bytes` have room. The room is given back by the group that takes it.
    pub(crate) async fn wait_for_room(&self, bytes: usize) -> Result<Room<'_>, JournalError> {
        match self.room.acquire_many(permits(bytes)).await {
            Ok(permit) => {
                permit.forget();
                Ok(Room { queue: self, bytes })
            }
            Err(_) => Err(self.why_closed()),
        }
    }

    pub(crate) fn try_room(&self, bytes: usize) -> Result<Room<'_>, JournalError> {
        match self.room.try_acquire_many(permits(bytes)) {
            Ok(permit) => {
                permit.forget();
                Ok(Room { queue: self, bytes })
            }
            Err(TryAcquireError::NoPermits) => {
                Err(JournalError::QueueFull { limit_bytes: QUEUE_BYTES })
            }
            Err(TryAcquireError::Closed) => Err(self.why_closed()),
        }
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

fn permits(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("batches are limited to less than the queue")
}

/// Room in the queue, given back when it is dropped unused.
pub(crate) struct Room<'a> {
    queue: &'a Queue,
    bytes: usize,
}

impl Room<'_> {
    /// Adds the records to the frame that gathers: the number of the last of them (or of the
    /// last before them, when there are none), and where the acknowledgement comes.
    pub(crate) fn push<P: AsRef<[u8]>>(
        mut self,
        payloads: &[P],
    ) -> Result<(SequenceNumber, oneshot::Receiver<Result<(), JournalError>>), JournalError> {
        let mut state = self.queue.lock();
        if let Some(error) = &state.closed {
            return Err(error.clone());
        }
        let (sender, receiver) = oneshot::channel();
        for payload in payloads {
            push_record(&mut state.gathering.frame, payload.as_ref());
        }
        let records = u32::try_from(payloads.len()).expect("a batch has fewer records than bytes");
        state.gathering.records += records;
        state.gathering.waiters.push(sender);
        state.gathering.charged_bytes += mem::take(&mut self.bytes);
        state.next = state.next.plus(u64::from(records));
        let last = state.next.previous();
        drop(state);
        self.queue.ready.notify_one();
        Ok((last, receiver))
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.queue.room.add_permits(self.bytes);
    }
}
