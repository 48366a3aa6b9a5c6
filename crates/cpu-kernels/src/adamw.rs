//! A step of AdamW in one pass over the memory, over all cores.

use rayon::prelude::*;

use super::simd::{Kernel, LANES, Simd, run};

/// Values a task takes.
const TASK: usize = 16 * 1024;

/// The numbers of a step (Loshchilov and Hutter 2017, <https://arxiv.org/abs/1711.05101>, algorithm 2).
#[derive(Clone, Copy, Debug)]
pub struct AdamWStep {
    pub beta_1: f32,
    pub beta_2: f32,
    pub epsilon: f32,
    pub learning_rate: f32,
    /// What is left of a weight: 1 less learning rate times weight decay.
    pub kept: f32,
    /// The number of this step, from 1.
    pub time: i32,
}

impl AdamWStep {
    /// Changes weights and moments in place. All slices are of one length.
    pub fn update(self, weights: &mut [f32], grad: &[f32], first: &mut [f32], second: &mut [f32]) {
        weights
            .par_chunks_mut(TASK)
            .zip(grad.par_chunks(TASK))
            .zip(first.par_chunks_mut(TASK))
            .zip(second.par_chunks_mut(TASK))
            .for_each(|(((weights, grad), first), second)| {
                run(Update {
                    step: self,
                    weights,
                    grad,
                    first,
                    second,
                })
            });
    }
}

struct Update<'a> {
    step: AdamWStep,
    weights: &'a mut [f32],
    grad: &'a [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
}

impl Kernel for Update<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let step = self.step;
        let [beta_1, beta_2, epsilon] =
            [step.beta_1, step.beta_2, step.epsilon].map(|x| s.splat(x));
        let [rest_1, rest_2] = [step.beta_1, step.beta_2].map(|beta| s.splat(1.0 - beta));
        let [bias_1, bias_2] =
            [step.beta_1, step.beta_2].map(|beta| s.splat(1.0 / (1.0 - beta.powi(step.time))));
        let (rate, kept) = (s.splat(-step.learning_rate), s.splat(step.kept));
        for (((weights, grad), first), second) in (self.weights.chunks_mut(LANES))
            .zip(self.grad.chunks(LANES))
            .zip(self.first.chunks_mut(LANES))
            .zip(self.second.chunks_mut(LANES))
        {
            let g = s.load_some(grad, 0.0);
            let m = s.mul_add(beta_1, s.load_some(first, 0.0), s.mul(rest_1, g));
            let v = s.mul_add(beta_2, s.load_some(second, 0.0), s.mul(rest_2, s.mul(g, g)));
            let deviation = s.add(s.sqrt(s.mul(v, bias_2)), epsilon);
            let delta = s.div(s.mul(m, bias_1), deviation);
            let w = s.mul_add(delta, rate, s.mul(s.load_some(weights, 0.0), kept));
            s.store_some(m, first);
            s.store_some(v, second);
            s.store_some(w, weights);
        }
    }
}
