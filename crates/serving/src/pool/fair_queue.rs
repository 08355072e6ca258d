//! The queue before the cores: fair between flows, bounded, and served in parts.
//!
//! Flows take turns by the work they ask for, in the order of start tags (start-time fair
//! queueing: Goyal, Vin, Cheng, "Start-Time Fair Queuing", 1996): however much one asks for, another
//! that asks for little is served next. Within a flow light requests, of one part, take turns with
//! the parts of heavy ones, of which a few are under way at once. Where more waits than the bound,
//! the flow that has most waiting loses its newest request.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::Hash;

/// Flows that are looked at for a part that fits into a batch: those next in turn.
const LOOK_AHEAD: usize = 64;

/// Flows without a request whose turn is remembered. Beyond these all such are forgotten: some are
/// then served once sooner than they should.
const MAX_IDLE_FLOWS: usize = 1024;

/// Work that can be done part by part.
pub trait Divisible {
    type Part;

    /// Cuts off what is done next.
    fn cut(&mut self) -> Cut<Self::Part>;
}

/// A part cut off a request.
pub struct Cut<P> {
    pub part: P,
    /// In the same unit as the cost of a request.
    pub cost: u64,
    pub is_last: bool,
}

/// Heavy requests of a flow that are under way at once: more of them would each take longer, and
/// hold what they were asked for the longer.
const MOST_BEGUN: usize = 4;

/// Requests that wait, of several flows.
pub struct FairQueue<F, R> {
    flows: HashMap<F, Flow<R>>,
    /// The start tags of flows that have requests.
    turns: BTreeSet<(u64, F)>,
    /// The start tag of the part that was last cut off.
    now: u64,
    /// Of requests that were not begun.
    waiting_cost: u64,
    waiting: usize,
    admitted: u64,
    limits: Limits,
}

/// In the unit of costs.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// What may wait when a further request is admitted.
    pub waiting_cost: u64,
    /// What a light request costs at most.
    pub light_cost: u64,
}

struct Flow<R> {
    light: VecDeque<Waiting<R>>,
    heavy: VecDeque<Waiting<R>>,
    /// Heavy ones that are under way; the first is served next.
    begun: VecDeque<R>,
    /// Whether a light request was served last.
    light_was_last: bool,
    /// The start tag of its next part.
    start: u64,
    /// Of requests that were not begun.
    waiting_cost: u64,
}

struct Waiting<R> {
    request: R,
    cost: u64,
    /// Numbers rise with time.
    number: u64,
}

impl<R> Default for Flow<R> {
    fn default() -> Self {
        Self {
            light: VecDeque::new(),
            heavy: VecDeque::new(),
            begun: VecDeque::new(),
            light_was_last: false,
            start: 0,
            waiting_cost: 0,
        }
    }
}

/// Where the next part of a flow comes from.
enum Source {
    Light,
    Heavy,
    Begun,
}

impl<R> Flow<R> {
    fn is_empty(&self) -> bool {
        self.light.is_empty() && self.heavy.is_empty() && self.begun.is_empty()
    }

    fn source(&self) -> Option<Source> {
        let more = if !self.heavy.is_empty() && self.begun.len() < MOST_BEGUN {
            Some(Source::Heavy)
        } else {
            (!self.begun.is_empty()).then_some(Source::Begun)
        };
        match more {
            Some(_) if !self.light.is_empty() && !self.light_was_last => Some(Source::Light),
            None => (!self.light.is_empty()).then_some(Source::Light),
            more => more,
        }
    }

    fn next(&self) -> Option<&R> {
        match self.source()? {
            Source::Light => self.light.front().map(|waiting| &waiting.request),
            Source::Heavy => self.heavy.front().map(|waiting| &waiting.request),
            Source::Begun => self.begun.front(),
        }
    }

    fn newest(&self) -> Option<u64> {
        let last = |waiting: &VecDeque<Waiting<R>>| waiting.back().map(|last| last.number);
        last(&self.light).max(last(&self.heavy))
    }
}

impl<F: Copy + Ord + Hash, R: Divisible> FairQueue<F, R> {
    pub fn new(limits: Limits) -> Self {
        Self {
            flows: HashMap::new(),
            turns: BTreeSet::new(),
            now: 0,
            waiting_cost: 0,
            waiting: 0,
            admitted: 0,
            limits,
        }
    }

