use super::*;
use crate::random::Random;

/// Owned lists of an outcome.
#[derive(Clone, Default)]
struct Flows {
    truth: Vec<u16>,
    slow: Vec<u16>,
    cascade: Vec<u16>,
}

impl Flows {
    fn outcome(&self, classes: usize) -> PairedPredictions<'_> {
        PairedPredictions { truth: &self.truth, slow: &self.slow, cascade: &self.cascade, classes }
    }

    fn add(&mut self, truth: u16, slow: u16, cascade: u16) {
        self.truth.push(truth);
        self.slow.push(slow);
        self.cascade.push(cascade);
    }

    /// Two classes, with chances of a loss and of a gain.
    fn draw(random: &mut Random, flows: usize, loss: f64, gain: f64) -> Self {
        let mut all = Self::default();
        for _ in 0..flows {
            let (truth, at) = (random.below(2) as u16, random.share());
            match at {
                at if at < loss => all.add(truth, truth, 1 - truth),
                at if at < loss + gain => all.add(truth, 1 - truth, truth),
                _ => all.add(truth, truth, truth),
            }
        }
        all
    }
}

/// Hoeffding and Bentkus (Bates and others 2021) on the loss mapped to 0 to 1.
fn hoeffding_bentkus(losses: i64, gains: i64, flows: i64, tolerated: f64) -> f64 {
    let n = flows as f64;
    let (mean, bound) =
        (f64::midpoint(1.0, (losses - gains) as f64 / n), f64::midpoint(1.0, tolerated));
    let mean = mean.min(bound);
    let entropy = mean * (mean / bound).ln() + (1.0 - mean) * ((1.0 - mean) / (1.0 - bound)).ln();
    let hoeffding = (-n * entropy).exp();
    let bentkus =
        std::f64::consts::E * binomial::at_most((n * mean - 1e-9).ceil() as i64, flows, bound);
    hoeffding.min(bentkus).min(1.0)
}

/// Waudby-Smith and Ramdas' capital process with predictable bets on shuffled flows.
fn betting(losses: i64, gains: i64, flows: i64, tolerated: f64, level: f64) -> f64 {
    let value = |flow: i64| match flow {
        flow if flow < losses => 1.0,
        flow if flow < losses + gains => -1.0,
        _ => 0.0f64,
    };
    let mut values: Vec<f64> = (0..flows).map(value).collect();
    Random::new(&[7]).choose(&mut values, flows as usize);
    let (mut capital, mut best, mut sum, mut squares) = (1.0f64, 1.0f64, 0.0, 0.25);
    for (seen, value) in values.into_iter().enumerate() {
        let count = seen as f64 + 1.0;
        let bet = (2.0 * (1.0 / level).ln() / (flows as f64 * squares / count)).sqrt();
        capital *= 1.0 + bet.min(0.75 / (1.0 - tolerated)) * (tolerated - value);
        best = best.max(capital);
        sum += value;
        squares += (value - sum / (count + 1.0)).powi(2);
    }
    1.0 / best
}

fn counts(outcome: &PairedPredictions<'_>) -> (i64, i64, i64) {
    match Evidence::new(Loss::Accuracy, outcome) {
        Evidence::Accuracy(counts) => (counts.losses, counts.gains, counts.flows),
        Evidence::MacroF1(_) => unreachable!("evidence of the loss that was asked for"),
    }
}

/// Most of `draws` events of a chance that are seen but for one time in a thousand or so.
fn plausible(draws: usize, chance: f64) -> usize {
    let n = draws as f64;
    (n * chance + 3.1 * (n * chance * (1.0 - chance)).sqrt()) as usize
}

