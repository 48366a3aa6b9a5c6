//! Searches and sums over a vocabulary's scores.

use super::simd::{Kernel, LANES, Simd, run};

/// The greatest of the values; -inf of none.
pub fn highest(values: &[f32]) -> f32 {
    run(Highest(values))
}

/// The greatest of the values and the sum of `e^(value - greatest)`.
pub fn exponential_sum(values: &[f32]) -> (f32, f32) {
    let highest = highest(values);
    (highest, run(ExponentialSum { values, highest }))
}

/// The `n`-th greatest value, counted from 1; -inf where there are fewer. For a small `n`: all values are looked at once,
/// and few are moved.
pub fn nth_greatest(values: &[f32], n: usize) -> f32 {
    let mut greatest: Vec<f32> = Vec::with_capacity(n + 1); // falling
    let mut least = f32::NEG_INFINITY;
    for &value in values {
        if greatest.len() < n || value > least {
            let place = greatest.partition_point(|&other| other >= value);
            greatest.insert(place, value);
            greatest.truncate(n);
            least = greatest.last().copied().unwrap_or(least);
        }
    }
    if greatest.len() < n {
        f32::NEG_INFINITY
    } else {
        least
    }
}

/// Places of the values that are not below `least`, in order.
pub fn at_least(values: &[f32], least: f32) -> Vec<u32> {
    (0..)
        .zip(values)
        .filter(|&(_, &value)| value >= least)
        .map(|(place, _)| place)
        .collect()
}

/// The scalar product of two rows of one length.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len(), "lengths of a scalar product");
    run(ScalarProduct { a, b })
}

struct ScalarProduct<'a> {
    a: &'a [f32],
    b: &'a [f32],
}

impl Kernel for ScalarProduct<'_> {
    type Output = f32;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let (a, rest_a) = self.a.as_chunks::<LANES>();
        let (b, rest_b) = self.b.as_chunks::<LANES>();
        // Two sums, so that one need not wait for the other.
        let mut sums = [s.splat(0.0); 2];
        for (i, (a, b)) in a.iter().zip(b).enumerate() {
            let sum = sums[i % 2];
            sums[i % 2] = s.mul_add(s.load(a), s.load(b), sum);
        }
        let rest: f32 = rest_a.iter().zip(rest_b).map(|(a, b)| a * b).sum();
        s.sum(s.add(sums[0], sums[1])) + rest
    }
}

struct Highest<'a>(&'a [f32]);

impl Kernel for Highest<'_> {
    type Output = f32;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let (whole, rest) = self.0.as_chunks::<LANES>();
        let mut highest = s.splat(f32::NEG_INFINITY);
        for x in whole {
            highest = s.max(s.load(x), highest);
        }
        rest.iter().copied().fold(s.highest(highest), f32::max)
    }
}

struct ExponentialSum<'a> {
    values: &'a [f32],
    highest: f32,
}

impl Kernel for ExponentialSum<'_> {
    type Output = f32;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let (whole, rest) = self.values.as_chunks::<LANES>();
        let (highest, mut sum) = (s.splat(self.highest), s.splat(0.0));
        for x in whole {
            sum = s.add(sum, s.exp(s.sub(s.load(x), highest)));
        }
        let rest: f32 = rest.iter().map(|x| (x - self.highest).exp()).sum();
        s.sum(sum) + rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(length: usize) -> Vec<f32> {
        (0..length).map(|i| (i as f32 * 0.7).sin() * 9.0).collect()
    }

    #[test]
    fn sums_and_maxima_are_those_of_plain_loops() {
        for length in [1, 16, 37, 500] {
            let values = wave(length);
            let most = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let exact: f64 = values.iter().map(|&x| f64::from(x - most).exp()).sum();
            let (found, sum) = exponential_sum(&values);
            assert_eq!(found, most);
            assert!((f64::from(sum) - exact).abs() < 1e-5 * exact);
        }
    }

    #[test]
    fn a_scalar_product_is_that_of_plain_loops() {
        for length in [0, 1, 16, 37, 512] {
            let (a, mut b) = (wave(length), wave(length));
            b.reverse();
            let exact: f64 = a.iter().zip(&b).map(|(&a, &b)| f64::from(a * b)).sum();
            assert!((f64::from(dot(&a, &b)) - exact).abs() < 1e-2);
        }
    }

    #[test]
    fn the_nth_greatest_is_that_of_a_sort_with_equals_counted_apart() {
        let mut values = wave(300);
        values.extend([9.5, 9.5]);
        let mut sorted = values.clone();
        sorted.sort_by(|a, b| b.total_cmp(a));
        for n in [1, 2, 3, 40, 302] {
            assert_eq!(nth_greatest(&values, n), sorted[n - 1]);
        }
        assert_eq!(nth_greatest(&values, 303), f32::NEG_INFINITY);
        assert_eq!(at_least(&values, 9.5), [300, 301]);
    }
}
