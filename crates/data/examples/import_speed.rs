//! How fast a file is imported, on one core, and in how much memory.
//!
//! `import_speed generate PATH BYTES` writes a CSV file of made-up customer messages, a
//! quarter of them quoted, none the same; `import_speed import FOLDER FILE…` imports files
//! into a store below FOLDER that is deleted again, and prints one JSON object.

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use corral_data::{FolderStore, ImportOptions, NoProgress, Source, import};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["generate", path, bytes] => generate(Path::new(path), bytes.parse()?),
        ["import", folder, files @ ..] if !files.is_empty() => measure(Path::new(folder), files),
        _ => Err("usage: import_speed generate PATH BYTES | import FOLDER FILE…".into()),
    }
}

fn measure(folder: &Path, files: &[&str]) -> Result<(), Box<dyn Error>> {
    let store = FolderStore::within(folder)?;
    let mut sources = Vec::new();
    for &file in files {
        let reader = Box::new(File::open(file)?);
        sources.push(Source { file_name: file.to_owned(), reader, split: None });
    }
    let (started, cpu_before) = (Instant::now(), cpu_seconds()?);
    let imported = import(sources, &ImportOptions::default(), &store, None, &NoProgress)?;
    let wall_s = started.elapsed().as_secs_f64();
    let cpu_s = cpu_seconds()? - cpu_before;
    let bytes: u64 = imported.report.files.iter().map(|file| file.bytes_read).sum();
    let statistics = &imported.manifest.statistics;
    println!(
        "{{\"bytes\": {bytes}, \"rows\": {}, \"parts\": {}, \"classes\": {}, \"duplicates\": {}, \
         \"wall_s\": {wall_s:.3}, \"cpu_s\": {cpu_s:.2}, \"mb_per_cpu_s\": {:.1}, \
         \"peak_rss_bytes\": {}, \"version\": \"{}\"}}",
        statistics.rows,
        imported.manifest.parts.len(),
        imported.manifest.labels.names.len(),
        statistics.duplicate_rows,
        bytes as f64 / 1e6 / cpu_s,
        peak_rss_bytes()?,
        imported.manifest.id(),
    );
    Ok(())
}

/// User and system time of this process. The kernel counts in hundredths of a second.
fn cpu_seconds() -> Result<f64, Box<dyn Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after_name = stat.rsplit(')').next().ok_or("no process name")?;
    let ticks = after_name.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
    Ok(ticks.sum::<Result<f64, _>>()? / 100.0)
}

/// The most memory the process has held, without the pages of mapped files.
fn peak_rss_bytes() -> Result<u64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).ok_or("no VmHWM")?;
    let kib: u64 = line.split_whitespace().nth(1).ok_or("no value")?.parse()?;
    Ok(kib * 1024)
}

fn generate(path: &Path, bytes: u64) -> Result<(), Box<dyn Error>> {
    const WORDS: [&str; 24] = [
        "my", "card", "has", "not", "arrived", "yet", "please", "tell", "me", "when", "the",
        "transfer", "will", "be", "there", "I", "paid", "twice", "for", "coffee", "in", "Paris",
        "café", "today",
    ];
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let header = "id,text,label\n";
    out.write_all(header.as_bytes())?;
    let mut written = header.len() as u64;
    let (mut state, mut row) = (1u64, 0u64);
    let mut line = String::new();
    while written < bytes {
        line.clear();
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let quoted = state >> 62 == 0;
        line.push_str(&row.to_string());
        line.push_str(if quoted { ",\"" } else { "," });
        let mut dice = state;
        for _ in 0..12 + (state >> 40) % 12 {
            line.push_str(WORDS[(dice % 24) as usize]);
            line.push(' ');
            dice = dice.rotate_right(5) ^ row;
        }
        if quoted {
            line.push_str("he said \"\"now\"\", and\nnot later ");
        }
        line.push_str(&format!("{state:x}"));
        line.push_str(if quoted { "\"," } else { "," });
        line.push_str(&format!("intent_{:02}\n", (state >> 33) % 77));
        out.write_all(line.as_bytes())?;
        written += line.len() as u64;
        row += 1;
    }
    out.flush()?;
    Ok(())
}
