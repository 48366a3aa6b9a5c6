//! Data: captions, images, embeddings, batches.

pub mod batcher;
pub mod coco;
pub mod embedding_file;
pub mod embeddings;
pub mod gap;
pub mod image_source;
pub mod left_out;
pub mod loader;
pub mod noise;
pub mod shard_file;
pub mod shard_members;
pub mod source;
pub mod split;
pub mod split_lists;
pub mod tar_source;
pub mod text;
pub mod unreadable;
