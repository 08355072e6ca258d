//! An attempt as the worker knows it, running or ended, until the server lets go of it.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use corral_types::{AttemptId, BlobHash, Timestamp};
use corral_worker_api::{Accounting, AttemptEvent, Event, Limits, LogStream, Outcome, StopReason};
use tokio::sync::{Notify, mpsc};

use crate::spool::{SPOOL_LIMITS, Spool};

/// What the server, or the worker's own end, asks of a running attempt.
#[derive(Clone, Debug)]
pub enum Order {
    Stop(StopReason),
    SetLimits(Limits),
    /// Nobody waits for it any more: kill it and remove its files.
    Abandon,
    /// The worker ends in an orderly way.
    WorkerEnds,
}

/// See the module.
pub struct Attempt {
    pub id: AttemptId,
    pub directory: PathBuf,
    spool: Mutex<Spool>,
    /// Whether the last event could not be kept.
    is_failing: AtomicBool,
    syncing: tokio::sync::Mutex<()>,
    delivery: Mutex<DeliveryState>,
    /// Told whenever there may be something to deliver.
    wake: Arc<Notify>,
    /// Commands come from polls, a handful each, and are taken at once: no bound is needed.
    /// None once the attempt has ended.
    orders: Mutex<Option<mpsc::UnboundedSender<Order>>>,
}

#[derive(Default)]
struct DeliveryState {
    /// What the job reads.
    inputs: HashSet<BlobHash>,
    /// What was stored and is in no event yet.
    fresh: HashSet<BlobHash>,
    /// The blobs of events that are not acknowledged, in the order of the events.
    waiting: Vec<WaitingBlob>,
    /// Blobs that are known to be on the server.
    uploaded: HashSet<BlobHash>,
    uploading: HashSet<BlobHash>,
    /// Why blobs will never be on the server.
    refused: HashMap<BlobHash, String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum BlobRole {
    Checkpoint,
    Output,
}

struct WaitingBlob {
    number: u64,
    hash: BlobHash,
    role: BlobRole,
}

impl DeliveryState {
    fn await_blobs_of(&mut self, number: u64, event: &Event) {
        let role = match event {
            Event::Checkpoint { .. } => BlobRole::Checkpoint,
            _ => BlobRole::Output,
        };
        self.waiting.extend(blobs_of(event).map(|hash| WaitingBlob { number, hash, role }));
    }

    /// Whether this checkpoint waits for the server behind a newer one, so that nobody will
    /// ever go on from it.
    fn is_superseded(&self, event: &AttemptEvent) -> bool {
        let Event::Checkpoint { blob } = &event.event else { return false };
        let newer = |waiting: &WaitingBlob| {
            waiting.role == BlobRole::Checkpoint && waiting.number > event.number
        };
        !self.uploaded.contains(blob)
            && !self.uploading.contains(blob)
            && self.waiting.iter().any(newer)
    }
}

impl Attempt {
    /// An attempt that is about to run, and its orders.
    ///
    /// # Errors
    /// When its files cannot be opened.
    pub fn begin(
        id: AttemptId,
        directory: PathBuf,
        wake: Arc<Notify>,
    ) -> std::io::Result<(Arc<Self>, mpsc::UnboundedReceiver<Order>)> {
        let (sender, orders) = mpsc::unbounded_channel();
        let attempt = Self::open(id, directory, wake, Some(sender))?;
        Ok((Arc::new(attempt), orders))
    }

    /// An attempt that an earlier process of this worker had. When it had not ended, it ends
    /// now as lost: its process died with that worker.
    ///
    /// # Errors
    /// When its files cannot be read or written.
    pub fn recover(
        id: AttemptId,
        directory: PathBuf,
        wake: Arc<Notify>,
    ) -> std::io::Result<Arc<Self>> {
        let attempt = Self::open(id, directory, wake, None)?;
        let mut spool = attempt.spool();
        if !spool.has_ended() {
            let accounting = Accounting::default();
            spool
                .append(Timestamp::now(), [Event::Ended { outcome: Outcome::Lost, accounting }])?;
        }
        for event in spool.waiting(usize::MAX, u64::MAX)? {
            attempt.delivery().await_blobs_of(event.number, &event.event);
        }
        drop(spool);
        attempt.remove_work_files();
        Ok(Arc::new(attempt))
    }

