//! The journal against SQLite, each at its best, on the disk of the directory given:
//!
//! ```text
//! cargo run --release -p corral-journal --example journal_speed -- DIR
//! ```
//!
//! **Appends**: tasks that each append a record of 200 bytes, wait until it is on disk, and append
//! the next. SQLite (WAL, `synchronous=FULL`) has one writer thread that puts everything that
//! waits into one transaction, which is the same group commit; a commit for each record would be
//! many times slower. Five rounds in alternation; median, and lowest and highest.
//!
//! **Recovery**: a fresh process reads a million such records in order, the files first dropped
//! from the page cache, then again from it; time and peak memory of that process.

use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use corral_journal::{Journal, JournalOptions};
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

const RECORD_BYTES: usize = 200;
const APPENDERS: [usize; 3] = [1, 16, 256];
const ROUNDS: usize = 5;
const ROUND_TIME: Duration = Duration::from_millis(1500);
const RECOVERED_RECORDS: usize = 1_000_000;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [dir] => compare(Path::new(dir)),
        ["recover", store, path] => recover(store, Path::new(path)),
        _ => bail!("usage: journal_speed DIR"),
    }
}

fn compare(dir: &Path) -> Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build()?;
    println!("appenders  store    appends/s  (lowest – highest)  CPU µs/append");
    for appenders in APPENDERS {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            let path = dir.join(format!("speed-{appenders}-{round}"));
            ours.push(runtime.block_on(append_to_journal(&path.join("journal"), appenders))?);
            theirs.push(runtime.block_on(append_to_sqlite(&path.join("sqlite"), appenders))?);
            fs::remove_dir_all(&path)?;
        }
        print_rates(appenders, "journal", ours);
        print_rates(appenders, "SQLite", theirs);
    }

    let path = dir.join("recovery");
    println!(
        "\nstore    page cache  recovery of {RECOVERED_RECORDS} records  peak memory  on disk"
    );
    for store in ["journal", "SQLite"] {
        let store_path = path.join(store);
        match store {
            "journal" => fill_journal(&store_path)?,
            _ => fill_sqlite(&store_path)?,
        }
        for cache in ["cold", "hot"] {
            if cache == "cold" {
                drop_from_page_cache(&store_path)?;
            }
            let output = Command::new(std::env::current_exe()?)
                .args(["recover", store])
                .arg(&store_path)
                .output()?;
            let text = String::from_utf8_lossy(&output.stdout);
            let size_mb = size_of(&store_path)? as f64 / 1e6;
            println!("{store:8} {cache:10}  {}  {size_mb:.0} MB", text.trim());
        }
    }
    fs::remove_dir_all(&path)?;
    Ok(())
}

/// Appends a second and CPU microseconds an append.
type Rate = (f64, f64);

async fn append_to_journal(path: &Path, appenders: usize) -> Result<Rate> {
    let (journal, _) = Journal::open(path, JournalOptions::default())?;
    measure(appenders, journal).await
}

async fn append_to_sqlite(path: &Path, appenders: usize) -> Result<Rate> {
    let (sender, receiver) = mpsc::channel(4096);
    let connection = open_sqlite(path)?;
    let writer = std::thread::spawn(move || write_groups(connection, receiver));
    let rate = measure(appenders, sender).await;
    writer.join().expect("the writer does not panic")?;
    rate
}

/// Something that acknowledges records once they are on disk.
trait Append: Clone + Send + Sync + 'static {
    /// False when the store takes no more.
    fn append(&self, payload: Vec<u8>) -> impl Future<Output = bool> + Send;
}

impl Append for Journal {
    async fn append(&self, payload: Vec<u8>) -> bool {
        Journal::append(self, payload).await.is_ok()
    }
}

impl Append for mpsc::Sender<Waiting> {
    async fn append(&self, payload: Vec<u8>) -> bool {
        let (done, waiting) = oneshot::channel();
        self.send((payload, done)).await.is_ok() && waiting.await.is_ok()
    }
}

async fn measure(appenders: usize, store: impl Append) -> Result<Rate> {
    let stop = Arc::new(AtomicBool::new(false));
    let (started, cpu_before) = (Instant::now(), cpu_seconds()?);
    let tasks: Vec<_> = (0..appenders)
        .map(|appender| {
            let (store, stop) = (store.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut appended = 0u64;
                while !stop.load(Ordering::Relaxed) {
                    let mut payload = vec![appender as u8; RECORD_BYTES];
                    payload[..8].copy_from_slice(&appended.to_le_bytes());
                    if !store.append(payload).await {
                        break;
                    }
                    appended += 1;
                }
                appended
            })
        })
        .collect();
    drop(store);
    tokio::time::sleep(ROUND_TIME).await;
    stop.store(true, Ordering::Relaxed);
    let mut appended = 0;
    for task in tasks {
        appended += task.await?;
    }
    let seconds = started.elapsed().as_secs_f64();
    let cpu = cpu_seconds()? - cpu_before;
    Ok((appended as f64 / seconds, cpu / appended as f64 * 1e6))
}

