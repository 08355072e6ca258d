//! Values that lie encrypted in the catalog: AES-256-GCM with a key in a file of its own.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};

use crate::AppsError;

/// What a sealed value begins with, so that another way of sealing can come.
const FORMAT: u8 = 1;

const KEY_BYTES: usize = 32;

pub(crate) struct SealingKey {
    bytes: [u8; KEY_BYTES],
    key: LessSafeKey,
    random: SystemRandom,
}

impl SealingKey {
    /// Reads the key, or makes one that only this user may read.
    pub fn open(path: &Path) -> Result<Self, AppsError> {
        let failed = |source| AppsError::Key { path: path.to_owned(), source };
        let mut bytes = [0u8; KEY_BYTES];
        match File::open(path) {
            Ok(mut file) => {
                let mut found = Vec::new();
                file.read_to_end(&mut found).map_err(failed)?;
                let found: Result<[u8; KEY_BYTES], _> = found.try_into();
                bytes = found.map_err(|_| AppsError::KeyFormat { path: path.to_owned() })?;
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                SystemRandom::new()
                    .fill(&mut bytes)
                    .expect("the system's random source is available");
                Self::write(path, &bytes).map_err(failed)?;
            }
            Err(error) => return Err(failed(error)),
        }
        let key = UnboundKey::new(&AES_256_GCM, &bytes).expect("the key has this algorithm's size");
        Ok(Self { bytes, key: LessSafeKey::new(key), random: SystemRandom::new() })
    }

    /// Whole or not at all, also after power loss.
    fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
        let new = path.with_extension("new");
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&new, path)?;
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    }

    /// Encrypts a value for `place`, and it opens nowhere else.
    pub fn seal(&self, place: &[u8], value: &[u8]) -> Vec<u8> {
        let mut nonce = [0u8; NONCE_LEN];
        self.random.fill(&mut nonce).expect("the system's random source is available");
        let mut sealed = value.to_vec();
        self.key
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(place),
                &mut sealed,
            )
            .expect("values are far below the algorithm's limit");
        [&[FORMAT][..], &nonce, &sealed].concat()
    }

    /// The value, if it was sealed for `place` with this key.
    pub fn open_sealed(&self, place: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (format, rest) = sealed.split_first()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        if *format != FORMAT {
            return None;
        }
        let mut value = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = self.key.open_in_place(nonce, Aad::from(place), &mut value).ok()?.len();
        value.truncate(length);
        Some(value)
    }

    /// A hash that only who has the key can make.
    pub fn sign(&self, purpose: &str, message: &[u8]) -> [u8; 32] {
        let key = blake3::derive_key(&format!("corral 2026 signing: {purpose}"), &self.bytes);
        *blake3::keyed_hash(&key, message).as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_value_opens_in_its_place_with_its_key_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secrets.key");
        let key = SealingKey::open(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let sealed = key.seal(b"here", b"hush");
        assert!(!sealed.windows(4).any(|part| part == b"hush"));
        assert_ne!(sealed, key.seal(b"here", b"hush"));
        let again = SealingKey::open(&path).unwrap();
        assert_eq!(again.open_sealed(b"here", &sealed).as_deref(), Some(&b"hush"[..]));
        assert_eq!(again.open_sealed(b"there", &sealed), None);
        let mut damaged = sealed.clone();
        *damaged.last_mut().unwrap() ^= 1;
        assert_eq!(again.open_sealed(b"here", &damaged), None);
        assert_eq!(again.open_sealed(b"here", &sealed[..5]), None);
        let other = SealingKey::open(&folder.path().join("other.key")).unwrap();
        assert_eq!(other.open_sealed(b"here", &sealed), None);
        assert_ne!(other.sign("a", b"x"), key.sign("a", b"x"));
        assert_ne!(key.sign("b", b"x"), key.sign("a", b"x"));

        std::fs::write(&path, b"short").unwrap();
        assert!(matches!(SealingKey::open(&path), Err(AppsError::KeyFormat { .. })));
    }
}
