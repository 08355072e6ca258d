//! Embeddings against a reference in double precision (`golden/embeddings.py`), and what must
//! not change them.

use std::fs;
use std::path::Path;

use crate::common::{golden, published_encoder};
use corral_classifier::{EmbeddingView, Encoder};
use corral_encoder::test_support::{TinyNetwork, write_tiny_encoder};
use corral_encoder::{MiniLm, Precision, convert};
use corral_types::BlobHash;

fn texts() -> Vec<String> {
    serde_json::from_slice(&fs::read(golden("texts.json")).unwrap()).unwrap()
}

fn tiny_encoder(directory: &Path, precision: Precision) -> MiniLm {
    let path = directory.join(format!("tiny-{}.encoder", precision.as_str()));
    fs::write(&path, convert(TinyNetwork::new(1).published(), precision).unwrap()).unwrap();
    MiniLm::open(&path).unwrap()
}

fn embed(encoder: &MiniLm, texts: &[&str]) -> Vec<f32> {
    view_of(encoder, EmbeddingView::Pooled, texts)
}

fn view_of(encoder: &MiniLm, view: EmbeddingView, texts: &[&str]) -> Vec<f32> {
    let mut out = vec![f32::NAN; texts.len() * encoder.dimension(view).unwrap()];
    encoder.encode_view(view, texts, &mut out);
    out
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// The largest difference to the reference, and the smallest cosine with it.
fn compare(encoder: &MiniLm, reference: &str) -> (f32, f32) {
    compare_view(encoder, EmbeddingView::Pooled, reference)
}

/// As [`compare`], for the first texts, as many as the reference has.
fn compare_view(encoder: &MiniLm, view: EmbeddingView, reference: &str) -> (f32, f32) {
    let width = encoder.dimension(view).unwrap();
    let bytes = fs::read(golden(reference)).unwrap();
    let reference: Vec<f32> =
        bytes.as_chunks().0.iter().map(|&four| f32::from_le_bytes(four)).collect();
    let texts = texts();
    let texts: Vec<&str> = texts.iter().map(String::as_str).take(reference.len() / width).collect();
    let actual = view_of(encoder, view, &texts);
    assert_eq!(actual.len(), reference.len());
    let (mut difference, mut cosine) = (0.0f32, 1.0f32);
    for (actual, reference) in actual.chunks_exact(width).zip(reference.chunks_exact(width)) {
        let pairs = || actual.iter().zip(reference);
        difference = pairs().map(|(a, r)| (a - r).abs()).fold(difference, f32::max);
        cosine = cosine.min(pairs().map(|(a, r)| a * r).sum());
    }
    (difference, cosine)
}

#[test]
fn a_tiny_network_gives_the_reference_embeddings() {
    let directory = tempfile::tempdir().unwrap();
    let (difference, _) = compare(&tiny_encoder(directory.path(), Precision::F32), "tiny.f32");
    // Values are about 0.2; a few roundings of single precision.
    assert!(difference < 1e-6, "{difference}");
    let (_, cosine) = compare(&tiny_encoder(directory.path(), Precision::Int8), "tiny.f32");
    // A network so narrow averages over few roundings to eight bits.
    assert!(cosine > 0.998, "{cosine}");
}

#[test]
fn the_published_network_gives_the_reference_embeddings() {
    let directory = tempfile::tempdir().unwrap();
    if let Some(encoder) = published_encoder(directory.path(), Precision::F32) {
        let (difference, _) = compare(&encoder, "all-MiniLM-L6-v2.f32");
        // Values are about 0.05; what PyTorch's single precision differs by, too.
        assert!(difference < 5e-7, "{difference}");
    }
    if let Some(encoder) = published_encoder(directory.path(), Precision::Int8) {
        let (_, cosine) = compare(&encoder, "all-MiniLM-L6-v2.f32");
        // The empty text's is 0.993; on Banking77 the smallest is 0.997, the mean 0.9990.
        assert!(cosine > 0.992, "{cosine}");
    }
}

#[test]
fn all_layers_are_those_of_the_reference() {
    let layers = EmbeddingView::Layers;
    let directory = tempfile::tempdir().unwrap();
    let tiny = |precision| {
        compare_view(&tiny_encoder(directory.path(), precision), layers, "tiny-layers.f32")
    };
    let (difference, _) = tiny(Precision::F32);
    assert!(difference < 1e-6, "{difference}");
    let (_, cosine) = tiny(Precision::Int8);
    assert!(cosine > 0.998, "{cosine}");
    if let Some(encoder) = published_encoder(directory.path(), Precision::F32) {
        assert_eq!(encoder.dimension(layers), Some(7 * 2 * 384));
        let (difference, _) = compare_view(&encoder, layers, "all-MiniLM-L6-v2-layers.f32");
        assert!(difference < 5e-7, "{difference}");
    }
    if let Some(encoder) = published_encoder(directory.path(), Precision::Int8) {
        let (_, cosine) = compare_view(&encoder, layers, "all-MiniLM-L6-v2-layers.f32");
        assert!(cosine > 0.995, "{cosine}");
    }
}

/// The views come from one pass, and each is what it is alone.
#[test]
fn views_do_not_change_each_other() {
    let directory = tempfile::tempdir().unwrap();
    let encoder = tiny_encoder(directory.path(), Precision::Int8);
    let texts = texts();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let together = encoder.embed(&texts, &EmbeddingView::ALL);
    for view in EmbeddingView::ALL {
        let alone = view_of(&encoder, view, &texts);
        assert_eq!(bits(together.view(view).unwrap().values()), bits(&alone));
    }
    let layers = together.view(EmbeddingView::Layers).unwrap();
    let pooled = together.view(EmbeddingView::Pooled).unwrap();
    let (hidden, parts) = (pooled.width(), layers.width() / pooled.width());
    for (layers, pooled) in layers.iter().zip(pooled.iter()) {
        let norm = layers.iter().map(|value| value * value).sum::<f32>().sqrt();
        assert!((norm - 1.0).abs() < 1e-6, "{norm}");
        // The mean over the last layer, as the pooled view has it.
        let last = &layers[(parts - 2) * hidden..][..hidden];
        let scale = (parts as f32).sqrt();
        assert!(last.iter().zip(pooled).all(|(a, b)| (a * scale - b).abs() < 1e-6));
    }
}

#[test]
fn a_text_has_one_embedding_whatever_stands_beside_it() {
    let directory = tempfile::tempdir().unwrap();
    for precision in [Precision::F32, Precision::Int8] {
        let encoder = tiny_encoder(directory.path(), precision);
        let words = ["my card", "top up", "why", "a transfer of money", "1,000 €", "", "x"];
        let texts: Vec<String> = (0..700)
            .map(|n| (0..n % 19).map(|m| words[(n * 31 + m * m) % words.len()]).collect::<Vec<_>>())
            .map(|parts| parts.join(" "))
            .collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        for view in EmbeddingView::ALL {
            let together = view_of(&encoder, view, &texts);
            let alone: Vec<f32> =
                texts.iter().flat_map(|text| view_of(&encoder, view, &[text])).collect();
            assert_eq!(bits(&together), bits(&alone));
        }
        let together = embed(&encoder, &texts);
        let reversed: Vec<&str> = texts.iter().rev().copied().collect();
        let reversed = embed(&encoder, &reversed);
        let back: Vec<f32> =
            reversed.chunks_exact(encoder.shape().hidden).rev().flat_map(<[f32]>::to_vec).collect();
        assert_eq!(bits(&together), bits(&back));
    }
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let encoder = tiny_encoder(directory.path(), Precision::Int8);
    let texts: Vec<String> = (0..5000).map(|n| format!("text {n} {}", n * n)).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let mut outcomes = [1, 2, 3, 7].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        bits(&pool.install(|| embed(&encoder, &texts)))
    });
    outcomes.sort();
    assert_eq!(outcomes.first(), outcomes.last());
}

