//! The device that `--device` names. The only file that knows which backends are compiled in.
//!
//! burn 0.22 chooses the backend when the program runs: one binary holds several, and a [`Device`] says which computes.

mod list;
mod precision;

use std::fmt;
use std::str::FromStr;

use burn::tensor::Device;
#[cfg(feature = "wgpu")]
use burn::tensor::DeviceKind;
#[cfg(any(feature = "wgpu", feature = "cuda", feature = "rocm"))]
use burn::tensor::DeviceType;
use burn::tensor::distributed::{DistributedConfig, ReduceOperation};
use burn::train::{ExecutionStrategy, MultiDeviceOptim};

pub use list::{DeviceInfo, list};
pub use precision::Precision;

/// A device as the user names it: `auto`, `cpu`, or `BACKEND[:N]` with `N` the N-th card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first real GPU, else the CPU.
    Auto,
    /// burn's `flex` backend.
    Cpu,
    /// A card of one of the GPU backends.
    Gpu { backend: GpuBackend, index: usize },
}

/// The GPU backends that burn has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GpuBackend {
    Wgpu,
    Vulkan,
    Metal,
    Cuda,
    Rocm,
}

/// Why a device could not be had.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DeviceError {
    #[error(
        "device `{0}` is unknown: use auto, cpu, wgpu, vulkan, metal, cuda or rocm, with `:N` for the N-th card"
    )]
    Unknown(String),
    #[error("device `{0}` is not in this build: build with `--features {1}`, or use one of {2}")]
    NotCompiled(String, &'static str, String),
    #[error("device `{0}` was not found on this machine ({1} found): use `--device cpu`")]
    NotFound(String, usize),
    #[error("device `{0}` is named twice: only the cpu can share batches with itself")]
    Twice(String),
    #[error("device `{0}` does not compute in {1}: use `--precision f32`, or another device")]
    NoPrecision(String, &'static str),
}

/// One device, or several that share every batch of a training run.
#[derive(Clone, Debug)]
pub struct Devices {
    choices: Vec<DeviceChoice>,
    /// At least one, each for the choice at its place.
    all: Vec<Device>,
}

impl FromStr for DeviceChoice {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let unknown = || DeviceError::Unknown(text.to_string());
        let (name, index) = match text.split_once(':') {
            Some((name, index)) => (name, index.parse().map_err(|_| unknown())?),
            None => (text, 0),
        };
        let backend = match name {
            "auto" | "cpu" | "flex" if text.contains(':') => return Err(unknown()),
            "auto" => return Ok(Self::Auto),
            "cpu" | "flex" => return Ok(Self::Cpu),
            "wgpu" => GpuBackend::Wgpu,
            "vulkan" => GpuBackend::Vulkan,
            "metal" => GpuBackend::Metal,
            "cuda" => GpuBackend::Cuda,
            "rocm" => GpuBackend::Rocm,
            _ => return Err(unknown()),
        };
        Ok(Self::Gpu { backend, index })
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Gpu { backend, index } => write!(f, "{}:{index}", backend.name()),
        }
    }
}

impl GpuBackend {
    const ALL: [Self; 5] = [
        Self::Cuda,
        Self::Rocm,
        Self::Vulkan,
        Self::Metal,
        Self::Wgpu,
    ];

    /// The name in `--device`, which is also the cargo feature that compiles it in.
    pub fn name(self) -> &'static str {
        match self {
            Self::Wgpu => "wgpu",
            Self::Vulkan => "vulkan",
            Self::Metal => "metal",
            Self::Cuda => "cuda",
            Self::Rocm => "rocm",
        }
    }

    /// The cards this backend reaches; `None` when it is not compiled in.
    fn cards(self) -> Option<Vec<Device>> {
        #[cfg(any(feature = "wgpu", feature = "cuda", feature = "rocm"))]
        keep_compiled_kernels();
        match self {
            #[cfg(feature = "wgpu")]
            Self::Wgpu => Some(Device::enumerate(DeviceType::Wgpu).into_vec()),
            #[cfg(feature = "vulkan")]
            Self::Vulkan => Some(Device::enumerate(DeviceType::Vulkan).into_vec()),
            #[cfg(feature = "metal")]
            Self::Metal => Some(Device::enumerate(DeviceType::Metal).into_vec()),
            #[cfg(feature = "cuda")]
            Self::Cuda => Some(Device::enumerate(DeviceType::Cuda).into_vec()),
            #[cfg(feature = "rocm")]
            Self::Rocm => Some(Device::enumerate(DeviceType::Rocm).into_vec()),
            #[allow(unreachable_patterns)]
            _ => None,
        }
    }
}