    fn open(
        id: AttemptId,
        directory: PathBuf,
        wake: Arc<Notify>,
        orders: Option<mpsc::UnboundedSender<Order>>,
    ) -> std::io::Result<Self> {
        let spool = Mutex::new(Spool::open(&directory, id, SPOOL_LIMITS)?);
        let orders = Mutex::new(orders);
        let (is_failing, syncing, delivery) = Default::default();
        Ok(Self { id, directory, spool, is_failing, syncing, delivery, wake, orders })
    }

    /// Adds events that may be dropped when the disk is full or too much waits: logs, progress.
    pub fn record(&self, events: impl IntoIterator<Item = Event>) {
        let kept = self.spool().append(Timestamp::now(), events);
        let failed_before = self.is_failing.swap(kept.is_err(), Ordering::Relaxed);
        match kept {
            Ok(()) => self.wake.notify_one(),
            // A job that prints to a full disk would say this for every line.
            Err(error) if !failed_before => {
                tracing::warn!(attempt = %self.id, %error, "events of an attempt are not kept");
            }
            Err(_) => {}
        }
    }

    /// Adds an event that must not be dropped. It is safe after the next [`Attempt::sync`].
    ///
    /// # Errors
    /// When it could not be written; it is then not in the spool.
    pub fn record_essential(&self, event: Event) -> std::io::Result<()> {
        let mut spool = self.spool();
        // Before the event can be seen: its blobs must not be dropped from the cache.
        self.delivery().await_blobs_of(spool.next_number(), &event);
        let appended = spool.append(Timestamp::now(), [event]);
        let mut delivery = self.delivery();
        match appended {
            Ok(()) => delivery.fresh.clear(),
            Err(_) => delivery.waiting.retain(|waiting| waiting.number < spool.next_number()),
        }
        drop((delivery, spool));
        self.wake.notify_one();
        appended
    }

    pub fn record_system_line(&self, line: impl Into<String>) {
        self.record([system_line(line)]);
    }

    /// Makes everything that was recorded so far safe.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn sync(&self) -> std::io::Result<()> {
        // Whoever comes while another syncs waits for that one too: it may hold its files.
        let _syncing = self.syncing.lock().await;
        let files = self.spool().take_unsynced();
        if files.is_empty() {
            return Ok(());
        }
        let synced = files.clone();
        let sync = move || synced.iter().try_for_each(|file: &Arc<File>| file.sync_data());
        let result =
            tokio::task::spawn_blocking(sync).await.unwrap_or_else(|error| Err(error.into()));
        if result.is_err() {
            self.spool().put_back_unsynced(files);
        }
        result
    }

    /// The first events that wait, up to the first that refers to a blob which is not on the
    /// server, and the blobs that hold up the next one.
    ///
    /// # Errors
    /// When the spool cannot be read.
    pub fn deliverable(
        &self,
        limit: usize,
        limit_bytes: u64,
    ) -> std::io::Result<(Vec<AttemptEvent>, Vec<BlobHash>)> {
        let mut events = self.spool().waiting(limit, limit_bytes)?;
        let delivery = self.delivery();
        for index in 0..events.len() {
            let event = &mut events[index];
            let refused = blobs_of(&event.event).find_map(|hash| delivery.refused.get(&hash));
            if let Some(why) = refused {
                tell_refusal(&mut event.event, why);
            } else if delivery.is_superseded(event) {
                let line = "a checkpoint was replaced by a newer one before the server took it";
                event.event = system_line(line);
            }
            let missing: Vec<BlobHash> =
                blobs_of(&event.event).filter(|hash| !delivery.uploaded.contains(hash)).collect();
            if !missing.is_empty() {
                events.truncate(index);
                return Ok((events, missing));
            }
        }
        Ok((events, Vec::new()))
    }

    /// Whether there are events that the server does not have.
    pub fn has_waiting(&self) -> bool {
        !self.spool().is_delivered()
    }

    /// Takes note that the server has the events up to this number.
    ///
    /// # Errors
    /// When the spool's files cannot be changed.
    pub fn acknowledge(&self, up_to: u64) -> std::io::Result<()> {
        self.delivery().waiting.retain(|waiting| waiting.number > up_to);
        self.spool().acknowledge(up_to)
    }

    /// Whether it has ended and the server knows all about it.
    pub fn is_settled(&self) -> bool {
        let spool = self.spool();
        spool.has_ended() && spool.is_delivered()
    }

    /// Keeps these blobs in the cache as long as the attempt runs.
    pub fn hold_inputs(&self, blobs: impl IntoIterator<Item = BlobHash>) {
        self.delivery().inputs.extend(blobs);
    }

    /// Keeps this blob in the cache until the next essential event, which names it.
    pub fn hold_fresh(&self, blob: BlobHash) {
        self.delivery().fresh.insert(blob);
    }

