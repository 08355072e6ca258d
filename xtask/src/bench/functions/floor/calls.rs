//! Calls in memory: what is waiting for a container, and what came of it. Nothing is written to
//! disk, nothing is tried again, nothing has a limit.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use corral_modal_api::{
    FunctionCallInvocationType, FunctionGetInputsItem, FunctionGetOutputsItem,
    FunctionGetOutputsRequest, FunctionGetOutputsResponse, FunctionPutInputsItem,
    FunctionPutInputsResponseItem, FunctionPutOutputsItem,
};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use tonic::Status;

/// Longer than any client waits in one request.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Inputs of one function that no container has taken.
#[derive(Default)]
pub struct Queue {
    waiting: Mutex<VecDeque<FunctionGetInputsItem>>,
    arrived: Notify,
}

impl Queue {
    fn push(&self, item: FunctionGetInputsItem) {
        locked(&self.waiting).push_back(item);
        self.arrived.notify_one();
    }

    /// Waits for an input, and takes so many as there are up to a limit.
    pub async fn take(&self, limit: usize) -> Vec<FunctionGetInputsItem> {
        loop {
            // Listened for before it is looked, or an input between the two would be overlooked.
            let arrived = self.arrived.notified();
            {
                let mut waiting = locked(&self.waiting);
                let count = waiting.len().min(limit);
                if count > 0 {
                    return waiting.drain(..count).collect();
                }
            }
            arrived.await;
        }
    }
}

struct Call {
    function_id: String,
    invocation: FunctionCallInvocationType,
    came: Mutex<Outputs>,
    changed: Notify,
}

#[derive(Default)]
struct Outputs {
    inputs: usize,
    items: Vec<FunctionGetOutputsItem>,
}

/// All calls of all functions.
#[derive(Default)]
pub struct Calls {
    queues: Mutex<HashMap<String, Arc<Queue>>>,
    calls: Mutex<HashMap<String, Arc<Call>>>,
    last: AtomicU64,
}

impl Calls {
    pub fn queue(&self, function_id: &str) -> Arc<Queue> {
        let mut queues = locked(&self.queues);
        if let Some(queue) = queues.get(function_id) {
            return queue.clone();
        }
        queues.entry(function_id.to_owned()).or_default().clone()
    }

    /// A new call without inputs, and its id.
    pub fn create(&self, function_id: String, invocation: FunctionCallInvocationType) -> String {
        let id = format!("fc-{}", self.last.fetch_add(1, Ordering::Relaxed));
        let call = Call { function_id, invocation, came: Mutex::default(), changed: Notify::new() };
        locked(&self.calls).insert(id.clone(), Arc::new(call));
        id
    }

    fn find(&self, id: &str) -> Result<Arc<Call>, Status> {
        let found = locked(&self.calls).get(id).cloned();
        found.ok_or_else(|| Status::not_found(format!("there is no call {id}")))
    }

    pub fn put_inputs(
        &self,
        id: &str,
        items: Vec<FunctionPutInputsItem>,
    ) -> Result<Vec<FunctionPutInputsResponseItem>, Status> {
        let call = self.find(id)?;
        let queue = self.queue(&call.function_id);
        locked(&call.came).inputs += items.len();
        let put = items.into_iter().map(|item| {
            // The call can be told from the input, so that nothing is looked up.
            let input_id = format!("in-{id}-{}", item.idx);
            queue.push(FunctionGetInputsItem {
                input_id: input_id.clone(),
                input: item.input,
                function_call_id: id.to_owned(),
                function_call_invocation_type: call.invocation.into(),
                function_map_idx: Some(item.idx),
                ..FunctionGetInputsItem::default()
            });
            FunctionPutInputsResponseItem { idx: item.idx, input_jwt: input_id.clone(), input_id }
        });
        Ok(put.collect())
    }

    pub fn put_outputs(&self, items: Vec<FunctionPutOutputsItem>) -> Result<(), Status> {
        for item in items {
            let malformed = || Status::invalid_argument(format!("{} is no input", item.input_id));
            let named = item.input_id.strip_prefix("in-").and_then(|rest| rest.rsplit_once('-'));
            let (call, index) = named.ok_or_else(malformed)?;
            let idx = index.parse().map_err(|_| malformed())?;
            let call = self.find(call)?;
            locked(&call.came).items.push(FunctionGetOutputsItem {
                result: item.result,
                idx,
                input_id: item.input_id,
                data_format: item.data_format,
                input_started_at: item.input_started_at,
                output_created_at: item.output_created_at,
                ..FunctionGetOutputsItem::default()
            });
            call.changed.notify_waiters();
        }
        Ok(())
    }

