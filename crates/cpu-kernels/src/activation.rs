//! Activations and their derivatives, over all cores.

use rayon::prelude::*;

use serde::{Deserialize, Serialize};

use super::simd::{Kernel, LANES, Simd, run};

/// Activation between the two layers of a transformer's MLP, under the names that Hugging Face configs use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x * sigmoid(1.702 x)`: OpenAI's CLIP.
    QuickGelu,
    /// `x * Phi(x)` with the error function: open_clip's models.
    Gelu,
    /// The tanh form of GELU: GPT-2.
    GeluNew,
    /// `max(x, 0)`: ClipCap's mapper.
    Relu,
}

/// Values a task takes: few enough for its caches, enough to be worth handing out.
const TASK: usize = 16 * 1024;

const QUICK: f32 = 1.702;
/// `2 sqrt(2/pi)`
const LINEAR: f32 = 1.595_769;
const CUBIC: f32 = LINEAR * 0.044_715;

/// `y = activation(x)`
pub fn forward(activation: Activation, x: &[f32], y: &mut [f32]) {
    x.par_chunks(TASK)
        .zip(y.par_chunks_mut(TASK))
        .for_each(|(x, y)| run(Forward { activation, x, y }));
}

/// `grad = activation'(x) grad`
pub fn backward(activation: Activation, x: &[f32], grad: &mut [f32]) {
    x.par_chunks(TASK)
        .zip(grad.par_chunks_mut(TASK))
        .for_each(|(x, grad)| {
            run(Backward {
                activation,
                x,
                grad,
            })
        });
}

/// The activation of one vector.
#[inline(always)]
pub fn apply<S: Simd>(s: S, activation: Activation, x: S::V) -> S::V {
    match activation {
        Activation::QuickGelu => s.mul(x, s.sigmoid(s.mul(x, s.splat(QUICK)))),
        Activation::Gelu => s.mul(x, normal_cdf(s, x)),
        Activation::GeluNew => s.mul(x, s.sigmoid(gelu_new_slope(s, x))),
        Activation::Relu => s.max(x, s.splat(0.0)),
    }
}

/// The derivative at one vector.
#[inline(always)]
fn derivative<S: Simd>(s: S, activation: Activation, x: S::V) -> S::V {
    let one = s.splat(1.0);
    match activation {
        // d/dx x f(u(x)) = f + x f (1 - f) u', with f the sigmoid
        Activation::QuickGelu => {
            let f = s.sigmoid(s.mul(x, s.splat(QUICK)));
            let inner = s.mul(s.mul(x, s.sub(one, f)), s.splat(QUICK));
            s.mul(f, s.add(one, inner))
        }
        Activation::GeluNew => {
            let f = s.sigmoid(gelu_new_slope(s, x));
            let slope = s.mul_add(s.mul(x, x), s.splat(3.0 * CUBIC), s.splat(LINEAR));
            let inner = s.mul(s.mul(x, s.sub(one, f)), slope);
            s.mul(f, s.add(one, inner))
        }
        Activation::Gelu => {
            const DENSITY: f32 = 0.398_942_3; // 1 / sqrt(2 pi)
            let e = s.exp(s.mul(s.mul(x, x), s.splat(-0.5)));
            s.mul_add(s.mul(x, e), s.splat(DENSITY), normal_cdf(s, x))
        }
        Activation::Relu => {
            // 1 above 0 and 0 elsewhere: the greatest float makes 1 of everything that is not tiny.
            s.min(s.mul(s.max(x, s.splat(0.0)), s.splat(f32::MAX)), one)
        }
    }
}

/// `2 sqrt(2/pi) (x + 0.044715 x^3)`, of which [`Activation::GeluNew`] takes the sigmoid.
#[inline(always)]
fn gelu_new_slope<S: Simd>(s: S, x: S::V) -> S::V {
    s.mul(x, s.mul_add(s.mul(x, x), s.splat(CUBIC), s.splat(LINEAR)))
}

/// The normal distribution's share below `x`, within 1e-7: Abramowitz and Stegun 7.1.26.
#[inline(always)]
fn normal_cdf<S: Simd>(s: S, x: S::V) -> S::V {
    let (zero, one) = (s.splat(0.0), s.splat(1.0));
    let magnitude = s.mul(
        s.max(x, s.sub(zero, x)),
        s.splat(std::f32::consts::FRAC_1_SQRT_2),
    );
    let t = s.div(one, s.mul_add(magnitude, s.splat(0.327_591_1), one));
    let mut p = s.splat(1.061_405_4);
    for c in [-1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6] {
        p = s.mul_add(p, t, s.splat(c));
    }
    let e = s.exp(s.sub(zero, s.mul(magnitude, magnitude)));
    let tail = s.mul(s.mul(s.mul(p, t), e), s.splat(0.5)); // the share beyond |x|
    // Above zero 1 - tail, below it tail; `step` is 1 or 0.
    let step = derivative_of_relu(s, x);
    s.mul_add(step, s.sub(one, s.add(tail, tail)), tail)
}

