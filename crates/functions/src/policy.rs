//! What the core decides by, in numbers.

use std::time::Duration;

/// Attempts of one input that something else than the function spoiled (a lost worker, a killed
/// process): one more, and it fails.
pub(crate) const MAX_INTERNAL_RETRIES: u8 = 8;
/// Of these, attempts that passed the memory limit: perhaps another input took the memory.
pub(crate) const MAX_MEMORY_RETRIES: u8 = 1;
/// Starts that fail one after the other before the inputs that wait fail with them.
pub(crate) const FAILED_STARTS_BEFORE_GIVING_UP: u32 = 3;
/// The pause after the first failed start; it doubles with every further one …
pub(crate) const START_BACK_OFF_MS: u64 = 500;
/// … up to this: whoever calls a function that cannot start hears of it within seconds.
pub(crate) const MAX_START_BACK_OFF_MS: u64 = 10_000;
/// How long a container may take to end after it was told to by its own poll.
pub(crate) const KILL_GRACE: Duration = Duration::from_secs(30);
/// How long a container may go on with an input that it is to leave alone.
pub(crate) const INTERRUPT_GRACE: Duration = Duration::from_secs(30);
/// How long a container that has nothing to do may stay without asking for something, beyond its
/// window: it asks again within seconds when a connection broke or the server was away.
pub(crate) const SILENCE_GRACE: Duration = Duration::from_secs(60);
/// How long after a start of the server no input times out: outputs that came while it was away
/// are on their way.
pub(crate) const RESTART_GRACE: Duration = Duration::from_secs(10);
/// After this a container that was stopped and did not end is stopped again.
pub(crate) const STOP_AGAIN_AFTER: Duration = Duration::from_secs(60);
/// The most containers of one function that are asked for or starting: what more is wanted is
/// known better once these run.
pub(crate) const MAX_STARTING_CONTAINERS: usize = 64;
/// As long as it is not known how long a function takes, it begins with so many containers.
pub(crate) const UNMEASURED_CONTAINERS: u64 = 4;
/// A queue that is worked off within this, or twice the time that a start takes, needs no more
/// containers.
pub(crate) const MIN_HORIZON_MS: f64 = 1_000.0;
/// A slow start makes nobody wait longer than this for more containers.
pub(crate) const MAX_HORIZON_MS: f64 = 10_000.0;
/// How long outputs are kept.
pub(crate) const KEEP_OUTPUTS: Duration = Duration::from_secs(7 * 24 * 3_600);
/// How long outputs are kept that were fetched and may go: a client whose connection broke asks
/// again within this.
pub(crate) const KEEP_FETCHED: Duration = Duration::from_secs(30);
/// The most inputs without an output, over all workspaces: each takes some 200 bytes.
pub(crate) const MAX_UNFINISHED_INPUTS: usize = 4_000_000;
/// The most memory for payloads, outputs and chunks.
pub(crate) const MAX_RESIDENT_BYTES: usize = 1 << 30;
/// How far an input's index may be beyond the number of the call's inputs: inputs come in order,
/// give or take what travels beside one another.
pub(crate) const MAX_INDEX_GAP: u32 = 100_000;
/// The most bytes of chunks of one direction of a call that nobody read.
pub(crate) const MAX_CHUNK_BYTES: usize = 32 << 20;
/// How much of what was read is kept for a reader whose connection broke.
pub(crate) const KEEP_READ_CHUNK_BYTES: usize = 4 << 20;
/// How many calls a tick looks at for whether they are kept long enough.
pub(crate) const CALLS_SWEPT_PER_TICK: u32 = 4_096;
/// How many inputs one record names.
pub(crate) const INPUTS_PER_RECORD: usize = 1_024;
/// How many bytes of inputs one record has: far below what the journal takes.
pub(crate) const BYTES_PER_RECORD: usize = 256 << 10;
/// How much the newest measurement counts among those of a function.
pub(crate) const NEWEST_WEIGHT: f64 = 0.2;
