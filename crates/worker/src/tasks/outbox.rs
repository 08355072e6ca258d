//! What is to be told of containers and builds, until the server has taken it.
//!
//! Kept in memory: a container does not outlive its worker, and the server takes one that is
//! gone for lost. While the server is away, lines beyond a bound are dropped and counted; what
//! happened is kept.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use corral_containers::{ContainerEvent, ContainerLine};
use corral_types::{TaskId, Timestamp};
use corral_worker_api::{MAX_TASK_EVENTS_PER_BATCH, NumberedTaskEvent, TaskEvent, TaskEventBatch};
use tokio::sync::Notify;

use crate::Worker;
use crate::backoff::Backoff;
use crate::connection::CallError;

/// Lines that wait for the server, over all tasks: half an hour of a chatty program.
const MAX_WAITING_LINE_BYTES: usize = 32 << 20;

/// The bytes of lines in one batch.
const MAX_BATCH_LINE_BYTES: usize = 4 << 20;

/// How long lines gather before they are sent: a person sees them at once, and a program that
/// prints ten thousand of them costs some dozens of calls.
const GATHER: Duration = Duration::from_millis(20);

/// See the module.
#[derive(Default)]
pub struct Outbox {
    waiting: Mutex<Waiting>,
    wake: Notify,
}

#[derive(Default)]
struct Waiting {
    events: VecDeque<NumberedTaskEvent>,
    numbers: HashMap<TaskId, u64>,
    line_bytes: usize,
    /// Lines that were dropped and not told of yet.
    dropped: HashMap<TaskId, u64>,
    /// How many of the first events are on their way.
    in_flight: usize,
}

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has this told, after what was given before.
    pub fn tell(&self, task: TaskId, event: TaskEvent) {
        self.lock().push(task, event);
        self.wake.notify_one();
    }

    /// Has lines of a container told.
    pub fn lines(&self, task: TaskId, lines: Vec<ContainerLine>) {
        self.keep_lines(task, lines, |lines| TaskEvent::Container {
            event: ContainerEvent::Lines { lines },
        });
    }

    /// Has lines of a build told.
    pub fn build_lines(&self, task: TaskId, lines: Vec<ContainerLine>) {
        self.keep_lines(task, lines, |lines| TaskEvent::BuildLines { lines });
    }

    fn keep_lines(
        &self,
        task: TaskId,
        mut lines: Vec<ContainerLine>,
        event: impl FnOnce(Vec<ContainerLine>) -> TaskEvent,
    ) {
        let mut waiting = self.lock();
        let bytes = line_bytes(&lines);
        if waiting.line_bytes + bytes > MAX_WAITING_LINE_BYTES {
            *waiting.dropped.entry(task).or_default() += lines.len() as u64;
            return;
        }
        if let Some(dropped) = waiting.dropped.remove(&task) {
            let text =
                format!("{dropped} pieces of output were dropped while the server was away\n");
            lines.insert(0, ContainerLine { at: Timestamp::now(), descriptor: 3, text });
        }
        waiting.line_bytes += bytes;
        waiting.push(task, event(lines));
        drop(waiting);
        self.wake.notify_one();
    }

    /// Whether everything has been taken.
    pub fn is_empty(&self) -> bool {
        self.lock().events.is_empty()
    }

    fn batch(&self) -> Vec<NumberedTaskEvent> {
        let mut waiting = self.lock();
        let mut bytes = 0;
        let events: Vec<_> = waiting
            .events
            .iter()
            .take(MAX_TASK_EVENTS_PER_BATCH)
            .take_while(|told| {
                let before = bytes;
                bytes += event_line_bytes(&told.event);
                before == 0 || bytes <= MAX_BATCH_LINE_BYTES
            })
            .cloned()
            .collect();
        waiting.in_flight = events.len();
        events
    }

    fn taken(&self) {
        let mut waiting = self.lock();
        let count = std::mem::take(&mut waiting.in_flight);
        for told in waiting.events.drain(..count).collect::<Vec<_>>() {
            waiting.line_bytes -= event_line_bytes(&told.event);
            if told.event.is_last() {
                waiting.numbers.remove(&told.task);
                waiting.dropped.remove(&told.task);
            }
        }
    }
}

