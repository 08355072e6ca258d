//! Files of every format, and what is said of wrong ones.

use corral_taxonomy::{
    Columns, Format, MissingParents, ParseOptions, Taxonomy, TaxonomyError, Unresolved, parse,
};
use corral_types::{ErrorKind, Explain};

fn read(file_name: &str, text: &str) -> Result<Taxonomy, TaxonomyError> {
    parse(file_name, text.as_bytes(), &ParseOptions::default())
}

/// Every class as `depth id name`.
fn outline(taxonomy: &Taxonomy) -> Vec<String> {
    (0..taxonomy.len() as u32)
        .map(|index| {
            let class = taxonomy.class(index);
            format!("{} {} {}", taxonomy.depth(index), class.id, class.name)
        })
        .collect()
}

fn message(file_name: &str, text: &str) -> String {
    read(file_name, text).expect_err("the file is wrong").to_string()
}

#[test]
fn one_tree_however_it_is_written() {
    let by_parent = "id,name,description,examples,parent\n\
        a,Animals,living things,,\n\
        c,Cats,,tabby|siamese,a\n\
        p,Plants,,,\n\
        d,Dogs,,,Animals\n";
    let by_parent = read("t.csv", by_parent).unwrap();
    assert_eq!(outline(&by_parent), ["0 a Animals", "1 c Cats", "1 d Dogs", "0 p Plants"]);
    assert_eq!(by_parent.class(1).examples, ["tabby", "siamese"]);
    assert_eq!(by_parent.class(0).description.as_deref(), Some("living things"));

    let json = r#"[
        {"id": "a", "name": "Animals", "description": "living things", "children": [
            {"id": "c", "name": "Cats", "examples": ["tabby", "siamese"]},
            {"id": "d", "name": "Dogs", "examples": []}]},
        {"id": "p", "name": "Plants"}]"#;
    assert_eq!(read("t.json", json).unwrap(), by_parent);

    let yaml = "
- id: p
  parent: null
  name: Plants
- {id: d, name: Dogs, parent: a}
- id: c
  name: Cats
  parent: a
  examples: [tabby, siamese]
- id: a
  name: Animals
  description: |
    living things
";
    let reordered = read("t.yaml", yaml).unwrap();
    assert_eq!(outline(&reordered), ["0 p Plants", "0 a Animals", "1 d Dogs", "1 c Cats"]);
    assert_ne!(reordered.version(), by_parent.version());

    let again = Taxonomy::from_json(&by_parent.to_json()).unwrap();
    assert_eq!(again, by_parent);
    assert_eq!(again.version(), by_parent.version());
}

