//! The queue before the cores: fair between flows, bounded, and served in parts.
//!
//! Flows take turns by the work they ask for, in the order of start tags (start-time fair
//! queueing: Goyal, Vin, Cheng, "Start-Time Fair Queuing", 1996): however much one asks for, another
//! that asks for little is served next. A flow's own requests are answered in their order. Where
//! the bound is passed, the flow that has most waiting loses its newest request.

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

/// Requests that wait, of several flows.
pub struct FairQueue<F, R> {
    flows: HashMap<F, Flow<R>>,
    /// The start tags of flows that have requests.
    turns: BTreeSet<(u64, F)>,
    /// The start tag of the part that was last cut off.
    now: u64,
    waiting_cost: u64,
    waiting: usize,
    bound: u64,
}

struct Flow<R> {
    requests: VecDeque<Waiting<R>>,
    /// The start tag of its next part.
    start: u64,
    /// Of requests that were not begun.
    waiting_cost: u64,
}

struct Waiting<R> {
    request: R,
    cost: u64,
    is_begun: bool,
}

impl<R> Default for Flow<R> {
    fn default() -> Self {
        Self { requests: VecDeque::new(), start: 0, waiting_cost: 0 }
    }
}

impl<F: Copy + Ord + Hash, R: Divisible> FairQueue<F, R> {
    /// A queue in which requests that were not begun cost `bound` at most; one alone may cost more.
    pub fn new(bound: u64) -> Self {
        Self {
            flows: HashMap::new(),
            turns: BTreeSet::new(),
            now: 0,
            waiting_cost: 0,
            waiting: 0,
            bound,
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
        let known = self.flows.entry(flow).or_default();
        if known.requests.is_empty() {
            known.start = known.start.max(self.now);
            self.turns.insert((known.start, flow));
        }
        known.requests.push_back(Waiting { request, cost, is_begun: false });
        known.waiting_cost += cost;
        self.waiting_cost += cost;
        self.waiting += 1;
        let mut refused = Vec::new();
        while self.waiting_cost > self.bound && self.waiting > 1 {
            // Of flows with as much, the one that has just asked for more.
            let most = self
                .flows
                .iter()
                .max_by_key(|(key, state)| (state.waiting_cost, **key == flow, **key));
            let Some(loses) = most.map(|(key, _)| *key) else { break };
            match self.take_newest(loses) {
                Some(request) => refused.push(request),
                None => break,
            }
        }
        self.forget_idle();
        refused
    }

    /// Cuts off what is to be done next.
    pub fn next(&mut self) -> Option<R::Part> {
        let &(_, flow) = self.turns.first()?;
        self.cut(flow)
    }

    /// Cuts off the next part of the request that comes first among those that are `wanted`.
    pub fn next_where(&mut self, wanted: impl Fn(&R) -> bool) -> Option<R::Part> {
        let turns = self.turns.iter().take(LOOK_AHEAD);
        let found = turns.map(|(_, flow)| *flow).find(|flow| {
            let first = self.flows.get(flow).and_then(|flow| flow.requests.front());
            first.is_some_and(|first| wanted(&first.request))
        });
        self.cut(found?)
    }

    /// Lets go of the requests of a flow that are named by `which`.
    pub fn remove(&mut self, flow: F, which: impl Fn(&R) -> bool) {
        let Some(state) = self.flows.get_mut(&flow) else { return };
        let had = !state.requests.is_empty();
        let (mut cost, mut count) = (0, 0);
        state.requests.retain(|waiting| {
            let goes = which(&waiting.request);
            if goes && !waiting.is_begun {
                cost += waiting.cost;
                count += 1;
            }
            !goes
        });
        state.waiting_cost -= cost;
        self.waiting_cost -= cost;
        self.waiting -= count;
        if had && state.requests.is_empty() {
            self.turns.remove(&(state.start, flow));
            self.rest();
        }
    }

    fn cut(&mut self, flow: F) -> Option<R::Part> {
        let state = self.flows.get_mut(&flow)?;
        let first = state.requests.front_mut()?;
        self.turns.remove(&(state.start, flow));
        // A batch may take parts before their turn; time does not go back for those after.
        self.now = self.now.max(state.start);
        if !first.is_begun {
            first.is_begun = true;
            state.waiting_cost -= first.cost;
            self.waiting_cost -= first.cost;
            self.waiting -= 1;
        }
        let Cut { part, cost, is_last } = first.request.cut();
        state.start += cost.max(1);
        if is_last {
            state.requests.pop_front();
        }
        if !state.requests.is_empty() {
            self.turns.insert((state.start, flow));
        }
        self.rest();
        Some(part)
    }

    fn take_newest(&mut self, flow: F) -> Option<R> {
        let state = self.flows.get_mut(&flow)?;
        if state.requests.back()?.is_begun {
            return None;
        }
        let newest = state.requests.pop_back()?;
        state.waiting_cost -= newest.cost;
        self.waiting_cost -= newest.cost;
        self.waiting -= 1;
        if state.requests.is_empty() {
            self.turns.remove(&(state.start, flow));
        }
        Some(newest.request)
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
            self.flows.retain(|_, flow| !flow.requests.is_empty());
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

    fn admit(queue: &mut FairQueue<u8, Job>, flow: u8, (job, cost): (Job, u64)) -> Vec<u32> {
        queue.admit(flow, job, cost).iter().map(|job| job.name).collect()
    }

    fn drain(queue: &mut FairQueue<u8, Job>) -> Vec<u32> {
        std::iter::from_fn(|| queue.next()).collect()
    }

    #[test]
    fn a_light_request_does_not_wait_for_a_heavy_one() {
        let mut queue = FairQueue::new(1000);
        assert_eq!(admit(&mut queue, 1, job(10, 6, 50)), [0u32; 0]);
        assert_eq!([queue.next(), queue.next()], [Some(10), Some(10)]);
        assert_eq!(admit(&mut queue, 2, job(20, 1, 5)), [0u32; 0]);
        assert_eq!(drain(&mut queue), [20, 10, 10, 10, 10]);
    }

    #[test]
    fn a_flow_s_requests_keep_their_order_and_flows_take_turns() {
        let mut queue = FairQueue::new(1000);
        for name in [10, 11, 12] {
            admit(&mut queue, 1, job(name, 2, 10));
        }
        for name in [20, 21] {
            admit(&mut queue, 2, job(name, 1, 30));
        }
        // Flow 2 asks for three times as much at a time, and is served a third as often.
        assert_eq!(drain(&mut queue), [10, 20, 10, 11, 11, 21, 12, 12]);
        assert_eq!(queue.waiting(), 0);
    }

    #[test]
    fn the_flow_with_most_waiting_loses_its_newest() {
        let mut queue = FairQueue::new(100);
        for name in 10..14 {
            assert_eq!(admit(&mut queue, 1, job(name, 1, 25)), [0u32; 0]);
        }
        assert_eq!(admit(&mut queue, 1, job(14, 1, 25)), [14], "its own flow is the longest");
        assert_eq!(admit(&mut queue, 2, job(20, 1, 25)), [13], "another flow's place is made");
        assert_eq!(admit(&mut queue, 2, job(21, 1, 25)), [12]);
        assert_eq!(admit(&mut queue, 2, job(22, 1, 25)), [22], "both have as much");
        assert_eq!(drain(&mut queue), [10, 20, 11, 21]);
    }

    #[test]
    fn one_request_beyond_the_bound_is_taken_alone_and_stays_once_begun() {
        let mut queue = FairQueue::new(100);
        assert_eq!(admit(&mut queue, 1, job(10, 2, 500)), [0u32; 0]);
        assert_eq!(admit(&mut queue, 1, job(11, 1, 1)), [11]);
        assert_eq!(queue.next(), Some(10));
        assert_eq!(admit(&mut queue, 1, job(12, 1, 1)), [0u32; 0], "what was begun does not wait");
        assert_eq!(admit(&mut queue, 1, job(13, 1, 100)), [13]);
        assert_eq!(drain(&mut queue), [10, 12]);
    }

    #[test]
    fn what_nobody_waits_for_is_removed() {
        let mut queue = FairQueue::new(100);
        admit(&mut queue, 1, job(10, 3, 20));
        admit(&mut queue, 1, job(11, 1, 20));
        assert_eq!(queue.next(), Some(10));
        queue.remove(1, |job| job.name == 10);
        assert_eq!((drain(&mut queue), queue.waiting()), (vec![11], 0));
        queue.remove(9, |_| true);
    }

    #[test]
    fn a_batch_takes_what_fits_before_its_turn() {
        let mut queue = FairQueue::new(100);
        admit(&mut queue, 1, job(10, 1, 20));
        admit(&mut queue, 2, job(21, 1, 20));
        admit(&mut queue, 3, job(30, 1, 20));
        assert_eq!(queue.next_where(|job| job.name == 30), Some(30));
        assert_eq!(queue.next_where(|job| job.name == 30), None);
        assert_eq!(drain(&mut queue), [10, 21]);
    }

    /// Whatever comes: each request is answered whole or refused or removed, once; the bound
    /// holds; and flows that always have work waiting get alike shares.
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
            let mut queue = FairQueue::new(200);
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
                assert!(queue.waiting_cost <= 200 || queue.waiting == 1, "seed {seed}");
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
        let mut queue: FairQueue<u32, Job> = FairQueue::new(1000);
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
