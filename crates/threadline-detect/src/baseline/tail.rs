//! How improbable a count is: tails of the negative binomial and of the beta-binomial distribution.
//!
//! Everything is told as *surprise*, −log₁₀ of the probability: 3 is one in a thousand. Surprise adds up like digits,
//! and does not end where floating-point numbers do.

/// No surprise is told greater than this: there is no use in telling 10⁻³⁰⁰ from less.
pub const SURPRISE_MAX: f64 = 300.0;
/// Terms that are added one by one at either end of a tail; between them it is smooth, and integrated.
const TERMS_MAX: u32 = 1024;
/// What adds less than that to a tail is left out.
const NEGLIGIBLE: f64 = 1e-12;
/// Nodes and weights of the Gauss–Legendre quadrature of eight points over −1 to 1; either sign of each node.
const NODES: [(f64, f64); 4] = [
    (0.183_434_642_495_649_8, 0.362_683_783_378_362),
    (0.525_532_409_916_329, 0.313_706_645_877_887_3),
    (0.796_666_477_413_626_7, 0.222_381_034_453_374_5),
    (0.960_289_856_497_536_3, 0.101_228_536_290_376_3),
];

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

/// ln Γ(size + x) − ln Γ(size), without the loss of digits that the difference of two great numbers has.
fn ln_rising(size: f64, x: f64) -> f64 {
    if size < 1e3 {
        return ln_gamma(size + x) - ln_gamma(size);
    }
    // Stirling's series of either; what is left out is less than 10⁻¹⁸.
    let rest = |z: f64| (1.0 / 12.0 - 1.0 / (360.0 * z * z)) / z;
    (size - 0.5) * (x / size).ln_1p() + x * (size + x).ln() - x + rest(size + x) - rest(size)
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
                ln_rising(size, x) - ln_gamma(x + 1.0) - size * (self.mean / size).ln_1p() + x * p.ln()
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
        surprise(f64::INFINITY, |term| self.ln_probability(x + term), |term| self.step(x + term))
    }

    /// How surprising it is that there are so few or fewer.
    pub fn surprise_below(self, x: f64) -> f64 {
        if x >= self.mean || x < 0.0 {
            return 0.0;
        }
        let ratio = |term: f64| 1.0 / self.step((x - term - 1.0).max(0.0));
        surprise(x.floor(), |term| self.ln_probability((x - term).max(0.0)), ratio)
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
        let ln_probability = |term: f64| {
            let (part, left) = (part + term, (whole - part - term).max(0.0));
            let ln_choose = ln_gamma(whole + 1.0) - ln_gamma(part + 1.0) - ln_gamma(left + 1.0);
            ln_choose + ln_beta(part + alpha, left + beta) - ln_beta(alpha, beta)
        };
        surprise((whole - part).max(0.0).floor(), ln_probability, |term| {
            let x = part + term;
            let left = whole - x;
            left / (x + 1.0) * (x + alpha) / (left - 1.0 + beta).max(1e-12)
        })
    }
}

/// Surprise of a tail: how many terms follow the first, the logarithm of each, and the ratio of the next term to each.
///
/// A tail may rise before it falls (a mode lies below the mean), or rise at its end (a share is all or nothing): it is
/// summed up as it is, in the same way wherever it begins, so that a count further out is never less surprising.
fn surprise(following: f64, ln_term: impl Fn(f64) -> f64, ratio: impl Fn(f64) -> f64) -> f64 {
    let ln_first = ln_term(0.0);
    let sum = tail(following, |term| (ln_term(term) - ln_first).exp(), ratio);
    let ln_tail = (ln_first + sum.ln()).min(0.0);
    (-ln_tail / std::f64::consts::LN_10).clamp(0.0, SURPRISE_MAX)
}

