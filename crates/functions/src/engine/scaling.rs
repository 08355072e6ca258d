//! Which container gets which input, and how many containers there are.

use corral_types::{ContainerId, Timestamp};
use std::time::Duration;

use super::Engine;
use crate::policy::{
    MAX_HORIZON_MS, MAX_STARTING_CONTAINERS, MIN_HORIZON_MS, UNMEASURED_CONTAINERS,
};
use crate::record::Record;
use crate::settings::Reuse;

/// A function with no more containers than these has them counted at every change.
const CONTAINERS_LOOKED_AT_OFTEN: usize = 32;

impl Engine {
    /// Hands queued inputs to containers that wait for some: the first in the queue to the
    /// container that began to wait last, so that those that are not needed become idle.
    pub(super) fn dispatch(&mut self, now: Timestamp, function: u32) {
        self.lingering.remove(&function);
        loop {
            let known = self.function(function);
            if known.queued == 0 || known.retired_at.is_some() {
                return;
            }
            let settings = known.settings.clone();
            let room_in = |place: &u32| {
                let container = &self.core.containers[*place];
                let room = settings.capacity().saturating_sub(container.running.len() as u32);
                Some((*place, room, container.present.poll?)).filter(|_| room > 0)
            };
            let Some((holder, room, poll)) = known.pace.pollers.iter().rev().find_map(room_in)
            else {
                return;
            };
            let container = &self.core.containers[holder];
            let at_most = settings.batching.map_or(1, |batching| batching.max_size).min(room);
            let wanted = poll.max_inputs.clamp(1, at_most);
            if let Some(batching) = settings.batching
                && known.queued < wanted
            {
                let first = &self.core.inputs[known.queue[0]];
                let until = first.since.plus(Duration::from_millis(batching.linger_ms));
                if now < until {
                    self.lingering.insert(function, until);
                    return;
                }
            }
            let places: Vec<u32> = self.core.queued(function).take(wanted as usize).collect();
            let id = container.id;
            self.poll_ended(id);
            let timeout_ms = u32::try_from(settings.timeout_ms).unwrap_or(u32::MAX);
            let inputs = self.keys_of(&places);
            let record =
                Record::Assigned { container: id, poll: poll.key, at: now, timeout_ms, inputs };
            self.commit(record);
            self.hand_over(holder, &places);
            if settings.reuse == Reuse::Single {
                self.drain(now, holder);
            }
        }
    }

    /// How many containers a function shall have at least at this moment: fewer are idle.
    pub(super) fn floor(&self, function: u32) -> usize {
        let known = self.function(function);
        if known.retired_at.is_some() {
            return 0;
        }
        let scaling = known.settings.scaling;
        let is_busy = known.queued + known.running > 0;
        let buffer = if is_busy { scaling.buffer_containers } else { 0 };
        let floor = scaling.min_containers.saturating_add(buffer);
        floor.min(scaling.max_containers) as usize
    }

    /// How many containers a function needs now that take inputs, of which so many run in them,
    /// the longest since so long.
    fn wanted(&self, function: u32, running: usize, longest_ms: f64) -> usize {
        let known = self.function(function);
        let scaling = known.settings.scaling;
        let (queued, running) = (f64::from(known.queued), running as f64);
        let mut wanted: u64 = 0;
        if queued + running > 0.0 {
            let target = f64::from(known.settings.target());
            let horizon_ms = (2.0 * known.pace.startup_ms).clamp(MIN_HORIZON_MS, MAX_HORIZON_MS);
            // What runs already for longer than an attempt is thought to take tells that it
            // takes longer.
            let service_ms = known.pace.service_ms.max(longest_ms);
            let at_once = if service_ms == 0.0 { 1.0 } else { (service_ms / horizon_ms).min(1.0) };
            wanted = ((queued * at_once + running) / target).ceil().max(1.0) as u64;
            let is_measured = known.pace.service_ms > 0.0 || longest_ms >= MIN_HORIZON_MS;
            if !is_measured {
                wanted = wanted.min(UNMEASURED_CONTAINERS.max((running / target).ceil() as u64));
            }
            wanted += u64::from(scaling.buffer_containers);
        }
        let least = u64::from(scaling.min_containers);
        wanted.max(least).min(u64::from(scaling.max_containers)) as usize
    }

    /// Asks for the containers that a function needs and has not. It looks at all that there are:
    /// where there are many, at most once a millisecond.
    pub(super) fn scale(&mut self, now: Timestamp, function: u32) {
        let known = &mut self.core.functions[function];
        let is_large = known.containers.len() > CONTAINERS_LOOKED_AT_OFTEN;
        if known.pace.start_after > now || is_large && known.pace.scaled_at == now {
            return;
        }
        known.pace.scaled_at = now;
        let known = self.function(function);
        if known.retired_at.is_some() {
            return;
        }
        let (mut alive, mut starting, mut leaving) = (0, 0, 0);
        let (mut running, mut longest_ms) = (0, 0.0_f64);
        for &place in &known.containers {
            let container = &self.core.containers[place];
            if container.draining_since.is_none() {
                alive += 1;
                starting += usize::from(container.ready_at.is_none());
                running += container.running.len();
                if let Some(&first) = container.running.first() {
                    let ran = now.since(self.core.inputs[first].started_at());
                    longest_ms = longest_ms.max(ran.as_millis() as f64);
                }
            } else if container.version == known.settings.version && !container.running.is_empty() {
                // It still does what the function may do only so often at once.
                leaving += 1;
            }
        }
        let most = (known.settings.scaling.max_containers as usize).saturating_sub(leaving);
        let missing = self.wanted(function, running, longest_ms).min(most).saturating_sub(alive);
        let room = MAX_STARTING_CONTAINERS.saturating_sub(starting);
        let id = known.settings.function;
        for _ in 0..missing.min(room) {
            let container = ContainerId::from_parts(now, (self.random)());
            self.commit(Record::ContainerRequested { container, function: id, at: now });
            self.out.starts.push((container, id));
        }
    }

    /// Ends the containers beyond the most that a function may have, the idle ones first.
    pub(super) fn trim(&mut self, now: Timestamp, function: u32) {
        let most = self.function(function).settings.scaling.max_containers as usize;
        let surplus = self.alive(function).saturating_sub(most);
        if surplus == 0 {
            return;
        }
        let mut containers: Vec<u32> = self.function(function).containers.clone();
        containers.retain(|&place| self.core.containers[place].draining_since.is_none());
        containers.sort_by_key(|&place| {
            let container = &self.core.containers[place];
            (container.running.len(), container.ready_at.is_some(), container.requested_at)
        });
        for place in containers.into_iter().take(surplus) {
            self.drain(now, place);
        }
    }
}
