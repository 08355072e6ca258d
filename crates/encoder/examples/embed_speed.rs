//! Embeds the texts of a JSONL file and prints, as one JSON object, texts a second on one
//! thread and on two, and the time of a single text, with CPU seconds beside.
//!
//!     cargo run --release -p corral-encoder --example embed_speed -- \
//!         ENCODER FILE.jsonl [pooled|layers] [OUT]
//!
//! The view is `pooled` where none is named. `OUT` receives the embeddings as little-endian single-precision numbers, row after row.

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use corral_classifier::{EmbeddingView, Encoder};
use corral_encoder::MiniLm;
use serde::Deserialize;

/// Texts embedded one by one, after as many to warm up.
const SINGLE_TEXTS: usize = 300;

#[derive(Deserialize)]
struct Row {
    text: String,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [encoder, texts, more @ ..] = arguments.as_slice() else {
        return Err("usage: embed_speed ENCODER FILE.jsonl [pooled|layers] [OUT]".into());
    };
    let view = match more.first().map(String::as_str) {
        Some("layers") => EmbeddingView::Layers,
        Some("pooled") | None => EmbeddingView::Pooled,
        Some(other) => return Err(format!("`{other}` is no view").into()),
    };
    let opening = Instant::now();
    let encoder = MiniLm::open(Path::new(encoder))?;
    let opened = opening.elapsed();
    let file = std::fs::read_to_string(texts)?;
    let rows = file.lines().map(serde_json::from_str).collect::<Result<Vec<Row>, _>>()?;
    let texts: Vec<&str> = rows.iter().map(|row| row.text.as_str()).collect();
    let tokens: usize = texts.iter().map(|text| encoder.token_ids(text).len()).sum();
    let width = encoder.dimension(view).ok_or("the encoder lacks the view")?;
    let mut embeddings = vec![0.0; texts.len() * width];
    let mut batches = Vec::new();
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
        pool.install(|| {
            let warm = texts.len().min(256);
            encoder.encode_view(view, &texts[..warm], &mut embeddings[..warm * width]);
        });
        let (wall, cpu) = timed(|| {
            pool.install(|| encoder.encode_view(view, &texts, &mut embeddings));
        })?;
        batches.push(serde_json::json!({
            "threads": threads,
            "texts_per_s": texts.len() as f64 / wall.as_secs_f64(),
            "texts_per_cpu_s": texts.len() as f64 / cpu.as_secs_f64(),
            "wall_s": wall.as_secs_f64(),
            "cpu_s": cpu.as_secs_f64(),
        }));
    }
    let report = serde_json::json!({
        "encoder": encoder.name(),
        "view": view.as_str(),
        "precision": encoder.precision().as_str(),
        "instructions": encoder.instructions(),
        "texts": texts.len(),
        "tokens_per_text": tokens as f64 / texts.len() as f64,
        "open_ms": opened.as_secs_f64() * 1e3,
        "batches": batches,
        "single": singles(&encoder, view, &texts)?,
    });
    println!("{report:#}");
    if let [_, path, ..] = more {
        std::fs::write(path, bytemuck::cast_slice::<f32, u8>(&embeddings))?;
    }
    Ok(())
}

/// Times texts one by one on this thread.
fn singles(
    encoder: &MiniLm,
    view: EmbeddingView,
    texts: &[&str],
) -> Result<serde_json::Value, Box<dyn Error>> {
    let mut row = vec![0.0; encoder.dimension(view).ok_or("the encoder lacks the view")?];
    let step = (texts.len() / (2 * SINGLE_TEXTS)).max(1);
    let sample: Vec<&str> = texts.iter().copied().step_by(step).collect();
    let (warm, measured) = sample.split_at(sample.len() / 2);
    for text in warm {
        encoder.encode_view(view, &[text], &mut row);
    }
    let mut times = Vec::new();
    let (_, cpu) = timed(|| {
        for text in measured {
            let started = Instant::now();
            encoder.encode_view(view, &[text], &mut row);
            times.push(started.elapsed());
        }
    })?;
    times.sort();
    let at = |share: usize| times.get(times.len() * share / 100).map(Duration::as_secs_f64);
    Ok(serde_json::json!({
        "texts": measured.len(),
        "p50_ms": at(50).map(|seconds| seconds * 1e3),
        "p99_ms": at(99).map(|seconds| seconds * 1e3),
        "texts_per_cpu_s": measured.len() as f64 / cpu.as_secs_f64(),
    }))
}

/// Wall-clock and processor time of this process during `work`.
fn timed(work: impl FnOnce()) -> Result<(Duration, Duration), Box<dyn Error>> {
    let (started, before) = (Instant::now(), cpu_time()?);
    work();
    Ok((started.elapsed(), cpu_time()? - before))
}

fn cpu_time() -> Result<Duration, Box<dyn Error>> {
    // Nanoseconds on a processor, summed over the threads that live.
    let mut total = 0;
    for task in std::fs::read_dir("/proc/self/task")? {
        let path = task?.path().join("schedstat");
        let text = std::fs::read_to_string(path)?;
        total += text.split(' ').next().unwrap_or("0").parse::<u64>()?;
    }
    Ok(Duration::from_nanos(total))
}
