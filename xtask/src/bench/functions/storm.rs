//! Spawns while the server, the worker and containers are killed at random: every spawn that was
//! acknowledged has its one output in the end.

use std::collections::{HashMap, HashSet};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use corral_modal_api::*;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::{Code, Status};

use super::super::server::Server;
use super::tree;
use super::wire::{self, Kind, Wire};

/// Clients that spawn, and the time that each rests after a spawn: about as much as two cores
/// run beside all the starts.
const SPAWNERS: usize = 4;
const REST: Duration = Duration::from_millis(100);
/// Clients that fetch outputs.
const COLLECTORS: usize = 4;
/// A request that is not answered within this time is made again.
const REQUEST_PATIENCE: Duration = Duration::from_secs(20);
const RETRY_INTERVAL: Duration = Duration::from_millis(50);
/// Kills come at random within these times of the one before.
const KILL_INTERVAL_MS: std::ops::Range<u64> = 200..1_200;
/// Calls are listed so often: of those that are made in between, a list has room for all.
const LIST_INTERVAL: Duration = Duration::from_secs(1);
/// Of so many kills one meets the server and one the worker; the others meet containers.
const KILLS_A_ROUND: u64 = 6;
/// After the last kill everything is done within this time.
const LAST_PATIENCE: Duration = Duration::from_secs(600);

/// When it is over.
#[derive(Clone, Copy)]
pub enum Until {
    Kills(u64),
    Elapsed(Duration),
}

