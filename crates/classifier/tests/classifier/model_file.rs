//! The model file: what is written is read, and nothing else is accepted or harmful.

use std::fs;

use crate::sample::{
    HashEncoder, Numbers, TEXTS, classes, embeddings, later_sample, lexical_rows, refusing_sample,
    sample, sample_of_every_head, sample_with_parents,
};
use corral_classifier::classes::MAX_DEPTH;
use corral_classifier::model::{ModelError, PredictOptions, Scratch};
use corral_classifier::{
    Ancestors, ClassEntry, EmbeddingView, Encoder, Head, Link, Model, ModelSpec, Refusal,
    RefusalScore, Refusals, TextEmbedding,
};
use corral_types::Explain;

/// Where the header says how long it and its parts are; see the format's description.
fn number_at(file: &[u8], at: usize) -> usize {
    u32::from_le_bytes(file[at..at + 4].try_into().unwrap()) as usize
}

/// Makes both checksums right again, as somebody who means harm would.
fn repair(file: &mut [u8]) {
    let header = number_at(file, 12).min(file.len());
    if header >= 64 {
        file[32..64].fill(0);
        let checksum = blake3::hash(&file[..header]);
        file[32..64].copy_from_slice(checksum.as_bytes());
    }
    let content = file.len() - 32;
    let hash = blake3::hash(&file[..content]);
    file[content..].copy_from_slice(hash.as_bytes());
}

/// Opens a file's bytes and asks all there is to ask.
fn exercise(file: &[u8]) -> Result<(), ModelError> {
    let model = Model::from_bytes(file)?;
    let _ = model.verify_content();
    let info = model.info();
    for class in 0..(info.classes as u32).min(20) {
        let _ = (model.class(class), model.class_path(class));
    }
    let length = |view| model.encoder().and_then(|need| need.dimension_of(view)).unwrap_or(0);
    let pooled = vec![0.25; length(EmbeddingView::Pooled).min(64)];
    let layers = vec![0.25; length(EmbeddingView::Layers).min(64)];
    let embedding = TextEmbedding { pooled: &pooled, layers: &layers };
    let mut scratch = Scratch::default();
    for text in TEXTS {
        for prefix in [None, Some("1"), Some("")] {
            let subset = prefix.and_then(|prefix| model.subset(prefix).ok());
            let options = PredictOptions {
                top_k: 3,
                subset: subset.as_ref(),
                ancestors: Ancestors::Include,
                threshold: None,
                back_off: Some(0.5),
                refusals: Refusals::Apply,
            };
            let _ = model.predict(text, embedding, &mut scratch, &options);
        }
    }
    Ok(())
}

#[test]
fn a_file_answers_as_the_parts_it_was_made_of() {
    for link in [Link::Softmax, Link::Sigmoid] {
        for spec in [sample(link), later_sample(link), sample_with_parents(link)] {
            check_answers(&spec);
        }
    }
    check_answers(&refusing_sample());
}

fn check_answers(spec: &ModelSpec) {
    let embeddings = embeddings(&TEXTS);
    let wanted = spec.predict_rows(&lexical_rows(spec, &TEXTS), &embeddings);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sample.model");
    let hash = spec.write(&path).unwrap();
    assert_eq!(hash, corral_types::BlobHash::of(&fs::read(&path).unwrap()));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside");
    Model::verify(&path).unwrap();
    for model in [Model::open(&path).unwrap(), Model::read(&path).unwrap()] {
        let mut scratch = Scratch::default();
        for (index, text) in TEXTS.iter().enumerate() {
            let row = embeddings.text(index);
            let found = model.probabilities(text, row, &mut scratch).unwrap();
            assert_eq!(found, wanted.row(index), "{:?} {text:?}", spec.link);
        }
    }
}

