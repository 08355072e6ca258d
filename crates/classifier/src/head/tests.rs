use super::*;

/// Numbers between -1 and 1 without pattern.
fn numbers(seed: u64) -> impl FnMut() -> f32 {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

const PRECISIONS: [Precision; 4] = [
    Precision::F32,
    Precision::Int8,
    Precision::SparseInt8 { smallest: 0.0 },
    Precision::SparseInt8 { smallest: 0.25 },
];

#[test]
fn stored_weights_are_close() {
    for outputs in [1, 3, 4, 5, 8, 77] {
        let mut number = numbers(outputs as u64);
        let weights: Vec<f32> = (0..outputs * 20).map(|_| number()).collect();
        for precision in PRECISIONS {
            let head =
                LinearHead::from_column_major(&weights, vec![0.0; outputs], precision).unwrap();
            for (column, exact) in weights.chunks(outputs).enumerate() {
                // Residuals of the pruned form reach twice as far as the weights.
                let step = match precision {
                    Precision::F32 => 0.0,
                    Precision::Int8 => 0.5 / 127.0,
                    Precision::SparseInt8 { smallest } => smallest.max(1.0 / 127.0),
                };
                for (stored, exact) in head.column(column).iter().zip(exact) {
                    assert!((stored - exact).abs() <= step + 1e-6, "{precision:?} {outputs}");
                }
            }
        }
    }
}

#[test]
fn scores_are_those_of_the_stored_weights() {
    let (outputs, columns) = (13, 40);
    let mut number = numbers(3);
    let weights: Vec<f32> = (0..outputs * columns).map(|_| number()).collect();
    let bias: Vec<f32> = (0..outputs).map(|_| number()).collect();
    let lexical = SparseRow { indices: &[0, 7, 29, 30, 31], values: &[0.5, 0.1, 0.3, 9.0, 9.0] };
    let embedding: Vec<f32> = (0..10).map(|_| number()).collect();
    let row =
        FeatureRow { lexical, lexical_scale: 2.0, embedding: &embedding, embedding_scale: 0.5 };
    for precision in PRECISIONS {
        let head = LinearHead::from_output_major(&weights, bias.clone(), precision).unwrap();
        let mut wanted: Vec<f64> = bias.iter().map(|&bias| f64::from(bias)).collect();
        let mut add = |column: usize, value: f32| {
            for (sum, weight) in wanted.iter_mut().zip(head.column(column)) {
                *sum += f64::from(value) * f64::from(weight);
            }
        };
        // Lexical columns end where those of the embedding begin, at 30.
        lexical.iter().take(3).for_each(|(column, value)| add(column as usize, value * 2.0));
        (30..).zip(&embedding).for_each(|(column, value)| add(column, value * 0.5));
        let mut scores = vec![99.0; 50];
        head.score(row, &mut scores);
        assert_eq!(scores.len(), outputs);
        for (score, wanted) in scores.iter().zip(&wanted) {
            assert!((f64::from(*score) - wanted).abs() < 1e-5, "{precision:?}");
        }
    }
}

#[test]
fn sparse_columns_equal_dense_ones() {
    let entries = [vec![(1, 0.5), (4, -2.0)], vec![], vec![(0, 1.0)]];
    for precision in PRECISIONS {
        let mut sparse = HeadBuilder::new(5, precision).unwrap();
        let mut dense = HeadBuilder::new(5, precision).unwrap();
        for entries in &entries {
            sparse.push_sparse(entries).unwrap();
            let mut column = [0.0; 5];
            entries.iter().for_each(|&(output, weight)| column[output as usize] = weight);
            dense.push(&column).unwrap();
        }
        assert_eq!(sparse.finish(vec![0.0; 5]).unwrap(), dense.finish(vec![0.0; 5]).unwrap());
    }
}

#[test]
fn a_common_shift_costs_no_entries() {
    let mut column = vec![-0.02; 1000];
    column[17] = 1.5;
    let mut builder = HeadBuilder::new(1000, Precision::SparseInt8 { smallest: 0.01 }).unwrap();
    builder.push(&column).unwrap();
    let head = builder.finish(vec![0.0; 1000]).unwrap();
    let Weights::SparseInt8 { weights, .. } = &head.weights else { panic!("sparse weights") };
    assert_eq!(weights.len(), 1);
    assert_eq!(head.column(0)[3], -0.02);
    assert!((head.column(0)[17] - 1.5).abs() < 1e-6);
}

#[test]
fn wrong_weights_are_refused() {
    let mut builder = HeadBuilder::new(2, Precision::Int8).unwrap();
    assert_eq!(builder.push(&[1.0]), Err(HeadError::Length { given: 1, wanted: 2 }));
    assert_eq!(builder.push(&[1.0, f32::NAN]), Err(HeadError::NotFinite { column: 0 }));
    builder.push(&[1.0, 2.0]).unwrap();
    let infinite = [(0, f32::INFINITY)];
    assert_eq!(builder.push_sparse(&infinite), Err(HeadError::NotFinite { column: 1 }));
    for entries in [&[(2, 1.0)][..], &[(1, 1.0), (0, 1.0)], &[(0, 1.0), (0, 1.0)]] {
        let refused = builder.push_sparse(entries);
        assert!(matches!(refused, Err(HeadError::OutputOrder { column: 1, .. })));
    }
    assert_eq!(builder.finish(vec![f32::NAN; 2]), Err(HeadError::BiasNotFinite));
    assert!(matches!(HeadBuilder::new(0, Precision::F32), Err(HeadError::Outputs(0))));
    assert!(matches!(
        HeadBuilder::new(MAX_OUTPUTS + 1, Precision::F32),
        Err(HeadError::Outputs(_))
    ));
    assert!(matches!(
        LinearHead::from_output_major(&[1.0; 5], vec![0.0; 2], Precision::F32),
        Err(HeadError::Length { given: 5, wanted: 6 })
    ));
}

#[test]
fn rows_are_scored_alike_in_bulk() {
    let weights = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    let head = LinearHead::from_column_major(&weights, vec![0.0, 1.0], Precision::F32).unwrap();
    let head = Head::from(head);
    let sparse =
        SparseRows::from_parts(vec![0, 1, 3], vec![1, 0, 2], vec![1.0, 2.0, 1.0], 3).unwrap();
    assert_eq!(head.score_sparse_rows(&sparse).values(), [3.0, 5.0, 7.0, 11.0]);
    let dense = DenseRows::from_values(vec![0.0, 1.0, 0.0, 2.0, 0.0, 1.0], 3);
    assert_eq!(head.score_dense_rows(&dense).values(), [3.0, 5.0, 7.0, 11.0]);
}