impl DeviceChoice {
    /// The device itself.
    ///
    /// # Errors
    /// When the backend is not compiled in, or the machine has no such card.
    pub fn resolve(&self) -> Result<Device, DeviceError> {
        match self {
            Self::Cpu => Ok(Device::flex()),
            Self::Auto => Ok(first_gpu().unwrap_or_else(Device::flex)),
            Self::Gpu { backend, index } => {
                let name = || self.to_string();
                let mut cards = backend.cards().ok_or_else(|| {
                    DeviceError::NotCompiled(name(), backend.name(), compiled().join(", "))
                })?;
                if *index >= cards.len() {
                    return Err(DeviceError::NotFound(name(), cards.len()));
                }
                Ok(cards.swap_remove(*index))
            }
        }
    }
}

impl Devices {
    /// The devices themselves; `choices` is not empty.
    ///
    /// # Errors
    /// When one of them cannot be had, or a card is named twice.
    pub fn resolve(choices: &[DeviceChoice]) -> Result<Self, DeviceError> {
        for (place, choice) in choices.iter().enumerate() {
            if *choice != DeviceChoice::Cpu && choices[..place].contains(choice) {
                return Err(DeviceError::Twice(choice.to_string()));
            }
        }
        let all = choices.iter().map(DeviceChoice::resolve);
        Ok(Self {
            all: all.collect::<Result<_, _>>()?,
            choices: choices.to_vec(),
        })
    }

    /// The first one: it embeds, validates and keeps the weights.
    pub fn main(&self) -> &Device {
        &self.all[0]
    }

    /// How many share a batch.
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// # Errors
    /// When one of them does not train in this precision.
    pub fn check_precision(&self, precision: Precision) -> Result<(), DeviceError> {
        let has = |device: &Device| {
            let dtype = precision.dtype();
            dtype.is_some_and(|dtype| device.supports_dtype(dtype))
        };
        let without = (self.all.iter().zip(&self.choices)).find(|(device, _)| !has(device));
        match without {
            Some((_, choice)) => Err(DeviceError::NoPrecision(
                choice.to_string(),
                precision.name(),
            )),
            None => Ok(()),
        }
    }

    /// How burn's learner uses them. The gradients of all are added up: each device weighs its loss by its share of the
    /// batch. CUDA's cards do so among themselves during the backward pass (it needs NCCL, and burn has it for no other
    /// backend), others send theirs to the first.
    pub fn strategy(&self) -> ExecutionStrategy {
        let is_cuda = |choice: &DeviceChoice| {
            matches!(
                choice,
                DeviceChoice::Gpu {
                    backend: GpuBackend::Cuda,
                    ..
                }
            )
        };
        match &self.all[..] {
            [device] => ExecutionStrategy::single(device.clone()),
            all if self.choices.iter().all(is_cuda) => ExecutionStrategy::ddp(
                all.to_vec(),
                DistributedConfig {
                    all_reduce_op: ReduceOperation::Sum,
                },
            ),
            all => ExecutionStrategy::multi(all.to_vec(), MultiDeviceOptim::OptimMainDevice),
        }
    }
}

/// Whether a device is the CPU, where the program's own kernels compute.
pub(crate) fn is_cpu(device: &Device) -> bool {
    *device == Device::flex()
}

/// Names of the devices this build knows.
pub fn compiled() -> Vec<&'static str> {
    [
        ("wgpu", cfg!(feature = "wgpu")),
        ("vulkan", cfg!(feature = "vulkan")),
        ("metal", cfg!(feature = "metal")),
        ("cuda", cfg!(feature = "cuda")),
        ("rocm", cfg!(feature = "rocm")),
    ]
    .into_iter()
    .filter_map(|(name, compiled)| compiled.then_some(name))
    .fold(vec!["auto", "cpu"], |mut names, name| {
        names.push(name);
        names
    })
}

