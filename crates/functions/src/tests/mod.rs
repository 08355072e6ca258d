//! Tests of what no call to the service shows by itself: the engine in made-up worlds.

mod containers;
mod describe;
mod engine;
mod format;
mod simulation;
mod world;

use corral_types::{AppId, FunctionId, Timestamp, WorkspaceId};

use crate::settings::FunctionSettings;

const WORKSPACE: WorkspaceId = WorkspaceId::from_u128(1);

fn settings(number: u128) -> FunctionSettings {
    FunctionSettings::new(FunctionId::from_u128(number), WORKSPACE, AppId::from_u128(1))
}

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

/// Numbers that look random and are the same for the same seed (splitmix64).
#[derive(Clone, Debug)]
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ value >> 31
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// True in so many of a hundred cases.
    fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn bits(&mut self) -> [u8; 10] {
        let (one, other) = (self.next().to_le_bytes(), self.next().to_le_bytes());
        std::array::from_fn(|index| if index < 8 { one[index] } else { other[index - 8] })
    }
}
