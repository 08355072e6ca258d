//! Ids typed by what they name, so that a job's id cannot be passed for a worker's.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Timestamp;

/// What an [`Id`] names: only its prefix in the written form.
pub trait Kind: 'static {
    /// Written before the dash, as in `job-0r3k…`.
    const PREFIX: &'static str;
}

/// A 128-bit identifier: 48 bits of creation time in milliseconds, then 80 random bits.
///
/// Ids of one kind sort by creation time. The written form is the kind's prefix, a dash
/// and 26 characters of Crockford's base 32 in lower case.
pub struct Id<K: Kind> {
    value: u128,
    kind: PhantomData<fn() -> K>,
}

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const ENCODED_CHARS: usize = 26;

impl<K: Kind> Id<K> {
    /// A fresh id from the system's clock and random source.
    pub fn generate() -> Self {
        let mut random = [0u8; 10];
        getrandom::fill(&mut random).expect("the system's random source is available");
        Self::from_parts(Timestamp::now(), random)
    }

    /// An id from parts handed in, for code whose time and randomness a test owns.
    pub fn from_parts(created: Timestamp, random: [u8; 10]) -> Self {
        let mut bytes = [0u8; 16];
        bytes[..6].copy_from_slice(&created.as_millis().to_be_bytes()[2..]);
        bytes[6..].copy_from_slice(&random);
        Self::from_u128(u128::from_be_bytes(bytes))
    }

    /// The id with this value; every value is an id.
    pub const fn from_u128(value: u128) -> Self {
        Self { value, kind: PhantomData }
    }

    /// The value, as stored in compact records.
    pub const fn as_u128(self) -> u128 {
        self.value
    }
}

impl<K: Kind> Clone for Id<K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K: Kind> Copy for Id<K> {}
impl<K: Kind> PartialEq for Id<K> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}
impl<K: Kind> Eq for Id<K> {}
impl<K: Kind> PartialOrd for Id<K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<K: Kind> Ord for Id<K> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.value.cmp(&other.value)
    }
}
impl<K: Kind> Hash for Id<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.value.hash(state);
    }
}

impl<K: Kind> fmt::Display for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut chars = [0u8; ENCODED_CHARS];
        let mut rest = self.value;
        for slot in chars.iter_mut().rev() {
            *slot = ALPHABET[(rest & 31) as usize];
            rest >>= 5;
        }
        let text = std::str::from_utf8(&chars).expect("the alphabet is ASCII");
        write!(f, "{}-{text}", K::PREFIX)
    }
}

impl<K: Kind> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is not an id of the kind asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an id of the form {prefix}-<26 characters>")]
pub struct ParseIdError {
    text: String,
    prefix: &'static str,
}

impl<K: Kind> FromStr for Id<K> {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || ParseIdError { text: text.to_owned(), prefix: K::PREFIX };
        let digits = text
            .strip_prefix(K::PREFIX)
            .and_then(|rest| rest.strip_prefix('-'))
            .filter(|rest| rest.len() == ENCODED_CHARS)
            .ok_or_else(refuse)?;
        let mut value: u128 = 0;
        for (position, byte) in digits.bytes().enumerate() {
            let digit = ALPHABET.iter().position(|&c| c == byte).ok_or_else(refuse)? as u128;
            // 26 characters hold 130 bits: the first may use three of its five.
            if position == 0 && digit > 7 {
                return Err(refuse());
            }
            value = value << 5 | digit;
        }
        Ok(Self::from_u128(value))
    }
}

impl<K: Kind> Serialize for Id<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, K: Kind> Deserialize<'de> for Id<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

macro_rules! ids {
    ($($(#[$doc:meta])* $alias:ident, $kind:ident, $prefix:literal;)*) => {$(
        #[doc(hidden)]
        pub enum $kind {}
        impl Kind for $kind {
            const PREFIX: &'static str = $prefix;
        }
        $(#[$doc])*
        pub type $alias = Id<$kind>;
    )*};
}

ids! {
    /// A workspace: the tenant that every record belongs to.
    WorkspaceId, WorkspaceKind, "ws";
    /// An API token; not its secret.
    TokenId, TokenKind, "tok";
    /// A data set, across its versions.
    DatasetId, DatasetKind, "ds";
    /// A taxonomy, across its versions.
    TaxonomyId, TaxonomyKind, "tx";
    /// A model, across its versions.
    ModelId, ModelKind, "mdl";
    /// An endpoint.
    EndpointId, EndpointKind, "ep";
    /// An upload being received.
    UploadId, UploadKind, "up";
    /// A job.
    JobId, JobKind, "job";
    /// One attempt of a job.
    AttemptId, AttemptKind, "att";
    /// A worker: one machine's process that runs tasks.
    WorkerId, WorkerKind, "wk";
    /// Anything that occupies a worker.
    TaskId, TaskKind, "task";
    /// A task's right to memory and CPU.
    LeaseId, LeaseKind, "lease";
    /// An environment: names of apps, secrets and volumes within a workspace.
    EnvironmentId, EnvironmentKind, "en";
    /// An app: functions that are published together.
    AppId, AppKind, "ap";
    /// A function, or a cls with its parameters bound.
    FunctionId, FunctionKind, "fu";
    /// A cls: a class with state whose methods are called.
    ClsId, ClsKind, "cs";
    /// An image: what a container finds at its root.
    ImageId, ImageKind, "im";
    /// Files laid over an image.
    MountId, MountKind, "mo";
    /// A secret: variables that only containers see.
    SecretId, SecretKind, "st";
    /// A call of a function: one input or many.
    CallId, CallKind, "fc";
    /// One input of a call.
    InputId, InputKind, "in";
    /// A container. As a task of placement it has the same 128 bits.
    ContainerId, ContainerKind, "ta";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_form_reads_back() {
        for value in [0, 1, u128::MAX, 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef] {
            let id = JobId::from_u128(value);
            assert_eq!(id.to_string().parse::<JobId>(), Ok(id));
        }
    }

    #[test]
    fn other_kinds_and_damaged_ids_are_refused() {
        let id = JobId::from_u128(7).to_string();
        assert!(id.parse::<WorkerId>().is_err());
        assert!(id[..id.len() - 1].parse::<JobId>().is_err());
        assert!("job-zzzzzzzzzzzzzzzzzzzzzzzzzz".parse::<JobId>().is_err());
        assert!("job-0000000000000000000000000u".parse::<JobId>().is_err());
    }

    #[test]
    fn ids_sort_by_creation_time() {
        let early = JobId::from_parts(Timestamp::from_millis(1), [255; 10]);
        let late = JobId::from_parts(Timestamp::from_millis(2), [0; 10]);
        assert!(early < late);
        assert!(early.to_string() < late.to_string());
    }
}
