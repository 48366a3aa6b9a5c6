//! The networks as burn's modules under autodiff, for what looks into them.

use anyhow::Result;
use burn::module::Module;
use burn::tensor::Device;

use super::model_folder::ModelFolder;
use crate::models::caption_model::CaptionModel;
use crate::models::clip::Clip;

/// Networks in float32 whose weights take no gradients: captioning's own are packed, or in another type.
#[derive(Debug)]
pub struct Modules {
    /// CLIP, where it embeds the images by a vision transformer: the image's tower alone.
    pub clip: Option<Clip>,
    /// Mapper and GPT-2.
    pub captions: CaptionModel,
    /// Where they are, with autodiff.
    pub device: Device,
}

impl Modules {
    /// Reads them from a model folder.
    ///
    /// # Errors
    /// When a file is missing or damaged.
    pub fn load(folder: &ModelFolder, device: &Device) -> Result<Self> {
        let device = device.clone().autodiff();
        let clip = match folder.config.encoder {
            Some(_) => None,
            None => Some(folder.load_clip(&device)?),
        };
        let captions = CaptionModel {
            prefix_mapper: folder.load_mapper(&device)?,
            gpt2: folder.load_gpt2(&device)?,
        };
        Ok(Self::new(clip, captions, device))
    }

    /// Networks that are on a device with autodiff.
    pub fn new(clip: Option<Clip>, captions: CaptionModel, device: Device) -> Self {
        let tower = |clip: Clip| Clip {
            text_model: None,
            text_projection: None,
            logit_scale: None,
            ..clip
        };
        let clip = clip.filter(|clip| clip.vision_model.is_some());
        Self {
            clip: clip.map(|clip| tower(clip).no_grad()),
            captions: captions.no_grad(),
            device,
        }
    }
}
