//! Label models on votes of functions whose accuracies are planted, and the choice among them.

use std::sync::Arc;

use corral_labels::{
    BlockGold, BlockVotes, Evidence, FitOptions, Gold, LabelArity, Method, Vote, VoteCounts,
    VoteLayer, VoteTable, Voter, choose, fit, fit_multi_label,
};

/// Numbers from 0 to 1, the same for a seed.
struct Random(u64);

impl Random {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn below(&mut self, limit: usize) -> usize {
        ((self.unit() * limit as f64) as usize).min(limit - 1)
    }
}

/// A function: the class it votes for (any where none), how often right, and how often it votes.
#[derive(Clone, Copy)]
struct Planted {
    class: Option<u32>,
    accuracy: f64,
    coverage: f64,
}

/// Votes of planted functions on rows of a skewed class balance.
fn plant(functions: &[Planted], classes: usize, rows: usize, seed: u64) -> (VoteTable, Gold) {
    let mut random = Random(seed);
    let truth: Vec<u32> =
        (0..rows).map(|_| random.below(classes).min(random.below(classes)) as u32).collect();
    let voters = functions.iter().map(|planted| match planted.class {
        Some(class) => Voter::new(vec![Vote::one(class)]),
        None => Voter::new((0..classes as u32).map(Vote::one).collect()),
    });
    let mut table = VoteTable::new(voters.collect(), classes, LabelArity::Single);
    let mut layers = Vec::new();
    for planted in functions {
        let votes: Vec<Option<usize>> = truth
            .iter()
            .map(|&class| match planted.class {
                // Of so many votes so many are right: it fires on rows of its class, and on others.
                Some(own) if own == class => (random.unit() < planted.coverage).then_some(0),
                Some(_) => {
                    let wrong = (1.0 - planted.accuracy) / planted.accuracy / classes as f64;
                    (random.unit() < planted.coverage * wrong).then_some(0)
                }
                None => (random.unit() < planted.coverage).then(|| {
                    if random.unit() < planted.accuracy {
                        class as usize
                    } else {
                        (class as usize + 1 + random.below(classes - 1)) % classes
                    }
                }),
            })
            .collect();
        let votes_of = if planted.class.is_some() { 1 } else { classes };
        let block = BlockVotes::of_rows(votes_of, votes.into_iter());
        layers.push(Arc::new(VoteLayer { blocks: vec![block] }));
    }
    table.push_part(layers);
    let mut gold = BlockGold::default();
    truth.iter().enumerate().for_each(|(row, class)| gold.push(row, &[*class]));
    (table, Gold { parts: vec![vec![gold]] })
}

fn any(accuracy: f64, coverage: f64) -> Planted {
    Planted { class: None, accuracy, coverage }
}

/// Six sets, from two classes to many, from alike functions to very unlike ones.
fn sets() -> Vec<(&'static str, Vec<Planted>, usize)> {
    let of_class = |functions: usize, classes: usize| {
        let planted = move |at: usize| Planted {
            class: Some((at % classes) as u32),
            accuracy: 0.6 + 0.35 * ((at * 7 % 10) as f64 / 10.0),
            coverage: 0.1 + 0.3 * ((at * 3 % 10) as f64 / 10.0),
        };
        (0..functions).map(planted).collect::<Vec<_>>()
    };
    vec![
        ("alike", (0..8).map(|_| any(0.75, 0.5)).collect(), 2),
        ("one good, many poor", [vec![any(0.95, 0.9)], vec![any(0.58, 0.6); 6]].concat(), 2),
        ("mixed", (0..10).map(|at| any(0.55 + 0.04 * at as f64, 0.4)).collect(), 4),
        ("by class", of_class(24, 6), 6),
        ("sparse", of_class(60, 20), 20),
        ("200 classes", of_class(200, 200), 200),
    ]
}

#[test]
fn the_choice_is_no_worse_than_most_votes() {
    let mut gains = Vec::new();
    for (name, functions, classes) in sets() {
        let rows = if classes == 200 { 1_500 } else { 2_000 };
        let (table, gold) = plant(&functions, classes, rows, 11);
        let evidence = Evidence::of(&table).unwrap();
        let floor = fit(&evidence, Method::Majority, &FitOptions::default()).unwrap();
        let (floor, covered) = floor.score(&table, &gold);
        // The moment-based fit of 200 classes takes long without optimisation.
        let options =
            FitOptions { epochs: if classes == 200 { 3 } else { 500 }, ..Default::default() };
        let choice = choose(&evidence, &Gold::default(), &options).unwrap();
        let (right, _) = choice.model.score(&table, &gold);
        let gain = 100.0 * (right - floor) / covered as f64;
        println!("{name}: {} {gain:+.2} points; {}", choice.model.method, choice.reason());
        assert!(gain > -1.0, "{name}: {gain:.2} points below most votes");
        gains.push(gain);
    }
    let mean = gains.iter().sum::<f64>() / gains.len() as f64;
    assert!(mean >= 0.0, "{gains:?}");
}

