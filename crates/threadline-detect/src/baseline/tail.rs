//! How improbable a count is: tails of the negative binomial and of the beta-binomial distribution.
//!
//! Everything is told as *surprise*, −log₁₀ of the probability: 3 is one in a thousand. Surprise adds up like digits,
//! and does not end where floating-point numbers do.

/// No surprise is told greater than this: there is no use in telling 10⁻³⁰⁰ from less.
pub const SURPRISE_MAX: f64 = 300.0;
/// Terms of a tail that are added one by one; the rest is bounded as a geometric series.
const TERMS_MAX: usize = 4096;

/// ln Γ(x) for x > 0 (Lanczos, g = 7, nine terms: fifteen digits).
pub fn ln_gamma(x: f64) -> f64 {
    const COEFFICIENTS: [f64; 8] = [
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    if x < 0.5 {
        let pi = std::f64::consts::PI;
        return (pi / (pi * x).sin()).ln() - ln_gamma(1.0 - x);
    }
    let x = x - 1.0;
    let series = COEFFICIENTS.iter().enumerate();
    let sum = series.fold(0.999_999_999_999_809_9, |sum, (index, term)| sum + term / (x + index as f64 + 1.0));
    let t = x + 7.5;
    0.5 * (2.0 * std::f64::consts::PI).ln() + (x + 0.5) * t.ln() - t + sum.ln()
}

/// A count whose variance is `dispersion` times its mean: Poisson where that is 1, negative binomial above.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Count {
    /// Mean; above 0.
    pub mean: f64,
    /// Variance over mean; 1 or more.
    pub dispersion: f64,
}

impl Count {
    /// Size of the negative binomial; `None` where it is as good as Poisson.
    fn size(self) -> Option<f64> {
        let excess = self.dispersion - 1.0;
        (excess > 1e-6).then(|| self.mean / excess)
    }

    fn ln_probability(self, x: f64) -> f64 {
        match self.size() {
            None => x * self.mean.ln() - self.mean - ln_gamma(x + 1.0),
            Some(size) => {
                let p = self.mean / (self.mean + size);
                ln_gamma(x + size) - ln_gamma(size) - ln_gamma(x + 1.0) + size * (1.0 - p).ln() + x * p.ln()
            }
        }
    }

    /// P(x + 1) / P(x).
    fn step(self, x: f64) -> f64 {
        match self.size() {
            None => self.mean / (x + 1.0),
            Some(size) => (x + size) / (x + 1.0) * self.mean / (self.mean + size),
        }
    }

    /// How surprising it is that there are so many or more.
    pub fn surprise_above(self, x: f64) -> f64 {
        if x <= self.mean {
            return 0.0;
        }
        surprise(self.ln_probability(x), f64::INFINITY, |term| self.step(x + term))
    }

    /// How surprising it is that there are so few or fewer.
    pub fn surprise_below(self, x: f64) -> f64 {
        if x >= self.mean || x < 0.0 {
            return 0.0;
        }
        surprise(self.ln_probability(x), x, |term| 1.0 / self.step((x - term - 1.0).max(0.0)))
    }

    /// The range outside of which a count is as surprising as that, on either side.
    pub fn usual(self, surprise: f64) -> (f64, f64) {
        let spread = (self.dispersion * self.mean).sqrt() + 1.0;
        let above = bisect(self.mean, self.mean + 40.0 * spread, |x| self.surprise_above(x.ceil()) < surprise);
        let below = bisect(self.mean, -1.0, |x| x >= 0.0 && self.surprise_below(x.floor()) < surprise);
        (below.max(0.0).ceil(), above.floor())
    }
}

/// The last place, going from `good` to `bad`, where something holds.
fn bisect(mut good: f64, mut bad: f64, holds: impl Fn(f64) -> bool) -> f64 {
    for _ in 0..60 {
        let middle = 0.5 * (good + bad);
        if holds(middle) { good = middle } else { bad = middle }
    }
    good
}

/// So many of a number, where the share itself varies: beta-binomial.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    /// Mean share; between 0 and 1, both excluded.
    pub mean: f64,
    /// How much the share varies: 0 = not at all (binomial), towards 1 = it is nearly nothing or nearly all.
    pub correlation: f64,
}

impl Share {
    /// How surprising `part` or more of `whole` is.
    pub fn surprise_above(self, part: f64, whole: f64) -> f64 {
        if part <= self.mean * whole || whole < 1.0 {
            return 0.0;
        }
        let strength = 1.0 / self.correlation.clamp(1e-6, 0.999) - 1.0;
        let (alpha, beta) = (self.mean * strength, (1.0 - self.mean) * strength);
        let ln_beta = |a: f64, b: f64| ln_gamma(a) + ln_gamma(b) - ln_gamma(a + b);
        let ln_choose = ln_gamma(whole + 1.0) - ln_gamma(part + 1.0) - ln_gamma(whole - part + 1.0);
        let first = ln_choose + ln_beta(part + alpha, whole - part + beta) - ln_beta(alpha, beta);
        surprise(first, whole - part, |term| {
            let x = part + term;
            let left = whole - x;
            left / (x + 1.0) * (x + alpha) / (left - 1.0 + beta).max(1e-12)
        })
    }
}