impl Waiting {
    fn push(&mut self, task: TaskId, event: TaskEvent) {
        let number = self.numbers.entry(task).or_default();
        *number += 1;
        let number = *number;
        self.events.push_back(NumberedTaskEvent { task, number, event });
    }
}

fn line_bytes(lines: &[ContainerLine]) -> usize {
    lines.iter().map(|line| line.text.len() + size_of::<ContainerLine>()).sum()
}

fn event_line_bytes(event: &TaskEvent) -> usize {
    match event {
        TaskEvent::Container { event: ContainerEvent::Lines { lines } }
        | TaskEvent::BuildLines { lines } => line_bytes(lines),
        _ => 0,
    }
}

/// Tells the server, in order, for ever.
pub async fn deliver_tasks(worker: Arc<Worker>) {
    let outbox = worker.tasks.outbox();
    let mut backoff = Backoff::default();
    loop {
        let events = outbox.batch();
        if events.is_empty() {
            outbox.wake.notified().await;
            // An end or a start is told at once; whoever only prints is gathered.
            if outbox.batch().iter().all(|told| event_line_bytes(&told.event) > 0) {
                tokio::time::sleep(GATHER).await;
            }
            continue;
        }
        let session = worker.session.current().await;
        let batch = TaskEventBatch { worker: worker.directory.worker, session, events };
        match worker.connection.send_task_events(&batch).await {
            Ok(()) => {
                outbox.taken();
                backoff.reset();
            }
            Err(CallError::UnknownSession) => worker.session.lost(session),
            Err(error) if error.is_temporary() => backoff.wait().await,
            Err(error) => {
                tracing::error!(%error, "the server does not take what is told of containers");
                outbox.taken();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Vec<ContainerLine> {
        vec![ContainerLine { at: Timestamp::from_millis(1), descriptor: 1, text: text.into() }]
    }

    #[test]
    fn events_are_numbered_by_task_and_go_once_they_are_taken() {
        let outbox = Outbox::default();
        let (first, second) = (TaskId::from_u128(1), TaskId::from_u128(2));
        outbox.lines(first, line("a\n"));
        outbox.build_lines(second, line("b\n"));
        outbox.lines(first, line("c\n"));
        let numbers: Vec<_> = outbox.batch().iter().map(|told| (told.task, told.number)).collect();
        assert_eq!(numbers, [(first, 1), (second, 1), (first, 2)]);
        outbox.lines(second, line("late\n"));
        outbox.taken();
        let numbers: Vec<_> = outbox.batch().iter().map(|told| (told.task, told.number)).collect();
        assert_eq!(numbers, [(second, 2)]);
        outbox.taken();
        assert!(outbox.is_empty());
        assert_eq!(outbox.lock().line_bytes, 0);
    }

    #[test]
    fn lines_beyond_the_bound_are_dropped_counted_and_told_of() {
        let outbox = Outbox::default();
        let task = TaskId::from_u128(1);
        let long = "x".repeat(1 << 20);
        for _ in 0..40 {
            outbox.lines(task, line(&long));
        }
        assert!(outbox.lock().line_bytes <= MAX_WAITING_LINE_BYTES);
        while !outbox.is_empty() {
            assert!(outbox.batch().len() <= 4);
            outbox.taken();
        }
        outbox.lines(task, line("after\n"));
        let last = outbox.batch();
        let TaskEvent::Container { event: ContainerEvent::Lines { lines } } = &last[0].event else {
            panic!("{last:?}")
        };
        assert!(lines[0].text.contains("9 pieces of output were dropped"), "{}", lines[0].text);
    }
}
