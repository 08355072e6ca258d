//! Functions that are run to make a layer of an image: each in a container over what is below,
//! whose worker keeps what it wrote.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use corral_apps::{Apps, FunctionRun};
use corral_containers::{ImageKey, ImageRecipe};
use corral_functions::{
    AfterFetch, CallKind, EntryId, FunctionSettings, Functions, Invocation, NewCall, NewInput,
    Outcome, OutcomeStatus, OutputsQuery, Payload, Reuse, Scaling,
};
use corral_types::{Caller, ErrorKind, Explain, Failure, FunctionId};

use crate::modal::function_settings;

/// How long each question for the output waits.
const OUTPUT_WAIT: Duration = Duration::from_secs(30);

/// How often it is looked whether the container has ended.
const END_LOOK: Duration = Duration::from_millis(50);

/// How long a container may take to end after its output.
const END_PATIENCE: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Default)]
pub struct Runs {
    services: OnceLock<(Arc<Functions>, Apps)>,
    /// What the containers of these functions make.
    commits: Mutex<HashMap<FunctionId, ImageKey>>,
}

impl Runs {
    /// What functions are run by; said once, when it is there.
    pub fn run_by(&self, functions: Arc<Functions>, apps: Apps) {
        // The first who said it counts.
        let _ = self.services.set((functions, apps));
    }

    fn commits(&self) -> MutexGuard<'_, HashMap<FunctionId, ImageKey>> {
        self.commits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The image that a container of this function makes, if it is run for one.
    pub fn commit_of(&self, function: FunctionId) -> Option<ImageKey> {
        self.commits().get(&function).copied()
    }

    /// Runs the function that makes the image, to the end of its container.
    ///
    /// # Errors
    /// When it failed, with its traceback.
    pub async fn make(
        &self,
        caller: &Caller,
        recipe: &ImageRecipe,
        run: &FunctionRun,
    ) -> Result<(), Failure> {
        let (functions, apps) = self
            .services
            .get()
            .ok_or_else(|| Failure::new(ErrorKind::Unavailable, "the server is still starting"))?;
        let resolved = apps.function(caller, run.function).await.map_err(explained)?;
        let settings = FunctionSettings {
            scaling: Scaling { max_containers: 1, ..Scaling::default() },
            reuse: Reuse::Single,
            ..function_settings(&resolved)
        };
        self.commits().insert(run.function, recipe.key());
        let made = call(functions, caller, settings, run).await;
        self.commits().remove(&run.function);
        let retired = functions.retire(run.function).await.map_err(explained);
        made.and(retired)
    }
}

async fn call(
    functions: &Functions,
    caller: &Caller,
    settings: FunctionSettings,
    run: &FunctionRun,
) -> Result<(), Failure> {
    functions.define(settings).await.map_err(explained)?;
    let input = NewInput {
        index: 0,
        payload: Payload::Inline(run.arguments.clone().into()),
        data_format: run.data_format,
        method: String::new(),
    };
    let call = NewCall {
        function: run.function,
        kind: CallKind::Unary,
        invocation: Invocation::Async,
        parent: None,
        idempotency_key: None,
        inputs: vec![input],
    };
    let call = functions.create_call(caller, call).await.map_err(explained)?.call;
    let outcome = loop {
        let query = OutputsQuery {
            after: EntryId::default(),
            range: None,
            wait: OUTPUT_WAIT,
            after_fetch: AfterFetch::Keep,
            limit: 1,
        };
        let page = functions.outputs(caller, call, query).await.map_err(explained)?;
        if let Some(output) = page.outputs.into_iter().next() {
            break output.outcome;
        }
    };
    if outcome.status != OutcomeStatus::Success {
        return Err(failed(&outcome));
    }
    // What it wrote is kept once its container has ended.
    let until = tokio::time::Instant::now() + END_PATIENCE;
    loop {
        let containers = functions.containers(Some(caller.workspace)).await;
        if !containers.iter().any(|container| container.function == run.function) {
            return Ok(());
        }
        if tokio::time::Instant::now() > until {
            let message = "the container of the function did not end after its output";
            return Err(Failure::new(ErrorKind::Timeout, message));
        }
        tokio::time::sleep(END_LOOK).await;
    }
}

fn failed(outcome: &Outcome) -> Failure {
    let mut message = format!("the function that makes the image failed: {}", outcome.exception);
    if !outcome.traceback.is_empty() {
        message += &format!("\n{}", outcome.traceback);
    }
    Failure::new(ErrorKind::Invalid, message)
}

fn explained(error: impl Explain + std::fmt::Display) -> Failure {
    let failure = Failure::new(error.kind(), error.to_string());
    match error.hint() {
        Some(hint) => failure.with_hint(hint),
        None => failure,
    }
}