#[test]
fn canonical_json_stays_as_it_is() {
    let taxonomy =
        read("t.csv", "id,name,description,examples,parent\n1,A,x,e|f,\n2,B,,,1").unwrap();
    assert_eq!(
        String::from_utf8(taxonomy.to_json()).unwrap(),
        r#"{"format_version":1,"classes":[{"id":"1","name":"A","description":"x","examples":["e","f"]},{"id":"2","name":"B","parent":"1"}]}"#
    );
    // A version that was stored must be found again: this hash never changes.
    assert_eq!(
        taxonomy.version().to_string(),
        "eb771943bf033c7e19c1803c748ec0d42d47a4dfa915819e2a6ef0994a554936"
    );
    let newer = br#"{"format_version":2,"classes":[{"id":"1","name":"A"}]}"#;
    let error = Taxonomy::from_json(newer).unwrap_err();
    assert!(matches!(error, TaxonomyError::NewerFormat { .. }));
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[test]
fn names_alone_become_ids_where_they_are_unique() {
    let names = "
Electronics:
  Phones: {}
  Accessories: [Cables, Cases]
Clothing:
  Accessories:
    description: worn, not electric
    examples: [belt]
    children: [Hats]
  Shoes: for the feet
";
    let taxonomy = read("t.yml", names).unwrap();
    assert_eq!(
        outline(&taxonomy),
        [
            "0 Electronics Electronics",
            "1 Phones Phones",
            "1 Electronics > Accessories Accessories",
            "2 Cables Cables",
            "2 Cases Cases",
            "0 Clothing Clothing",
            "1 Clothing > Accessories Accessories",
            "2 Hats Hats",
            "1 Shoes Shoes",
        ]
    );
    assert_eq!(taxonomy.class(8).description.as_deref(), Some("for the feet"));
    assert_eq!(taxonomy.class(6).examples, ["belt"]);
    assert_eq!(taxonomy.path(7), ["Clothing", "Accessories", "Hats"]);
    assert_eq!(taxonomy.levels(), 3);
    assert_eq!(taxonomy.roots().collect::<Vec<_>>(), [0, 5]);
    assert_eq!(taxonomy.children(0).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(taxonomy.children(8).count(), 0);
    assert_eq!(taxonomy.leaves().collect::<Vec<_>>(), [1, 3, 4, 7, 8]);
    assert_eq!(taxonomy.level(1).collect::<Vec<_>>(), [1, 2, 6, 8]);
    assert_eq!(taxonomy.ancestors(7).collect::<Vec<_>>(), [6, 5]);
    assert_eq!(taxonomy.ancestor_at(7, 0), Some(5));
    assert_eq!(taxonomy.ancestor_at(7, 2), Some(7));
    assert_eq!(taxonomy.ancestor_at(8, 2), None);
    assert_eq!(taxonomy.by_name("Accessories"), [2, 6]);
    assert_eq!(taxonomy.resolve("Accessories"), Err(Unresolved::Ambiguous));
    assert_eq!(taxonomy.resolve(" Hats "), Ok(7));
}

#[test]
fn flat_lists_need_no_header() {
    let flat = ["0 card card", "0 cash cash", "0 a, b a, b"];
    for (file_name, text) in [
        ("t.txt", "card\n\n cash\r\na, b\n"),
        ("t.csv", "card\ncash\n\"a, b\"\n"),
        ("t.csv", "Label\ncard\ncash\n\"a, b\"\n"),
        ("t.json", r#"["card", "cash", "a, b"]"#),
        ("t.yaml", "- card\n- cash\n- a, b\n"),
        ("t.json", r#"{"card": null, "cash": {}, "a, b": []}"#),
        ("unnamed", r#"["card", "cash", "a, b"]"#),
        ("t.tsv", "\u{feff}name\tnote\ncard\t1\ncash\t2\na, b\t3\n\t\n"),
        ("t.csv", "name;note\ncard;1\ncash;2\na, b;3\n"),
    ] {
        assert_eq!(outline(&read(file_name, text).unwrap()), flat, "{file_name} {text:?}");
    }
}

#[test]
fn paths_imply_the_classes_they_pass_through() {
    let expect = ["0 a a", "1 b b", "2 c c", "1 x/y x/y", "0 d d"];
    for (file_name, text) in [
        ("t.csv", "path\na > b > c\na > x/y\nd\n"),
        ("t.csv", "path,name\na>b>c,c\na>b,b\na>x/y,x/y\nd,\n"),
        ("t.json", r#"[{"path": "a > b > c"}, {"path": ["a", "x/y"]}, {"name": "d"}]"#),
    ] {
        assert_eq!(outline(&read(file_name, text).unwrap()), expect, "{text:?}");
    }
    assert_eq!(outline(&read("t.csv", "path\na/b\na/c").unwrap()), ["0 a a", "1 b b", "1 c c"]);
    let options = ParseOptions { path_separator: Some("::".into()), ..ParseOptions::default() };
    let taxonomy = parse("t.csv", b"path\na::b/c", &options).unwrap();
    assert_eq!(outline(&taxonomy), ["0 a a", "1 b/c b/c"]);
}

#[test]
fn codes_lie_under_their_prefixes() {
    let table = "O*NET-SOC Code\tTitle\n11-1011.00\tChief Executives\n11-1011.03\tSustainability Officers\n13-2011.00\tAccountants\n";
    let mut options = ParseOptions {
        columns: Columns { id: Some("O*NET-SOC Code".into()), ..Columns::default() },
        prefix_lengths: vec![2, 4, 6, 7],
        ..ParseOptions::default()
    };
    let error = parse("Occupation Data.txt", table.as_bytes(), &options).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the taxonomy has 3 problems:\
         \n  line 2: the parent `11-1011` of `11-1011.00` is not a class of this taxonomy; nearest: `11-1011.00`, `11-1011.03`\
         \n  line 3: the parent `11-1011` of `11-1011.03` is not a class of this taxonomy; nearest: `11-1011.00`, `11-1011.03`\
         \n  line 4: the parent `13-2011` of `13-2011.00` is not a class of this taxonomy; nearest: `13-2011.00`"
    );
    assert!(error.hint().unwrap().contains("created"));

    options.missing_parents = MissingParents::Create;
    let taxonomy = parse("Occupation Data.txt", table.as_bytes(), &options).unwrap();
    assert_eq!(
        outline(&taxonomy),
        [
            "0 11 11",
            "1 11-1 11-1",
            "2 11-101 11-101",
            "3 11-1011 11-1011",
            "4 11-1011.00 Chief Executives",
            "4 11-1011.03 Sustainability Officers",
            "0 13 13",
            "1 13-2 13-2",
            "2 13-201 13-201",
            "3 13-2011 13-2011",
            "4 13-2011.00 Accountants",
        ]
    );
    assert_eq!(taxonomy.descendants(3), 4..6);

    options.prefix_lengths = vec![2, 2];
    let error = parse("x.txt", table.as_bytes(), &options).unwrap_err();
    assert!(matches!(error, TaxonomyError::PrefixLengths { .. }));
}

#[test]
fn all_mistakes_are_listed_at_once() {
    let table = "id,name,parent\n\
        a,Alpha,b\n\
        b,Beta,c\n\
        c,Gamma,a\n\
        d,,\n\
        d,Delta,\n\
        ,,\n\
        e,Delta,\n\
        f,Phi,Gama\n\
        g,Self,g\n\
        h,Eta\n\
        ,,a\n";
    assert_eq!(
        message("t.csv", table),
        "the taxonomy has 7 problems:\
         \n  line 2: these classes are each other's ancestors: `a` → `b` → `c`\
         \n  line 6: the id `d` is already used at line 5\
         \n  line 8: the name `Delta` already stands at the top at line 6\
         \n  line 9: the parent `Gama` of `f` is not a class of this taxonomy; nearest: `Gamma`\
         \n  line 10: these classes are each other's ancestors: `g`\
         \n  line 11: the row has 2 fields, the header has 3\
         \n  line 12: a class has neither a name nor an id"
    );
    let json = r#"{"classes": [
        {"name": "a", "children": [{"name": " "}, 1.5, {"name": true}]},
        {"name": "b", "parent": "a", "path": "a/b"},
        {"name": "x", "path": "a/b"}, {"path": "a//b"},
        {"name": "a", "name": "c"}, {"name": "dup", "examples": {"a": 1}}]}"#;
    assert_eq!(
        message("t.json", json),
        "the taxonomy has 9 problems:\
         \n  classes[0].children[1]: expected a name or an object, found 1.5 (in quotes it would be text)\
         \n  classes[0].children[2].name: expected text, found true (in quotes it would be text)\
         \n  classes[1]: the class has both a path and a parent; give one of them\
         \n  classes[4]: the key `name` is given twice\
         \n  classes[5].examples: expected text, found an object\
         \n  classes[0].children[0]: a class has neither a name nor an id\
         \n  classes[0].children[2]: a class has neither a name nor an id\
         \n  classes[2]: the name `x` is not the last part of the path `a > b`\
         \n  classes[3]: the path `a >  > b` has an empty part"
    );
}

#[test]
fn wrong_files_are_refused_by_what_is_wrong_with_them() {
    let check = |file_name: &str, text: &str, expect: &str| {
        assert_eq!(message(file_name, text), expect, "{file_name} {text:?}");
    };
    check("t.csv", "", "the taxonomy has no class");
    check("t.json", "[]", "the taxonomy has no class");
    check("t.yaml", "# nothing\n", "the taxonomy has no class");
    check("t.json", "[", "the taxonomy is not JSON");
    check("t", "a,b", "cannot tell the format of `t`");
    check("t.csv", "a,b\nc,d", "no column holds names, ids or paths; the columns are `a`, `b`");
    check("t.csv", "label,title\nc,d", "the columns `label`, `title` could all hold the name");
    check("t.csv", "name\n\"a", "line 2 is not CSV: a quoted field does not end");
    check("t.yaml", "a: &x [b]\nc: *x", "line 1 is not YAML: anchors and tags are not supported");
    check("t.yaml", "a: b\n---\nc: d", "line 2 is not YAML: a second document begins");
    check("t.yaml", "? [a]\n: b", "line 1 is not YAML: a key is not text");
    let deep = format!("{}{}", "[".repeat(90), "]".repeat(90));
    check("t.yaml", &deep, "line 1 is not YAML: it is nested too deeply");
    assert!(matches!(read("t.json", &"[".repeat(5000)), Err(TaxonomyError::Json(_))));
    let error = parse("t.csv", b"name\n\xff", &ParseOptions::default()).unwrap_err();
    assert_eq!(error.to_string(), "the taxonomy is not UTF-8 text from byte 5 on");
    let columns = Columns { name: Some("Title".into()), ..Columns::default() };
    let options = ParseOptions { columns, ..ParseOptions::default() };
    let error = parse("t.csv", b"name,x\na,b", &options).unwrap_err();
    assert_eq!(error.to_string(), "there is no column `Title`; the columns are `name`, `x`");
}

#[test]
fn limits_are_named() {
    use corral_taxonomy::limits::{MAX_CLASSES, MAX_DEPTH, MAX_EXAMPLES, MAX_NAME_BYTES};
    let lines = |count: usize| (0..count).map(|i| format!("class {i}\n")).collect::<String>();
    assert_eq!(read("t.txt", &lines(MAX_CLASSES)).unwrap().len(), MAX_CLASSES);
    for file_name in ["t.txt", "t.csv"] {
        let error = read(file_name, &lines(MAX_CLASSES + 1)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
    }
    let long = "x".repeat(MAX_NAME_BYTES + 1);
    assert!(message("t.txt", &long).contains("the name has 513 bytes; it may have at most 512"));
    let chain = |depth: usize| {
        let rows = (1..depth).map(|i| format!("{i},{}\n", i - 1)).collect::<String>();
        format!("id,parent\n0,\n{rows}")
    };
    assert_eq!(read("t.csv", &chain(MAX_DEPTH)).unwrap().levels(), MAX_DEPTH);
    assert_eq!(
        message("t.csv", &chain(MAX_DEPTH + 5)),
        "the taxonomy has a problem:\
         \n  line 34: `32` lies 33 classes deep; a taxonomy has at most 32 levels"
    );
    let path = vec!["p"; MAX_DEPTH + 1].join("/");
    assert!(message("t.csv", &format!("path\n{path}")).contains("lies 33 classes deep"));
    let examples = vec!["e"; MAX_EXAMPLES + 1].join("|");
    assert!(message("t.csv", &format!("name,examples\na,{examples}")).contains("1001 examples"));
    assert!(message("t.csv", "name,x\n\"a\nb\",").contains("control character (U+000A)"));
    let deep_json = format!("{}\"x\"{}", "[".repeat(100), "]".repeat(100));
    assert!(message("t.json", &deep_json).contains("expected a name or an object, found a list"));
}

#[test]
fn labels_are_matched_by_id_then_by_unique_name() {
    let taxonomy =
        read("t.csv", "id,name,parent\n1,Card,\n2,Lost,1\n3,Cash,\n4,Lost,3\n5,3,\n").unwrap();
    let labels = [("Card", 5), ("2", 7), ("Lost", 9), ("card", 2), ("Crad", 4), ("3", 1)];
    let result = taxonomy.match_labels(labels);
    let matched: Vec<_> =
        result.matched.iter().map(|m| (m.label.as_str(), m.class, m.count)).collect();
    // `3` is an id first, though it is also a name.
    assert_eq!(matched, [("Card", 0, 5), ("2", 1, 7), ("3", 2, 1)]);
    let unknown: Vec<_> = result
        .unknown
        .iter()
        .map(|u| (u.label.as_str(), u.count, u.why, u.nearest.join(" ")))
        .collect();
    assert_eq!(
        unknown,
        [
            ("Lost", 9, Unresolved::Ambiguous, "2 4".to_owned()),
            ("Crad", 4, Unresolved::Absent, "Card".to_owned()),
            ("card", 2, Unresolved::Absent, "Card Cash".to_owned()),
        ]
    );
}

#[test]
fn labels_imply_a_taxonomy() {
    let taxonomy = Taxonomy::from_labels(["b", "a", "b", "", " a ", "c"]).unwrap();
    assert_eq!(outline(&taxonomy), ["0 a a", "0 b b", "0 c c"]);
    assert!(matches!(Taxonomy::from_labels(["", " "]), Err(TaxonomyError::Empty)));
}

#[test]
fn formats_may_be_said() {
    let options = ParseOptions { format: Some(Format::Yaml), ..ParseOptions::default() };
    let taxonomy = parse("t.json", b"- no\n- 0011\n- ~\n- on", &options);
    assert!(matches!(taxonomy, Err(TaxonomyError::Problems { .. })));
    let taxonomy = parse("t.json", b"- no\n- 0011\n- \"~\"\n- on", &options).unwrap();
    assert_eq!(outline(&taxonomy), ["0 no no", "0 0011 0011", "0 ~ ~", "0 on on"]);
}
