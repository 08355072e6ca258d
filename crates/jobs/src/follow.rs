//! Reading the stories of jobs: page by page, or as they go on.

use std::sync::Arc;

use corral_types::{Caller, JobId, Scope};
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::sync::watch;

use crate::error::JobsError;
use crate::event::{JobEvent, JobEventKind, LogLine};
use crate::service::{JobView, JobsService, Shared, UntilKept, locked, may, visible};
use crate::story::{Page, StoryError, StoryReader};

/// The most entries on one page of a story.
pub const MAX_ENTRIES_PER_PAGE: usize = 10_000;
/// How many entries are read ahead for one who follows.
const FOLLOWED_AT_ONCE: usize = 256;

/// Entries of a story as they come.
pub type Following<T> = BoxStream<'static, Result<T, JobsError>>;

impl JobsService {
    /// The job's log lines with numbers above `after`, at most `limit`.
    pub async fn logs(
        &self,
        caller: &Caller,
        job: JobId,
        after: u64,
        limit: usize,
    ) -> Result<Page<LogLine>, JobsError> {
        self.check_readable(caller, job).await?;
        let limit = limit.clamp(1, MAX_ENTRIES_PER_PAGE);
        self.shared.read_story(move |stories| stories.log(job, after, limit)).await
    }

    /// The job's events with numbers above `after`, at most `limit`.
    pub async fn events_page(
        &self,
        caller: &Caller,
        job: JobId,
        after: u64,
        limit: usize,
    ) -> Result<Page<JobEvent>, JobsError> {
        self.check_readable(caller, job).await?;
        let limit = limit.clamp(1, MAX_ENTRIES_PER_PAGE);
        self.shared.read_story(move |stories| stories.events(job, after, limit)).await
    }

    /// The job's events after number `after`: those that are kept, then the others as they
    /// happen, each once. It ends after the job's last event.
    pub async fn events(
        &self,
        caller: &Caller,
        job: JobId,
        after: u64,
    ) -> Result<Following<JobEvent>, JobsError> {
        self.follow(caller, job, after, StoryReader::events, |event: &JobEvent| event.id).await
    }

    /// The job's log lines after number `after`, likewise; it ends with the job.
    pub async fn follow_logs(
        &self,
        caller: &Caller,
        job: JobId,
        after: u64,
    ) -> Result<Following<LogLine>, JobsError> {
        self.follow(caller, job, after, StoryReader::log, |line: &LogLine| line.id).await
    }

    /// Waits until the job has ended.
    ///
    /// # Errors
    /// [`JobsError::Stopping`] when the server goes down first: ask again after it is back.
    pub async fn wait(&self, caller: &Caller, job: JobId) -> Result<JobView, JobsError> {
        let after = self.get(caller, job).await?.job.events.saturating_sub(1);
        let mut events = self.events(caller, job, after).await?;
        while let Some(event) = events.next().await {
            if matches!(event?.kind, JobEventKind::Ended { .. }) {
                break;
            }
        }
        let view = self.get(caller, job).await?;
        if view.job.state().is_ended() { Ok(view) } else { Err(JobsError::Stopping) }
    }

    async fn check_readable(&self, caller: &Caller, job: JobId) -> Result<(), JobsError> {
        may(caller, Scope::Read, "read")?;
        let at_work = self.shared.engine.lock().await;
        visible(at_work.engine.core(), caller, job).map(drop)
    }

    async fn follow<T: Send + 'static>(
        &self,
        caller: &Caller,
        job: JobId,
        after: u64,
        read: ReadStory<T>,
        id_of: fn(&T) -> u64,
    ) -> Result<Following<T>, JobsError> {
        self.check_readable(caller, job).await?;
        let follower = Follower {
            shared: Arc::clone(&self.shared),
            job,
            after,
            read,
            id_of,
            changes: self.shared.subscribe(job),
            stopping: self.shared.stopping.subscribe(),
        };
        let pages = stream::unfold(Some(follower), |follower| async {
            let mut follower = follower?;
            match follower.next_page().await {
                Ok(entries) if entries.is_empty() => None,
                Ok(entries) => {
                    let entries: Vec<_> = entries.into_iter().map(Ok).collect();
                    Some((entries, Some(follower)))
                }
                Err(error) => Some((vec![Err(error)], None)),
            }
        });
        Ok(pages.flat_map(stream::iter).boxed())
    }
}

type ReadStory<T> = fn(&StoryReader, JobId, u64, usize) -> Result<Page<T>, StoryError>;

/// One who reads a story to its end.
struct Follower<T> {
    shared: Arc<Shared>,
    job: JobId,
    after: u64,
    read: ReadStory<T>,
    id_of: fn(&T) -> u64,
    changes: watch::Receiver<u64>,
    stopping: watch::Receiver<bool>,
}

impl<T: Send + 'static> Follower<T> {
    /// The next entries; none at the end of the story.
    async fn next_page(&mut self) -> Result<Vec<T>, JobsError> {
        loop {
            // Seen before the story is read, so that nothing falls in between.
            self.changes.borrow_and_update();
            // The end of a story is known before it is written, together with whatever else is
            // decided meanwhile; a story that is read after that is whole.
            let end = self.decided_end().await;
            let has_ended = end.is_some();
            if let Some(end) = end {
                self.shared.until_kept(end).await?;
            }
            let (read, job, after) = (self.read, self.job, self.after);
            let page = self
                .shared
                .read_story(move |stories| read(stories, job, after, FOLLOWED_AT_ONCE))
                .await?;
            if let Some(last) = page.entries.last() {
                self.after = (self.id_of)(last);
                return Ok(page.entries);
            }
            if has_ended {
                return Ok(Vec::new());
            }
            tokio::select! {
                changed = self.changes.changed() => if changed.is_err() { return Ok(Vec::new()) },
                _ = self.stopping.wait_for(|stopping| *stopping) => {
                    return Err(JobsError::Stopping);
                }
            }
        }
    }

    /// Where a job has ended: everything up to what must be kept for its story to be whole.
    async fn decided_end(&self) -> Option<UntilKept> {
        let at_work = self.shared.engine.lock().await;
        let ended = at_work.engine.core().job(self.job).is_none_or(|job| job.state().is_ended());
        ended.then_some(UntilKept(at_work.last_enqueued))
    }
}

impl Shared {
    async fn read_story<T: Send + 'static>(
        &self,
        read: impl FnOnce(&StoryReader) -> Result<Page<T>, StoryError> + Send + 'static,
    ) -> Result<Page<T>, JobsError> {
        let stories = self.stories.clone();
        match tokio::task::spawn_blocking(move || read(&stories)).await {
            Ok(page) => Ok(page?),
            Err(_) => Err(JobsError::Stopping),
        }
    }

    fn subscribe(&self, job: JobId) -> watch::Receiver<u64> {
        locked(&self.followers).entry(job).or_insert_with(|| watch::Sender::new(0)).subscribe()
    }
}
