//! A report that was made up, shown to a person: the page and the summary say what is in it,
//! whatever its names and texts are made of.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use corral_training::{AdviceKind, Report, advise};
use quick_xml::Reader;
use quick_xml::events::Event;
use serde_json::{Value, json};

/// What somebody might put into labels and texts.
const HOSTILE: [&str; 6] = [
    "<script>alert('x')</script>",
    "\"><img src=x onerror=alert(1)>",
    "a & b &amp; c ]]> <!-- \\ `code",
    "\u{0}\u{7}\u{1b}[31mred\u{1b}[0m\r\n\u{85}",
    "\u{202e}gnp.exe\u{2066} שלום עולם مرحبا",
    "\u{fffe}\u{fdd0}💥",
];

fn evaluation(accuracy: f64) -> Value {
    json!({
        "rows": 1000, "accuracy": accuracy, "macro_f1": 0.8, "weighted_f1": 0.8,
        "micro_f1": accuracy, "top_5": 0.97, "log_loss": 0.4, "ece": 0.012,
    })
}

fn class(name: &str, support: u64, recall: f64) -> Value {
    json!({
        "id": name, "name": name, "support": support, "predicted": support,
        "precision": recall, "recall": recall, "f1": recall,
    })
}

/// A report as one was written before there was an analysis.
fn old_report(names: &[&str], trials: usize) -> Value {
    let trial = |number: usize| {
        json!({
            "number": number + 1,
            "featurizer": {
                "lexicon": {
                    "words": {"min": 1, "max": 2}, "characters": null,
                    "weighting": "sublinear_tf_idf", "min_documents": 1,
                },
                "embedding": null,
            },
            "learner": {"kind": "softmax", "cost": 3.0},
            "score": 0.8 + number as f64 * 1e-4, "fold_scores": [0.8, 0.81],
            "evaluation": evaluation(0.8), "head_bytes": 1000 << (number % 12), "passes": 9,
            "fit_cpu_seconds": 0.5, "wall_seconds": 1.0,
            "started_at": number as u64 * 1000, "ended_at": (number as u64 + 1) * 1000,
        })
    };
    let classes: Vec<Value> = names
        .iter()
        .enumerate()
        .map(|(at, name)| {
            class(name, 10 + 7 * at as u64, 0.5 + 0.4 * (at as f64 / names.len() as f64))
        })
        .collect();
    json!({
        "name": names[0], "seed": 3, "metric": "accuracy", "regime": "labelled",
        "started_at": 0, "ended_at": 900_000,
        "data": {
            "rows": 1200, "train_rows": 1000, "valid_rows": 0, "test_rows": 200,
            "labelled_rows": 1000, "unlabelled_rows": 0, "labelled_test_rows": 200,
            "empty_rows": 0, "duplicate_rows": 2, "classes": names.len(), "class_texts": 0,
        },
        "folds": 2,
        "trials": (0..trials).map(trial).collect::<Vec<_>>(),
        "trials_left_out": 0, "cut_short": false,
        "members": [
            {"trial": 1, "weight": 0.75, "name": "first", "score_with": 0.8, "head_bytes": 1000, "fit_cpu_seconds": 1.0},
            {"trial": 2, "weight": 0.25, "name": "second", "score_with": 0.81, "head_bytes": 2000, "fit_cpu_seconds": 1.0},
        ],
        "cv": evaluation(0.81), "cv_ece_uncalibrated": 0.09, "test": evaluation(0.8),
        "classes": classes,
        "confused": [
            {"right": names[0], "predicted": names[1], "rows": 9},
            {"right": names[1], "predicted": names[0], "rows": 5},
        ],
        "warnings": [{"kind": "tiny_classes", "message": "few rows", "count": 3, "examples": names}],
        "estimate": {"trials": trials, "folds": 2, "cpu_seconds": 9.0, "wall_seconds": 5.0, "memory_bytes": 1 << 27},
        "actual": {
            "wall_seconds": 6.0, "fit_cpu_seconds": 8.0, "lexicon_seconds": 0.1, "embedding_seconds": 0.0,
            "search_seconds": 4.0, "refit_seconds": 1.0, "test_seconds": 0.1, "peak_memory_bytes": 1 << 26,
        },
        "model": {"file": "model.corral", "hash": "00ff", "bytes": 4000},
        "provenance": {"dataset": names[0]},
    })
}