#[test]
fn embeddings_are_unit_vectors_of_their_text() {
    let directory = tempfile::tempdir().unwrap();
    let encoder = tiny_encoder(directory.path(), Precision::Int8);
    let texts = texts();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let rows = embed(&encoder, &texts);
    for (index, row) in rows.chunks_exact(encoder.shape().hidden).enumerate() {
        let norm: f32 = row.iter().map(|value| value * value).sum::<f32>().sqrt();
        assert!((norm - 1.0).abs() < 1e-6, "{norm}");
        let others = rows.chunks_exact(encoder.shape().hidden).skip(index + 1);
        assert!(others.into_iter().all(|other| other != row), "{:?} is like another", texts[index]);
    }
    assert!(embed(&encoder, &[]).is_empty());
}

#[test]
fn files_of_one_network_are_the_same_bytes_under_the_same_id() {
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let paths = directories.each_ref().map(|to| write_tiny_encoder(to.path()).unwrap());
    let files = paths.each_ref().map(|path| fs::read(path).unwrap());
    assert_eq!(files[0], files[1]);
    let id = BlobHash::of(&files[0]);
    let mapped = MiniLm::open(&paths[0]).unwrap();
    let read = MiniLm::load(&paths[1]).unwrap();
    let known = MiniLm::open_verified(&paths[1], id).unwrap();
    assert_eq!([mapped.id(), read.id(), known.id()], [id; 3]);
    assert_eq!(mapped.name(), "tiny-test-encoder");
    assert_eq!(mapped.shape().hidden, TinyNetwork::DIMENSION);
    let text = ["my card has not come"];
    assert_eq!(bits(&embed(&mapped, &text)), bits(&embed(&read, &text)));
}

/// A file of each version of the format is kept, and must give for ever what it gave.
#[test]
fn files_of_every_format_version_open() {
    let path = golden("format-1.encoder");
    let kept = MiniLm::open(&path).unwrap();
    let (_, cosine) = compare(&kept, "tiny.f32");
    assert!(cosine > 0.998, "{cosine}");
    // Only a new version of the format may change what is written: models name their encoder
    // by the hash of its file.
    let directory = tempfile::tempdir().unwrap();
    let written = write_tiny_encoder(directory.path()).unwrap();
    assert_eq!(fs::read(path).unwrap(), fs::read(written).unwrap());
}