/// The sum of all terms 0 to `following`; the first is 1.
fn tail(following: f64, at: impl Fn(f64) -> f64, ratio: impl Fn(f64) -> f64) -> f64 {
    let (mut sum, mut term) = (1.0, 1.0);
    for index in 0..TERMS_MAX {
        let index = f64::from(index);
        if index >= following || term < sum * NEGLIGIBLE {
            return sum;
        }
        term *= ratio(index);
        sum += term;
    }
    // Terms 0 to TERMS_MAX are in the sum. As many at the other end, where there is one and so many are left.
    let first = f64::from(TERMS_MAX) + 1.0;
    let mut last = following;
    if following.is_finite() {
        let mut term = at(following);
        for _ in 0..TERMS_MAX {
            if last < first {
                return sum;
            }
            sum += term;
            last -= 1.0;
            term /= ratio(last);
        }
    }
    if last < first {
        return sum;
    }
    // The middle, from either end in panels as wide as their distance from that end: whatever shape the terms have
    // there, it changes over such a distance. A sum is the integral from half a step before to half a step after.
    let (low, high) = (first - 0.5, last + 0.5);
    let middle = if high.is_finite() { 0.5 * (low + high) } else { f64::INFINITY };
    let mut from = low;
    while from < middle {
        let to = (2.0 * from).min(middle);
        let panel = integral(from, to, &at);
        sum += panel;
        if high.is_infinite() && panel < sum * NEGLIGIBLE {
            return sum;
        }
        from = to;
    }
    let mut from = following - high;
    while from < following - middle {
        let to = (2.0 * from).min(following - middle);
        sum += integral(following - to, following - from, &at);
        from = to;
    }
    sum
}

fn integral(from: f64, to: f64, at: impl Fn(f64) -> f64) -> f64 {
    let (centre, half) = (0.5 * (from + to), 0.5 * (to - from));
    let nodes =
        NODES.iter().map(|(node, weight)| weight * (at(centre - half * node) + at(centre + half * node)));
    half * nodes.sum::<f64>()
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

    /// All terms, one by one.
    fn whole_sum(terms: impl Iterator<Item = f64>) -> f64 {
        -terms.map(f64::exp).sum::<f64>().log10()
    }

    #[test]
    fn long_tails_are_summed_up_wherever_they_begin() {
        // Below the mean, above the mode: the terms rise before they fall. Then a mode of 0, a normal shape, Poisson.
        let counts =
            [(1e6, 1e4, 0.995e6), (1e6, 1e4, 0.9e6), (3e5, 2e6, 1e5), (3e5, 50.0, 2.98e5), (2e6, 1.0, 1.999e6)];
        for (mean, dispersion, x) in counts {
            let count = Count { mean, dispersion };
            let (found, want) =
                (count.surprise_below(x), whole_sum((0..=x as u32).map(|k| count.ln_probability(k.into()))));
            assert!((found - want).abs() < 1e-5, "{found} for {want} of {count:?} at {x}");
        }
        for (mean, dispersion, x) in
            [(1e5, 1e4, 1.1e5), (1e5, 1e3, 1.5e5), (1e5, 1.0, 100_100.0), (5e3, 1e6, 6e3)]
        {
            let count = Count { mean, dispersion };
            let until = x as u32 + 3_000_000;
            let (found, want) =
                (count.surprise_above(x), whole_sum((x as u32..until).map(|k| count.ln_probability(k.into()))));
            assert!((found - want).abs() < 1e-2, "{found} for {want} of {count:?} at {x}");
        }
    }

    #[test]
    fn a_share_of_many_is_more_surprising_the_greater_it_is() {
        for (mean, correlation) in [(0.01, 0.0), (0.3, 0.01), (0.5, 0.9), (0.9, 0.3), (0.99, 0.99)] {
            let share = Share { mean, correlation };
            let found: Vec<f64> =
                (0..=1000u32).map(|n| share.surprise_above(f64::from(n) * 1e3, 1e6)).collect();
            let falls = found.windows(2).find(|pair| pair[0] > pair[1] + 1e-6);
            assert_eq!(falls, None, "{share:?}");
        }
        // Uniform over 0..=999,999.
        let found = Share { mean: 0.5, correlation: 1.0 / 3.0 }.surprise_above(750_000.0, 999_999.0);
        assert!((found + 0.25f64.log10()).abs() < 1e-6, "{found}");
    }

    #[test]
    fn barely_more_than_poisson_is_nearly_poisson() {
        let (poisson, more) =
            (Count { mean: 1e6, dispersion: 1.0 }, Count { mean: 1e6, dispersion: 1.000_002 });
        for x in [0.99e6, 0.995e6, 1.004e6, 1.01e6] {
            for (want, found) in [
                (poisson.surprise_below(x), more.surprise_below(x)),
                (poisson.surprise_above(x), more.surprise_above(x)),
            ] {
                assert!((found - want).abs() <= 1e-5 * want.max(1.0), "{found} for {want} at {x}");
            }
        }
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
            // The sum of a long tail is exact to five digits and more.
            prop_assert!(count.surprise_above(a) <= count.surprise_above(b) + 1e-4);
            prop_assert!(count.surprise_below(a) + 1e-4 >= count.surprise_below(b));
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