#[test]
fn a_model_tells_what_it_is() {
    let spec = sample(Link::Softmax);
    let bytes = spec.to_bytes().unwrap();
    let model = Model::from_bytes(&bytes).unwrap();
    let info = model.info();
    assert_eq!((info.name.as_str(), info.classes, info.outputs), ("sample", 9, 5));
    assert_eq!(info.metadata, spec.metadata);
    assert_eq!(info.encoder, spec.encoder);
    assert_eq!(info.file_bytes, bytes.len() as u64);
    assert_eq!(info.lexicon_columns, spec.lexicons.iter().map(|l| l.columns()).collect::<Vec<_>>());
    let weights: Vec<f32> = info.members.iter().map(|member| member.weight).collect();
    assert_eq!(weights, [0.4, 0.2, 0.3, 0.1]);
    for (member, spec) in info.members.iter().zip(&spec.members) {
        assert_eq!((&member.name, member.featurizer), (&spec.name, spec.featurizer));
        assert_eq!(member.columns, spec.head.columns());
        assert_eq!(member.head_bytes, spec.head.memory_bytes());
    }
    for (index, class) in classes().iter().enumerate() {
        let found = model.class(index as u32).unwrap();
        assert_eq!((found.id, found.name), (class.id.as_str(), class.name.as_str()));
        assert_eq!(found.parent, class.parent);
    }
    assert_eq!(model.class(9), None);
    assert_eq!(model.class_path(0), [5, 6, 0]);
}

#[test]
fn the_same_model_gives_the_same_bytes_on_any_number_of_threads() {
    let bytes = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| sample(Link::Softmax).to_bytes().unwrap())
    };
    let one = bytes(1);
    assert!([2, 3, 7].into_iter().all(|threads| bytes(threads) == one));
}

#[test]
fn other_files_are_refused_by_name() {
    let good = sample(Link::Softmax).to_bytes().unwrap();
    let open = |bytes: &[u8]| Model::from_bytes(bytes).unwrap_err();
    assert!(matches!(open(b"PK\x03\x04 a zip file"), ModelError::Foreign));
    assert!(matches!(open(b""), ModelError::Foreign));
    for length in [4, 8, 63, 64, 100, good.len() / 2, good.len() - 1] {
        let error = open(&good[..length]);
        assert!(matches!(error, ModelError::Truncated { .. }), "{length}: {error}");
    }
    let mut newer = good.clone();
    newer[8] = 2;
    assert!(matches!(open(&newer), ModelError::NewerFormat { found: 2 }));
    let mut damaged = good.clone();
    damaged[70] ^= 1;
    assert!(open(&damaged).to_string().contains("checksum"));
    let mut longer = good.clone();
    longer.push(0);
    assert!(matches!(open(&longer), ModelError::Damaged(_)));

    // One bit in a section: opening does not look, reading and verifying do.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged.model");
    let mut damaged = good.clone();
    let at = good.len() - 100;
    damaged[at] ^= 1;
    fs::write(&path, &damaged).unwrap();
    assert!(Model::open(&path).is_ok());
    for error in [Model::verify(&path).unwrap_err(), Model::read(&path).unwrap_err()] {
        assert!(error.to_string().contains("content does not match"), "{error}");
        assert_eq!(error.kind(), corral_types::ErrorKind::DataLoss);
    }
    fs::write(&path, b"").unwrap();
    assert!(matches!(Model::open(&path), Err(ModelError::Foreign)));
    let missing = Model::open(&folder.path().join("none")).unwrap_err();
    assert_eq!(missing.kind(), corral_types::ErrorKind::NotFound);
}

/// Replaces a text in the settings by another of the same length.
fn with_settings(file: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let header = number_at(file, 12);
    let at = file[..header].windows(from.len()).position(|part| part == from.as_bytes()).unwrap();
    let mut file = file.to_vec();
    file[at..at + to.len()].copy_from_slice(to.as_bytes());
    repair(&mut file);
    file
}

#[test]
fn unknown_parts_are_named() {
    let good = sample(Link::Softmax).to_bytes().unwrap();
    let refusal = |from, to| Model::from_bytes(&with_settings(&good, from, to)).unwrap_err();
    let error = refusal("\"linear\"", "\"forest\"");
    assert!(matches!(&error, ModelError::UnknownFeature { feature } if feature == "forest"));
    assert_eq!(error.kind(), corral_types::ErrorKind::Unsupported);
    let error = refusal("\"outputs\":5", "\"outputs\":4");
    assert!(error.to_string().contains("class.outputs"), "{error}");
    let error = refusal("\"dimension\":8", "\"dimension\":9");
    assert!(error.to_string().contains("member.1"), "{error}");

    let header = number_at(&good, 12);
    let entry = good[..header].windows(13).position(|name| name == b"class.parents").unwrap();
    let mut renamed = good.clone();
    renamed[entry..entry + 13].copy_from_slice(b"class.friends");
    repair(&mut renamed);
    let error = Model::from_bytes(&renamed).unwrap_err();
    assert!(error.to_string().contains("class.parents` is missing"), "{error}");
    let mut moved = good.clone();
    moved[entry + 24] = moved[entry + 24].wrapping_add(64);
    repair(&mut moved);
    let error = Model::from_bytes(&moved).unwrap_err();
    assert!(error.to_string().contains("overlaps"), "{error}");
}

