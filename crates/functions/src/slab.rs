//! Many values of one type, each at a small number, in chunks: growing moves nothing, and a
//! million of them take a million times their size.

/// How many values a chunk has.
const CHUNK: usize = 4_096;

/// No place in any slab.
pub(crate) const NOWHERE: u32 = u32::MAX;

#[derive(Debug)]
enum Slot<T> {
    Full(T),
    /// The next free place.
    Free(u32),
}

#[derive(Debug)]
pub(crate) struct Slab<T> {
    chunks: Vec<Vec<Slot<T>>>,
    free: u32,
    len: usize,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { chunks: Vec::new(), free: NOWHERE, len: 0 }
    }
}

impl<T> Slab<T> {
    pub fn len(&self) -> usize {
        self.len
    }

    /// One more than the highest place that was ever used.
    pub fn end(&self) -> u32 {
        let full = self.chunks.len().saturating_sub(1) * CHUNK;
        (full + self.chunks.last().map_or(0, Vec::len)) as u32
    }

    pub fn insert(&mut self, value: T) -> u32 {
        self.len += 1;
        if self.free != NOWHERE {
            let place = self.free;
            let slot = self.slot_mut(place).expect("the free list names slots");
            let Slot::Free(next) = *slot else { unreachable!("a slot in the free list is free") };
            *slot = Slot::Full(value);
            self.free = next;
            return place;
        }
        let place = self.end();
        assert!(place < NOWHERE, "a slab has fewer than four thousand million values");
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        self.chunks.last_mut().expect("one was pushed").push(Slot::Full(value));
        place
    }

    pub fn remove(&mut self, place: u32) -> Option<T> {
        let free = self.free;
        let slot = self.slot_mut(place)?;
        if matches!(slot, Slot::Free(_)) {
            return None;
        }
        let Slot::Full(value) = std::mem::replace(slot, Slot::Free(free)) else { return None };
        self.free = place;
        self.len -= 1;
        Some(value)
    }

    pub fn get(&self, place: u32) -> Option<&T> {
        match self.chunks.get(place as usize / CHUNK)?.get(place as usize % CHUNK)? {
            Slot::Full(value) => Some(value),
            Slot::Free(_) => None,
        }
    }

    pub fn get_mut(&mut self, place: u32) -> Option<&mut T> {
        match self.slot_mut(place)? {
            Slot::Full(value) => Some(value),
            Slot::Free(_) => None,
        }
    }

    fn slot_mut(&mut self, place: u32) -> Option<&mut Slot<T>> {
        self.chunks.get_mut(place as usize / CHUNK)?.get_mut(place as usize % CHUNK)
    }

    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0..self.end()).filter_map(|place| Some((place, self.get(place)?)))
    }
}

/// For places that are known to be taken: whoever keeps a place removes it together with what is
/// there.
impl<T> std::ops::Index<u32> for Slab<T> {
    type Output = T;

    fn index(&self, place: u32) -> &T {
        self.get(place).expect("a kept place is taken")
    }
}

impl<T> std::ops::IndexMut<u32> for Slab<T> {
    fn index_mut(&mut self, place: u32) -> &mut T {
        self.get_mut(place).expect("a kept place is taken")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_used_again_and_others_stay() {
        let mut slab = Slab::default();
        let places: Vec<u32> = (0..10_000).map(|value| slab.insert(value)).collect();
        assert_eq!((slab.len(), slab.end()), (10_000, 10_000));
        for &place in places.iter().step_by(2) {
            assert_eq!(slab.remove(place), Some(place));
            assert_eq!(slab.remove(place), None);
        }
        assert_eq!(slab.iter().count(), 5_000);
        let again: Vec<u32> = (0..5_000).map(|value| slab.insert(value)).collect();
        assert!(again.iter().all(|place| place % 2 == 0));
        assert_eq!((slab.len(), slab.end()), (10_000, 10_000));
        assert_eq!(slab[places[1]], 1);
    }
}
