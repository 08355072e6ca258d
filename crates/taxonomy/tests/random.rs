//! Random trees, random cycles and damaged files. Every failure names its seed.

use std::collections::{BTreeSet, HashSet};
use std::time::{Duration, Instant};

use corral_taxonomy::limits::{MAX_CLASSES, MAX_DEPTH};
use corral_taxonomy::{
    Class, Format, ParseOptions, Problem, ProblemKind, Taxonomy, TaxonomyError, parse,
};

/// SplitMix64 (Steele, Lea and Flood, 2014): small, and good enough to choose tests with.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn shuffle<T>(&mut self, list: &mut [T]) {
        for index in (1..list.len()).rev() {
            list.swap(index, self.below(index + 1));
        }
    }
}

fn options(format: Format) -> ParseOptions {
    ParseOptions { format: Some(format), ..ParseOptions::default() }
}

/// Words that would break a careless writer or reader.
const NAMES: [&str; 10] =
    ["a", "no", "x, y", "say \"hi\"", "é – ü", "a: b", "- dash", "#1", "{curly}", "'q'"];

/// Classes with unique ids and names, each under an earlier one or at the top.
fn random_classes(random: &mut Random, count: usize) -> Vec<Class> {
    (0..count)
        .map(|index| Class {
            id: format!("id {index}"),
            name: format!("{} {index}", NAMES[random.below(NAMES.len())]),
            description: (random.below(3) == 0).then(|| format!("about {index}, \"quoted\"")),
            examples: (0..random.below(3)).map(|i| format!("example {i} of {index}")).collect(),
            parent: (index > 0 && random.below(4) > 0).then(|| random.below(index) as u32),
        })
        .collect()
}

fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

/// Rows in an order of their own: a child may stand before its parent.
fn as_csv(classes: &[Class], order: &[usize]) -> String {
    let mut text = "id,name,description,examples,parent\r\n".to_owned();
    for &index in order {
        let class = &classes[index];
        let parent = class.parent.map_or("", |parent| &classes[parent as usize].id);
        let description = class.description.as_deref().unwrap_or_default();
        let fields = [&class.id, &class.name, description, &class.examples.join("|"), parent];
        text.push_str(&fields.map(quote).join(","));
        text.push_str("\r\n");
    }
    text
}

#[test]
fn random_trees_read_back_whatever_the_order_and_format() {
    for seed in 0..300 {
        let mut random = Random(seed);
        let count = 1 + random.below(60);
        let classes = random_classes(&mut random, count);
        let mut order: Vec<usize> = (0..count).collect();
        random.shuffle(&mut order);
        let csv = as_csv(&classes, &order);
        let taxonomy = parse("t.csv", csv.as_bytes(), &options(Format::Csv))
            .unwrap_or_else(|error| panic!("seed {seed}: {error}\n{csv}"));
        assert_eq!(taxonomy.len(), count, "seed {seed}");

        let mut ids: Vec<&str> = Vec::new();
        for index in 0..count as u32 {
            let class = taxonomy.class(index);
            let original = classes.iter().find(|c| c.id == class.id).unwrap();
            let above = |class: &Class| class.parent;
            assert_eq!(class.name, original.name, "seed {seed}");
            assert_eq!(class.description, original.description, "seed {seed}");
            assert_eq!(class.examples, original.examples, "seed {seed}");
            assert_eq!(
                above(class).map(|parent| &taxonomy.class(parent).id),
                above(original).map(|parent| &classes[parent as usize].id),
                "seed {seed}"
            );
            // Depth first: what is below a class are the classes that have it above them.
            let below: BTreeSet<u32> = taxonomy.descendants(index).collect();
            let expect: BTreeSet<u32> = (0..count as u32)
                .filter(|&other| taxonomy.ancestors(other).any(|above| above == index))
                .collect();
            assert_eq!(below, expect, "seed {seed}");
            assert_eq!(taxonomy.by_id(&class.id), Some(index), "seed {seed}");
            ids.push(&class.id);
        }
        // Siblings as listed.
        let position = |id: &str| order.iter().position(|&at| classes[at].id == id).unwrap();
        for parent in 0..count as u32 {
            let children: Vec<usize> =
                taxonomy.children(parent).map(|child| position(ids[child as usize])).collect();
            assert!(children.is_sorted(), "seed {seed}");
        }
        let json = taxonomy.to_json();
        assert_eq!(Taxonomy::from_json(&json).unwrap(), taxonomy, "seed {seed}");
        // JSON is YAML, but for its escapes, which these names do not need beyond quotes.
        assert_eq!(
            parse("t.yaml", &json, &options(Format::Yaml)).map_err(|e| e.to_string()),
            Ok(taxonomy),
            "seed {seed}"
        );
    }
}

/// The cycles of a graph in which everything has at most one edge, found by brute force: a
/// class lies on one if its own edges lead back to it.
fn members_of_cycles(parents: &[Option<usize>]) -> HashSet<usize> {
    (0..parents.len())
        .filter(|&start| {
            std::iter::successors(parents[start], |&at| parents[at])
                .take(parents.len())
                .any(|at| at == start)
        })
        .collect()
}

