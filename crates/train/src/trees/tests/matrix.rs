//! The planes against the rows that they were made from.

use super::*;
use crate::trees::TrainError;
use serveflow_model::forest::Test;

#[test]
fn planes_and_rows_answer_their_tests() {
    for rows in [1, 63, 64, 65, 200] {
        let (rows, _) = data(5, rows, 3);
        let matrix = BitMatrix::new(&rows, &columns(), 20).unwrap();
        for (plane, test) in matrix.tests().iter().enumerate() {
            for row in 0..rows.len() {
                let expected = test.passes(rows.words(row), rows.numbers(row));
                assert_eq!(matrix.passes(row, plane), expected);
                assert_eq!(matrix.plane(plane)[row / 64] >> (row % 64) & 1 == 1, expected);
            }
        }
        let again = matrix.same_planes(&rows).unwrap();
        assert_eq!(again.tests(), matrix.tests());
        assert!((0..matrix.tests().len()).all(|p| again.plane(p) == matrix.plane(p)));
    }
}

#[test]
fn no_plane_is_constant_or_says_what_an_earlier_one_says() {
    let shape = RowShape { words: 2, numbers: 1 };
    let mut rows = Rows::with_capacity(shape, 100);
    for row in 0..100u32 {
        let (words, numbers) = rows.push();
        // Bit 0 varies, bit 1 is the same, bit 2 its opposite, bit 3 constant, bit 4 differs late.
        let odd = row % 2;
        words[0] = odd | odd << 1 | (1 - odd) << 2 | 1 << 3 | u32::from(row == 99) << 4;
        words[1] = 1;
        numbers[0] = if odd == 1 { 7.0 } else { 3.0 };
    }
    let presence = BitAt { word: 1, bit: 0 };
    let bit = |bit| Place::Bit { value: BitAt { word: 0, bit }, presence };
    let places = (0..5).map(bit).chain([Place::Number(0), bit(0)]);
    let columns: Vec<_> = places.map(|place| Column { name: String::new(), place }).collect();
    let matrix = BitMatrix::new(&rows, &columns, 255).unwrap();
    let kept = [0, 4].map(|bit| Test::Bit(BitAt { word: 0, bit }));
    assert_eq!(matrix.tests(), kept);
    assert_eq!(matrix.sources(), [0..1, 1..2]);
}

#[test]
fn a_number_is_one_source_and_each_bit_its_own() {
    let (rows, _) = data(6, 300, 3);
    let matrix = BitMatrix::new(&rows, &columns(), 255).unwrap();
    let covered: Vec<usize> = matrix.sources().iter().cloned().flatten().collect();
    assert!(covered.into_iter().eq(0..matrix.tests().len()));
    let numbers = matrix.sources().iter().filter(|planes| planes.len() > 1).count();
    assert_eq!(numbers, 2);
}

#[test]
fn what_cannot_be_learned_from_is_refused() {
    let (rows, labels) = data(7, 10, 2);
    let none = Rows::with_capacity(SHAPE, 0);
    assert_eq!(BitMatrix::new(&none, &columns(), 9).unwrap_err(), TrainError::Rows { found: 0 });
    let outside = Column { name: "far".into(), place: Place::Number(2) };
    let refused = BitMatrix::new(&rows, &[outside], 9).unwrap_err();
    assert_eq!(refused, TrainError::Column { name: "far".into() });
    let matrix = BitMatrix::new(&rows, &columns(), 9).unwrap();
    let other = Rows::with_capacity(RowShape::default(), 0);
    assert!(matrix.same_planes(&other).is_err());
    let refused = |labels: Vec<u16>, weights, classes| {
        TrainSet::new(matrix.clone(), labels, weights, classes).unwrap_err()
    };
    let length = |what, found| TrainError::Length { what, expected: 10, found };
    assert_eq!(refused(vec![0; 9], vec![], 2), length("labels", 9));
    assert_eq!(refused(labels.clone(), vec![1.0], 2), length("weights", 1));
    let label = TrainError::Label { row: 0, label: 5, classes: 2 };
    assert_eq!(refused(vec![5; 10], vec![], 2), label);
    assert_eq!(refused(vec![0; 10], vec![-1.0; 10], 2), TrainError::Weight { row: 0 });
    assert_eq!(refused(vec![0; 10], vec![0.0; 10], 2), TrainError::NoWeight);
    assert_eq!(refused(vec![0; 10], vec![], 0), TrainError::Classes { found: 0 });
}