    /// The outputs after those that the client has, as soon as there is one.
    pub async fn outputs(
        &self,
        request: FunctionGetOutputsRequest,
    ) -> Result<FunctionGetOutputsResponse, Status> {
        let call = self.find(&request.function_call_id)?;
        let wait = Duration::try_from_secs_f32(request.timeout).unwrap_or(Duration::ZERO);
        let until = Instant::now() + wait.min(LONGEST_WAIT);
        let after = request.last_entry_id.split('-').next().and_then(|count| count.parse().ok());
        let after: usize = after.unwrap_or(0);
        loop {
            let changed = call.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let response = response(&locked(&call.came), after, &request);
            let is_late = Instant::now() >= until;
            if !response.outputs.is_empty() || is_late {
                if request.clear_on_success && response.num_unfinished_inputs == 0 && !is_late {
                    locked(&self.calls).remove(&request.function_call_id);
                }
                return Ok(response);
            }
            // Whether it is late is seen above.
            let _late = timeout_at(until, changed).await;
        }
    }
}

fn response(
    came: &Outputs,
    after: usize,
    request: &FunctionGetOutputsRequest,
) -> FunctionGetOutputsResponse {
    let limit = usize::try_from(request.max_values).ok().filter(|limit| *limit > 0);
    let (first, last) = (request.start_idx, request.end_idx);
    let is_asked = |item: &&FunctionGetOutputsItem| {
        first.is_none_or(|first| item.idx >= first) && last.is_none_or(|last| item.idx <= last)
    };
    let new = came.items.get(after..).unwrap_or_default();
    let outputs: Vec<_> =
        new.iter().filter(is_asked).take(limit.unwrap_or(usize::MAX)).cloned().collect();
    let unfinished = came.inputs - came.items.len();
    FunctionGetOutputsResponse {
        idxs: outputs.iter().map(|item| item.idx).collect(),
        last_entry_id: format!("{}-0", after + outputs.len()),
        outputs,
        num_unfinished_inputs: i32::try_from(unfinished).unwrap_or(i32::MAX),
    }
}

/// Seconds since 1970, as the protocol says times.
pub fn now_s() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// The value, also where a holder of the lock panicked: the benchmark ends by that panic anyway.
pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use corral_modal_api::{FunctionInput, FunctionPutOutputsItem};

    use super::*;

    fn input(idx: i32) -> FunctionPutInputsItem {
        let input = Some(FunctionInput::default());
        FunctionPutInputsItem { idx, input, ..FunctionPutInputsItem::default() }
    }

    fn asked(call: &str, after: &str) -> FunctionGetOutputsRequest {
        FunctionGetOutputsRequest {
            function_call_id: call.to_owned(),
            last_entry_id: after.to_owned(),
            timeout: 1.0,
            ..FunctionGetOutputsRequest::default()
        }
    }

    #[tokio::test]
    async fn inputs_are_taken_in_order_and_outputs_come_once() {
        let calls = Calls::default();
        let call = calls.create("fu-1".to_owned(), FunctionCallInvocationType::Sync);
        calls.put_inputs(&call, (0..3).map(input).collect()).unwrap();
        let mut after = "0-0".to_owned();
        for idx in 0..3 {
            let taken = calls.queue("fu-1").take(1).await;
            assert_eq!(taken[0].function_map_idx, Some(idx));
            let input_id = taken[0].input_id.clone();
            let output = FunctionPutOutputsItem { input_id, ..FunctionPutOutputsItem::default() };
            calls.put_outputs(vec![output]).unwrap();
            let page = calls.outputs(asked(&call, &after)).await.unwrap();
            assert_eq!((page.idxs, page.num_unfinished_inputs), (vec![idx], 2 - idx));
            after = page.last_entry_id;
        }
    }

    #[tokio::test]
    async fn a_container_waits_for_an_input_and_a_client_for_an_output() {
        let calls = Arc::new(Calls::default());
        let call = calls.create("fu-1".to_owned(), FunctionCallInvocationType::Sync);
        let (queue, container) = (calls.queue("fu-1"), calls.clone());
        let container = tokio::spawn(async move {
            let input_id = queue.take(5).await.remove(0).input_id;
            let output = FunctionPutOutputsItem { input_id, ..FunctionPutOutputsItem::default() };
            container.put_outputs(vec![output])
        });
        calls.put_inputs(&call, vec![input(0)]).unwrap();
        let page = calls.outputs(asked(&call, "")).await.unwrap();
        assert_eq!(page.outputs.len(), 1);
        container.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn an_unknown_call_is_refused() {
        let refused = Calls::default().outputs(asked("fc-9", "")).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::NotFound);
    }
}
