//! The smallest container side: takes inputs and answers them at once.
//!
//! A function of the benchmark becomes it: while it runs its first input, the process of the
//! official container side replaces itself by this program, which so has the container's socket,
//! and answers that first input as well.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use corral_modal_api::*;

use super::floor::now_s;
use super::wire::{Wire, connect_socket};

/// How this program is called to become a container.
pub const COMMAND: &str = "minimal-container";

/// As the official container side has it.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// `None`, pickled.
const NOTHING: &[u8] = b"\x80\x04N.";

/// Runs until the server says that it is to end: `SERVER_URL FUNCTION INPUT CALL POLLERS`.
pub fn run(arguments: &[String]) -> anyhow::Result<()> {
    let [url, function_id, input_id, call_id, pollers] = arguments else {
        anyhow::bail!("usage: {COMMAND} unix://SOCKET FUNCTION INPUT CALL POLLERS");
    };
    let socket = url.strip_prefix("unix://").context("a container speaks over a socket")?;
    let pollers: usize = pollers.parse()?;
    // One thread: cores are what the measured programs share.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut wire = connect_socket(Path::new(socket)).await?;
        let first = FunctionGetInputsItem {
            input_id: input_id.clone(),
            function_call_id: call_id.clone(),
            ..FunctionGetInputsItem::default()
        };
        wire.function_put_outputs(answers(vec![first])).await?;
        tokio::spawn(heartbeat(wire.clone()));
        let (ended, mut any_ended) = tokio::sync::mpsc::channel(1);
        for _ in 0..pollers {
            let (wire, function_id, ended) = (wire.clone(), function_id.clone(), ended.clone());
            tokio::spawn(async move {
                // Only the first end is heard.
                let _heard = ended.try_send(poll(wire, function_id).await);
            });
        }
        any_ended.recv().await.context("a poller ends")?
    })
}

async fn heartbeat(mut wire: Wire) {
    loop {
        // Where it fails the server says so by its own means.
        let _answered = wire.container_heartbeat(ContainerHeartbeatRequest::default()).await;
        tokio::time::sleep(HEARTBEAT).await;
    }
}

async fn poll(mut wire: Wire, function_id: String) -> anyhow::Result<()> {
    loop {
        let asked = FunctionGetInputsRequest {
            function_id: function_id.clone(),
            input_concurrency: 1,
            ..FunctionGetInputsRequest::default()
        };
        let mut inputs = wire.function_get_inputs(asked).await?.into_inner().inputs;
        let given = inputs.len();
        inputs.retain(|item| !item.kill_switch);
        let is_told_to_end = inputs.len() < given;
        if !inputs.is_empty() {
            wire.function_put_outputs(answers(inputs)).await?;
        }
        if is_told_to_end {
            return Ok(());
        }
    }
}

fn answers(inputs: Vec<FunctionGetInputsItem>) -> FunctionPutOutputsRequest {
    let now = now_s();
    let answer = |item: FunctionGetInputsItem| FunctionPutOutputsItem {
        input_id: item.input_id,
        function_call_id: item.function_call_id,
        function_map_idx: item.function_map_idx,
        retry_count: item.retry_count,
        result: Some(GenericResult {
            status: generic_result::GenericStatus::Success.into(),
            data_oneof: Some(generic_result::DataOneof::Data(NOTHING.into())),
            ..GenericResult::default()
        }),
        input_started_at: now,
        output_created_at: now,
        data_format: DataFormat::Pickle.into(),
        ..FunctionPutOutputsItem::default()
    };
    FunctionPutOutputsRequest {
        outputs: inputs.into_iter().map(answer).collect(),
        requested_at: now,
    }
}