    /// Requests that were not begun.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Whether any request has parts left.
    pub fn has_turns(&self) -> bool {
        !self.turns.is_empty()
    }

    /// Takes in a request that costs so much, and hands back those that lose their place: the
    /// newest of the flows that have most waiting, which may be this one.
    #[must_use]
    pub fn admit(&mut self, flow: F, request: R, cost: u64) -> Vec<R> {
        let mut refused = Vec::new();
        while self.waiting_cost > self.limits.waiting_cost {
            // Of flows with as much, the one that asks for more now.
            let with_this = |key: F, state: &Flow<R>| {
                let own = key == flow;
                (state.waiting_cost + if own { cost } else { 0 }, own, key)
            };
            let all = self.flows.iter().map(|(&key, state)| with_this(key, state));
            let most = all.max().filter(|(most, ..)| *most >= cost);
            match most {
                Some((_, false, loses)) => match self.take_newest(loses) {
                    Some(lost) => refused.push(lost),
                    None => break,
                },
                _ => {
                    refused.push(request);
                    return refused;
                }
            }
        }
        self.admitted += 1;
        let state = self.flows.entry(flow).or_default();
        if state.is_empty() {
            state.start = state.start.max(self.now);
            self.turns.insert((state.start, flow));
        }
        let waiting = Waiting { request, cost, number: self.admitted };
        if cost <= self.limits.light_cost {
            state.light.push_back(waiting);
        } else {
            state.heavy.push_back(waiting);
        }
        state.waiting_cost += cost;
        self.waiting_cost += cost;
        self.waiting += 1;
        self.forget_idle();
        refused
    }

    /// Cuts off what is to be done next.
    pub fn next(&mut self) -> Option<R::Part> {
        let &(_, flow) = self.turns.first()?;
        self.cut(flow)
    }

    /// Cuts off the next part of the flow that comes first among those whose next request is
    /// `wanted`.
    pub fn next_where(&mut self, wanted: impl Fn(&R) -> bool) -> Option<R::Part> {
        let turns = self.turns.iter().take(LOOK_AHEAD);
        let found = turns.map(|(_, flow)| *flow).find(|flow| {
            let next = self.flows.get(flow).and_then(Flow::next);
            next.is_some_and(&wanted)
        });
        self.cut(found?)
    }

    /// Lets go of the requests of a flow that are named by `which`.
    pub fn remove(&mut self, flow: F, which: impl Fn(&R) -> bool) {
        let Some(state) = self.flows.get_mut(&flow) else { return };
        let had = !state.is_empty();
        let (mut cost, mut count) = (0, 0);
        for waiting in [&mut state.light, &mut state.heavy] {
            waiting.retain(|waiting| {
                let goes = which(&waiting.request);
                if goes {
                    cost += waiting.cost;
                    count += 1;
                }
                !goes
            });
        }
        state.begun.retain(|request| !which(request));
        state.waiting_cost -= cost;
        self.waiting_cost -= cost;
        self.waiting -= count;
        if had && state.is_empty() {
            self.turns.remove(&(state.start, flow));
            self.rest();
        }
    }

    fn cut(&mut self, flow: F) -> Option<R::Part> {
        let state = self.flows.get_mut(&flow)?;
        let source = state.source()?;
        let mut request = match source {
            Source::Begun => state.begun.pop_front()?,
            Source::Light | Source::Heavy => {
                let from = match source {
                    Source::Light => &mut state.light,
                    _ => &mut state.heavy,
                };
                let Waiting { request, cost, .. } = from.pop_front()?;
                state.waiting_cost -= cost;
                self.waiting_cost -= cost;
                self.waiting -= 1;
                request
            }
        };
        state.light_was_last = matches!(source, Source::Light);
        self.turns.remove(&(state.start, flow));
        // A batch may take parts before their turn; time does not go back for those after.
        self.now = self.now.max(state.start);
        let Cut { part, cost, is_last } = request.cut();
        state.start += cost.max(1);
        if !is_last {
            state.begun.push_back(request);
        }
        if !state.is_empty() {
            self.turns.insert((state.start, flow));
        }
        self.rest();
        Some(part)
    }

