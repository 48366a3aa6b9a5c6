//! Principal components by a randomized singular value decomposition (Halko, Martinsson and Tropp 2011,
//! <https://arxiv.org/abs/0909.4061>, algorithms 4.4 and 5.1).

use anyhow::{Result, ensure};
use burn::linalg::svd;
use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Distribution, Tensor};
use serde::{Deserialize, Serialize};

/// Directions drawn beyond those asked for.
const OVERSAMPLING: usize = 10;
/// Times that the matrix is gone through both ways, to part the large values from the small ones.
const PASSES: usize = 4;
/// Most sweeps a singular value of the small matrix may take.
const SWEEPS: usize = 60;

/// Sizes of the projection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PcaConfig {
    /// Components that are kept.
    pub dim: usize,
    /// Values of what is projected.
    pub input: usize,
}

/// The directions in which what it was fitted to differs most.
#[derive(Module, Debug)]
pub struct Pca {
    /// `[input]`
    pub mean: Param<Tensor<1>>,
    /// Orthonormal rows, the largest variance first, `[dim, input]`. The largest value of a row is positive.
    pub components: Param<Tensor<2>>,
    /// Variance along each component, `[dim]`.
    pub variance: Param<Tensor<1>>,
}

impl PcaConfig {
    /// To be filled from a file.
    pub fn init(&self, device: &Device) -> Pca {
        Pca {
            mean: Initializer::Zeros.init([self.input], device),
            components: Initializer::Zeros.init([self.dim, self.input], device),
            variance: Initializer::Zeros.init([self.dim], device),
        }
    }
}

impl Pca {
    /// Fits `dim` components to rows, `[n, input]`. The same seed gives the same components.
    ///
    /// # Errors
    /// When there are fewer rows or values than components.
    pub fn fit(rows: Tensor<2>, dim: usize, seed: u64) -> Result<Self> {
        let [n, input] = rows.dims();
        ensure!(
            dim > 0 && dim <= input && dim < n,
            "{n} images of {input} values have no {dim} principal components: give more images, or fewer components"
        );
        let device = rows.device();
        let mean = rows.clone().mean_dim(0); // [1, input]
        let centered = rows - mean.clone(); // [n, input]
        let drawn = (dim + OVERSAMPLING).min(n.min(input));
        device.seed(seed);
        let random = Tensor::random([input, drawn], Distribution::Normal(0.0, 1.0), &device);
        let mut basis = orthonormal(centered.clone().matmul(random)); // [n, drawn]
        for _ in 0..PASSES {
            let back = orthonormal(centered.clone().transpose().matmul(basis)); // [input, drawn]
            basis = orthonormal(centered.clone().matmul(back));
        }
        let small = basis.transpose().matmul(centered); // [drawn, input]
        let (_, values, directions) = svd::<2, 1>(small, SWEEPS); // [drawn], [drawn, input]
        let components = directions.narrow(0, 0, dim);
        let largest = components.clone().abs().argmax(1); // [dim, 1]
        let sign = components.clone().gather(1, largest).sign();
        let values = values.narrow(0, 0, dim);
        Ok(Self {
            mean: Param::from_tensor(mean.flatten(0, 1)),
            components: Param::from_tensor(components * sign),
            variance: Param::from_tensor(values.clone() * values / (n - 1) as f64),
        })
    }

    /// `[n, input] -> [n, dim]`
    pub fn project(&self, rows: Tensor<2>) -> Tensor<2> {
        let centered = rows - self.mean.val().unsqueeze::<2>();
        centered.matmul(self.components.val().transpose())
    }
}

/// An orthonormal basis of the columns, from the eigenvectors of their products with each other; the second time undoes the
/// rounding of the first. `[n, k] -> [n, k]`
fn orthonormal(columns: Tensor<2>) -> Tensor<2> {
    (0..2).fold(columns, |columns, _| {
        let products = columns.clone().transpose().matmul(columns.clone()); // [k, k]
        let (vectors, values, _) = svd::<2, 1>(products, SWEEPS); // [k, k], [k]
        let least = values.clone().narrow(0, 0, 1) * 1e-12; // [1]
        let scale = values
            .max_pair(least.expand([vectors.dims()[0]]))
            .sqrt()
            .recip(); // [k]
        columns.matmul(vectors * scale.unsqueeze::<2>())
    })
}
