//! Data: captions, pictures, embeddings, batches.

pub mod batcher;
pub mod coco;
pub mod embeddings;
pub mod noise;
pub mod scenes;
pub mod split;
