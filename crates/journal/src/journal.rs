//! The journal as its owner uses it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, JoinHandle, Thread};

use tokio::sync::oneshot;

use crate::frame::SequenceNumber;
use crate::lock::DirectoryLock;
use crate::log::{Log, OpenLogFile, SyncedEnd};
use crate::queue::{Batch, Queue};
use crate::{JournalError, Recovery, SnapshotWriter};

/// How a journal uses its disk.
#[derive(Clone, Copy, Debug)]
pub struct JournalOptions {
    /// The size of a segment, allocated at once. Recovery reads what follows the snapshot, so
    /// this is how finely the log before it can be removed.
    pub segment_bytes: u64,
    /// A segment that would leave less than this free is not made, and appends are refused. It
    /// is less than what the blob store leaves free: the journal goes on when uploads stop.
    pub reserve_bytes: u64,
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20, reserve_bytes: 256 << 20 }
    }
}

/// An open journal; clones share it. When the last is dropped, what was appended is written and
/// the journal is closed, which may wait for a sync.
#[derive(Clone)]
pub struct Journal {
    shared: Arc<Shared>,
}

struct Shared {
    dir: PathBuf,
    queue: Arc<Queue>,
    synced: Arc<Mutex<SyncedEnd>>,
    newest_snapshot: Mutex<SequenceNumber>,
    /// Whether somebody has the [`Turn`].
    busy: AtomicBool,
    writer: Mutex<Option<JoinHandle<()>>>,
    /// Last, so that it is let go only when nothing is written any more.
    _lock: DirectoryLock,
}

impl Journal {
    /// Opens the journal in `dir`, creating it where it is missing, and says what it holds.
    ///
    /// Reads the newest snapshot and the last segment whole; the other segments are read, and
    /// damage in them found, while the owner goes through the [records](Recovery::records).
    ///
    /// # Errors
    /// [`JournalError::Locked`], [`JournalError::Damaged`], [`JournalError::NewerFormat`],
    /// [`JournalError::DiskFull`] for the first segment, or the disk's own.
    pub fn open(
        dir: impl AsRef<Path>,
        options: JournalOptions,
    ) -> Result<(Self, Recovery), JournalError> {
        Self::open_through(dir.as_ref(), options, Box::new(|file| Box::new(file)))
    }

    /// [`open`](Self::open), with segments written through what `open_file` makes of them.
    pub(crate) fn open_through(
        dir: &Path,
        options: JournalOptions,
        open_file: OpenLogFile,
    ) -> Result<(Self, Recovery), JournalError> {
        crate::open::open(dir, options, open_file)
    }

    pub(crate) fn start(
        log: Log,
        lock: DirectoryLock,
        newest_snapshot: SequenceNumber,
    ) -> Result<Self, JournalError> {
        let dir = log.dir.clone();
        let queue = Queue::new(log.next);
        let synced = Arc::clone(&log.synced);
        let writer = {
            let queue = Arc::clone(&queue);
            thread::Builder::new()
                .name("journal".to_owned())
                .spawn(move || log.run(&queue))
                .map_err(JournalError::io("start the writer of", &dir))?
        };
        let shared = Shared {
            dir,
            queue,
            synced,
            newest_snapshot: Mutex::new(newest_snapshot),
            busy: AtomicBool::new(false),
            writer: Mutex::new(Some(writer)),
            _lock: lock,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Appends a record; its number, once it is on disk.
    ///
    /// Appends are numbered in the order in which they enter the queue. One that is dropped
    /// before it is done may have been appended.
    ///
    /// # Errors
    /// [`JournalError::RecordTooLarge`]; [`JournalError::DiskFull`], when nothing was appended;
    /// [`JournalError::Poisoned`], when it is not known whether it was.
    pub async fn append(&self, payload: impl AsRef<[u8]>) -> Result<SequenceNumber, JournalError> {
        self.enqueue(&[payload]).await?.await
    }

    /// Appends records next to each other, all or none; the number of the last, once they are
    /// on disk. An empty batch waits for what was appended before it.
    ///
    /// # Errors
    /// As [`append`](Self::append), and [`JournalError::BatchTooLarge`].
    pub async fn append_batch<P: AsRef<[u8]>>(
        &self,
        payloads: &[P],
    ) -> Result<SequenceNumber, JournalError> {
        self.enqueue(payloads).await?.await
    }

    /// [`append`](Self::append) for threads that may block.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn append_blocking(
        &self,
        payload: impl AsRef<[u8]>,
    ) -> Result<SequenceNumber, JournalError> {
        block_on(self.append(payload))
    }

    /// [`append_batch`](Self::append_batch) for threads that may block.
    ///
    /// # Errors
    /// As [`append_batch`](Self::append_batch).
    pub fn append_batch_blocking<P: AsRef<[u8]>>(
        &self,
        payloads: &[P],
    ) -> Result<SequenceNumber, JournalError> {
        block_on(self.append_batch(payloads))
    }

    /// Waits for room and takes the records into the queue, all or none. They have their numbers
    /// then, and are on disk when what is returned says so: for an owner that decides one thing
    /// after another and lets the acknowledgements follow.
    ///
    /// # Errors
    /// As [`append_batch`](Self::append_batch).
    pub async fn enqueue<P: AsRef<[u8]>>(&self, payloads: &[P]) -> Result<Pending, JournalError> {
        let batch = Batch::encode(payloads)?;
        let (last, done) = self.shared.queue.push(&batch).await?;
        Ok(Pending { last, done })
    }

    /// [`enqueue`](Self::enqueue) that does not wait for room.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue), and [`JournalError::QueueFull`].
    pub fn try_enqueue<P: AsRef<[u8]>>(&self, payloads: &[P]) -> Result<Pending, JournalError> {
        let (last, done) = self.shared.queue.try_push(&Batch::encode(payloads)?)?;
        Ok(Pending { last, done })
    }

    /// Waits until everything appended so far is on disk.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn sync_blocking(&self) -> Result<(), JournalError> {
        self.append_batch_blocking::<&[u8]>(&[]).map(|_| ())
    }