/// The same with everything that an analysis finds.
fn full_report(names: &[&str], trials: usize) -> Report {
    let mut report = old_report(names, trials);
    let row = |at: usize| json!({"row_id": at, "is_test": at % 2 == 1, "text": names[at % names.len()], "label": names[0]});
    let example = json!({
        "row_id": 7, "text": names[0], "right": names[0], "predicted": names[1], "probability": 0.93,
    });
    report["confused"][0]["examples"] = json!([example]);
    report["findings"] = json!({
        "reliability": (0..15).map(|bin| json!({
            "rows": bin * 10, "confidence": (f64::from(bin) + 0.5) / 15.0, "accuracy": f64::from(bin) / 15.0,
        })).collect::<Vec<_>>(),
        "refusals": [
            {"threshold": 0.1, "answered": 1.0, "accuracy": 0.81},
            {"threshold": 0.6, "answered": 0.9, "accuracy": 0.92},
            {"threshold": 0.9, "answered": 0.5, "accuracy": 0.99},
        ],
        "label_errors": {"rows": 321, "examples": names.iter().enumerate().map(|(at, name)| json!({
            "row_id": at, "text": name, "given": name, "given_probability": 0.01,
            "suggested": names[0], "suggested_probability": 0.97,
        })).collect::<Vec<_>>()},
        "duplicates": {
            "compared_rows": 1200, "near_rows": 12, "conflicting_rows": 4, "near_rows_across_splits": 3,
            "examples": [{"similarity": 0.91, "first": row(0), "second": row(1)}],
        },
        "learning_curve": {
            "candidate": names[2 % names.len()], "folds": 2, "exponent": 0.3, "gain_of_doubling": 0.035,
            "points": [
                {"share": 0.125, "rows": 62, "score": 0.6}, {"share": 0.25, "rows": 125, "score": 0.7},
                {"share": 0.5, "rows": 250, "score": 0.76}, {"share": 1.0, "rows": 500, "score": 0.81},
            ],
        },
        "members": [
            {"trial": 1, "score_alone": 0.8, "score_without": 0.79},
            {"trial": 2, "score_alone": 0.79, "score_without": 0.8},
        ],
        "latency": {"texts": 200, "p50_ms": 0.07, "p99_ms": 1.4},
        "split_shift": 0.05,
    });
    report["price"] = json!({"cpu_hour": 0.04, "gib_hour": 0.005});
    let mut report: Report = serde_json::from_value(report).unwrap();
    report.advice = advise(&report);
    report
}

/// Checks that every element ends where it should, and answers with all text between them and
/// the number of each element.
fn parse(page: &str) -> (String, std::collections::BTreeMap<String, usize>) {
    let mut reader = Reader::from_str(page);
    reader.config_mut().check_end_names = true;
    let (mut text, mut elements, mut depth) = (String::new(), std::collections::BTreeMap::new(), 0);
    loop {
        match reader
            .read_event()
            .unwrap_or_else(|error| panic!("{error} at {}", reader.error_position()))
        {
            Event::Start(element) | Event::Empty(element) => {
                for attribute in element.attributes() {
                    let attribute = attribute.unwrap();
                    let key = attribute.key.as_ref().to_owned();
                    assert!(!key.starts_with("on"), "no attribute runs anything: {key}");
                    let value = attribute.value.to_string();
                    let is_own = key == "xmlns" || !value.contains("//");
                    assert!(is_own, "nothing from elsewhere: {key}={value}");
                }
                let name = element.name().as_ref().to_owned();
                *elements.entry(name).or_insert(0) += 1;
            }
            Event::Text(part) => text.push_str(&part),
            Event::GeneralRef(reference) => {
                let name = reference.to_string();
                assert!(
                    ["amp", "lt", "gt", "quot", "apos", "#39"].contains(&name.as_str()),
                    "{name}"
                );
                text.push_str(match name.as_str() {
                    "amp" => "&",
                    "lt" => "<",
                    "gt" => ">",
                    "quot" => "\"",
                    _ => "'",
                });
            }
            Event::Eof => break,
            _ => {}
        }
        depth += 1;
    }
    assert!(depth > 0);
    (text, elements)
}

