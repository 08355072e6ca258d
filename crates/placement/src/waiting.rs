//! The tasks that wait, in queues by workspace and class.
//!
//! Within a queue, tasks stand by when they came, moved forward by priority and by a near
//! deadline. That place is fixed when a task arrives: waiting is what moves it up.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};
use std::time::Duration;

use corral_types::{TaskId, Timestamp, WorkspaceId};

use crate::messages::{TaskRequest, WorkClass};
use crate::policy::Policy;

/// A queue: one workspace's tasks of one class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct QueueKey {
    pub workspace: WorkspaceId,
    pub class: WorkClass,
}

impl QueueKey {
    pub fn of(request: &TaskRequest) -> Self {
        Self { workspace: request.workspace, class: request.class }
    }
}

/// A task's place in its queue; the smallest is first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    came_ms: i64,
    priority: Reverse<i32>,
    arrival: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct WaitingTask {
    pub request: TaskRequest,
    pub since: Timestamp,
    pub place: Place,
}

/// What decides whether a waiting task has a chance, beside its place: most looks at a
/// queue need no more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    pub task: TaskId,
    memory_bytes: u64,
    milli_cpu: u32,
    gpus: u32,
}

/// The most of each resource that any worker has free.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Room {
    pub memory_bytes: u64,
    /// By class.
    pub milli_cpu: [u64; 3],
    pub gpus: u32,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Queue {
    pub tasks: BTreeMap<Place, Ask>,
    /// When its first task may have a worker reserved. Counted from when that task came
    /// to the front, so that the queue with the longest backlog does not take them all.
    due: Timestamp,
    /// How long the last reservation for its first task held a worker in vain.
    held_in_vain_ms: u64,
}

impl Queue {
    pub fn first(&self) -> Option<TaskId> {
        self.tasks.first_key_value().map(|(_, ask)| ask.task)
    }

    pub fn held_in_vain_ms(&self) -> u64 {
        self.held_in_vain_ms
    }
}

#[derive(Debug, Default)]
pub(crate) struct Waiting {
    tasks: BTreeMap<TaskId, WaitingTask>,
    queues: BTreeMap<QueueKey, Queue>,
    /// Queues by when they are due.
    due: BTreeSet<(Timestamp, QueueKey)>,
    deadlines: BTreeSet<(Timestamp, TaskId)>,
    /// How many tasks request each amount of memory: nothing fits below the least.
    requests: BTreeMap<u64, u32>,
    arrivals: u64,
}

impl Waiting {
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    pub fn task(&self, task: TaskId) -> Option<&WaitingTask> {
        self.tasks.get(&task)
    }

    pub fn tasks(&self) -> &BTreeMap<TaskId, WaitingTask> {
        &self.tasks
    }

    pub fn queue(&self, key: QueueKey) -> Option<&Queue> {
        self.queues.get(&key)
    }

    /// The first task of a queue, behind a place in it, that would fit into the room; each
    /// task on the way is a look.
    pub fn next_with_chance(
        &self,
        key: QueueKey,
        behind: Option<Place>,
        room: &Room,
        looks: &mut usize,
    ) -> Option<(Place, TaskId)> {
        let tasks = &self.queues.get(&key)?.tasks;
        let start = behind.map_or(Unbounded, Excluded);
        for (&place, ask) in tasks.range((start, Unbounded)) {
            *looks = looks.checked_sub(1)?;
            let fits = ask.memory_bytes <= room.memory_bytes
                && u64::from(ask.milli_cpu) <= room.milli_cpu[key.class as usize]
                && ask.gpus <= room.gpus;
            if fits {
                return Some((place, ask.task));
            }
        }
        None
    }

    /// Queues that are due, the longest due first.
    pub fn due_queues(&self, now: Timestamp) -> impl Iterator<Item = QueueKey> {
        self.due.iter().take_while(move |(due, _)| *due <= now).map(|&(_, key)| key)
    }