#[test]
fn no_bytes_can_do_harm() {
    let good = refusing_sample().to_bytes().unwrap();
    let header = number_at(&good, 12);
    let seed = 20_261_121;
    println!("seed {seed}");
    let mut numbers = Numbers::new(seed);
    let mut opened = 0;
    for round in 0..20_000 {
        let mut file = good.clone();
        for _ in 0..1 + numbers.below(4) {
            let length = file.len();
            let at = match round % 4 {
                // The header's numbers, its text, the sections, anywhere.
                0 => numbers.below(number_at(&good, 24) * 40 + 64).min(length - 1),
                1 => numbers.below(header).min(length - 1),
                2 => (header + numbers.below(length - header)).min(length - 1),
                _ => numbers.below(length),
            };
            match numbers.below(6) {
                0 => file[at] ^= 1 << numbers.below(8),
                1 => file[at] = numbers.next() as u8,
                2 => file[at] = [0, 0x7f, 0xff, b'0', b'9', b'-'][numbers.below(6)],
                3 => {
                    let end = (at + numbers.below(16)).min(length);
                    file[at..end].fill(0xff);
                }
                4 => {
                    // A digit of the settings, so that they can still be read.
                    let digits: Vec<usize> =
                        (64..header).filter(|&at| file[at].is_ascii_digit()).collect();
                    if let Some(&digit) = digits.get(numbers.below(digits.len().max(1))) {
                        file[digit] = b'0' + numbers.below(10) as u8;
                    }
                }
                _ if numbers.below(8) == 0 => {
                    let keep = header.max(96) + numbers.below(length - header);
                    file.truncate(keep);
                    if numbers.below(2) == 0 {
                        file[16..24].copy_from_slice(&(keep as u64).to_le_bytes());
                    }
                }
                _ => {}
            }
        }
        if numbers.below(8) != 0 {
            repair(&mut file);
        }
        opened += usize::from(exercise(&file).is_ok());
    }
    // Otherwise this test would only have tried the doors.
    assert!(opened > 3000, "{opened} damaged files were opened and asked");
}