#[test]
fn the_page_shows_every_part_and_is_well_formed() {
    let names = ["open an account", "close an account", "lost card", "other"];
    let report = full_report(&names, 12);
    let page = report.render_html();
    let (text, elements) = parse(&page);
    for heading in [
        "What would help most",
        "Warnings",
        "Search",
        "Model",
        "Probabilities",
        "Classes",
        "Confusions",
        "Rows to look at",
        "Would more rows help?",
        "Time, memory and cost",
        "Origin",
    ] {
        assert!(text.contains(heading), "{heading}");
    }
    for said in [
        "81.0 %",
        "open an account",
        "taken for",
        "321 rows",
        "70 µs",
        "1.4 ms",
        "row 7, 93.0 %",
        "and 317 more rows",
        "without it",
    ] {
        assert!(text.contains(said), "{said}");
    }
    assert_eq!(
        elements["svg"], 7,
        "time, size, ensemble, reliability, refusals, classes, learning"
    );
    assert_eq!(elements["script"], 1);
    assert!(!page.contains("http://") || page.matches("http://").count() == 8, "names of XML only");
}

#[test]
fn hostile_names_and_texts_stay_text() {
    let long = "w".repeat(10_000);
    let names: Vec<&str> = HOSTILE.into_iter().chain([long.as_str()]).collect();
    let report = full_report(&names, 3);
    let page = report.render_html();
    let (text, elements) = parse(&page);
    assert_eq!(elements["script"], 1, "the page's own");
    assert!(!elements.contains_key("img"));
    assert!(text.contains("<script>alert('x')</script>"), "it is shown as it is written");
    let forbidden = |character: char| {
        character.is_control() && character != '\n'
            || matches!(character, '\u{202a}'..='\u{202e}' | '\u{fffe}')
    };
    assert!(!page.contains(forbidden));
    assert!(!text.contains(&long[..500]) || report.findings.label_errors.rows > 0);

    let summary = report.render_text();
    assert!(!summary.contains(forbidden), "a terminal is told nothing but text");
    assert!(summary.lines().all(|line| line.chars().count() <= 80), "{summary}");
}

#[test]
fn a_large_report_stays_readable() {
    let names: Vec<String> =
        (0..1016).map(|class| format!("{class:04} Occupation of some kind")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let page = full_report(&names, 300).render_html();
    let (text, elements) = parse(&page);
    println!("{} classes and 300 trials make {} bytes", names.len(), page.len());
    assert!(page.len() < 1 << 20);
    assert!(text.contains("and 260 more trials") && text.contains("and 836 more classes"));
    assert!(elements["tr"] < 500);
}

#[test]
fn old_reports_can_still_be_read_and_shown() {
    let report: Report = serde_json::from_value(old_report(&["a", "b"], 2)).unwrap();
    assert!(report.findings.learning_curve.is_none() && report.advice.is_empty());
    let (text, _) = parse(&report.render_html());
    assert!(text.contains("Classes") && !text.contains("Rows to look at"));
    assert!(report.render_text().contains("0.8100"));
}

#[test]
fn advice_is_by_effect_and_says_its_numbers() {
    let names = ["open an account", "close an account", "lost card", "other"];
    let report = full_report(&names, 12);
    assert!(report.advice.len() <= 6);
    assert!(report.advice.is_sorted_by(|a, b| a.effect >= b.effect));
    let of = |kind: AdviceKind| report.advice.iter().find(|advice| advice.kind == kind).unwrap();
    let merge = &of(AdviceKind::MergeClasses).message;
    assert!(merge.contains("14 of their 27 rows") && merge.contains("alike"), "{merge}");
    let fix = &of(AdviceKind::FixLabels).message;
    assert!(fix.contains("321 rows") && fix.contains("0.97"), "{fix}");
    assert!(of(AdviceKind::MoreRows).message.contains("3.5 points"));
    assert!(of(AdviceKind::InstallEncoder).message.contains("corral encoder install"));
}