fn print_rates(appenders: usize, store: &str, mut rates: Vec<Rate>) {
    rates.sort_by(|left, right| left.0.total_cmp(&right.0));
    let (rate, cpu) = rates[ROUNDS / 2];
    let (low, high) = (rates[0].0, rates[ROUNDS - 1].0);
    println!("{appenders:9}  {store:8} {rate:9.0}  ({low:.0} – {high:.0})  {cpu:.1}");
}

fn open_sqlite(path: &Path) -> Result<Connection> {
    fs::create_dir_all(path)?;
    let connection = Connection::open(path.join("log.db"))?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
         CREATE TABLE IF NOT EXISTS log (sequence INTEGER PRIMARY KEY, payload BLOB NOT NULL);",
    )?;
    Ok(connection)
}

type Waiting = (Vec<u8>, oneshot::Sender<()>);

fn write_groups(mut connection: Connection, mut receiver: mpsc::Receiver<Waiting>) -> Result<()> {
    let mut group = Vec::new();
    while receiver.blocking_recv_many(&mut group, 4096) > 0 {
        let transaction = connection.transaction()?;
        {
            let mut insert = transaction.prepare_cached("INSERT INTO log (payload) VALUES (?1)")?;
            for (payload, _) in &group {
                insert.execute([payload])?;
            }
        }
        transaction.commit()?;
        for (_, done) in group.drain(..) {
            // The appender may have stopped.
            let _ = done.send(());
        }
    }
    Ok(())
}

fn fill_journal(path: &Path) -> Result<()> {
    let (journal, _) = Journal::open(path, JournalOptions::default())?;
    let batch = vec![vec![7; RECORD_BYTES]; 100];
    for _ in 0..RECOVERED_RECORDS / batch.len() {
        journal.append_batch_blocking(&batch)?;
    }
    Ok(())
}

fn fill_sqlite(path: &Path) -> Result<()> {
    let mut connection = open_sqlite(path)?;
    for _ in 0..RECOVERED_RECORDS / 1000 {
        let transaction = connection.transaction()?;
        for _ in 0..1000 {
            transaction
                .prepare_cached("INSERT INTO log (payload) VALUES (?1)")?
                .execute([vec![7u8; RECORD_BYTES]])?;
        }
        transaction.commit()?;
    }
    Ok(())
}

fn recover(store: &str, path: &Path) -> Result<()> {
    let started = Instant::now();
    let mut records = 0;
    if store == "journal" {
        let (_journal, recovery) = Journal::open(path, JournalOptions::default())?;
        for record in recovery.records {
            black_box(record?.payload);
            records += 1;
        }
    } else {
        let connection = open_sqlite(path)?;
        let mut select = connection.prepare("SELECT payload FROM log ORDER BY sequence")?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            black_box(row.get::<_, Vec<u8>>(0)?);
            records += 1;
        }
    }
    if records != RECOVERED_RECORDS {
        bail!("{records} records came back");
    }
    let (elapsed, peak) = (started.elapsed(), peak_memory_kib()?);
    println!("{:.2} s  {:.1} MB", elapsed.as_secs_f64(), peak as f64 * 1024.0 / 1e6);
    Ok(())
}

fn files(path: &Path) -> Result<Vec<PathBuf>> {
    fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect()
}

fn size_of(path: &Path) -> Result<u64> {
    files(path)?.iter().map(|file| Ok(fs::metadata(file)?.len())).sum()
}

fn drop_from_page_cache(path: &Path) -> Result<()> {
    for path in files(path)? {
        let file = fs::File::open(&path)?;
        file.sync_all()?;
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
    }
    Ok(())
}

fn peak_memory_kib() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let text = line.context("no VmHWM in /proc/self/status")?;
    Ok(text.trim().trim_end_matches(" kB").parse()?)
}

fn cpu_seconds() -> Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit_once(')').context("no `)` in /proc/self/stat")?.1;
    let mut ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
    let (Some(user), Some(system)) = (ticks.next(), ticks.next()) else {
        bail!("/proc/self/stat is short");
    };
    Ok((user? + system?) / 100.0)
}
