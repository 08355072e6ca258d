//! Waiting longer after each failure, and not in step with other workers.

use std::time::Duration;

/// The first wait, and what the wait goes back to after a success.
const FIRST_MS: u64 = 50;

/// The longest wait: a server that is back is found again within this.
const LONGEST_MS: u64 = 5_000;

/// Waits between tries of one thing.
pub struct Backoff {
    next_ms: u64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next_ms: FIRST_MS }
    }
}

impl Backoff {
    /// Waits for between half of the current step and all of it; the next step is twice as long.
    pub async fn wait(&mut self) {
        tokio::time::sleep(self.next()).await;
    }

    fn next(&mut self) -> Duration {
        let step = self.next_ms;
        self.next_ms = (step * 2).min(LONGEST_MS);
        let mut random = [0u8; 4];
        // Without randomness the waits are in step, which does no harm by itself.
        let _ = getrandom::fill(&mut random);
        let share = u64::from(u32::from_le_bytes(random));
        Duration::from_millis(step / 2 + ((step / 2 * share) >> 32))
    }

    /// It worked: the next wait is short again.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// Whether nothing has failed yet.
    pub fn is_fresh(&self) -> bool {
        self.next_ms == FIRST_MS
    }

    /// Whether it has failed for so long that someone should be told.
    pub fn is_long(&self) -> bool {
        self.next_ms == LONGEST_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_begin_anew() {
        let mut backoff = Backoff::default();
        for step in [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000] {
            let wait = backoff.next().as_millis() as u64;
            assert!((step / 2..=step).contains(&wait), "{wait} of {step}");
        }
        assert!(backoff.is_long());
        backoff.reset();
        assert!(backoff.next() <= Duration::from_millis(50));
    }
}