    /// Tasks whose deadline has come.
    pub fn expired(&self, now: Timestamp) -> Vec<TaskId> {
        self.deadlines.iter().take_while(|(at, _)| *at <= now).map(|&(_, task)| task).collect()
    }

    pub fn least_request_bytes(&self) -> Option<u64> {
        self.requests.first_key_value().map(|(&bytes, _)| bytes)
    }

    pub fn insert(&mut self, now: Timestamp, policy: &Policy, request: TaskRequest) {
        self.arrivals += 1;
        let place = place(now, policy, &request, self.arrivals);
        let key = QueueKey::of(&request);
        let queue = self.queues.entry(key).or_default();
        if queue.tasks.is_empty() {
            *queue = Queue::default();
            queue.due = now.plus(Duration::from_millis(policy.bound_ms(key.class)));
            self.due.insert((queue.due, key));
        }
        let ask = Ask {
            task: request.task,
            memory_bytes: request.memory_request_bytes,
            milli_cpu: request.milli_cpu,
            gpus: request.gpus,
        };
        queue.tasks.insert(place, ask);
        if let Some(deadline) = request.deadline {
            self.deadlines.insert((deadline, request.task));
        }
        *self.requests.entry(request.memory_request_bytes).or_default() += 1;
        self.tasks.insert(request.task, WaitingTask { request, since: now, place });
    }

    /// Takes a task out. If it was the first of its queue, the bound of the next begins.
    pub fn remove(&mut self, now: Timestamp, policy: &Policy, task: TaskId) -> Option<WaitingTask> {
        let waiting = self.tasks.remove(&task)?;
        let key = QueueKey::of(&waiting.request);
        if let Some(queue) = self.queues.get_mut(&key) {
            let was_first = queue.first() == Some(task);
            queue.tasks.remove(&waiting.place);
            if queue.tasks.is_empty() {
                self.due.remove(&(queue.due, key));
                self.queues.remove(&key);
            } else if was_first {
                queue.held_in_vain_ms = 0;
                self.set_due(key, now, policy.bound_ms(key.class));
            }
        }
        if let Some(deadline) = waiting.request.deadline {
            self.deadlines.remove(&(deadline, task));
        }
        let bytes = waiting.request.memory_request_bytes;
        if let Some(count) = self.requests.get_mut(&bytes) {
            *count -= 1;
            if *count == 0 {
                self.requests.remove(&bytes);
            }
        }
        Some(waiting)
    }

    /// A reservation of a queue ran out after this long: it pauses as long.
    pub fn hold_ran_out(&mut self, now: Timestamp, policy: &Policy, key: QueueKey, held_ms: u64) {
        if let Some(queue) = self.queues.get_mut(&key) {
            queue.held_in_vain_ms = held_ms;
            self.set_due(key, now, policy.bound_ms(key.class).max(held_ms));
        }
    }

    fn set_due(&mut self, key: QueueKey, now: Timestamp, wait_ms: u64) {
        let queue = self.queues.get_mut(&key).expect("the caller has just seen the queue");
        self.due.remove(&(queue.due, key));
        queue.due = now.plus(Duration::from_millis(wait_ms));
        self.due.insert((queue.due, key));
    }
}

fn place(now: Timestamp, policy: &Policy, request: &TaskRequest, arrival: u64) -> Place {
    let millis = |at: Timestamp| i64::try_from(at.as_millis()).unwrap_or(i64::MAX);
    let step = i64::try_from(policy.priority_step_ms).unwrap_or(i64::MAX);
    let by_priority = millis(now).saturating_sub(step.saturating_mul(i64::from(request.priority)));
    let lead = i64::try_from(policy.deadline_lead_ms).unwrap_or(i64::MAX);
    let by_deadline =
        request.deadline.map_or(i64::MAX, |deadline| millis(deadline).saturating_sub(lead));
    Place { came_ms: by_priority.min(by_deadline), priority: Reverse(request.priority), arrival }
}
