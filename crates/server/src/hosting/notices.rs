//! What workers and placement tell of containers and builds.

use corral_apps::logs::NewLogLine;
use corral_containers::{ContainerEnd, ContainerEvent, ContainerLine, Usage};
use corral_functions::ContainerInfo;
use corral_jobs::TaskNotice;
use corral_types::{ContainerId, Explain, TaskId, Timestamp, display_bytes};
use corral_worker_api::TaskEvent;

use super::template::Templates;
use super::{Hosted, container_of};

/// Takes one in; the task, if that was its end.
pub async fn take(
    hosted: &Hosted,
    templates: &mut Templates,
    notice: TaskNotice,
) -> Option<TaskId> {
    match notice {
        TaskNotice::Placed { task, worker, .. } => {
            templates.placed(task, worker);
            None
        }
        TaskNotice::Refused { task, refusal } => {
            if hosted.builds.failed(task, refusal.to_string(), refusal.hint())
                || templates.ended(hosted, task).await
            {
                return Some(task);
            }
            let (message, hint) = (refusal.to_string(), refusal.hint());
            let refused = hosted.functions.start_refused(container_of(task), message, hint).await;
            logged(container_of(task), refused);
            Some(task)
        }
        TaskNotice::Withdrawn { task, reason } => {
            if !hosted.builds.failed(task, "the build was stopped".to_owned(), None)
                && !templates.ended(hosted, task).await
            {
                ended(hosted, container_of(task), ContainerEnd::Stopped { reason }).await;
            }
            Some(task)
        }
        TaskNotice::Lost { task } => {
            if !hosted.builds.lost(task) && !templates.ended(hosted, task).await {
                lost(hosted, container_of(task)).await;
            }
            Some(task)
        }
        TaskNotice::ChosenToStop { task, numbers } => {
            let text = format!(
                "the machine is short of memory: {} are free, {} are kept in reserve; this \
                 container holds {} and asked for {}, and was chosen to be stopped\n",
                display_bytes(numbers.free_bytes),
                display_bytes(numbers.reserve_bytes),
                display_bytes(numbers.measured_bytes),
                display_bytes(numbers.request_bytes),
            );
            say(hosted, container_of(task), text).await;
            None
        }
        TaskNotice::Told { task, event } => told(hosted, templates, task, event).await,
        // Taken before this.
        TaskNotice::Settled { .. } => None,
    }
}

async fn told(
    hosted: &Hosted,
    templates: &mut Templates,
    task: TaskId,
    event: TaskEvent,
) -> Option<TaskId> {
    let is_last = event.is_last();
    match event {
        TaskEvent::BuildLines { lines } => hosted.builds.lines(task, lines),
        TaskEvent::BuildEnded { end } => _ = hosted.builds.ended(task, end),
        TaskEvent::TemplateReady { import_ms, memory_bytes } => {
            templates.ready(hosted, task, import_ms, memory_bytes).await;
        }
        TaskEvent::TemplateEnded { reason } => {
            templates.ended_because(hosted, task, reason).await;
        }
        TaskEvent::Container { event } => {
            let container = container_of(task);
            match &event {
                ContainerEvent::Lines { lines } => {
                    if !templates.is_template(task) {
                        write_lines(hosted, container, lines.clone()).await;
                    }
                    return None;
                }
                ContainerEvent::Ended { end, .. } => {
                    if let Some(text) = words(end) {
                        say(hosted, container, text).await;
                    }
                }
                ContainerEvent::Started { .. } | ContainerEvent::Usage { .. } => {}
            }
            logged(container, hosted.functions.container_event(container, event).await);
        }
    }
    is_last.then_some(task)
}

/// Its worker does not have it any more.
pub async fn lost(hosted: &Hosted, container: ContainerId) {
    ended(hosted, container, ContainerEnd::Lost).await;
}

async fn ended(hosted: &Hosted, container: ContainerId, end: ContainerEnd) {
    let event = ContainerEvent::Ended { end, usage: Usage::default() };
    logged(container, hosted.functions.container_event(container, event).await);
}

fn logged(container: ContainerId, taken: Result<(), corral_functions::FunctionsError>) {
    if let Err(error) = taken {
        tracing::warn!(%container, %error, "what a worker told of a container was not taken");
    }
}

/// What the log says of an end that its owner must know of.
fn words(end: &ContainerEnd) -> Option<String> {
    Some(match end {
        ContainerEnd::OverMemory { limit_bytes, measured_bytes } => format!(
            "the container was ended: it held {} of memory and its limit is {}; ask for more by \
             `memory=`\n",
            display_bytes(*measured_bytes),
            display_bytes(*limit_bytes),
        ),
        ContainerEnd::Killed { signal } => {
            format!("the container's program was ended by signal {signal}\n")
        }
        ContainerEnd::Exited { exit_code } if *exit_code != 0 => {
            format!("the container's program ended with exit code {exit_code}\n")
        }
        ContainerEnd::NotStarted { message, hint } => match hint {
            Some(hint) => format!("{message}\nhint: {hint}\n"),
            None => format!("{message}\n"),
        },
        ContainerEnd::Lost => "the worker that had the container is gone\n".to_owned(),
        ContainerEnd::Exited { .. } | ContainerEnd::Stopped { .. } => return None,
    })
}

/// Says something of a container in its app's log.
async fn say(hosted: &Hosted, container: ContainerId, text: String) {
    let line = ContainerLine { at: Timestamp::now(), descriptor: 3, text };
    write_lines(hosted, container, vec![line]).await;
}

async fn write_lines(hosted: &Hosted, container: ContainerId, lines: Vec<ContainerLine>) {
    // One that is forgotten already has nobody who reads its last words.
    let Some(info) = hosted.functions.container(container).await else { return };
    let lines = lines.into_iter().map(|line| attributed(&info, line)).collect();
    if let Err(error) = hosted.logs.append(info.app, lines) {
        tracing::error!(app = %info.app, %error, "lines of a container were not kept");
    }
}

/// A line belongs to the input that its container works on, where that is a single one.
fn attributed(info: &ContainerInfo, line: ContainerLine) -> NewLogLine {
    let input = match info.inputs[..] {
        [only] => Some(only),
        _ => None,
    };
    NewLogLine {
        at: line.at,
        descriptor: line.descriptor,
        container: Some(info.container),
        function: Some(info.function),
        call: None,
        input,
        text: line.text,
    }
}