/// Has what burn puts on its default device, such as checkpoints that are read, on the CPU: its own choice is the first
/// backend that is compiled in, and it panics where the machine has no such driver. To be called before any other thread
/// runs; `BURN_DEVICE` in the environment stays.
///
/// On Linux `XDG_RUNTIME_DIR` gets a value where it has none, as in containers: while GPUs are looked for, the Wayland library
/// otherwise prints its absence as an error, several times.
pub fn default_to_cpu() {
    let mut defaults = vec![("BURN_DEVICE", "flex")];
    if cfg!(target_os = "linux") {
        defaults.push(("XDG_RUNTIME_DIR", "/nonexistent"));
    }
    for (name, value) in defaults {
        if std::env::var_os(name).is_none() {
            // SAFETY: no other thread reads the environment, as there is none.
            unsafe { std::env::set_var(name, value) };
        }
    }
}

/// Has compiled kernels, and which of them was fastest, kept in the user's cache folder: compiling them takes minutes on a
/// first start. What a `cubecl.toml` or `CUBECL_` variables say besides stays.
#[cfg(any(feature = "wgpu", feature = "cuda", feature = "rocm"))]
fn keep_compiled_kernels() {
    use cubecl::config::autotune::AutotuneLevel;
    use cubecl::config::cache::CacheConfig;
    use cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};

    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let mut config = CubeClRuntimeConfig::from_current_dir();
        config.compilation.cache = true;
        config.autotune.level = AutotuneLevel::Minimal;
        if matches!(config.environment.path, CacheConfig::Target) {
            config.environment.path = CacheConfig::Global;
        }
        CubeClRuntimeConfig::try_set(config.override_from_env());
    });
}

fn first_gpu() -> Option<Device> {
    #[cfg(any(feature = "cuda", feature = "rocm"))]
    for backend in [GpuBackend::Cuda, GpuBackend::Rocm] {
        if let Some(card) = backend.cards().and_then(|cards| cards.into_iter().next()) {
            return Some(card);
        }
    }
    // wgpu also lists software renderers, which are slower than the CPU backend: only hardware counts.
    #[cfg(feature = "wgpu")]
    if let Some(cards) = GpuBackend::Wgpu.cards() {
        let hardware = [DeviceKind::DiscreteGpu(0), DeviceKind::IntegratedGpu(0)];
        return hardware
            .into_iter()
            .map(Device::wgpu)
            .find(|device| cards.contains(device));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parsed_with_and_without_an_index() {
        assert_eq!("auto".parse(), Ok(DeviceChoice::Auto));
        assert_eq!("cpu".parse(), Ok(DeviceChoice::Cpu));
        assert_eq!(
            "vulkan:2".parse(),
            Ok(DeviceChoice::Gpu {
                backend: GpuBackend::Vulkan,
                index: 2
            })
        );
    }

    #[test]
    fn unknown_names_and_indices_are_refused_with_the_list_of_names() {
        for text in ["gpu", "cuda:x", "cpu:1", "", "wgpu:-1"] {
            let error = DeviceChoice::from_str(text).unwrap_err().to_string();
            assert!(error.contains(&format!("`{text}`")), "{error}");
            assert!(error.contains("auto, cpu, wgpu"), "{error}");
        }
    }

    #[test]
    fn the_cpu_may_be_named_twice_and_a_card_may_not() {
        let resolve = |names: &[&str]| {
            let choices: Vec<DeviceChoice> =
                names.iter().map(|name| name.parse().unwrap()).collect();
            Devices::resolve(&choices)
        };
        assert_eq!(resolve(&["cpu", "cpu"]).unwrap().count(), 2);
        let error = resolve(&["cuda:1", "cpu", "cuda:1"]).unwrap_err();
        assert_eq!(error, DeviceError::Twice("cuda:1".into()));
    }

    #[test]
    fn a_backend_that_is_not_compiled_in_says_how_to_get_it() {
        if cfg!(feature = "rocm") {
            return;
        }
        let choice: DeviceChoice = "rocm:1".parse().unwrap();
        let error = choice.resolve().unwrap_err().to_string();
        assert!(
            error.contains("`rocm:1`") && error.contains("--features rocm"),
            "{error}"
        );
    }
}