#[test]
fn accuracy_p_values_are_super_uniform_at_the_boundary() {
    let mut random = Random::new(&[1]);
    for (flows, loss, gain) in [(300, 0.02, 0.01), (50, 0.3, 0.1), (400, 0.05, 0.0), (20, 0.5, 0.5)]
    {
        let draws = 400;
        let ps: Vec<f64> = (0..draws)
            .map(|_| {
                let drawn = Flows::draw(&mut random, flows, loss, gain);
                p_value(Loss::Accuracy, loss - gain, &drawn.outcome(2))
            })
            .collect();
        for level in [0.02, 0.05, 0.1, 0.2, 0.5] {
            let below = ps.iter().filter(|&&p| p <= level).count();
            assert!(
                below <= plausible(draws, level),
                "{below} at {level} of {flows} {loss} {gain}"
            );
        }
        // A test that never refutes would pass, too.
        assert!(ps.iter().filter(|&&p| p <= 0.5).count() > draws / 10, "{flows} {loss} {gain}");
    }
}

/// A law of flows for which all figures are known: `chances[truth][slow][cascade]`.
struct Law {
    classes: usize,
    chances: Vec<f64>,
}

impl Law {
    /// Classes of uneven size; the slow stage errs in one of 12 flows, the cascade a little more.
    fn new(classes: usize) -> Self {
        let mut chances = vec![0.0; classes * classes * classes];
        let sizes: f64 = (0..classes).map(|class| 1.0 / (1.0 + class as f64)).sum();
        for truth in 0..classes {
            let size = 1.0 / (1.0 + truth as f64) / sizes;
            let other = (truth + 1) % classes;
            let mut set = |slow: usize, cascade: usize, chance: f64| {
                chances[(truth * classes + slow) * classes + cascade] = size * chance;
            };
            set(truth, truth, 0.89);
            set(truth, other, 0.03);
            set(other, truth, 0.01);
            set(other, other, 0.07);
        }
        Self { classes, chances }
    }

    fn draw(&self, random: &mut Random, flows: usize) -> Flows {
        let mut all = Flows::default();
        for _ in 0..flows {
            let mut left = random.share();
            let picked = self.chances.iter().position(|chance| {
                left -= chance;
                left < 0.0
            });
            let (at, k) = (picked.unwrap_or(0), self.classes);
            all.add((at / k / k) as u16, (at / k % k) as u16, (at % k) as u16);
        }
        all
    }

    /// True loss of F1 of each class.
    fn f1_losses(&self) -> Vec<f64> {
        let k = self.classes;
        let sum = |counted: &dyn Fn(usize, usize, usize) -> bool| -> f64 {
            let all = self.chances.iter().enumerate();
            all.filter(|(at, _)| counted(at / k / k, at / k % k, at % k)).map(|(_, c)| c).sum()
        };
        (0..k)
            .map(|class| {
                let all = sum(&|truth, _, _| truth == class);
                let slow = sum(&|t, s, _| t == class && s == class) * 2.0
                    / (all + sum(&|_, s, _| s == class));
                let cascade = sum(&|t, _, c| t == class && c == class) * 2.0
                    / (all + sum(&|_, _, c| c == class));
                slow - cascade
            })
            .collect()
    }
}

#[test]
fn macro_f1_p_values_are_super_uniform_at_the_boundary() {
    let mut random = Random::new(&[2]);
    for (classes, flows) in [(2, 400), (4, 1_500)] {
        let law = Law::new(classes);
        let losses = law.f1_losses();
        let mean = losses.iter().sum::<f64>() / classes as f64;
        let draws = 300;
        let (mut whole, mut single) = (0, vec![0; classes]);
        for _ in 0..draws {
            let drawn = law.draw(&mut random, flows);
            whole += usize::from(p_value(Loss::MacroF1, mean, &drawn.outcome(classes)) <= 0.2);
            let Evidence::MacroF1(all) = Evidence::new(Loss::MacroF1, &drawn.outcome(classes))
            else {
                unreachable!("evidence of the loss that was asked for")
            };
            for (class, counts) in all.iter().enumerate() {
                single[class] += usize::from(counts.bound(0.2) < losses[class]);
            }
        }
        println!("{classes} classes: {whole} of {draws}, single {single:?}");
        assert!(whole <= plausible(draws, 0.2), "{whole} of {draws}");
        assert!(single.iter().all(|&low| low <= plausible(draws, 0.2)), "{single:?}");
        assert!(single.iter().any(|&low| low > 0), "the bounds are within reach of the truth");
    }
}