#[inline(always)]
fn derivative_of_relu<S: Simd>(s: S, x: S::V) -> S::V {
    derivative(s, Activation::Relu, x)
}

struct Forward<'a> {
    activation: Activation,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // One loop an activation, so that the choice is made outside.
        match self.activation {
            Activation::QuickGelu => map(s, Activation::QuickGelu, self.x, self.y),
            Activation::Gelu => map(s, Activation::Gelu, self.x, self.y),
            Activation::GeluNew => map(s, Activation::GeluNew, self.x, self.y),
            Activation::Relu => map(s, Activation::Relu, self.x, self.y),
        }
    }
}

#[inline(always)]
fn map<S: Simd>(s: S, activation: Activation, x: &[f32], y: &mut [f32]) {
    let (whole, rest) = x.as_chunks::<LANES>();
    let (y_whole, y_rest) = y.as_chunks_mut::<LANES>();
    for (x, y) in whole.iter().zip(y_whole) {
        s.store(apply(s, activation, s.load(x)), y);
    }
    s.store_some(apply(s, activation, s.load_some(rest, 0.0)), y_rest);
}

struct Backward<'a> {
    activation: Activation,
    x: &'a [f32],
    grad: &'a mut [f32],
}

impl Kernel for Backward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match self.activation {
            Activation::QuickGelu => scale(s, Activation::QuickGelu, self.x, self.grad),
            Activation::Gelu => scale(s, Activation::Gelu, self.x, self.grad),
            Activation::GeluNew => scale(s, Activation::GeluNew, self.x, self.grad),
            Activation::Relu => scale(s, Activation::Relu, self.x, self.grad),
        }
    }
}

#[inline(always)]
fn scale<S: Simd>(s: S, activation: Activation, x: &[f32], grad: &mut [f32]) {
    let (whole, rest) = x.as_chunks::<LANES>();
    let (grad_whole, grad_rest) = grad.as_chunks_mut::<LANES>();
    for (x, grad) in whole.iter().zip(grad_whole) {
        let d = derivative(s, activation, s.load(x));
        s.store(s.mul(d, s.load(grad)), grad);
    }
    let d = derivative(s, activation, s.load_some(rest, 0.0));
    let d = s.mul(d, s.load_some(grad_rest, 0.0));
    s.store_some(d, grad_rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Activation; 4] = [
        Activation::QuickGelu,
        Activation::Gelu,
        Activation::GeluNew,
        Activation::Relu,
    ];

    fn exact(activation: Activation, x: f64) -> f64 {
        match activation {
            Activation::QuickGelu => x / (1.0 + (-1.702 * x).exp()),
            Activation::GeluNew => {
                let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
                0.5 * x * (1.0 + u.tanh())
            }
            // The series of the error function.
            Activation::Gelu => {
                let z = x / std::f64::consts::SQRT_2;
                let (mut term, mut sum) = (z, z);
                for n in 1..200 {
                    term *= -z * z / f64::from(n);
                    sum += term / f64::from(2 * n + 1);
                }
                0.5 * x * (1.0 + sum * 2.0 / std::f64::consts::PI.sqrt())
            }
            Activation::Relu => x.max(0.0),
        }
    }

    #[test]
    fn activations_and_derivatives_are_those_of_their_formulas_at_any_length() {
        for length in [1, 15, 16, 50, 1000] {
            let x: Vec<f32> = (0..length)
                .map(|i| (i as f32 * 0.7).sin() * 5.0 + 0.01)
                .collect();
            for activation in ALL {
                let mut y = vec![0.0; length];
                forward(activation, &x, &mut y);
                let mut grad = vec![2.0; length];
                backward(activation, &x, &mut grad);
                for ((&x, y), grad) in x.iter().zip(y).zip(grad) {
                    let at = |x| exact(activation, x);
                    let x = f64::from(x);
                    assert!((f64::from(y) - at(x)).abs() < 2e-6, "{activation:?} {x}");
                    let slope = (at(x + 1e-5) - at(x - 1e-5)) / 2e-5;
                    assert!(
                        (f64::from(grad) - 2.0 * slope).abs() < 1e-5,
                        "{activation:?} {x}: {grad} {slope}"
                    );
                }
            }
        }
    }
}
