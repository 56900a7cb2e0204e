//! Axes of plots: what they show, between which values, where their ticks are.

/// How an axis is divided.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Scale {
    /// By powers of ten.
    Log,
    /// Evenly, a tick at each of so many steps.
    Linear { steps: u32 },
}

/// An axis: what it shows, between which values, and how values are spelled.
pub struct Axis {
    /// What it shows, with its unit.
    pub title: &'static str,
    scale: Scale,
    /// The least value.
    pub from: f64,
    /// The greatest value.
    pub to: f64,
    /// Writes a value.
    pub spell: fn(f64) -> String,
}

impl Axis {
    /// An axis by powers of ten that holds all these values.
    pub fn log(
        title: &'static str,
        spell: fn(f64) -> String,
        values: impl Iterator<Item = f64>,
    ) -> Self {
        let above = values.filter(|value| *value > 0.0 && value.is_finite());
        let (low, high) =
            above.fold((f64::MAX, 0.0), |(low, high), value| (value.min(low), value.max(high)));
        let (low, high) = if high > 0.0 { (low, high) } else { (1.0, 10.0) };
        let from = 10f64.powf(low.log10().floor());
        let to = 10f64.powf(high.log10().ceil()).max(from * 10.0);
        Self { title, scale: Scale::Log, from, to, spell }
    }

    /// From 0 to 100 %.
    pub fn percent(title: &'static str) -> Self {
        let spell = |share: f64| format!("{:.0}%", share * 100.0);
        Self { title, scale: Scale::Linear { steps: 5 }, from: 0.0, to: 1.0, spell }
    }

    /// An even axis in round steps that holds all these values.
    pub fn fitted(
        title: &'static str,
        spell: fn(f64) -> String,
        values: impl Iterator<Item = f64>,
    ) -> Self {
        let (low, high) = values
            .filter(|value| value.is_finite())
            .fold((f64::MAX, f64::MIN), |(low, high), value| (value.min(low), value.max(high)));
        let (low, high) = if low <= high { (low, high) } else { (0.0, 1.0) };
        let step = round_step(((high - low) / 5.0).max(high.abs() * 1e-3).max(1e-9));
        let first = (low / step + 1e-9).floor();
        let last = (high / step - 1e-9).ceil().max(first + 1.0);
        let scale = Scale::Linear { steps: (last - first) as u32 };
        Self { title, scale, from: first * step, to: last * step, spell }
    }

    /// Where a value stands, from 0 to 1.
    pub(super) fn place(&self, value: f64) -> f64 {
        let (value, from, to) = match self.scale {
            Scale::Log => (value.max(self.from).log10(), self.from.log10(), self.to.log10()),
            Scale::Linear { .. } => (value, self.from, self.to),
        };
        ((value - from) / (to - from)).clamp(0.0, 1.0)
    }

    pub(super) fn ticks(&self) -> Vec<f64> {
        match self.scale {
            Scale::Linear { steps } => {
                let step = (self.to - self.from) / f64::from(steps);
                (0..=steps).map(|at| self.from + f64::from(at) * step).collect()
            }
            Scale::Log => {
                let (first, last) =
                    (self.from.log10().round() as i32, self.to.log10().round() as i32);
                // Not so many that they run into each other.
                let step = ((last - first) / 6 + 1) as usize;
                (first..=last).step_by(step).map(|power| 10f64.powi(power)).collect()
            }
        }
    }
}

/// The next 1, 2 or 5 of a power of ten.
fn round_step(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    let steps = [1.0, 2.0, 5.0].map(|step| step * power);
    steps.into_iter().find(|step| *step >= least * 0.999).unwrap_or(power * 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stand_where_the_axis_says() {
        let axis = Axis::log("t", |v| v.to_string(), [3.0, 0.0, 2000.0].into_iter());
        assert_eq!((axis.from, axis.to), (1.0, 10_000.0));
        assert_eq!(axis.ticks(), [1.0, 10.0, 100.0, 1000.0, 10_000.0]);
        assert!((axis.place(100.0) - 0.5).abs() < 1e-9);
        assert_eq!((axis.place(0.0), axis.place(1e9)), (0.0, 1.0));
        let none = Axis::log("t", |v| v.to_string(), std::iter::empty());
        assert!(none.to > none.from);
    }

    #[test]
    fn a_fitted_axis_holds_its_values_in_few_round_steps() {
        let lists: [&[f64]; 7] = [
            &[0.613, 0.957],
            &[0.97, 0.9701],
            &[0.0, 1234.0],
            &[0.5],
            &[0.0],
            &[],
            &[f64::NAN, 0.2, 0.4],
        ];
        for values in lists {
            let axis = Axis::fitted("t", |v| v.to_string(), values.iter().copied());
            let ticks = axis.ticks();
            assert!((2..=8).contains(&ticks.len()), "{values:?} {ticks:?}");
            assert!(axis.from < axis.to);
            let inside = |value: &&f64| value.is_finite();
            for value in values.iter().filter(inside) {
                assert!(axis.from <= value + 1e-6 && *value <= axis.to + 1e-6, "{values:?}");
            }
        }
    }
}