#[test]
fn the_sign_of_the_class_variable_is_that_of_the_loss_over_the_allotment() {
    let mut random = Random::new(&[3]);
    for _ in 0..2_000 {
        let counts: [u32; 8] = std::array::from_fn(|_| random.below(9) as u32);
        let sum = |mask: usize| -> f64 {
            let all = (0..8).filter(|pattern| pattern & mask == mask);
            all.map(|pattern| f64::from(counts[pattern])).sum()
        };
        if sum(1) == 0.0 {
            continue;
        }
        let slow = 2.0 * sum(3) / (sum(1) + sum(2));
        let cascade = 2.0 * sum(5) / (sum(1) + sum(4));
        let a = random.share();
        let total: f64 =
            (0..8).map(|at| f64::from(counts[at]) * macro_f1::value(at, slow, a)).sum();
        let expected = (slow - cascade - a) * (sum(1) + sum(4));
        assert!((total - expected).abs() < 1e-9, "{counts:?}: {total} against {expected}");
        for at in 0..8 {
            assert!(macro_f1::value(at, slow, a) <= 2.0 - slow - a + 1e-12);
        }
    }
}

/// A pool with a path: the harder a flow, the later it stops being escalated.
struct Path {
    truth: Vec<u16>,
    slow: Vec<u16>,
    /// Answers of each operating point, from safe to aggressive.
    points: Vec<Vec<u16>>,
}

const CLASSES: usize = 4;

impl Path {
    fn draw(random: &mut Random, flows: usize, steps: usize) -> Self {
        let mut path = Self { truth: vec![], slow: vec![], points: vec![vec![]; steps] };
        for _ in 0..flows {
            let truth = [0, 0, 0, 1, 1, 2, 2, 3][random.below(8)];
            let wrong = |random: &mut Random| ((truth + 1 + random.below(3)) % CLASSES) as u16;
            let hard = random.share();
            let slow = if random.share() < 0.1 * hard { wrong(random) } else { truth as u16 };
            let fast =
                if random.share() < 0.6 * hard.powi(3) { wrong(random) } else { truth as u16 };
            path.truth.push(truth as u16);
            path.slow.push(slow);
            for (step, point) in path.points.iter_mut().enumerate() {
                let kept = hard < step as f64 / (steps - 1) as f64;
                point.push(if kept { fast } else { slow });
            }
        }
        path
    }

    fn part(&self, flows: &[usize]) -> Self {
        let pick = |all: &Vec<u16>| flows.iter().map(|&flow| all[flow]).collect();
        Self {
            truth: pick(&self.truth),
            slow: pick(&self.slow),
            points: self.points.iter().map(pick).collect(),
        }
    }

    fn outcome(&self, point: usize) -> PairedPredictions<'_> {
        let cascade = &self.points[point];
        PairedPredictions { truth: &self.truth, slow: &self.slow, cascade, classes: CLASSES }
    }

    fn grant(&self, guarantee: &Guarantee) -> Option<usize> {
        fixed_sequence(guarantee, (0..self.points.len()).map(|point| self.outcome(point)))
    }
}

/// Standard error of a measured loss, by bootstrap.
fn standard_error(random: &mut Random, loss: Loss, path: &Path, point: usize) -> f64 {
    let flows = path.truth.len();
    let losses: Vec<f64> = (0..40)
        .map(|_| {
            let drawn: Vec<usize> = (0..flows).map(|_| random.below(flows)).collect();
            path.part(&drawn).outcome(point).loss(loss)
        })
        .collect();
    let mean = losses.iter().sum::<f64>() / losses.len() as f64;
    (losses.iter().map(|loss| (loss - mean).powi(2)).sum::<f64>() / 39.0).sqrt()
}