#[test]
fn accuracies_that_were_planted_are_found() {
    let accuracies = [0.9, 0.8, 0.7, 0.6, 0.85];
    let functions: Vec<Planted> = accuracies.iter().map(|&accuracy| any(accuracy, 0.8)).collect();
    let (table, _) = plant(&functions, 2, 20_000, 3);
    let evidence = Evidence::of(&table).unwrap();
    let model = fit(&evidence, Method::Triplets, &FitOptions::default()).unwrap();
    for (voter, accuracy) in accuracies.iter().enumerate() {
        // Of two classes, the difference of a vote's weights is the log odds of being right.
        let weights = model.weights(table.item(voter, 0));
        let odds = f64::from(weights[0] - weights[1]).exp();
        let found = odds / (1.0 + odds);
        assert!((found - accuracy).abs() < 0.03, "{voter}: {found} for {accuracy}");
    }
}

#[test]
fn votes_against_and_partial_votes_count() {
    // Two functions rule a class out each: together they leave one.
    let voters = vec![
        Voter::new(vec![Vote::Against(vec![0])]),
        Voter::new(vec![Vote::Against(vec![1])]),
        Voter::new(vec![Vote::For(vec![1, 2])]),
    ];
    let mut table = VoteTable::new(voters, 3, LabelArity::Single);
    let layer = |rows: [bool; 4]| {
        let votes = rows.into_iter().map(|voted| voted.then_some(0)).collect::<Vec<_>>();
        Arc::new(VoteLayer { blocks: vec![BlockVotes::of_rows(1, votes.into_iter())] })
    };
    table.push_part(vec![
        layer([true, true, false, false]),
        layer([true, false, true, false]),
        layer([false, true, true, false]),
    ]);
    let evidence = Evidence::of(&table).unwrap();
    for method in [Method::Majority, Method::Weighted, Method::Triplets] {
        let model = fit(&evidence, method, &FitOptions::default()).unwrap();
        let mut probabilities = [0.0; 3];
        let rows = table.rows_of_block(0, 0);
        model.posterior(rows.row(0), &mut probabilities);
        assert!(probabilities[2] > 0.4 && probabilities[2] >= probabilities[0], "{method}");
        model.posterior(rows.row(2), &mut probabilities);
        assert!(
            probabilities[2] > probabilities[1] && probabilities[2] > probabilities[0],
            "{method}"
        );
        assert!(rows.row(3).is_empty());
    }
}

#[test]
fn a_trusted_function_silences_those_that_contradict_it() {
    let mut trusted = Voter::new(vec![Vote::one(1)]);
    trusted.is_trusted = true;
    let plain = Voter::new(vec![Vote::one(0)]);
    let mut table = VoteTable::new(vec![plain.clone(), trusted, plain], 2, LabelArity::Single);
    let layer = |rows: [bool; 2]| {
        let votes = rows.into_iter().map(|voted| voted.then_some(0)).collect::<Vec<_>>();
        Arc::new(VoteLayer { blocks: vec![BlockVotes::of_rows(1, votes.into_iter())] })
    };
    table.push_part(vec![layer([true, true]), layer([true, false]), layer([true, true])]);
    let rows = table.rows_of_block(0, 0);
    assert_eq!((rows.row(0), rows.row(1)), (&[1][..], &[0, 2][..]));
}

#[test]
fn several_classes_hold_by_themselves() {
    let voters = vec![
        Voter::new(vec![Vote::one(0)]),
        Voter::new(vec![Vote::one(1)]),
        Voter::new(vec![Vote::Against(vec![1])]),
    ];
    let mut table = VoteTable::new(voters, 2, LabelArity::Multi);
    let layer = |rows: [bool; 4]| {
        let votes = rows.into_iter().map(|voted| voted.then_some(0)).collect::<Vec<_>>();
        Arc::new(VoteLayer { blocks: vec![BlockVotes::of_rows(1, votes.into_iter())] })
    };
    table.push_part(vec![
        layer([true, true, false, false]),
        layer([true, false, true, false]),
        layer([false, false, false, false]),
    ]);
    let model = fit_multi_label(&table, Method::Majority, &FitOptions::default()).unwrap();
    let found = model.probabilities(&table, 0, 0);
    let holds: Vec<bool> = found.iter().map(|probability| *probability > 0.5).collect();
    // Row 0 both, row 1 the first, row 2 the second, row 3 nothing.
    assert_eq!(holds, [true, true, true, false, false, true, false, false]);
}

#[test]
fn counts_add_up_whatever_the_blocks() {
    let (whole, gold) = plant(&sets()[2].1, 4, 1_000, 5);
    let counts = VoteCounts::of(&whole, &gold);
    // The same rows in blocks of 100.
    let mut cut = VoteTable::new(whole.voters().to_vec(), 4, LabelArity::Single);
    let mut cut_gold = Gold::default();
    let votes = whole.block(0, 0);
    for start in (0..1_000).step_by(100) {
        let layers = votes.iter().map(|block| {
            let rows: Vec<Option<usize>> =
                (start..start + 100).map(|row| block.vote(row)).collect();
            Arc::new(VoteLayer { blocks: vec![BlockVotes::of_rows(4, rows.into_iter())] })
        });
        cut.push_part(layers.collect());
        let mut of_block = BlockGold::default();
        for (row, classes) in gold.block(0, 0).unwrap().iter() {
            if (start..start + 100).contains(&row) {
                of_block.push(row - start, classes);
            }
        }
        cut_gold.parts.push(vec![of_block]);
    }
    assert_eq!(VoteCounts::of(&cut, &cut_gold), counts);
}
