//! The threads that own the connections.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::{Outcome, storage_error};
use crate::CatalogError;

/// Reading threads: lookups take microseconds, so two keep up, and one long list does not
/// hold up everything else.
pub(super) const READERS: usize = 2;

/// Changes and questions that wait; more wait in their callers.
const QUEUE: usize = 1024;

/// Changes in one commit: a sync to disk costs as much as hundreds of them, and the first
/// of a group waits for the last.
const MAX_GROUP: usize = 64;

type ReadJob = Box<dyn FnOnce(&Connection) + Send>;

/// Makes a change inside a savepoint (or learns why there is none); then tells how it went, and
/// how to answer once the group's commit is known.
type WriteJob = Box<dyn FnOnce(Result<&Connection, CatalogError>) -> Done + Send>;

struct Done {
    keep: Keep,
    answer: GroupAnswer,
}

/// Answers one change, given how the commit of its group went.
type GroupAnswer = Box<dyn FnOnce(Result<(), CatalogError>)>;

/// What becomes of the changes that a job made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    Yes,
    No,
}

pub(super) struct Executor {
    writes: Option<mpsc::Sender<WriteJob>>,
    reads: Option<mpsc::Sender<ReadJob>>,
    threads: Vec<JoinHandle<()>>,
}

impl Executor {
    pub fn start(writer: Connection, readers: Vec<Connection>) -> io::Result<Self> {
        let (writes, write_queue) = mpsc::channel(QUEUE);
        let (reads, read_queue) = mpsc::channel(QUEUE);
        let read_queue = Arc::new(Mutex::new(read_queue));
        let mut executor = Self { writes: Some(writes), reads: Some(reads), threads: Vec::new() };
        executor.spawn("catalog-write", move || write_all(&writer, write_queue))?;
        for reader in readers {
            let queue = Arc::clone(&read_queue);
            executor.spawn("catalog-read", move || read_all(&reader, &queue))?;
        }
        Ok(executor)
    }

    fn spawn(&mut self, name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        self.threads.push(std::thread::Builder::new().name(name.to_owned()).spawn(work)?);
        Ok(())
    }

    pub async fn write<T, W>(&self, work: W) -> Result<T, CatalogError>
    where
        T: Send + 'static,
        W: FnOnce(&Connection) -> Outcome<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job: WriteJob = Box::new(move |connection| {
            let result =
                connection.and_then(|connection| work(connection).map_err(CatalogError::from));
            let keep = if result.is_ok() { Keep::Yes } else { Keep::No };
            let answer = move |committed: Result<(), CatalogError>| {
                // Whoever asked may have gone; the change stands all the same.
                let _ = reply.send(result.and_then(|value| committed.map(|()| value)));
            };
            Done { keep, answer: Box::new(answer) }
        });
        let queue = self.writes.as_ref().ok_or(CatalogError::Closed)?;
        queue.send(job).await.map_err(|_| CatalogError::Closed)?;
        answer.await.map_err(|_| CatalogError::Closed)?
    }

    pub async fn read<T, W>(&self, work: W) -> Result<T, CatalogError>
    where
        T: Send + 'static,
        W: FnOnce(&Connection) -> Outcome<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job: ReadJob = Box::new(move |connection| {
            let _ = reply.send(read_snapshot(connection, work).map_err(CatalogError::from));
        });
        let queue = self.reads.as_ref().ok_or(CatalogError::Closed)?;
        queue.send(job).await.map_err(|_| CatalogError::Closed)?;
        answer.await.map_err(|_| CatalogError::Closed)?
    }
}

/// Lets the threads finish what is queued, and waits for them: then the file is closed.
impl Drop for Executor {
    fn drop(&mut self) {
        self.writes = None;
        self.reads = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the catalog had panicked");
            }
        }
    }
}

fn read_snapshot<T>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> Outcome<T>,
) -> Outcome<T> {
    let snapshot = connection.unchecked_transaction()?;
    let result = work(&snapshot)?;
    snapshot.finish()?;
    Ok(result)
}