    /// The blobs that must stay in the cache for this attempt.
    pub fn needed(&self) -> HashSet<BlobHash> {
        let delivery = self.delivery();
        let waiting = delivery.waiting.iter().map(|waiting| waiting.hash);
        delivery.inputs.iter().chain(&delivery.fresh).copied().chain(waiting).collect()
    }

    /// Whether the caller shall upload this blob: nobody else does at the moment.
    pub fn begin_upload(&self, hash: BlobHash) -> bool {
        self.delivery().uploading.insert(hash)
    }

    /// The upload is over: the blob is on the server, or never will be.
    pub fn end_upload(&self, hash: BlobHash, refused: Option<String>) {
        let mut delivery = self.delivery();
        delivery.uploading.remove(&hash);
        match refused {
            Some(why) => _ = delivery.refused.insert(hash, why),
            None => _ = delivery.uploaded.insert(hash),
        }
        drop(delivery);
        self.wake.notify_one();
    }

    /// A new session: the server may have lost what was not yet referred to.
    pub fn forget_uploads(&self) {
        self.delivery().uploaded.clear();
    }

    /// Passes an order on. False when the attempt has ended.
    pub fn order(&self, order: Order) -> bool {
        let orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        orders.as_ref().is_some_and(|orders| orders.send(order).is_ok())
    }

    /// No more orders are taken.
    pub fn close(&self) {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.delivery().inputs.clear();
    }

    /// Removes everything but the events that the server may not have yet.
    pub fn remove_work_files(&self) {
        for entry in std::fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                warn_unless_gone(&path, std::fs::remove_dir_all(&path));
            } else if !Spool::owns(&entry.file_name()) {
                warn_unless_gone(&path, std::fs::remove_file(&path));
            }
        }
    }

    /// Removes all of the attempt's files.
    pub fn remove_files(&self) {
        warn_unless_gone(&self.directory, std::fs::remove_dir_all(&self.directory));
    }

    fn spool(&self) -> MutexGuard<'_, Spool> {
        self.spool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn delivery(&self) -> MutexGuard<'_, DeliveryState> {
        self.delivery.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn warn_unless_gone(path: &Path, removed: std::io::Result<()>) {
    if let Err(error) = removed
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "files of an attempt were not removed");
    }
}

/// The blobs that must be on the server before it hears of the event.
fn blobs_of(event: &Event) -> impl Iterator<Item = BlobHash> + '_ {
    let (checkpoint, outputs) = match event {
        Event::Checkpoint { blob } => (Some(*blob), &[][..]),
        Event::Ended { outcome: Outcome::Succeeded { outputs, .. }, .. } => (None, &outputs[..]),
        _ => (None, &[][..]),
    };
    checkpoint.into_iter().chain(outputs.iter().map(|output| output.blob))
}

/// Turns an event whose blobs the server will never take into one that says so.
fn tell_refusal(event: &mut Event, why: &str) {
    match event {
        Event::Ended { outcome, .. } => {
            *outcome = Outcome::Failed {
                message: "the job succeeded, but its outputs could not be kept".into(),
                causes: vec![why.to_owned()],
                hint: None,
                retryable: false,
            };
        }
        _ => *event = system_line(format!("a checkpoint could not be kept: {why}")),
    }
}

fn system_line(line: impl Into<String>) -> Event {
    Event::Log { stream: LogStream::System, line: line.into() }
}

#[cfg(test)]
mod tests {
    use corral_worker_api::Output;

    use super::*;

    fn succeeded(blob: BlobHash) -> Event {
        let outputs = vec![Output { name: "o".into(), blob, bytes: 1 }];
        Event::Ended {
            outcome: Outcome::Succeeded { result: serde_json::Value::Null, outputs },
            accounting: Accounting::default(),
        }
    }

    fn begin(dir: &Path) -> (Arc<Attempt>, mpsc::UnboundedReceiver<Order>) {
        Attempt::begin(AttemptId::from_u128(1), dir.into(), Arc::default()).unwrap()
    }