#[test]
fn every_cycle_is_named_once_with_all_its_members() {
    for seed in 0..500 {
        let mut random = Random(seed);
        let count = 1 + random.below(30);
        let parents: Vec<Option<usize>> =
            (0..count).map(|_| (random.below(5) > 0).then(|| random.below(count))).collect();
        let rows: String = parents
            .iter()
            .enumerate()
            .map(|(index, parent)| {
                format!("c{index},{}\n", parent.map_or(String::new(), |p| format!("c{p}")))
            })
            .collect();
        let expect = members_of_cycles(&parents);
        let result = parse("t.csv", format!("id,parent\n{rows}").as_bytes(), &options(Format::Csv));
        let mut named = HashSet::new();
        if let Err(TaxonomyError::Problems { problems, .. }) = &result {
            for Problem { kind, .. } in problems {
                let ProblemKind::Cycle { members } = kind else { panic!("seed {seed}: {kind}") };
                for (at, member) in members.iter().enumerate() {
                    let index: usize = member[1..].parse().unwrap();
                    assert!(named.insert(index), "seed {seed}: {member} twice");
                    let next = &members[(at + 1) % members.len()];
                    assert_eq!(parents[index].map(|p| format!("c{p}")).as_ref(), Some(next));
                }
            }
        }
        assert_eq!(named, expect, "seed {seed}");
        assert_eq!(result.is_ok(), expect.is_empty(), "seed {seed}");
    }
}

/// Whatever the bytes, the answer is a taxonomy within the limits or an error that can be
/// printed, soon.
fn survives(bytes: &[u8], format: Format, seed: u64) {
    let begun = Instant::now();
    match parse("t", bytes, &options(format)) {
        Ok(taxonomy) => {
            assert!(taxonomy.len() <= MAX_CLASSES && taxonomy.levels() <= MAX_DEPTH);
            let again = Taxonomy::from_json(&taxonomy.to_json())
                .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            assert_eq!(again, taxonomy, "seed {seed}, {format:?}");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "seed {seed}, {format:?}: too slow");
}

const FORMATS: [Format; 5] = [Format::Csv, Format::Tsv, Format::Json, Format::Yaml, Format::Lines];

#[test]
fn damaged_files_are_survived() {
    let seeds: [&[u8]; 5] = [
        b"id,name,description,examples,parent\na,A,\"x\"\"y\",e|f,\nb,B,,,a\n",
        b"path\tname\na > b\tb\nc/d\t\n",
        br#"{"format_version":1,"classes":[{"id":"a","name":"A","examples":["e"]},{"id":"b","name":"B","parent":"a","children":[{"path":"x/y"}]}]}"#,
        b"a:\n  - b\n  - name: c\n    path: [x, y]\nd: {e: f, g: {description: |\n  text\n}}\n",
        b"{\"a\": {\"b\": null, \"c\": [\"d\", 1, 2.5, true]}, \"e\": {\"id\": 7, \"children\": {}}}",
    ];
    let pieces: [&[u8]; 12] =
        [b"\"", b"\n", b",", b"[", b"{", b"}", b": ", b"- ", b"&a ", b"*a", b"\xf0\x9f", b"\0"];
    for seed in 0..2_000u64 {
        let mut random = Random(seed);
        let mut bytes = seeds[random.below(seeds.len())].to_vec();
        for _ in 0..1 + random.below(8) {
            let at = random.below(bytes.len() + 1);
            match random.below(4) {
                0 if at < bytes.len() => bytes[at] = random.next() as u8,
                1 => bytes.truncate(at.max(1)),
                2 => {
                    let until = at + random.below(bytes.len() + 1 - at);
                    let copy = bytes[at..until].to_vec();
                    bytes.splice(at..at, copy);
                }
                _ => {
                    bytes.splice(at..at, pieces[random.below(pieces.len())].iter().copied());
                }
            }
        }
        for format in FORMATS {
            survives(&bytes, format, seed);
        }
    }
}

#[test]
fn large_hostile_files_are_answered_soon() {
    let repeat = |text: &str, count: usize| text.repeat(count).into_bytes();
    let documents = [
        repeat("[", 200_000),
        repeat("- ", 200_000),
        repeat("{\"a\":", 200_000),
        repeat("a: {", 200_000),
        repeat("\"", 400_001),
        repeat(",", 400_000),
        repeat("a,\n", 100_000),
        repeat("? ", 100_000),
        repeat("  \n", 100_000),
        repeat("!t &a ", 50_000),
        // The same key a hundred thousand times.
        format!("[{{{}\"a\":1}}]", "\"name\":1,".repeat(100_000)).into_bytes(),
        format!("{{\"x\":{{{}\"description\":1}}}}", "\"id\":1,".repeat(100_000)).into_bytes(),
        // Many unknown parents among many names.
        {
            let rows: String =
                (0..10_000).map(|i| format!("class number {i},parent {i}\n")).collect();
            format!("name,parent\n{rows}").into_bytes()
        },
        // Long paths that share nothing.
        {
            let path = |i: usize| vec![format!("p{i}"); MAX_DEPTH].join("/");
            (0..10_000).fold("path\n".to_owned(), |text, i| text + &path(i) + "\n").into_bytes()
        },
    ];
    for (index, bytes) in documents.iter().enumerate() {
        for format in FORMATS {
            survives(bytes, format, index as u64);
        }
    }
}