/// What was done and seen.
#[derive(Debug, Default)]
pub struct Tally {
    pub spawned: usize,
    /// How many calls the server listed while they were made, at least.
    pub listed: usize,
    /// Kills by whom they met.
    pub kills: HashMap<Victim, u64>,
    /// Acknowledged spawns without their output.
    pub lost: Vec<String>,
    /// Calls with a second output, or that nobody was told of.
    pub doubled: Vec<String>,
    /// Outputs that say that the function failed.
    pub failed: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Victim {
    Server,
    Worker,
    Container,
}

/// A spawn that was acknowledged.
struct Spawned {
    text: String,
    call_id: String,
}

enum Fetched {
    Right,
    Failed(String),
    Doubled(String),
    Lost(String),
}

/// Spawns calls of a function that gives back its text, and kills, until it is over.
pub async fn rage(
    server: &Server,
    function_id: &str,
    until: Until,
    seed: u64,
) -> anyhow::Result<Tally> {
    let mut tally = Tally::default();
    let last_kill = Arc::new(LastKill::default());
    let (spawned, to_fetch) = mpsc::unbounded_channel();
    let mut spawners = JoinSet::new();
    let number = Arc::new(AtomicU64::new(0));
    for _ in 0..SPAWNERS {
        spawners.spawn(spawn_until(
            server.url.clone(),
            function_id.to_owned(),
            number.clone(),
            last_kill.clone(),
            spawned.clone(),
        ));
    }
    drop(spawned);
    let to_fetch = Arc::new(tokio::sync::Mutex::new(to_fetch));
    let mut collectors = JoinSet::new();
    for _ in 0..COLLECTORS {
        collectors.spawn(collect(server.url.clone(), to_fetch.clone(), last_kill.clone()));
    }

    let (url, function) = (server.url.clone(), function_id.to_owned());
    let listing = tokio::spawn(list_until(url, function, last_kill.clone()));

    let killed = kill_until(server, until, seed, &mut tally.kills).await;
    last_kill.was_now();
    let mut told = HashSet::new();
    while let Some(ended) = spawners.join_next().await {
        told.extend(ended??);
    }
    let listed = listing.await?;
    tally.doubled.extend(listed.difference(&told).map(|call| format!("{call}: nobody was told")));
    (tally.spawned, tally.listed) = (told.len(), listed.len());
    while let Some(ended) = collectors.join_next().await {
        for fetched in ended? {
            match fetched {
                Fetched::Right => {}
                Fetched::Failed(what) => tally.failed.push(what),
                Fetched::Doubled(what) => tally.doubled.push(what),
                Fetched::Lost(what) => tally.lost.push(what),
            }
        }
    }
    killed?;
    Ok(tally)
}

async fn spawn_until(
    url: String,
    function_id: String,
    number: Arc<AtomicU64>,
    last_kill: Arc<LastKill>,
    spawned: mpsc::UnboundedSender<Spawned>,
) -> anyhow::Result<Vec<String>> {
    let mut line = Line::new(url);
    let mut told = Vec::new();
    while !last_kill.was() {
        let text = format!("spawn-{}", number.fetch_add(1, Ordering::Relaxed));
        let asked = wire::one_call(&function_id, Kind::Spawn, wire::text_argument(&text));
        let key = wire::new_key();
        // The same request until it is acknowledged: the server acts on it once.
        let call_id = loop {
            let request = wire::repeatable(asked.clone(), &key, REQUEST_PATIENCE);
            let made = match line.wire().await {
                Ok(wire) => wire.function_map(request).await.map_err(anyhow::Error::from),
                Err(error) => Err(error),
            };
            match made {
                Ok(made) => break made.into_inner().function_call_id,
                Err(error) if is_final(&error) || last_kill.is_long_ago() => {
                    return Err(error.context(format!("{text} was not accepted")));
                }
                Err(_) => line.cut().await,
            }
        };
        told.push(call_id.clone());
        // The other end is there until all senders are gone.
        let _taken = spawned.send(Spawned { text, call_id });
        tokio::time::sleep(REST).await;
    }
    Ok(told)
}

/// The calls that the server knows of, by lists of the latest ones. A spawn whose answer was lost
/// and that was asked for again must not be there twice.
async fn list_until(url: String, function_id: String, last_kill: Arc<LastKill>) -> HashSet<String> {
    let mut line = Line::new(url);
    let mut seen = HashSet::new();
    loop {
        let is_last = last_kill.was();
        match list(&mut line, &function_id).await {
            Ok(calls) => seen.extend(calls.into_iter().map(|call| call.function_call_id)),
            Err(_) => line.cut().await,
        }
        if is_last {
            return seen;
        }
        tokio::time::sleep(LIST_INTERVAL).await;
    }
}

async fn list(line: &mut Line, function_id: &str) -> anyhow::Result<Vec<FunctionCallInfo>> {
    let asked = FunctionCallListRequest { function_id: function_id.to_owned() };
    let request = wire::repeatable(asked, &wire::new_key(), REQUEST_PATIENCE);
    Ok(line.wire().await?.function_call_list(request).await?.into_inner().function_calls)
}

/// Whether the server will say the same again.
fn is_final(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Status>().is_some_and(|status| {
        matches!(
            status.code(),
            Code::InvalidArgument | Code::NotFound | Code::Unauthenticated | Code::Unimplemented
        )
    })
}

async fn collect(
    url: String,
    to_fetch: Arc<tokio::sync::Mutex<mpsc::UnboundedReceiver<Spawned>>>,
    last_kill: Arc<LastKill>,
) -> Vec<Fetched> {
    let mut line = Line::new(url);
    let mut fetched = Vec::new();
    loop {
        let next = to_fetch.lock().await.recv().await;
        let Some(spawned) = next else { return fetched };
        fetched.push(fetch(&mut line, &spawned, &last_kill).await);
    }
}

/// Waits for the output of a spawn, and looks whether there is a second one.
async fn fetch(line: &mut Line, spawned: &Spawned, last_kill: &LastKill) -> Fetched {
    let mut last = "it has no output".to_owned();
    loop {
        if last_kill.is_long_ago() {
            return Fetched::Lost(format!("{} ({}): {last}", spawned.text, spawned.call_id));
        }
        match page(line, &spawned.call_id).await {
            Ok(page) if page.outputs.is_empty() => {
                last = format!("{} of its inputs are unfinished", page.num_unfinished_inputs);
            }
            Ok(page) => return judge(spawned, &page),
            Err(error) => {
                last = format!("{error:#}");
                line.cut().await;
            }
        }
    }
}

fn judge(spawned: &Spawned, page: &FunctionGetOutputsResponse) -> Fetched {
    let what = |said: &str| format!("{} ({}): {said}", spawned.text, spawned.call_id);
    let [output] = &page.outputs[..] else {
        return Fetched::Doubled(what(&format!("{} outputs", page.outputs.len())));
    };
    let result = output.result.clone().unwrap_or_default();
    if result.status() != generic_result::GenericStatus::Success {
        return Fetched::Failed(what(&format!("{:?}: {}", result.status(), result.exception)));
    }
    match &result.data_oneof {
        Some(generic_result::DataOneof::Data(data)) if holds(data, &spawned.text) => Fetched::Right,
        _ => Fetched::Lost(what("its output is that of another")),
    }
}

/// Whether a pickle holds a text, whole.
fn holds(pickle: &[u8], text: &str) -> bool {
    let found = pickle.windows(text.len()).position(|bytes| bytes == text.as_bytes());
    let after = found.and_then(|at| pickle.get(at + text.len()));
    after.is_none_or(|byte| !byte.is_ascii_digit()) && found.is_some()
}

/// All outputs of a call.
async fn page(line: &mut Line, call_id: &str) -> anyhow::Result<FunctionGetOutputsResponse> {
    let wait_s = REQUEST_PATIENCE.as_secs_f32() / 2.0;
    let asked = FunctionGetOutputsRequest {
        max_values: 0,
        start_idx: None,
        end_idx: None,
        ..wire::outputs_request(call_id, wait_s)
    };
    let request = wire::repeatable(asked, &wire::new_key(), REQUEST_PATIENCE);
    Ok(line.wire().await?.function_get_outputs(request).await?.into_inner())
}

/// When killing ended.
#[derive(Default)]
struct LastKill(OnceLock<Instant>);

impl LastKill {
    fn was_now(&self) {
        // It ends once.
        let _before = self.0.set(Instant::now());
    }

