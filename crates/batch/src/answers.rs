//! The answer file: what a model said of rows, in row order, appended chunk by chunk.
//!
//! ```text
//! file   := magic entry*
//! entry  := flags:u8 count:u16 [score:f32] [backed_off:answer] answer{count}
//! answer := class:u32 probability:f32
//! ```
//!
//! Numbers are little-endian. The highest bit of a class says that it was chosen. An entry that
//! is cut off at the end was being written when the process ended, and is as good as absent.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use corral_classifier::{Prediction, Ranked, RefusalVerdict};

use crate::BatchError;

const MAGIC: &[u8; 8] = b"CRLANSW1";

const HAS_VERDICT: u8 = 1;
const IS_REFUSED: u8 = 2;
const IS_BACKED_OFF: u8 = 4;
const CHOSEN: u32 = 1 << 31;

/// What is gathered before it is written, and read at once.
const BUFFER_BYTES: usize = 256 * 1024;

/// Appends the answer for a row.
pub(crate) fn encode(prediction: &Prediction, into: &mut Vec<u8>) {
    let verdict = prediction.refusal;
    let mut flags = 0;
    if let Some(verdict) = verdict {
        flags |= HAS_VERDICT | if verdict.is_refused { IS_REFUSED } else { 0 };
    }
    if prediction.backed_off.is_some() {
        flags |= IS_BACKED_OFF;
    }
    let count = prediction.ranked.len().min(usize::from(u16::MAX));
    into.push(flags);
    into.extend((count as u16).to_le_bytes());
    if let Some(verdict) = verdict {
        into.extend(verdict.score.to_le_bytes());
    }
    for ranked in prediction.backed_off.iter().chain(&prediction.ranked[..count]) {
        let class = ranked.class | if ranked.chosen { CHOSEN } else { 0 };
        into.extend(class.to_le_bytes());
        into.extend(ranked.probability.to_le_bytes());
    }
}

/// The answers for the first rows of a data set, to be appended to.
#[derive(Debug)]
pub struct AnswerFile {
    path: PathBuf,
    file: BufWriter<File>,
    rows: u64,
}

impl AnswerFile {
    /// A file without answers, in place of what is at `path`.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(path: &Path) -> Result<Self, BatchError> {
        let failed = failing("make", path);
        let file = File::create(path).map_err(&failed)?;
        let mut file = BufWriter::with_capacity(BUFFER_BYTES, file);
        file.write_all(MAGIC).map_err(&failed)?;
        Ok(Self { path: path.to_owned(), file, rows: 0 })
    }

    /// A file with the answers that `kept` has, at `path`: what an earlier attempt came to.
    ///
    /// # Errors
    /// When `kept` cannot be copied or is no file of answers.
    pub fn resume(kept: &Path, path: &Path) -> Result<Self, BatchError> {
        std::fs::copy(kept, path).map_err(failing("copy", kept))?;
        let mut reader = AnswerReader::open(path)?;
        let failed = failing("go on with", path);
        let mut whole_bytes = MAGIC.len() as u64;
        let mut rows = 0;
        while let Some(bytes) = reader.skip_entry().map_err(&failed)? {
            whole_bytes += bytes;
            rows += 1;
        }
        let mut options = OpenOptions::new();
        let file = options.append(true).open(path).map_err(&failed)?;
        file.set_len(whole_bytes).map_err(&failed)?;
        let file = BufWriter::with_capacity(BUFFER_BYTES, file);
        Ok(Self { path: path.to_owned(), file, rows })
    }

    /// How many rows have answers.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends the entries of so many rows, in pieces.
    pub(crate) fn append(&mut self, pieces: &[Vec<u8>], rows: u64) -> Result<(), BatchError> {
        for entries in pieces {
            self.file.write_all(entries).map_err(failing("write", &self.path))?;
        }
        self.rows += rows;
        Ok(())
    }

    /// Writes what is gathered, so that the file has every answer appended so far.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn flush(&mut self) -> Result<(), BatchError> {
        self.file.flush().map_err(failing("write", &self.path))
    }
}

/// Reads answers back in row order.
#[derive(Debug)]
pub struct AnswerReader {
    file: BufReader<File>,
}

impl AnswerReader {
    /// # Errors
    /// When the file cannot be read or is no file of answers.
    pub fn open(path: &Path) -> Result<Self, BatchError> {
        let failed = failing("read", path);
        let file = File::open(path).map_err(&failed)?;
        let mut file = BufReader::with_capacity(BUFFER_BYTES, file);
        let mut magic = [0; MAGIC.len()];
        file.read_exact(&mut magic).map_err(&failed)?;
        if magic != *MAGIC {
            return Err(failed(io::Error::other("it is no file of answers")));
        }
        Ok(Self { file })
    }