    #[tokio::test]
    async fn events_wait_for_their_blobs() {
        let dir = tempfile::tempdir().unwrap();
        let (attempt, _orders) = begin(dir.path());
        let [state, output] = [BlobHash::of(b"state"), BlobHash::of(b"output")];
        attempt.record_system_line("hello");
        attempt.record_essential(Event::Checkpoint { blob: state }).unwrap();
        attempt.sync().await.unwrap();
        attempt.record_essential(succeeded(output)).unwrap();
        let check = |events, missing: &[BlobHash]| {
            let (ready, held_up) = attempt.deliverable(99, 1 << 20).unwrap();
            assert_eq!((ready.len(), &held_up[..]), (events, missing));
        };
        check(1, &[state]);
        assert!(attempt.begin_upload(state));
        assert!(!attempt.begin_upload(state), "one upload at a time");
        attempt.end_upload(state, None);
        check(2, &[output]);
        attempt.end_upload(output, None);
        check(3, &[]);
        attempt.forget_uploads();
        check(1, &[state]);
        assert_eq!(attempt.needed(), HashSet::from([state, output]));
        attempt.acknowledge(2).unwrap();
        assert_eq!(attempt.needed(), HashSet::from([output]));
        attempt.acknowledge(3).unwrap();
        assert!(attempt.is_settled() && attempt.needed().is_empty());
    }

    #[tokio::test]
    async fn only_the_newest_of_the_checkpoints_that_wait_is_uploaded() {
        let dir = tempfile::tempdir().unwrap();
        let (attempt, _orders) = begin(dir.path());
        let states: Vec<BlobHash> = (0..4u8).map(|number| BlobHash::of(&[number])).collect();
        let keep = |blob| attempt.record_essential(Event::Checkpoint { blob }).unwrap();
        keep(states[0]);
        let check = |ready_count, held_up: &[BlobHash]| {
            let (ready, missing) = attempt.deliverable(99, 1 << 20).unwrap();
            assert_eq!((ready.len(), &missing[..]), (ready_count, held_up));
            ready
        };
        check(0, &[states[0]]);
        // One that is on its way is not given up for newer ones: else none would ever arrive.
        assert!(attempt.begin_upload(states[0]));
        states[1..].iter().for_each(|state| keep(*state));
        check(0, &[states[0]]);
        attempt.end_upload(states[0], None);
        let ready = check(3, &[states[3]]);
        assert_eq!(ready[0].event, Event::Checkpoint { blob: states[0] });
        assert!(matches!(ready[1].event, Event::Log { .. }));
        assert!(matches!(ready[2].event, Event::Log { .. }));
        attempt.acknowledge(3).unwrap();
        assert_eq!(attempt.needed(), HashSet::from([states[3]]));
    }

    #[tokio::test]
    async fn outputs_that_are_refused_fail_the_attempt_in_words() {
        let dir = tempfile::tempdir().unwrap();
        let (attempt, _orders) = begin(dir.path());
        let [state, output] = [BlobHash::of(b"state"), BlobHash::of(b"output")];
        attempt.record_essential(Event::Checkpoint { blob: state }).unwrap();
        attempt.record_essential(succeeded(output)).unwrap();
        attempt.end_upload(state, Some("too large".into()));
        let (events, missing) = attempt.deliverable(9, 1 << 20).unwrap();
        assert_eq!((events.len(), missing), (1, vec![output]), "the output has its own chance");
        attempt.end_upload(output, Some("over quota".into()));
        let (events, missing) = attempt.deliverable(9, 1 << 20).unwrap();
        assert!(missing.is_empty());
        assert!(matches!(&events[0].event, Event::Log { line, .. } if line.contains("too large")));
        let Event::Ended { outcome: Outcome::Failed { causes, .. }, .. } = &events[1].event else {
            panic!("{events:?}");
        };
        assert_eq!(causes, &["over quota"]);
    }

    #[tokio::test]
    async fn what_ran_is_lost_after_a_restart_and_what_ended_is_not() {
        let dir = tempfile::tempdir().unwrap();
        for (name, ended) in [("ran", false), ("ended", true)] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.join("work/deep")).unwrap();
            std::fs::write(path.join("checkpoint-1"), b"x").unwrap();
            let (attempt, _orders) = begin(&path);
            attempt.record_system_line("begun");
            let blob = BlobHash::of(b"output");
            if ended {
                attempt.record_essential(succeeded(blob)).unwrap();
            }
            drop(attempt);
            let id = AttemptId::from_u128(1);
            let attempt = Attempt::recover(id, path.clone(), Arc::default()).unwrap();
            let (events, missing) = attempt.deliverable(9, 1 << 20).unwrap();
            assert!(!path.join("work").exists() && !path.join("checkpoint-1").exists());
            if ended {
                assert_eq!((events.len(), missing), (1, vec![blob]));
                assert!(attempt.needed().contains(&blob));
            } else {
                let last = &events.last().unwrap().event;
                assert!(matches!(last, Event::Ended { outcome: Outcome::Lost, .. }));
            }
            assert!(!attempt.order(Order::Abandon));
        }
    }
}
