//! Where functions meet workers: what the functions service wants becomes a lease and an order to
//! a worker, and what workers tell becomes events, log lines and finished images.
//!
//! Orders and notices are taken one after another, so that what was said first counts first.

mod builds;
mod container;
mod notices;
mod runs;
mod template;

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use corral_apps::Apps;
use corral_apps::logs::AppLogs;
use corral_containers::StopReason;
use corral_functions::{ContainerHost, Functions};
use corral_jobs::{JobsService, ResidentMemory, TaskNotice, TaskOwner};
use corral_placement::{HolderId, LeaseLimits};
use corral_types::{ContainerId, FunctionId, TaskId, WorkerId};
use tokio::sync::{mpsc, watch};

pub use builds::Builds;
pub use runs::Runs;

use crate::modal::Edge;
use template::Templates;

/// How often it is looked whether templates are still of use.
const TIDY_EVERY: Duration = Duration::from_secs(15);

/// What is asked of the task that hosts containers.
enum Order {
    Start { container: ContainerId, function: FunctionId },
    Stop { container: ContainerId, reason: StopReason },
    Notice(TaskNotice),
    Reclaim(HolderId),
}

/// The port by which functions start containers, and by which workers' words come back.
pub struct Hosting {
    /// What waits is bounded by those who ask: a container is ordered once, and the words of
    /// workers come in bounded batches that are answered when they are noted here.
    orders: mpsc::UnboundedSender<Order>,
    /// Containers that shall be, which go on over a restart of this process.
    wanted: Mutex<HashSet<TaskId>>,
}

/// What [`Hosting::host`] takes its orders from.
pub struct Orders(mpsc::UnboundedReceiver<Order>);

/// The services that hosting joins.
#[derive(Clone)]
pub struct Hosted {
    pub functions: Arc<Functions>,
    pub apps: Apps,
    pub jobs: Arc<JobsService>,
    pub logs: AppLogs,
    pub builds: Arc<Builds>,
    pub runs: Arc<Runs>,
    pub edge: Edge,
}

impl Hosting {
    pub fn new() -> (Arc<Self>, Orders) {
        let (orders, receiver) = mpsc::unbounded_channel();
        (Arc::new(Self { orders, wanted: Mutex::default() }), Orders(receiver))
    }

    fn wanted(&self) -> MutexGuard<'_, HashSet<TaskId>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Containers of an earlier life of this process go on.
    pub async fn resume(&self, functions: &Functions) {
        let running = functions.containers(None).await;
        self.wanted().extend(running.iter().map(|info| task_of(info.container)));
    }

    fn order(&self, order: Order) {
        // Nobody listens only while the server stops, and then the next start asks again.
        let _ = self.orders.send(order);
    }

    /// Carries orders out until the server stops.
    pub async fn host(
        self: Arc<Self>,
        orders: Orders,
        hosted: Hosted,
        mut stopped: watch::Receiver<bool>,
    ) {
        let Orders(mut orders) = orders;
        let mut templates = Templates::default();
        let mut tidy = tokio::time::interval(TIDY_EVERY);
        loop {
            let order = tokio::select! {
                order = orders.recv() => order,
                _ = tidy.tick() => {
                    templates.tidy(&hosted).await;
                    continue;
                }
                () = until(&mut stopped) => return,
            };
            match order {
                Some(Order::Start { container, function }) => {
                    container::start(&hosted, &mut templates, container, function).await;
                }
                Some(Order::Stop { container, reason }) => {
                    self.wanted().remove(&task_of(container));
                    container::stop(&hosted, container, reason).await;
                }
                Some(Order::Notice(TaskNotice::Settled { present })) => {
                    self.settle(&hosted, &present).await;
                }
                Some(Order::Notice(notice)) => {
                    if let Some(ended) = notices::take(&hosted, &mut templates, notice).await {
                        self.wanted().remove(&ended);
                    }
                }
                Some(Order::Reclaim(holder)) => templates.reclaim(&hosted, holder).await,
                None => return,
            }
        }
    }

    /// Containers of an earlier life of this process that no worker has any more are lost.
    async fn settle(&self, hosted: &Hosted, present: &BTreeSet<TaskId>) {
        for info in hosted.functions.containers(None).await {
            let is_old = info.started_at.is_some();
            if is_old && !present.contains(&task_of(info.container)) {
                self.wanted().remove(&task_of(info.container));
                notices::lost(hosted, info.container).await;
            }
        }
    }
}

impl ContainerHost for Hosting {
    fn start(&self, container: ContainerId, function: FunctionId) {
        self.wanted().insert(task_of(container));
        self.order(Order::Start { container, function });
    }

    fn stop(&self, container: ContainerId, reason: StopReason) {
        self.order(Order::Stop { container, reason });
    }
}

/// What can be given back are templates; the server's own lease is fixed.
impl ResidentMemory for Hosting {
    fn reclaim(&self, _: WorkerId, holder: HolderId, _: u64) {
        self.order(Order::Reclaim(holder));
    }

    fn lease_changed(&self, _: TaskId, _: Option<LeaseLimits>) {}
}

impl TaskOwner for Hosting {
    fn told(&self, notice: TaskNotice) {
        self.order(Order::Notice(notice));
    }

    fn wants(&self, task: TaskId) -> bool {
        self.wanted().contains(&task)
    }
}

/// Returns once the server stops.
async fn until(stopped: &mut watch::Receiver<bool>) {
    let _told = stopped.wait_for(|stopped| *stopped).await;
}

fn task_of(container: ContainerId) -> TaskId {
    TaskId::from_u128(container.as_u128())
}

fn container_of(task: TaskId) -> ContainerId {
    ContainerId::from_u128(task.as_u128())
}