fn read_all(connection: &Connection, queue: &Mutex<mpsc::Receiver<ReadJob>>) {
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
        let Some(job) = job else { return };
        // The transaction that a panic leaves behind is rolled back as it unwinds, and
        // whoever asked sees its channel closed.
        if catch_unwind(AssertUnwindSafe(|| job(connection))).is_err() {
            tracing::error!("a question to the catalog panicked");
        }
    }
}

fn write_all(connection: &Connection, mut queue: mpsc::Receiver<WriteJob>) {
    while let Some(first) = queue.blocking_recv() {
        let mut answers = Vec::new();
        let committed = write_group(connection, first, &mut queue, &mut answers);
        if committed.is_err() && !connection.is_autocommit() {
            // Fails only where SQLite has rolled back by itself.
            let _ = connection.execute_batch("ROLLBACK");
        }
        for answer in answers {
            answer(committed.clone());
        }
    }
}

/// Does `first` and what waits behind it in one transaction; the answers are given after it.
fn write_group(
    connection: &Connection,
    first: WriteJob,
    queue: &mut mpsc::Receiver<WriteJob>,
    answers: &mut Vec<GroupAnswer>,
) -> Result<(), CatalogError> {
    if let Err(error) = execute(connection, "BEGIN IMMEDIATE") {
        answers.push(first(Err(error.clone())).answer);
        return Err(error);
    }
    let mut next = Some(first);
    while let Some(job) = next {
        write_one(connection, job, answers)?;
        next = if answers.len() < MAX_GROUP { queue.try_recv().ok() } else { None };
    }
    execute(connection, "COMMIT")
}

fn write_one(
    connection: &Connection,
    job: WriteJob,
    answers: &mut Vec<GroupAnswer>,
) -> Result<(), CatalogError> {
    execute(connection, "SAVEPOINT one")?;
    let keep = match catch_unwind(AssertUnwindSafe(|| job(Ok(connection)))) {
        Ok(done) => {
            answers.push(done.answer);
            done.keep
        }
        Err(_) => {
            tracing::error!("a change of the catalog panicked");
            Keep::No
        }
    };
    if connection.is_autocommit() {
        // A full or failing disk makes SQLite give up the whole transaction by itself.
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ABORT_ROLLBACK);
        return Err(storage_error(rusqlite::Error::SqliteFailure(code, None)));
    }
    if keep == Keep::No {
        execute(connection, "ROLLBACK TO one")?;
    }
    execute(connection, "RELEASE one")
}

