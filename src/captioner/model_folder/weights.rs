//! One of a model folder's weight files, as a module.

use std::path::Path;

use anyhow::{Result, bail};
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::store::ModuleRecord;
use burn::tensor::{DType, Tensor};
use burn_pack::Reader;

use super::Part;
use super::remedy::remedy;

/// Fills a module from one file of a folder: nothing missing, nothing left over, every shape equal.
pub fn load_part<M: Module>(module: M, folder: &Path, part: Part) -> Result<M> {
    let path = folder.join(part.file_name());
    if !path.is_file() {
        bail!(
            "{} is missing, so the model folder is incomplete: {}",
            path.display(),
            remedy(folder, Some(part))
        );
    }
    let unreadable = |error: &dyn std::fmt::Display| {
        anyhow::anyhow!(
            "{} cannot be read ({}): {}",
            path.display(),
            one_line(&error.to_string()),
            remedy(folder, Some(part))
        )
    };
    let tensors = (Reader::from_file_exact(&path).and_then(Reader::into_tensors))
        .map_err(|error| unreadable(&error))?;
    // burn would stop the program at them.
    if let Some(tensor) = tensors.iter().find(|tensor| !is_weight(tensor.dtype)) {
        bail!(
            "{} cannot be read (`{}` is of type {:?}, and weights are floats): {}",
            path.display(),
            tensor.name,
            tensor.dtype,
            remedy(folder, Some(part))
        );
    }
    let record = ModuleRecord::load(&path).map_err(|error| unreadable(&error))?;
    let module = module.try_load_record(record).map_err(|error| {
        anyhow::anyhow!(
            "{} does not fit config.json beside it ({}): {}",
            path.display(),
            one_line(&error.to_string()),
            remedy(folder, Some(part))
        )
    })?;
    Ok(module.map(&mut ToDeviceType))
}

/// What weights are stored as.
fn is_weight(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16 | DType::F32 | DType::F64)
}

/// Casts what is stored as float16 to the device's own type. Asking the record to do it would have every fresh weight drawn
/// first, only to see its type.
struct ToDeviceType;

impl ModuleMapper for ToDeviceType {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let dtype = Tensor::<1>::empty([1], &param.lazy_device()).dtype();
        param.map(|tensor| match tensor.dtype() == dtype {
            true => tensor,
            false => tensor.cast(dtype),
        })
    }
}

/// Brings a loaded module's weights into memory. On the CPU they would otherwise be read from the file one by one, each when
/// it is first used.
pub fn read_now(module: &impl Module) {
    module.visit(&mut ReadNow);
}

struct ReadNow;

impl ModuleVisitor for ReadNow {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        // One value is asked for, and all are read.
        let first = param.val().flatten::<1>(0, D - 1).narrow(0, 0, 1);
        drop(first.into_data());
    }
}

/// Writes a module's weights into a folder.
pub fn save_part<M: Module>(module: M, folder: &Path, part: Part) -> Result<()> {
    let path = folder.join(part.file_name());
    module.into_record().save(&path).map_err(|error| {
        anyhow::anyhow!(
            "cannot write {}: {error}: check permissions and free space",
            path.display()
        )
    })
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
