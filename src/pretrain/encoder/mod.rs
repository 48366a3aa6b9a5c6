//! Training image encoders from images alone, or from their classes: SimCLR, an autoencoder, a supervised ResNet-18,
//! and principal components.

mod batches;
mod config;
mod learners;
mod pca;
mod run;

pub use batches::{ClassBatch, ImageBatch, ImageDataset, ViewBatch, ViewBatcher};
pub use config::{EncoderRunConfig, Method, Optimizing, Preset};
pub use learners::{AutoencoderLearner, ClassifierLearner, ProjectionHead, SimclrLearner};
pub use pca::fit_pca;
pub use run::{EncoderRun, check_data, pretrain_encoder};