    fn take_newest(&mut self, flow: F) -> Option<R> {
        let state = self.flows.get_mut(&flow)?;
        let newest = state.newest()?;
        let is_light = state.light.back().is_some_and(|last| last.number == newest);
        let from = if is_light { &mut state.light } else { &mut state.heavy };
        let Waiting { request, cost, .. } = from.pop_back()?;
        state.waiting_cost -= cost;
        self.waiting_cost -= cost;
        self.waiting -= 1;
        if state.is_empty() {
            self.turns.remove(&(state.start, flow));
        }
        Some(request)
    }

    /// Begins anew where nothing is left: whose turn it would be is of no account after a pause.
    fn rest(&mut self) {
        if self.turns.is_empty() {
            self.flows.clear();
            self.now = 0;
        }
    }

    fn forget_idle(&mut self) {
        if self.flows.len() > MAX_IDLE_FLOWS + self.turns.len() {
            self.flows.retain(|_, flow| !flow.is_empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A request of so many parts of some cost each.
    #[derive(Clone, Debug, PartialEq)]
    struct Job {
        name: u32,
        parts: u32,
        part_cost: u64,
    }

    impl Divisible for Job {
        type Part = u32;

        fn cut(&mut self) -> Cut<u32> {
            self.parts -= 1;
            Cut { part: self.name, cost: self.part_cost, is_last: self.parts == 0 }
        }
    }

    fn job(name: u32, parts: u32, part_cost: u64) -> (Job, u64) {
        (Job { name, parts, part_cost }, u64::from(parts) * part_cost)
    }

    fn queue(waiting_cost: u64) -> FairQueue<u8, Job> {
        FairQueue::new(Limits { waiting_cost, light_cost: 30 })
    }

    fn admit(queue: &mut FairQueue<u8, Job>, flow: u8, (job, cost): (Job, u64)) -> Vec<u32> {
        queue.admit(flow, job, cost).iter().map(|job| job.name).collect()
    }

    fn drain(queue: &mut FairQueue<u8, Job>) -> Vec<u32> {
        std::iter::from_fn(|| queue.next()).collect()
    }

    const NONE: [u32; 0] = [];

    #[test]
    fn a_light_request_does_not_wait_for_heavy_ones() {
        let mut queue = queue(1000);
        assert_eq!(admit(&mut queue, 1, job(10, 6, 50)), NONE);
        assert_eq!([queue.next(), queue.next()], [Some(10), Some(10)]);
        assert_eq!(admit(&mut queue, 2, job(20, 1, 5)), NONE);
        assert_eq!(admit(&mut queue, 1, job(11, 1, 5)), NONE, "of the same flow");
        assert_eq!(drain(&mut queue), [20, 11, 10, 10, 10, 10]);
    }

    #[test]
    fn flows_take_turns_by_what_they_cost() {
        let mut queue = queue(1000);
        for name in 10..16 {
            admit(&mut queue, 1, job(name, 1, 10));
        }
        for name in [20, 21] {
            admit(&mut queue, 2, job(name, 1, 30));
        }
        // Flow 2 asks for three times as much at a time, and is served a third as often.
        assert_eq!(drain(&mut queue), [10, 20, 11, 12, 13, 21, 14, 15]);
        assert_eq!(queue.waiting(), 0);
    }

    #[test]
    fn a_few_heavy_requests_are_under_way_and_light_ones_between() {
        let mut queue = queue(10_000);
        for name in 10..16 {
            admit(&mut queue, 1, job(name, 2, 50));
        }
        for name in 30..33 {
            admit(&mut queue, 1, job(name, 1, 10));
        }
        let order = [30, 10, 31, 11, 32, 12, 13, 10, 14, 11, 15, 12, 13, 14, 15];
        assert_eq!(drain(&mut queue), order);
    }

    #[test]
    fn the_flow_with_most_waiting_loses_its_newest() {
        let mut queue = queue(100);
        for name in 10..15 {
            assert_eq!(admit(&mut queue, 1, job(name, 1, 25)), NONE);
        }
        assert_eq!(admit(&mut queue, 1, job(15, 1, 25)), [15], "its own flow is the longest");
        assert_eq!(admit(&mut queue, 2, job(20, 1, 25)), [14], "another flow's place is made");
        assert_eq!(admit(&mut queue, 2, job(21, 1, 25)), [13]);
        assert_eq!(admit(&mut queue, 2, job(22, 1, 25)), [22], "both have as much");
        assert_eq!(admit(&mut queue, 3, job(30, 1, 1000)), [30], "it alone asks for most");
        assert_eq!(drain(&mut queue), [10, 20, 11, 21, 12]);
    }

    #[test]
    fn large_requests_are_taken_while_little_waits() {
        let mut queue = queue(100);
        assert_eq!(admit(&mut queue, 1, job(10, 2, 500)), NONE);
        assert_eq!(admit(&mut queue, 1, job(11, 1, 1)), [11], "what waits is beyond the bound");
        assert_eq!(queue.next(), Some(10));
        assert_eq!(admit(&mut queue, 1, job(12, 1, 1)), NONE, "what is under way does not wait");
        assert_eq!(admit(&mut queue, 1, job(13, 1, 500)), NONE);
        assert_eq!(drain(&mut queue), [12, 13, 10]);
    }

    #[test]
    fn what_nobody_waits_for_is_removed() {
        let mut queue = queue(100);
        admit(&mut queue, 1, job(10, 3, 20));
        admit(&mut queue, 1, job(11, 1, 20));
        assert_eq!(queue.next(), Some(11));
        assert_eq!(queue.next(), Some(10));
        admit(&mut queue, 1, job(12, 1, 20));
        queue.remove(1, |job| job.name == 10);
        assert_eq!((drain(&mut queue), queue.waiting()), (vec![12], 0));
        queue.remove(9, |_| true);
    }

    #[test]
    fn a_batch_takes_what_fits_before_its_turn() {
        let mut queue = queue(100);
        admit(&mut queue, 1, job(10, 1, 20));
        admit(&mut queue, 2, job(21, 1, 20));
        admit(&mut queue, 3, job(30, 1, 20));
        assert_eq!(queue.next_where(|job| job.name == 30), Some(30));
        assert_eq!(queue.next_where(|job| job.name == 30), None);
        assert_eq!(drain(&mut queue), [10, 21]);
    }

    /// Whatever comes: each request is answered whole or refused or removed, once, and the bound
    /// holds.
    #[test]
    fn random_requests_are_all_answered_refused_or_removed() {
        for seed in 0..2000u64 {
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            let mut below = |bound: u64| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state % bound
            };
            let mut queue = queue(200);
            let mut open: HashMap<u32, u32> = HashMap::new();
            for name in 0..60u32 {
                match below(4) {
                    0 => {
                        if let Some(done) = queue.next() {
                            let left = open.get_mut(&done).expect("an open request");
                            *left -= 1;
                            if *left == 0 {
                                open.remove(&done);
                            }
                        }
                    }
                    1 => {
                        let flow = below(4) as u8;
                        let parity = below(7) as u32;
                        let going = |job: &Job| job.name % 7 == parity;
                        queue.remove(flow, going);
                        open.retain(|name, _| {
                            name % 7 != parity || (name / 7) % 4 != u32::from(flow)
                        });
                    }
                    _ => {
                        // The flow follows from the name, so that the model knows it.
                        let flow = ((name / 7) % 4) as u8;
                        let (parts, cost) = (1 + below(4) as u32, 1 + below(60));
                        open.insert(name, parts);
                        for refused in admit(&mut queue, flow, job(name, parts, cost)) {
                            assert!(open.remove(&refused).is_some(), "seed {seed}");
                        }
                    }
                }
                // The last admitted may pass the bound, by its own cost.
                assert!(queue.waiting_cost <= 200 + 240, "seed {seed}");
            }
            for done in drain(&mut queue) {
                let left = open.get_mut(&done).expect("an open request");
                *left -= 1;
            }
            assert!(open.values().all(|left| *left == 0), "seed {seed}: {open:?}");
            assert_eq!((queue.waiting, queue.waiting_cost), (0, 0), "seed {seed}");
        }
    }

    #[test]
    fn flows_that_are_gone_are_forgotten() {
        let limits = Limits { waiting_cost: 1000, light_cost: 30 };
        let mut queue: FairQueue<u32, Job> = FairQueue::new(limits);
        // Never idle: the next is admitted before the one before is served.
        assert!(queue.admit(0, job(0, 1, 10).0, 10).is_empty());
        for flow in 1..10_000 {
            assert!(queue.admit(flow, job(flow, 1, 10).0, 10).is_empty());
            assert_eq!(queue.next(), Some(flow - 1));
        }
        assert!(queue.flows.len() <= MAX_IDLE_FLOWS + 2, "{}", queue.flows.len());
        assert_eq!((queue.next(), queue.flows.len()), (Some(9999), 0));
    }
}