/// The other half has luck of its own, so a loss there counts as over the tolerated one when it is
/// by 1.645 standard errors, which luck alone does to one in twenty points at the boundary. Broken
/// guarantees and such luck together are at most a tenth and a twentieth of the splits.
#[test]
fn over_random_halves_the_promise_is_rarely_broken() {
    let mut random = Random::new(&[4]);
    let pool = Path::draw(&mut random, 8_000, 21);
    for (loss, tolerated) in [(Loss::Accuracy, 0.02), (Loss::MacroF1, 0.06)] {
        let guarantee = Guarantee { loss, tolerated, confidence: 0.9 };
        let (mut broken, mut over, mut granted, mut points) = (0, 0, 0, 0);
        for _ in 0..100 {
            let mut flows: Vec<usize> = (0..8_000).collect();
            random.choose(&mut flows, 4_000);
            let Some(point) = pool.part(&flows[..4_000]).grant(&guarantee) else { continue };
            let other = pool.part(&flows[4_000..]);
            let excess = other.outcome(point).loss(loss) - tolerated;
            over += usize::from(excess > 0.0);
            broken +=
                usize::from(excess > 1.645 * standard_error(&mut random, loss, &other, point));
            granted += 1;
            points += point;
        }
        println!("{loss:?}: granted {granted}, points {points}, over {over}, broken {broken}");
        assert!(granted == 100 && points > granted, "the path is walked beyond its first point");
        assert!(broken <= 15, "{broken} of {granted}");
    }
}

/// The same against the law itself, which has no luck: a very large draw stands for it.
#[test]
fn over_fresh_draws_the_true_loss_rarely_exceeds_the_tolerated() {
    let mut random = Random::new(&[5]);
    let law = Path::draw(&mut random, 400_000, 21);
    for (loss, tolerated) in [(Loss::Accuracy, 0.02), (Loss::MacroF1, 0.08)] {
        let guarantee = Guarantee { loss, tolerated, confidence: 0.9 };
        let truth: Vec<f64> = (0..21).map(|point| law.outcome(point).loss(loss)).collect();
        let (mut broken, mut points) = (0, 0);
        for _ in 0..200 {
            let point = Path::draw(&mut random, 1_500, 21).grant(&guarantee);
            broken += usize::from(point.is_some_and(|point| truth[point] > tolerated));
            points += point.unwrap_or(0);
        }
        println!("{loss:?}: broken {broken} of 200, mean point {}", points as f64 / 200.0);
        assert!(broken <= plausible(200, 0.1), "{broken} of 200");
        assert!(points > 200, "the path is walked beyond its first point");
    }
}

#[test]
fn rare_disagreements_are_granted_more_often_than_by_other_bounds() {
    let mut random = Random::new(&[6]);
    let (mut exact, mut bets, mut bentkus) = (0, 0, 0);
    for _ in 0..300 {
        let drawn = Flows::draw(&mut random, 1_000, 0.005, 0.005);
        let (losses, gains, flows) = counts(&drawn.outcome(2));
        let guarantee = Guarantee { loss: Loss::Accuracy, tolerated: 0.01, confidence: 0.9 };
        exact += usize::from(fixed_sequence(&guarantee, [drawn.outcome(2)].into_iter()).is_some());
        bets += usize::from(betting(losses, gains, flows, 0.01, 0.1) <= 0.1);
        bentkus += usize::from(hoeffding_bentkus(losses, gains, flows, 0.01) <= 0.1);
    }
    println!("of 300: exact {exact}, betting {bets}, Hoeffding-Bentkus {bentkus}");
    assert!(exact >= 240, "{exact} of 300 granted");
    assert!(exact >= bets && exact >= bentkus, "{exact}, {bets}, {bentkus}");
}

