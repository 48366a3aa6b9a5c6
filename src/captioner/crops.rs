//! Images as CLIP looks at them.

use image::RgbImage;
use rayon::prelude::*;

use crate::guard::guarded;
use crate::images::OpenError;
use crate::inputs::Input;
use crate::models::clip::Preprocessing;

/// Opens images and cuts out what CLIP looks at, on all cores, in order: as many results as inputs. Whole images are in
/// memory only one a core.
pub fn open_crops(
    inputs: &[&Input],
    preprocessing: &Preprocessing,
) -> Vec<Result<RgbImage, OpenError>> {
    let open = |input: &&Input| {
        guarded(|| Ok(preprocessing.crop(&input.open()?))).unwrap_or_else(|panicked| {
            let path = input.path.clone();
            Err(OpenError::Damaged(path, panicked.to_string()))
        })
    };
    inputs.par_iter().map(open).collect()
}