#[test]
fn every_cut_is_refused() {
    let good = refusing_sample().to_bytes().unwrap();
    for length in (0..good.len()).step_by(97) {
        assert!(Model::from_bytes(&good[..length]).is_err(), "cut to {length}");
    }
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    let refusal = |change: &dyn Fn(&mut ModelSpec)| {
        let mut spec = sample(Link::Softmax);
        change(&mut spec);
        spec.to_bytes().unwrap_err().to_string()
    };
    type Change<'a> = &'a dyn Fn(&mut ModelSpec);
    let cases: [(Change<'_>, &str); 17] = [
        (&|spec| spec.members.clear(), "no members"),
        (&|spec| spec.outputs.push(4), "6 outputs"),
        (&|spec| spec.outputs[0] = 99, "5 outputs"),
        (
            &|spec| {
                spec.outputs.truncate(4);
                spec.thresholds.per_output = None;
            },
            "5 outputs where 4 fit",
        ),
        (&|spec| spec.encoder = None, "names no encoder"),
        (&|spec| spec.lexicons.truncate(1), "lexicon 1 of 1"),
        (&|spec| spec.lexicons.swap(0, 1), "columns where"),
        (&|spec| spec.tempering.temperature = 0.0, "the temperature of the model"),
        (&|spec| spec.tempering.confidence_power = f32::NAN, "confidence power"),
        (&|spec| spec.members[0].weight = f32::NAN, "the weight of int8"),
        (&|spec| spec.members[3].featurizer.embedding = None, "neither"),
        (&|spec| spec.thresholds.per_output = Some(vec![0.5]), "1 thresholds"),
        (&|spec| spec.classes[3].id.clone_from(&"3".to_owned()), "two classes have the id `3`"),
        (&|spec| spec.classes[3].id.clear(), "empty id"),
        (&|spec| spec.classes[5].parent = Some(0), "parent"),
        (&|spec| spec.classes[5].parent = Some(50), "parent"),
        (
            &|spec| {
                spec.metadata.insert("notes".to_owned(), "long ".repeat(20_000));
            },
            "settings take",
        ),
    ];
    for (change, wanted) in cases {
        let found = refusal(change);
        assert!(found.contains(wanted), "`{found}` should tell of `{wanted}`");
    }
}

#[test]
fn deep_trees_have_a_limit() {
    let write = |depth: u32| {
        let mut spec = sample(Link::Softmax);
        let first = spec.classes.len() as u32;
        spec.classes.extend((0..depth).map(|level| ClassEntry {
            id: format!("level {level}"),
            name: String::new(),
            parent: Some(first + level + 1).filter(|_| level + 1 < depth),
        }));
        spec.outputs[0] = first;
        spec.to_bytes()
    };
    let deepest = MAX_DEPTH as u32 + 1;
    let model = Model::from_bytes(&write(deepest).unwrap()).unwrap();
    model.verify_content().unwrap();
    assert_eq!(model.class_path(9).len(), MAX_DEPTH + 1);
    assert_eq!(model.subset("level 64").unwrap().len(), 1);
    assert!(matches!(write(deepest + 1), Err(ModelError::ClassParent { .. })));
}

#[test]
fn a_failed_write_leaves_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kept.model");
    sample(Link::Softmax).write(&path).unwrap();
    let before = fs::read(&path).unwrap();
    let mut broken = sample(Link::Softmax);
    broken.members.clear();
    broken.write(&path).unwrap_err();
    assert_eq!(fs::read(&path).unwrap(), before);
    let nowhere = folder.path().join("none").join("x.model");
    assert!(matches!(sample(Link::Softmax).write(&nowhere), Err(ModelError::Io { .. })));
}

#[test]
fn a_model_asks_its_encoder_for_the_views_that_it_reads() {
    let ask = |spec: ModelSpec| {
        let model = Model::from_bytes(&spec.to_bytes().unwrap()).unwrap();
        model.encode(&TEXTS, Some(&HashEncoder)).unwrap()
    };
    assert_eq!(ask(later_sample(Link::Softmax)), embeddings(&TEXTS));
    let pooled = ask(sample(Link::Softmax));
    assert_eq!(pooled, HashEncoder.embed(&TEXTS, &[EmbeddingView::Pooled]));
    assert_eq!(pooled.view(EmbeddingView::Layers), None);
}

/// The first readers of the format refuse by name what they do not know, and read the rest as
/// ever: nothing is said of a later feature that is not used.
#[test]
fn later_features_are_named_where_they_are_used() {
    let says = |spec: ModelSpec| {
        let file = spec.to_bytes().unwrap();
        let header = String::from_utf8_lossy(&file[..number_at(&file, 12)]).into_owned();
        let start = header.find("\"requires\":[").unwrap();
        let requires = &header[start..start + header[start..].find(']').unwrap()];
        let named = [
            "bm25",
            "first_words",
            "hashed_vocabulary",
            "embedding_layers",
            "refusal",
            "confidence_power",
        ]
        .map(|word| requires.contains(&format!("\"{word}\"")));
        let other = [
            "embedding_view",
            "layers_dimension",
            "average_lengths",
            "\"vocabulary\"",
            "\"refusal\":{",
            "\"confidence_power\":",
        ]
        .map(|word| header.contains(word));
        (named, other)
    };
    let all_but_last = [true, true, true, true, false, false];
    assert_eq!(says(sample(Link::Softmax)), ([false; 6], [false; 6]));
    assert_eq!(says(later_sample(Link::Softmax)), (all_but_last, all_but_last));
    assert_eq!(says(refusing_sample()), ([true; 6], [true; 6]));
}

/// The sample with an output under a parent that is not there.
fn unknown_parent(file: &[u8]) -> Vec<u8> {
    let name = b"member.8.output.parents";
    let header = number_at(file, 12);
    let entry = file[..header].windows(name.len()).position(|found| found == name).unwrap();
    let section = number_at(file, entry + 24);
    let mut file = file.to_vec();
    file[section] = 3;
    repair(&mut file);
    file
}

