//! A network's parameters, and where in a checkpoint each of them is.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;

/// A parameter of a network of this crate.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Its name in a model folder's weight file.
    pub path: String,
    pub shape: Vec<usize>,
    /// The type it is a field of, as burn names it: `Struct:Linear`.
    owner: String,
}

/// A tensor of a foreign checkpoint, or some of its rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Foreign {
    pub name: String,
    /// Whether the checkpoint's matrix is `[output, input]` and ours `[input, output]`.
    pub transposed: bool,
    pub rows: Rows,
}

/// Which rows of the foreign tensor a parameter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    All,
    /// One of three equal parts: PyTorch keeps the projections to queries, keys and values in one matrix.
    Third(usize),
}

impl Parameter {
    /// All parameters of a network. Nothing is computed: fresh weights are not drawn.
    pub fn all(module: &impl Module) -> Vec<Self> {
        let mut collector = Collector::default();
        module.visit(&mut collector);
        collector.parameters
    }

    /// Where PyTorch's code has it when its modules have our names: linear layers are transposed, and norms call their
    /// `gamma` and `beta` as every layer's are called.
    pub fn torch(&self) -> Foreign {
        let path = self.path.as_str();
        let norm = self.owner == "Struct:LayerNorm";
        let name = match (path.strip_suffix("gamma"), path.strip_suffix("beta")) {
            (Some(layer), _) if norm => format!("{layer}weight"),
            (_, Some(layer)) if norm => format!("{layer}bias"),
            _ => path.to_string(),
        };
        Foreign {
            name,
            transposed: self.owner == "Struct:Linear" && path.ends_with("weight"),
            rows: Rows::All,
        }
    }

    /// The shape of the foreign tensor.
    pub fn foreign_shape(&self, foreign: &Foreign) -> Vec<usize> {
        let mut shape = self.shape.clone();
        if foreign.transposed {
            shape.reverse();
        }
        if let (Rows::Third(_), Some(rows)) = (foreign.rows, shape.first_mut()) {
            *rows *= 3;
        }
        shape
    }
}

#[derive(Default)]
struct Collector {
    path: Vec<String>,
    owners: Vec<String>,
    parameters: Vec<Parameter>,
}

impl ModuleVisitor for Collector {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.push(name.to_string());
        self.owners.push(container_type.to_string());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
        self.owners.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.parameters.push(Parameter {
            path: self.path.join("."),
            shape: param.lazy_shape().to_vec(),
            owner: self.owners.last().cloned().unwrap_or_default(),
        });
    }
}