    /// The last record that is on disk.
    pub fn last_synced(&self) -> SequenceNumber {
        self.synced_end().last
    }

    /// The last record that a snapshot covers; zero without one.
    pub fn newest_snapshot(&self) -> SequenceNumber {
        *lock(&self.shared.newest_snapshot)
    }

    /// Begins a snapshot of the state after record `covers`, to be written to what is returned
    /// while appends go on. One at a time.
    ///
    /// # Errors
    /// [`JournalError::SnapshotAhead`] of the last record, [`JournalError::SnapshotStale`],
    /// [`JournalError::Busy`], or the disk's own.
    pub fn begin_snapshot(&self, covers: SequenceNumber) -> Result<SnapshotWriter, JournalError> {
        let turn = self.take_turn()?;
        let (last, newest) = (self.shared.queue.last(), self.newest_snapshot());
        if covers > last {
            return Err(JournalError::SnapshotAhead { covers, last });
        }
        if covers <= newest {
            return Err(JournalError::SnapshotStale { covers, newest });
        }
        SnapshotWriter::create(self.clone(), covers, turn)
    }

    /// Installs these bytes as the state after record `covers`. Blocks.
    ///
    /// # Errors
    /// As [`begin_snapshot`](Self::begin_snapshot) and [`SnapshotWriter::install`].
    pub fn install_snapshot(
        &self,
        covers: SequenceNumber,
        bytes: &[u8],
    ) -> Result<(), JournalError> {
        let mut writer = self.begin_snapshot(covers)?;
        let partial = || JournalError::io("write the snapshot in", self.dir());
        writer.write_all(bytes).map_err(partial())?;
        writer.install()
    }

    /// Writes a journal with everything synced so far into the directory `to`, which must not
    /// exist; the number of its last record. Appends go on. Files that do not change any more
    /// are linked where `to` is on the same file system. Blocks.
    ///
    /// # Errors
    /// [`JournalError::Busy`] during a snapshot, or the disk's own.
    pub fn export(&self, to: impl AsRef<Path>) -> Result<SequenceNumber, JournalError> {
        let _turn = self.take_turn()?;
        crate::export::export(self.dir(), self.synced_end(), to.as_ref())
    }

    /// Refuses further appends and waits until everything before is on disk. Dropping the last
    /// clone does the same.
    pub fn close(&self) {
        self.shared.close();
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.shared.dir
    }

    pub(crate) fn set_newest_snapshot(&self, covers: SequenceNumber) {
        *lock(&self.shared.newest_snapshot) = covers;
    }

    fn synced_end(&self) -> SyncedEnd {
        *lock(&self.shared.synced)
    }

    fn take_turn(&self) -> Result<Turn, JournalError> {
        if self.shared.busy.swap(true, Ordering::AcqRel) {
            return Err(JournalError::Busy);
        }
        Ok(Turn { shared: Arc::clone(&self.shared) })
    }
}

impl Shared {
    fn close(&self) {
        self.queue.close();
        if let Some(writer) = lock(&self.writer).take() {
            // A panic there has told every appender already.
            let _ = writer.join();
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.close();
    }
}

/// The right to add or remove snapshots, or to rely on no file going away.
pub(crate) struct Turn {
    shared: Arc<Shared>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.shared.busy.store(false, Ordering::Release);
    }
}

/// Records in the queue. Resolves once they are on disk; they get there also when nobody waits.
#[must_use = "records in the queue are not yet on disk"]
pub struct Pending {
    last: SequenceNumber,
    done: oneshot::Receiver<Result<(), JournalError>>,
}

impl Pending {
    /// The number of the last of the records, void if they turn out not to be appended.
    pub fn last(&self) -> SequenceNumber {
        self.last
    }

    /// Blocks until the records are on disk.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub fn wait(self) -> Result<SequenceNumber, JournalError> {
        block_on(self)
    }
}

impl Future for Pending {
    type Output = Result<SequenceNumber, JournalError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let last = self.last;
        Pin::new(&mut self.done).poll(context).map(|outcome| match outcome {
            Ok(outcome) => outcome.map(|()| last),
            // The writer panicked with the records in its hands.
            Err(_) => Err(JournalError::Closed),
        })
    }
}

/// Runs a future on this thread, which sleeps in between.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// What these locks guard is replaced whole, so that a panic cannot leave it half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
