use super::*;
use crate::random::Random;

const CLASSES: usize = 4;

/// Flows whose true probabilities are known, told with a sureness other than the true one: the
/// stated are the true ones to the power of `sharpness`.
fn draw(seed: u64, flows: usize, sharpness: f64) -> (Vec<f32>, Vec<u16>) {
    let mut random = Random::new(&[seed]);
    let (mut scores, mut truth) = (Vec::new(), Vec::new());
    for _ in 0..flows {
        let logits: [f64; CLASSES] = std::array::from_fn(|_| 3.0 * random.share());
        let weights = |power: f64| logits.map(|logit| (logit * power).exp());
        let mut left = random.share() * weights(1.0).iter().sum::<f64>();
        let class = weights(1.0).iter().position(|weight| {
            left -= weight;
            left < 0.0
        });
        truth.push(class.unwrap_or(0) as u16);
        let told = weights(sharpness);
        scores.extend(told.map(|weight| (weight / told.iter().sum::<f64>()) as f32));
    }
    (scores, truth)
}

fn near(left: f64, right: f64, within: f64) {
    assert!((left - right).abs() <= within, "{left} against {right}");
}

#[test]
fn figures_match_a_worked_example() {
    let scores = [0.8, 0.2, 0.6, 0.4, 0.0, 1.0f32];
    let truth = [0, 1, 0];
    let found = Reliability::judge((&[], &[]), (&scores, &truth), 2);
    // Confidence 0.8 right, 0.6 wrong, 1 wrong: each in a bin of its own.
    near(found.ece_raw, (0.2 + 0.6 + 1.0) / 3.0, 1e-7);
    near(found.brier_raw, (2.0 * 0.04 + 2.0 * 0.36 + 2.0) / 3.0, 1e-6);
    near(found.nll_raw, -(0.8f64.ln() + 0.4f64.ln() + FLOOR.ln()) / 3.0, 1e-6);
    assert_eq!((found.flows, found.temperature, found.bins.len()), (3, 1.0, 3));
    assert_eq!(found.ece_isotonic, found.ece_raw, "nothing was fitted");
}

#[test]
fn probabilities_that_are_true_stay_and_boasts_are_found_out() {
    let held = draw(2, 20_000, 1.0);
    let honest = Reliability::judge(view(&draw(1, 20_000, 1.0)), view(&held), CLASSES);
    println!("{honest:?}");
    near(honest.temperature, 1.0, 0.05);
    assert!(honest.ece_raw < 0.015 && honest.ece_isotonic < 0.015);
    for sharpness in [3.0, 0.5] {
        let fit = draw(3, 20_000, sharpness);
        let held = draw(4, 20_000, sharpness);
        let found = Reliability::judge(view(&fit), view(&held), CLASSES);
        println!("{sharpness}: {found:?}");
        near(found.temperature, sharpness, 0.05 * sharpness);
        assert!(found.ece_raw > 0.1, "the fault is seen");
        assert!(found.ece_temperature < 0.015 && found.ece_isotonic < 0.015, "and mended");
        assert!(found.nll_temperature < found.nll_raw);
        assert!(found.brier_temperature < found.brier_raw);
    }
}

fn view(flows: &(Vec<f32>, Vec<u16>)) -> Scored<'_> {
    (&flows.0, &flows.1)
}

#[test]
fn the_temperature_is_the_best_of_a_fine_grid() {
    for (seed, sharpness) in [(5, 1.7), (6, 0.8)] {
        let (scores, truth) = draw(seed, 300, sharpness);
        let loss = |t: f64| log_loss(&scale(&scores, CLASSES, t), &truth, CLASSES);
        let found = temperature((&scores, &truth), CLASSES);
        let best = (0..=600).map(|at| 0.05 * 400f64.powf(f64::from(at) / 600.0)).map(loss);
        let best = best.fold(f64::INFINITY, f64::min);
        assert!(loss(found) <= best + 1e-12, "{} against {best}", loss(found));
        assert!(loss(found) <= loss(1.0));
    }
}

/// The isotonic fit by its min-max formula: the least over ends of the greatest over starts of the
/// mean between them.
fn min_max(sorted: &[(f64, bool)], at: usize) -> f64 {
    let mean = |from: usize, to: usize| {
        let right = sorted[from..=to].iter().filter(|answer| answer.1).count();
        right as f64 / (to + 1 - from) as f64
    };
    let greatest = |to: usize| (0..=at).map(|from| mean(from, to)).fold(0.0, f64::max);
    (at..sorted.len()).map(greatest).fold(1.0, f64::min)
}

#[test]
fn pooling_violators_matches_the_min_max_formula() {
    let mut random = Random::new(&[7]);
    for flows in [1, 2, 9, 60] {
        let mut answers: Vec<(f64, bool)> = (0..flows)
            .map(|_| {
                let confidence = random.share();
                (confidence, random.share() < confidence * 0.8)
            })
            .collect();
        let fitted = Isotonic::fit(answers.clone());
        answers.sort_by(|a, b| a.0.total_cmp(&b.0));
        for (at, answer) in answers.iter().enumerate() {
            near(fitted.at(answer.0), min_max(&answers, at), 1e-12);
        }
        assert_eq!(fitted.at(0.0), fitted.at(answers[0].0), "below all is the first step");
    }
}

#[test]
fn equal_confidences_are_one_point() {
    let answers = vec![(0.5, true), (0.7, false), (0.5, false), (0.7, true), (0.7, true)];
    let fitted = Isotonic::fit(answers.clone());
    near(fitted.at(0.5), 0.5, 1e-12);
    near(fitted.at(0.9), 2.0 / 3.0, 1e-12);
    let made = bins(answers);
    assert_eq!(made.iter().map(|bin| bin.flows).collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn bins_have_equal_mass_and_the_order_of_flows_does_not_matter() {
    let mut random = Random::new(&[8]);
    let mut answers: Vec<(f64, bool)> =
        (0..1_000).map(|_| (random.share(), random.share() < 0.5)).collect();
    let made = bins(answers.clone());
    assert_eq!(made.len(), BINS);
    assert!(made.iter().all(|bin| (66..=67).contains(&bin.flows)));
    assert!(made.windows(2).all(|pair| pair[0].confidence < pair[1].confidence));
    // The twin: cut the sorted list by hand.
    let before = calibration_error(&made);
    answers.sort_by(|a, b| a.0.total_cmp(&b.0));
    let twin: f64 = (0..BINS)
        .map(|bin| &answers[1_000 * bin / BINS..1_000 * (bin + 1) / BINS])
        .map(|part| part.iter().map(|(c, right)| c - f64::from(*right)).sum::<f64>().abs())
        .sum();
    near(before, twin / 1_000.0, 1e-12);
    answers.reverse();
    near(calibration_error(&bins(answers)), before, 1e-12);
}

#[test]
fn odd_scores_and_no_flows_are_survived() {
    let nothing = Reliability::judge((&[], &[]), (&[], &[]), 3);
    assert_eq!(nothing, Reliability { temperature: 1.0, ..Reliability::default() });
    let odd = [f32::NAN, 0.0, 0.0, 0.0, 1.0, 0.0f32];
    let found = Reliability::judge((&odd, &[1, 0, 0]), (&odd, &[1, 0, 0]), 2);
    let figures = [found.nll_raw, found.nll_temperature, found.brier_raw, found.temperature];
    assert!(figures.iter().all(|figure| figure.is_finite()), "{figures:?}");
}
