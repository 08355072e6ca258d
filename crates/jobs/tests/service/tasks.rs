//! Containers and builds: tasks beside the jobs, under the same placement and sessions.

use corral_containers::{
    Base, BuildStep, ContainerEnd, ContainerEvent, ImageRecipe, StopReason, Usage,
};
use corral_jobs::{JobsError, TaskNotice};
use corral_placement::{TaskRequest, WorkClass};
use corral_types::{BlobHash, LeaseId, MIB, TaskId, WorkspaceId};
use corral_worker_api::{
    BuildSpec, Command, Limits, NumberedTaskEvent, PresentTask, TaskEvent, TaskEventBatch, TaskWork,
};

use crate::fake::{Server, Worker};

fn asks(task: u128, memory_mib: u64) -> TaskRequest {
    TaskRequest {
        task: TaskId::from_u128(task),
        workspace: WorkspaceId::from_u128(1),
        class: WorkClass::Call,
        milli_cpu: 125,
        memory_request_bytes: memory_mib * MIB,
        memory_limit_bytes: None,
        gpus: 0,
        priority: 0,
        deadline: None,
        bring_back_ms: 0,
        preferred_worker: None,
    }
}

fn work() -> TaskWork {
    let recipe = ImageRecipe {
        base: Base::Reference { reference: "python:3.11-slim".into() },
        step: BuildStep::default(),
        force_build: None,
    };
    TaskWork::Build {
        spec: Box::new(BuildSpec {
            workspace: WorkspaceId::from_u128(1),
            recipe,
            client_version: "1.6.4".into(),
            builder_version: "2026.10".into(),
        }),
    }
}

fn ended(task: TaskId, number: u64) -> NumberedTaskEvent {
    let end = ContainerEnd::Exited { exit_code: 0 };
    let event = ContainerEvent::Ended { end, usage: Usage::default() };
    NumberedTaskEvent { task, number, event: TaskEvent::Container { event } }
}

impl Worker {
    async fn tell_of_tasks(&self, server: &Server, events: Vec<NumberedTaskEvent>) {
        let batch = TaskEventBatch { worker: self.id, session: self.session, events };
        server.service.task_events(batch).await.unwrap();
    }
}

fn leased_mib(server: &[corral_jobs::WorkerStatus]) -> u64 {
    server[0].placement.as_ref().unwrap().charged_bytes / MIB
}

#[tokio::test]
async fn a_task_is_placed_told_of_once_and_gives_its_lease_back() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut worker = Worker::join(&server).await;
    let task = TaskId::from_u128(77);
    server.service.start_task(asks(77, 512), work()).await.unwrap();
    server.service.start_task(asks(77, 512), work()).await.unwrap();
    let commands = worker.commands(&server).await;
    assert!(matches!(commands[..], [Command::StartTask { task: started, .. }] if started == task));
    assert_eq!(leased_mib(&server.service.workers().await), 512);

    server.service.stop_task(task, StopReason::Idle).await.unwrap();
    let commands = worker.commands(&server).await;
    assert!(matches!(commands[..], [Command::StopTask { reason: StopReason::Idle, .. }]));
    worker.tell_of_tasks(&server, vec![ended(task, 1)]).await;
    worker.tell_of_tasks(&server, vec![ended(task, 1)]).await;
    assert_eq!(leased_mib(&server.service.workers().await), 0);
    let told = server.owner.told.lock().unwrap();
    let kinds: Vec<&str> = told
        .iter()
        .map(|notice| match notice {
            TaskNotice::Settled { .. } => "settled",
            TaskNotice::Placed { .. } => "placed",
            TaskNotice::Told { .. } => "told",
            _ => "other",
        })
        .collect();
    assert_eq!(kinds, ["settled", "placed", "told"]);
}

#[tokio::test]
async fn what_never_fits_is_refused_and_what_waits_can_be_withdrawn() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let _worker = Worker::join(&server).await;
    let refused = server.service.start_task(asks(1, 100_000), work()).await;
    assert!(matches!(refused, Err(JobsError::TaskRefused(_))), "{refused:?}");
    let mut on_gpu = asks(2, 16);
    on_gpu.gpus = 1;
    let refused = server.service.start_task(on_gpu, work()).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the container can never run: asked for 1 GPUs; the largest worker has 0"
    );

    server.service.start_task(asks(3, 3_000), work()).await.unwrap();
    server.service.start_task(asks(4, 3_000), work()).await.unwrap();
    server.service.stop_task(TaskId::from_u128(4), StopReason::Idle).await.unwrap();
    let told = server.owner.told.lock().unwrap();
    let withdrawn = TaskNotice::Withdrawn { task: TaskId::from_u128(4), reason: StopReason::Idle };
    assert_eq!(told.last(), Some(&withdrawn));
}

#[tokio::test]
async fn a_restarted_server_goes_on_with_what_is_wanted_and_learns_what_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut worker = Worker::fresh();
    {
        let server = Server::start(dir.path());
        worker.hello(&server, Vec::new()).await;
        server.service.stop().await;
    }
    let server = Server::start(dir.path());
    assert!(server.owner.told.lock().unwrap().is_empty(), "the worker may come back");
    let (kept, unwanted) = (TaskId::from_u128(5), TaskId::from_u128(6));
    server.owner.wanted.lock().unwrap().push(kept);
    let present = [kept, unwanted].map(|task| PresentTask {
        task,
        workspace: WorkspaceId::from_u128(1),
        limits: Limits {
            lease: LeaseId::from_u128(task.as_u128()),
            memory_request_bytes: 700 * MIB,
            memory_limit_bytes: 900 * MIB,
            milli_cpu: 125,
            cpu_weight: 1_000,
        },
        gpus: 0,
    });
    worker.hello_with(&server, Vec::new(), present.to_vec()).await;
    let settled = TaskNotice::Settled { present: [kept].into() };
    assert_eq!(*server.owner.told.lock().unwrap(), [settled]);
    let commands = worker.commands(&server).await;
    assert!(matches!(commands[..], [Command::StopTask { task, .. }] if task == unwanted));
    assert_eq!(leased_mib(&server.service.workers().await), 700);

    // The worker starts anew without it.
    worker.hello(&server, Vec::new()).await;
    assert_eq!(server.owner.told.lock().unwrap().last(), Some(&TaskNotice::Lost { task: kept }));
    assert_eq!(leased_mib(&server.service.workers().await), 0);
    assert!(!server.service.worker_may_read(worker.id, BlobHash::of(b"x")).await);
}

#[tokio::test]
async fn an_order_that_may_not_have_come_is_given_again_and_a_task_that_spoke_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut worker = Worker::join(&server).await;
    let task = TaskId::from_u128(9);
    server.service.start_task(asks(9, 64), work()).await.unwrap();
    worker.hello(&server, Vec::new()).await;
    let commands = worker.commands(&server).await;
    assert!(matches!(commands[..], [Command::StartTask { task: again, .. }] if again == task));
    let event = TaskEvent::BuildLines { lines: Vec::new() };
    worker.tell_of_tasks(&server, vec![NumberedTaskEvent { task, number: 1, event }]).await;
    worker.hello(&server, Vec::new()).await;
    assert_eq!(server.owner.told.lock().unwrap().last(), Some(&TaskNotice::Lost { task }));
}
