//! The same thing asked for twice at once is made once.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::error::BuildError;

struct Flight<V> {
    end: Mutex<Option<Result<V, BuildError>>>,
    ended: Condvar,
}

/// What is being made at the moment, by key.
pub struct Flights<K, V> {
    running: Mutex<HashMap<K, Arc<Flight<V>>>>,
}

impl<K, V> Default for Flights<K, V> {
    fn default() -> Self {
        Self { running: Mutex::default() }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends a flight even where its maker panics, so that nobody waits for ever.
struct Landing<'a, K: Eq + Hash, V> {
    flights: &'a Flights<K, V>,
    key: Option<K>,
    flight: Arc<Flight<V>>,
}

impl<K: Eq + Hash, V> Drop for Landing<'_, K, V> {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            lock(&self.flights.running).remove(&key);
        }
        let mut end = lock(&self.flight.end);
        if end.is_none() {
            *end = Some(Err(BuildError::Tool {
                what: "the build of an image that was waited for broke off".into(),
                output: String::new(),
            }));
        }
        drop(end);
        self.flight.ended.notify_all();
    }
}

impl<K: Eq + Hash + Clone, V: Clone> Flights<K, V> {
    /// Makes it, or waits for whoever is making it (`wait` is called before).
    pub fn once(
        &self,
        key: K,
        wait: impl FnOnce(),
        make: impl FnOnce() -> Result<V, BuildError>,
    ) -> Result<V, BuildError> {
        let mut running = lock(&self.running);
        if let Some(flight) = running.get(&key).map(Arc::clone) {
            drop(running);
            wait();
            let ended = flight.ended.wait_while(lock(&flight.end), |end| end.is_none());
            let ended = ended.unwrap_or_else(PoisonError::into_inner);
            return ended.clone().expect("waited until there is an end");
        }
        let flight = Arc::new(Flight { end: Mutex::new(None), ended: Condvar::new() });
        running.insert(key.clone(), Arc::clone(&flight));
        drop(running);
        let landing = Landing { flights: self, key: Some(key), flight: Arc::clone(&flight) };
        let end = make();
        *lock(&flight.end) = Some(end.clone());
        drop(landing);
        end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn many_at_once_make_one_and_a_panic_frees_those_who_wait() {
        let flights: Flights<u8, u32> = Flights::default();
        let made = AtomicUsize::new(0);
        let waiting = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let wait = || _ = waiting.fetch_add(1, Ordering::SeqCst);
                    let got = flights.once(1, wait, || {
                        while waiting.load(Ordering::SeqCst) < 7 {
                            std::thread::yield_now();
                        }
                        made.fetch_add(1, Ordering::SeqCst);
                        Ok(5)
                    });
                    assert_eq!(got.unwrap(), 5);
                });
            }
        });
        assert_eq!(made.load(Ordering::SeqCst), 1);

        let waits = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let first = scope.spawn(|| {
                flights.once(
                    2,
                    || (),
                    || {
                        while waits.load(Ordering::SeqCst) == 0 {
                            std::thread::yield_now();
                        }
                        panic!("in the middle");
                    },
                )
            });
            while lock(&flights.running).is_empty() {
                std::thread::yield_now();
            }
            let wait = || _ = waits.fetch_add(1, Ordering::SeqCst);
            assert!(flights.once(2, wait, || Ok(1)).is_err());
            assert!(first.join().is_err());
        });
        assert_eq!(flights.once(2, || (), || Ok(1)).unwrap(), 1);
    }
}