#[test]
fn heads_that_cannot_be_are_refused() {
    let good = sample_with_parents(Link::Softmax).to_bytes().unwrap();
    Model::from_bytes(&good).unwrap().verify_content().unwrap();
    for (from, to, told) in [
        ("\"neighbours\":3", "\"neighbours\":0", "neighbours that cannot be"),
        ("\"width\":3", "\"width\":0", "hidden units"),
        ("\"width\":3", "\"width\":4", "member.4"),
        ("\"rows\":8,\"d", "\"rows\":9,\"d", "row.scales"),
        ("\"parents\":3", "\"parents\":0", "parents that cannot be"),
        ("\"parents\":3", "\"parents\":4", "parent.bias"),
        ("\"activation\":\"identity", "\"activation\":\"identify", "cannot be read"),
    ] {
        let error = Model::from_bytes(&with_settings(&good, from, to)).unwrap_err().to_string();
        assert!(error.contains(told), "`{error}` should tell of `{told}`");
    }
    let file = Model::from_bytes(&unknown_parent(&good)).unwrap();
    let error = file.verify_content().unwrap_err().to_string();
    assert!(error.contains("parents that do not exist"), "{error}");
    let mut spec = sample_of_every_head(Link::Softmax);
    let Head::Neighbours(head) = &mut spec.members[6].head else { panic!("neighbours") };
    assert!(head.push(&[0.5; 8], &[5], &[1.0]).is_err());
    assert!(head.push(&[0.5; 8], &[1], &[1.0, 2.0]).is_err());
    spec.members[6].featurizer = spec.members[5].featurizer;
    let error = spec.to_bytes().unwrap_err().to_string();
    assert!(error.contains("member `neighbours` has 8 columns"), "{error}");
}

#[test]
fn refusals_that_cannot_be_are_refused() {
    let good = refusing_sample().to_bytes().unwrap();
    Model::from_bytes(&good).unwrap().verify_content().unwrap();
    for (from, to, told) in [
        ("\"bias\":0.25", "\"bias\":true", "cannot be read"),
        ("\"link\":\"softmax\"", "\"link\":\"sigmoid\"", "may have several classes"),
        ("\"detector\"", "\"divinity\"", "cannot be read"),
        ("\"refusal\":{", "\"refusas\":{", "cannot be read"),
        ("\"dimension\":8", "\"dimension\":9", "member"),
    ] {
        let error = Model::from_bytes(&with_settings(&good, from, to)).unwrap_err().to_string();
        assert!(error.contains(told), "`{error}` should tell of `{told}`");
    }
    // A number of the detector that is none: opening does not look, verifying does.
    let weights = {
        let spec = refusing_sample();
        let Some(Refusal { score: RefusalScore::Detector(detector), .. }) = spec.thresholds.refusal
        else {
            panic!("a detector")
        };
        detector.weights[0].to_le_bytes()
    };
    let at = good.windows(4).rposition(|part| part == weights).unwrap();
    let mut damaged = good.clone();
    damaged[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    repair(&mut damaged);
    let model = Model::from_bytes(&damaged).unwrap();
    let error = model.verify_content().unwrap_err().to_string();
    assert!(error.contains("refusal.weights"), "{error}");

    let refusal = |change: &dyn Fn(&mut ModelSpec)| {
        let mut spec = refusing_sample();
        change(&mut spec);
        spec.to_bytes().unwrap_err().to_string()
    };
    fn parts(spec: &mut ModelSpec) -> &mut Refusal<'static> {
        spec.thresholds.refusal.as_mut().unwrap()
    }
    type Change<'a> = &'a dyn Fn(&mut ModelSpec);
    let cases: [(Change<'_>, &str); 5] = [
        (
            &|spec| {
                spec.tempering.confidence_power = 0.0;
                spec.link = Link::Sigmoid;
            },
            "several classes",
        ),
        (&|spec| spec.link = Link::Sigmoid, "confidence power"),
        (&|spec| parts(spec).threshold = f32::NAN, "threshold that is not finite"),
        (&|spec| drop(spec.members.pop()), "detector of other signals"),
        (
            &|spec| {
                if let RefusalScore::Detector(detector) = &mut parts(spec).score {
                    detector.bias = f32::INFINITY;
                }
            },
            "bias",
        ),
    ];
    for (change, told) in cases {
        let error = refusal(change);
        assert!(error.contains(told), "`{error}` should tell of `{told}`");
    }
}