/// Surprise of a tail: its first term, how many follow, and the ratio of a term to the one before.
fn surprise(ln_first: f64, following: f64, ratio: impl Fn(f64) -> f64) -> f64 {
    let (mut sum, mut term) = (1.0, 1.0);
    let mut index = 0.0;
    for _ in 0..TERMS_MAX {
        if index >= following || term < sum * 1e-12 {
            term = 0.0;
            break;
        }
        term *= ratio(index);
        sum += term;
        index += 1.0;
    }
    if term > 0.0 && index < following {
        let next = ratio(index);
        if next < 1.0 {
            sum += term * next / (1.0 - next);
        }
    }
    let ln_tail = (ln_first + sum.ln()).min(0.0);
    (-ln_tail / std::f64::consts::LN_10).clamp(0.0, SURPRISE_MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_logarithm_of_the_factorial() {
        let mut exact = 0.0;
        for n in 1..170u32 {
            exact += f64::from(n).ln();
            let found = ln_gamma(f64::from(n) + 1.0);
            assert!((found - exact).abs() < 1e-10 * exact.max(1.0), "{n}: {found} for {exact}");
        }
        assert!((ln_gamma(0.5) - std::f64::consts::PI.sqrt().ln()).abs() < 1e-12);
    }

    #[test]
    fn tails_as_tables_have_them() {
        let near = |found: f64, want: f64| assert!((found - want).abs() < 1e-4, "{found} for {want}");
        // Poisson(4): P(X >= 10) = 0.008132, P(X <= 0) = 0.018316.
        near(Count { mean: 4.0, dispersion: 1.0 }.surprise_above(10.0), -0.008_132_243_f64.log10());
        near(Count { mean: 4.0, dispersion: 1.0 }.surprise_below(0.0), 4.0 / std::f64::consts::LN_10);
        // Negative binomial of size 1 is geometric: P(X >= x) = (4/5)^x.
        near(Count { mean: 4.0, dispersion: 5.0 }.surprise_above(10.0), -10.0 * 0.8f64.log10());
        // Beta-binomial with alpha = beta = 1 is uniform over 0..=9: P(X >= 8) = 2/10.
        near(Share { mean: 0.5, correlation: 1.0 / 3.0 }.surprise_above(8.0, 9.0), -0.2f64.log10());
        // Without correlation it is binomial: P(X >= 9 of 10 at 1/2) = 11/1024.
        let found = Share { mean: 0.5, correlation: 0.0 }.surprise_above(9.0, 10.0);
        assert!((found + (11.0f64 / 1024.0).log10()).abs() < 1e-3, "{found}");
    }

    proptest! {
        #[test]
        fn tails_sum_up(mean in 0.05f64..200.0, dispersion in 1.0f64..20.0, x in 0u32..600) {
            let count = Count { mean, dispersion };
            let x = f64::from(x);
            let probability = |x: f64| count.ln_probability(x).exp();
            let direct: f64 = (0..30_000u32).map(f64::from).filter(|k| *k >= x).map(probability).sum();
            let found = count.surprise_above(x);
            if x > mean && direct > 1e-9 {
                prop_assert!((found + direct.log10()).abs() < 1e-3, "{found} for {}", -direct.log10());
            }
            let direct: f64 = (0..=600u32).map(f64::from).filter(|k| *k <= x).map(probability).sum();
            let found = count.surprise_below(x);
            if x < mean && direct > 1e-12 {
                prop_assert!((found + direct.log10()).abs() < 1e-3, "{found} for {}", -direct.log10());
            }
        }

        #[test]
        fn more_is_more_surprising(mean in 0.001f64..1e7, dispersion in 1.0f64..1e4, a in 0u32..1_000_000, b in 0u32..1_000_000) {
            let count = Count { mean, dispersion };
            let (a, b) = (f64::from(a.min(b)), f64::from(a.max(b)));
            // The bounded rest of long tails costs a little.
            prop_assert!(count.surprise_above(a) <= count.surprise_above(b) + 0.05);
            prop_assert!(count.surprise_below(a) + 0.05 >= count.surprise_below(b));
        }

        #[test]
        fn the_usual_range_is_around_the_mean(mean in 0.01f64..1e5, dispersion in 1.0f64..100.0) {
            let (low, high) = Count { mean, dispersion }.usual(2.0);
            prop_assert!(low <= mean && mean <= high + 1.0, "{low}–{high} for {mean}");
            let beyond = Count { mean, dispersion }.surprise_above(high + 2.0);
            prop_assert!(beyond > 1.9, "{}", beyond);
        }
    }
}