    /// The answer for the next row, in place of the one in `prediction`. False at the end.
    pub(crate) fn next(&mut self, prediction: &mut Prediction) -> io::Result<bool> {
        let Some((flags, count)) = self.head()? else { return Ok(false) };
        prediction.refusal = match flags & HAS_VERDICT {
            0 => None,
            _ => {
                let score = f32::from_le_bytes(self.four()?);
                Some(RefusalVerdict { score, is_refused: flags & IS_REFUSED != 0 })
            }
        };
        prediction.backed_off = match flags & IS_BACKED_OFF {
            0 => None,
            _ => Some(self.ranked()?),
        };
        prediction.ranked.clear();
        for _ in 0..count {
            let ranked = self.ranked()?;
            prediction.ranked.push(ranked);
        }
        Ok(true)
    }

    /// The length of the next entry, passed over; none where no whole one is left.
    fn skip_entry(&mut self) -> io::Result<Option<u64>> {
        let passed = self.head().and_then(|head| {
            let Some((flags, count)) = head else { return Ok(None) };
            let score = if flags & HAS_VERDICT == 0 { 0 } else { 4 };
            let answers = u64::from(count) + u64::from(flags & IS_BACKED_OFF != 0);
            let rest = score + 8 * answers;
            match io::copy(&mut (&mut self.file).take(rest), &mut io::sink())? {
                read if read == rest => Ok(Some(3 + rest)),
                _ => Ok(None),
            }
        });
        match passed {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            passed => passed,
        }
    }

    fn head(&mut self) -> io::Result<Option<(u8, u16)>> {
        let mut flags = [0];
        if self.file.read(&mut flags)? == 0 {
            return Ok(None);
        }
        let mut count = [0; 2];
        self.file.read_exact(&mut count)?;
        Ok(Some((flags[0], u16::from_le_bytes(count))))
    }

    fn ranked(&mut self) -> io::Result<Ranked> {
        let class = u32::from_le_bytes(self.four()?);
        let probability = f32::from_le_bytes(self.four()?);
        Ok(Ranked { class: class & !CHOSEN, probability, chosen: class & CHOSEN != 0 })
    }

    fn four(&mut self) -> io::Result<[u8; 4]> {
        let mut bytes = [0; 4];
        self.file.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

fn failing<'p>(action: &'static str, path: &'p Path) -> impl Fn(io::Error) -> BatchError + 'p {
    move |source| BatchError::Answers { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prediction(row: u32) -> Prediction {
        let ranked =
            |class| Ranked { class, probability: 0.5 / (class as f32 + 1.0), chosen: class == 0 };
        Prediction {
            ranked: (0..row % 4).map(ranked).collect(),
            path: Vec::new(),
            backed_off: (row % 2 == 1).then(|| ranked(row)),
            refusal: (!row.is_multiple_of(3))
                .then_some(RefusalVerdict { score: 0.25, is_refused: row % 3 == 1 }),
        }
    }

    fn write(file: &mut AnswerFile, rows: std::ops::Range<u32>) {
        for row in rows {
            let mut entry = Vec::new();
            encode(&prediction(row), &mut entry);
            file.append(&[entry], 1).unwrap();
        }
        file.flush().unwrap();
    }

    fn read(path: &Path) -> Vec<Prediction> {
        let mut reader = AnswerReader::open(path).unwrap();
        let (mut read, mut next) = (Vec::new(), Prediction::default());
        while reader.next(&mut next).unwrap() {
            read.push(next.clone());
        }
        read
    }

    #[test]
    fn a_file_cut_off_anywhere_goes_on_without_a_lost_or_doubled_row() {
        let folder = tempfile::tempdir().unwrap();
        let (whole, cut, resumed) =
            (folder.path().join("whole"), folder.path().join("cut"), folder.path().join("resumed"));
        write(&mut AnswerFile::create(&whole).unwrap(), 0..12);
        let expect: Vec<Prediction> = (0..12).map(prediction).collect();
        assert_eq!(read(&whole), expect);
        let bytes = std::fs::read(&whole).unwrap();
        for length in MAGIC.len()..=bytes.len() {
            std::fs::write(&cut, &bytes[..length]).unwrap();
            let mut file = AnswerFile::resume(&cut, &resumed).unwrap();
            let rows = file.rows() as u32;
            assert!(rows == 12 || length < bytes.len());
            write(&mut file, rows..12);
            assert_eq!(read(&resumed), expect, "cut off after {length} bytes");
        }
        std::fs::write(&cut, b"something else").unwrap();
        assert!(AnswerFile::resume(&cut, &resumed).is_err());
    }
}
