//! A public taxonomy as its publisher ships it: the O*NET occupations.

use std::path::PathBuf;

use corral_taxonomy::{Columns, MissingParents, ParseOptions, parse};

#[test]
fn occupation_codes_form_five_levels() {
    let root = std::env::var_os("CORRAL_TEST_DATA").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data")),
        PathBuf::from,
    );
    let file = root.join("onet/Occupation Data.txt");
    let Ok(bytes) = std::fs::read(&file) else {
        println!("skipped: {} is not there", file.display());
        return;
    };
    let options = ParseOptions {
        columns: Columns { id: Some("O*NET-SOC Code".into()), ..Columns::default() },
        prefix_lengths: vec![2, 4, 6, 7],
        missing_parents: MissingParents::Create,
        ..ParseOptions::default()
    };
    let taxonomy = parse("Occupation Data.txt", &bytes, &options).unwrap();
    let sizes: Vec<usize> =
        (0..taxonomy.levels()).map(|depth| taxonomy.level(depth).count()).collect();
    assert_eq!(sizes, [23, 98, 460, 867, 1016]);
    assert_eq!(taxonomy.leaves().count(), 1016);
    let class = taxonomy.by_id("15-1252.00").unwrap();
    assert_eq!(taxonomy.class(class).name, "Software Developers");
    let path: Vec<&str> =
        taxonomy.ancestors(class).map(|above| taxonomy.class(above).id.as_str()).collect();
    assert_eq!(path, ["15-1252", "15-125", "15-1", "15"]);
    assert!(taxonomy.class(class).description.as_deref().unwrap().starts_with("Research, design"));
    let result = taxonomy.match_labels([("15-1252.00", 3), ("15-1252.02", 1)]);
    assert_eq!(result.matched.len(), 1);
    assert!(!result.unknown[0].nearest.is_empty());
}