fn execute(connection: &Connection, sql: &str) -> Result<(), CatalogError> {
    let run = || connection.prepare_cached(sql)?.execute([]);
    run().map(|_| ()).map_err(storage_error)
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::time::Duration;

    use super::*;

    /// An executor over a table of numbers in a file of its own.
    fn numbers(folder: &tempfile::TempDir) -> Executor {
        let open = || {
            let connection = Connection::open(folder.path().join("numbers")).unwrap();
            connection.pragma_update(None, "journal_mode", "WAL").unwrap();
            connection
        };
        let writer = open();
        writer.execute_batch("CREATE TABLE numbers (n INTEGER PRIMARY KEY, b BLOB)").unwrap();
        Executor::start(writer, vec![open(), open()]).unwrap()
    }

    fn insert(connection: &Connection, number: i64) -> Outcome<i64> {
        connection.execute("INSERT INTO numbers (n) VALUES (?1)", [number])?;
        Ok(number)
    }

    async fn all(executor: &Executor) -> Vec<i64> {
        let select = |connection: &Connection| {
            let mut statement = connection.prepare("SELECT n FROM numbers ORDER BY n")?;
            let rows = statement.query_map([], |row| row.get(0))?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        };
        executor.read(select).await.unwrap()
    }

    fn run(work: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(work);
    }

    #[test]
    fn a_group_keeps_the_changes_that_succeed_and_only_those() {
        let folder = tempfile::tempdir().unwrap();
        let executor = numbers(&folder);
        run(async {
            // Holds the writer until all the others wait behind it: they form one group.
            let gate = Arc::new(Barrier::new(2));
            let held = Arc::clone(&gate);
            let hold = executor.write(move |connection| {
                held.wait();
                insert(connection, 1)
            });
            let fail = |number, wrong: fn(&Connection)| {
                executor.write(move |connection| {
                    insert(connection, number)?;
                    wrong(connection);
                    connection.execute("INSERT INTO nowhere VALUES (1)", [])?;
                    Ok(())
                })
            };
            let open = async {
                tokio::task::yield_now().await;
                gate.wait();
            };
            let (first, broken, second, panicked, third, ()) = tokio::join!(
                hold,
                fail(10, |_| ()),
                executor.write(|connection| insert(connection, 2)),
                fail(11, |_| panic!("a defect")),
                executor.write(|connection| insert(connection, 3)),
                open,
            );
            assert_eq!((first.unwrap(), second.unwrap(), third.unwrap()), (1, 2, 3));
            assert!(matches!(broken, Err(CatalogError::Storage(_))), "{broken:?}");
            assert!(matches!(panicked, Err(CatalogError::Closed)), "{panicked:?}");
            assert_eq!(all(&executor).await, [1, 2, 3]);
        });
    }

    #[test]
    fn a_question_that_panics_leaves_its_thread_at_work() {
        let folder = tempfile::tempdir().unwrap();
        let executor = numbers(&folder);
        run(async {
            for _ in 0..2 * READERS {
                let answer = executor.read(|_| -> Outcome<()> { panic!("a defect") }).await;
                assert!(matches!(answer, Err(CatalogError::Closed)));
            }
            executor.write(|connection| insert(connection, 1)).await.unwrap();
            assert_eq!(all(&executor).await, [1]);
        });
    }

    #[test]
    fn a_full_disk_fails_what_it_hits_and_passes() {
        let folder = tempfile::tempdir().unwrap();
        let executor = numbers(&folder);
        run(async {
            let limit = |pages: u32| {
                executor.write(move |connection| {
                    let set = format!("PRAGMA max_page_count = {pages}");
                    connection.query_row(&set, [], |row| row.get::<_, u32>(0))?;
                    Ok(())
                })
            };
            limit(20).await.unwrap();
            let mut kept = Vec::new();
            let mut failed = 0;
            for number in 0..40 {
                let answer = executor
                    .write(move |connection| {
                        let sql = "INSERT INTO numbers (n, b) VALUES (?1, zeroblob(4000))";
                        connection.execute(sql, [number])?;
                        Ok(())
                    })
                    .await;
                match answer {
                    Ok(()) => kept.push(number),
                    Err(CatalogError::Storage(_)) => failed += 1,
                    Err(other) => panic!("{other}"),
                }
            }
            assert!(!kept.is_empty() && failed > 0);
            assert_eq!(all(&executor).await, kept);
            limit(1_000_000).await.unwrap();
            executor.write(|connection| insert(connection, 100)).await.unwrap();
            kept.push(100);
            assert_eq!(all(&executor).await, kept);
        });
    }

    #[test]
    fn dropping_finishes_what_was_queued() {
        let folder = tempfile::tempdir().unwrap();
        let executor = numbers(&folder);
        run(async {
            for number in 0..20 {
                let change = executor.write(move |connection| insert(connection, number));
                // Polled once, so that it is queued, and then given up.
                let _ = tokio::time::timeout(Duration::ZERO, change).await;
            }
        });
        drop(executor);
        assert!(!folder.path().join("numbers-wal").exists(), "closed in order");
        let connection = Connection::open(folder.path().join("numbers")).unwrap();
        let count: i64 =
            connection.query_row("SELECT count(*) FROM numbers", [], |row| row.get(0)).unwrap();
        assert_eq!(count, 20);
    }
}