    fn was(&self) -> bool {
        self.0.get().is_some()
    }

    /// Whether everything should be done by now.
    fn is_long_ago(&self) -> bool {
        self.0.get().is_some_and(|at| at.elapsed() > LAST_PATIENCE)
    }
}

/// A connection that is made anew where it was cut.
struct Line {
    url: String,
    wire: Option<Wire>,
}

impl Line {
    fn new(url: String) -> Self {
        Self { url, wire: None }
    }

    async fn wire(&mut self) -> anyhow::Result<&mut Wire> {
        let wire = match self.wire.take() {
            Some(wire) => wire,
            None => wire::connect(&self.url).await?,
        };
        Ok(self.wire.insert(wire))
    }

    async fn cut(&mut self) {
        self.wire = None;
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
}

async fn kill_until(
    server: &Server,
    until: Until,
    seed: u64,
    kills: &mut HashMap<Victim, u64>,
) -> anyhow::Result<()> {
    let mut random = Random(seed);
    let begun = Instant::now();
    // Kills may find nobody for a while, as after the worker's death, not for ever.
    let mut last_kill = Instant::now();
    loop {
        let count: u64 = kills.values().sum();
        let is_over = match until {
            Until::Kills(wanted) => count >= wanted,
            Until::Elapsed(limit) => begun.elapsed() >= limit,
        };
        if is_over {
            return Ok(());
        }
        if last_kill.elapsed() > LAST_PATIENCE {
            bail!("there was nobody to kill for {LAST_PATIENCE:?}");
        }
        let wait_ms = random.below(KILL_INTERVAL_MS.end - KILL_INTERVAL_MS.start);
        tokio::time::sleep(Duration::from_millis(KILL_INTERVAL_MS.start + wait_ms)).await;
        let victim = match random.below(KILLS_A_ROUND) {
            0 => Victim::Server,
            1 => Victim::Worker,
            _ => Victim::Container,
        };
        if let Some(process) = process_of(server, victim, &mut random) {
            let killed = Command::new("kill").args(["-9", &process.to_string()]).status()?;
            if killed.success() {
                *kills.entry(victim).or_default() += 1;
                last_kill = Instant::now();
            }
        }
    }
}

fn process_of(server: &Server, victim: Victim, random: &mut Random) -> Option<u32> {
    match victim {
        Victim::Server => server.server_process().ok(),
        Victim::Worker => server.worker_process().ok(),
        Victim::Container => {
            let containers = tree::namespaces_under(server.process()).ok()?;
            let one = containers.get(random.below(containers.len().max(1) as u64) as usize)?;
            one.processes.first().copied()
        }
    }
}

/// Numbers that follow from a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

impl Tally {
    /// # Errors
    /// When something was lost, doubled or failed, with the first of them.
    pub fn check(&self) -> anyhow::Result<()> {
        ensure!(self.spawned > 0, "nothing was spawned");
        let wrong = [("lost", &self.lost), ("doubled", &self.doubled), ("failed", &self.failed)];
        for (how, calls) in wrong {
            if let Some(first) = calls.first() {
                bail!("{} of {} spawns {how}; the first: {first}", calls.len(), self.spawned);
            }
        }
        Ok(())
    }