#[test]
fn a_granted_tolerance_is_granted_when_it_is_larger() {
    let mut random = Random::new(&[8]);
    for round in 0..12 {
        let (loss, gain) = (0.1 * random.share(), 0.1 * random.share());
        let drawn = Flows::draw(&mut random, 30 + 40 * round, loss, gain);
        let outcome = drawn.outcome(2);
        for kind in [Loss::Accuracy, Loss::MacroF1] {
            let ps: Vec<f64> =
                (0..=20).map(|at| p_value(kind, f64::from(at) / 20.0, &outcome)).collect();
            assert!(ps.windows(2).all(|pair| pair[1] <= pair[0] + 1e-9), "{ps:?}");
            let least = smallest_tolerated(kind, 0.9, &outcome);
            assert!(least >= outcome.loss(kind), "not below the measured loss");
            assert!(p_value(kind, least + 1e-6, &outcome) <= 0.1 + 1e-6);
            assert!(least == 0.0 || p_value(kind, least - 1e-6, &outcome) > 0.1 - 1e-6);
            assert!(least <= smallest_tolerated(kind, 0.99, &outcome));
        }
    }
}

#[test]
fn the_edges_promise_nothing_that_is_not_known() {
    let empty = Flows::default();
    let one = Flows { truth: vec![0], slow: vec![0], cascade: vec![0] };
    for loss in [Loss::Accuracy, Loss::MacroF1] {
        for (flows, classes) in [(&empty, 2), (&empty, 0), (&one, 2)] {
            let outcome = flows.outcome(classes);
            assert_eq!(outcome.loss(loss), 0.0);
            assert!(p_value(loss, 0.05, &outcome) > 0.9);
            assert_eq!(p_value(loss, 1.0, &outcome), 0.0, "no loss is over 1");
            assert_eq!(p_value(loss, -0.1, &outcome), 1.0);
            let granted = |tolerated, confidence| {
                let guarantee = Guarantee { loss, tolerated, confidence };
                fixed_sequence(&guarantee, [outcome, outcome].into_iter())
            };
            assert_eq!(granted(0.0, 0.0), Some(1), "confidence 0 guarantees nothing");
            assert_eq!((granted(0.9, 1.0), granted(1.0, 1.0)), (None, Some(1)));
            assert_eq!(granted(0.05, f64::NAN), None);
            assert_eq!(granted(0.05, 0.9), None, "too few flows");
            assert_eq!(
                fixed_sequence(
                    &Guarantee { loss, tolerated: 1.0, confidence: 0.5 },
                    std::iter::empty(),
                ),
                None
            );
            assert!(smallest_tolerated(loss, 0.9, &outcome) > 0.5);
        }
        let same = Flows { truth: vec![0; 2_000], slow: vec![0; 2_000], cascade: vec![0; 2_000] };
        assert!(p_value(loss, 0.0, &same.outcome(1)) > 0.9, "agreement does not prove equality");
        let least = smallest_tolerated(loss, 0.9, &same.outcome(1));
        println!("all of 2000 agree: {loss:?} {least}");
        assert!((0.000_5..0.003).contains(&least), "about ln(10) / 2000 flows: {least}");
    }
}

#[test]
fn a_path_ends_before_the_first_point_that_fails() {
    let mut random = Random::new(&[9]);
    let good = Flows::draw(&mut random, 1_000, 0.0, 0.0);
    let bad = Flows::draw(&mut random, 1_000, 0.2, 0.0);
    let guarantee = Guarantee { loss: Loss::Accuracy, tolerated: 0.02, confidence: 0.9 };
    let end =
        |path: &[&Flows]| fixed_sequence(&guarantee, path.iter().map(|flows| flows.outcome(2)));
    assert_eq!(end(&[&good, &good, &bad, &good]), Some(1), "what comes after a failure is not had");
    assert_eq!(end(&[&bad, &good]), None);
    assert_eq!(end(&[&good]), Some(0));
}

#[test]
fn an_absent_class_is_left_out_of_the_guarantee() {
    let flows = Flows { truth: vec![0; 3_000], slow: vec![0; 3_000], cascade: vec![0; 3_000] };
    let (one, three) = (flows.outcome(1), flows.outcome(3));
    let least = |outcome| smallest_tolerated(Loss::MacroF1, 0.9, outcome);
    assert!(least(&one) < 0.003 && least(&three) < 0.004);
    assert!(least(&three) > least(&one), "the level is shared among all classes that might occur");
}