    /// One line.
    pub fn describe(&self) -> String {
        let of = |victim| self.kills.get(&victim).copied().unwrap_or_default();
        format!(
            "{} spawns acknowledged, {} of them seen in lists; killed: the server {} times, the worker {}, containers {}",
            self.spawned,
            self.listed,
            of(Victim::Server),
            of(Victim::Worker),
            of(Victim::Container)
        )
    }

    pub fn kills(&self) -> u64 {
        self.kills.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spawned() -> Spawned {
        Spawned { text: "spawn-12".to_owned(), call_id: "fc-1".to_owned() }
    }

    fn page_of(results: &[GenericResult]) -> FunctionGetOutputsResponse {
        let output = |result: &GenericResult| FunctionGetOutputsItem {
            result: Some(result.clone()),
            ..FunctionGetOutputsItem::default()
        };
        FunctionGetOutputsResponse {
            outputs: results.iter().map(output).collect(),
            ..FunctionGetOutputsResponse::default()
        }
    }

    fn success(text: &str) -> GenericResult {
        GenericResult {
            status: generic_result::GenericStatus::Success.into(),
            data_oneof: Some(generic_result::DataOneof::Data(wire::text_argument(text).into())),
            ..GenericResult::default()
        }
    }

    #[test]
    fn one_output_that_holds_the_text_is_right() {
        let page = page_of(&[success("spawn-12")]);
        assert!(matches!(judge(&spawned(), &page), Fetched::Right));
    }

    #[test]
    fn the_output_of_another_spawn_is_a_loss() {
        for other in ["spawn-1", "spawn-123", ""] {
            let page = page_of(&[success(other)]);
            assert!(matches!(judge(&spawned(), &page), Fetched::Lost(_)), "{other}");
        }
    }

    #[test]
    fn two_outputs_are_a_double_and_a_failure_is_said() {
        let twice = page_of(&[success("spawn-12"), success("spawn-12")]);
        assert!(matches!(judge(&spawned(), &twice), Fetched::Doubled(_)));
        let failed = page_of(&[GenericResult {
            status: generic_result::GenericStatus::Failure.into(),
            ..GenericResult::default()
        }]);
        assert!(matches!(judge(&spawned(), &failed), Fetched::Failed(_)));
    }

    #[test]
    fn a_spawn_that_was_wrong_fails_the_run() {
        let tally = Tally { spawned: 2, ..Tally::default() };
        assert!(tally.check().is_ok());
        let lost = Tally { spawned: 2, lost: vec!["spawn-1".to_owned()], ..Tally::default() };
        assert!(lost.check().unwrap_err().to_string().contains("1 of 2 spawns lost"));
    }
}
