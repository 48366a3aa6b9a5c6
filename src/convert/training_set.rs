//! ClipCap's training pickles, `{"clip_embedding": [N, clip_dim], "captions": [..]}`, a row a caption (`parse_coco.py`,
//! rmokady/CLIP_prefix_caption at 1ad805a; CapDec's keeps embeddings of the captions under another name).

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use burn::tensor::{DType as BurnDType, TensorData};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::json;

use crate::files;
use crate::guard::guarded;
use torch_checkpoint::{DType, Id, Node, Section, StoredTensor, TorchObject, refuse_foreign};

/// Where the embeddings are: ClipCap's key, then CapDec's.
const EMBEDDING_KEYS: [&str; 2] = ["clip_embedding", "clip_embedding_text_dave"];

/// Captions and the embeddings that belong to them.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainingSet {
    pub captions: Vec<TrainingCaption>,
    /// `[N, clip_dim]`, row by row.
    pub embeddings: Vec<f32>,
    pub clip_dim: usize,
}

/// One caption of an image.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainingCaption {
    pub image_id: String,
    pub caption: String,
    /// Its row in the embeddings.
    pub row: usize,
}

/// What [`TrainingSet::write`] wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    pub images: usize,
    pub captions: usize,
    pub clip_dim: usize,
}

/// Reads a training pickle.
///
/// # Errors
/// When it is none; the message names the file.
pub fn read_training_set(path: &Path) -> Result<TrainingSet> {
    let read = || -> Result<TrainingSet> {
        let section = Section::open(path)?;
        refuse_foreign(&section)?;
        let object = TorchObject::from_pickle(&section)?;
        let root = object.pickle.root;
        let (embeddings, clip_dim) = embeddings(&object)?;
        let rows = embeddings.len() / clip_dim;
        let list = object.pickle.get(root, "captions");
        let list = list.and_then(|list| object.pickle.items(list));
        let captions = list
            .context("it has no list of captions")?
            .iter()
            .enumerate()
            .map(|(index, &id)| {
                let caption = caption(&object, id, rows);
                caption.with_context(|| format!("caption {index}"))
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(TrainingSet {
            captions,
            embeddings,
            clip_dim,
        })
    };
    guarded(read)
        .unwrap_or_else(|panic| Err(panic.into()))
        .with_context(|| format!("{} is not a training set of ClipCap's", path.display()))
}

fn embeddings(object: &TorchObject) -> Result<(Vec<f32>, usize)> {
    for key in EMBEDDING_KEYS {
        let Some(id) = object.pickle.get(object.pickle.root, key) else {
            continue;
        };
        // CapDec leaves ClipCap's key with an empty tensor.
        match object.tensor(id).with_context(|| format!("`{key}`"))? {
            Some(tensor) if tensor.count() > 0 => {
                let [_, clip_dim] = tensor.shape[..] else {
                    bail!("`{key}` is {:?}, where rows are expected", tensor.shape);
                };
                let values = floats(&tensor).with_context(|| format!("`{key}`"))?;
                return Ok((values, clip_dim));
            }
            _ => {}
        }
    }
    bail!("it has no tensor under `{}`", EMBEDDING_KEYS.join("` or `"))
}

fn floats(tensor: &StoredTensor) -> Result<Vec<f32>> {
    let dtype = match tensor.dtype {
        DType::F32 => BurnDType::F32,
        DType::F16 => BurnDType::F16,
        DType::BF16 => BurnDType::BF16,
        DType::F64 => BurnDType::F64,
        other => bail!("the embeddings are {other}"),
    };
    let data = TensorData::from_bytes_vec(tensor.read()?, tensor.shape.clone(), dtype);
    let values: Vec<f32> = data.iter::<f32>().collect();
    let wrong = values.iter().filter(|value| !value.is_finite()).count();
    ensure!(
        wrong == 0,
        "{wrong} of its {} values are not finite: what embedded them failed; embed again",
        values.len()
    );
    Ok(values)
}

fn caption(object: &TorchObject, id: Id, rows: usize) -> Result<TrainingCaption> {
    let pickle = &object.pickle;
    let get = |key: &str| pickle.get(id, key);
    let image_id = get("image_id").context("it has no image_id")?;
    let image_id = match pickle.node(image_id) {
        Node::Text(text) => pickle.str(*text).to_string(),
        Node::Int(number) => number.to_string(),
        other => bail!("its image_id is {}", other.kind()),
    };
    let caption = get("caption").and_then(|caption| pickle.text(caption));
    let caption = caption.context("it has no caption")?.to_string();
    let row = get("clip_embedding").and_then(|row| pickle.size(row));
    let row = row.context("it has no row of the embeddings")?;
    ensure!(row < rows, "it has row {row} of {rows} embeddings");
    Ok(TrainingCaption {
        image_id,
        caption,
        row,
    })
}

impl TrainingSet {
    /// Writes a folder with `captions.json`, COCO's caption annotations, and `embeddings.safetensors`, whose
    /// `clip_embedding` has a row for each of its images, in their order: an image that was embedded once a caption is
    /// there once.
    pub fn write(&self, folder: &Path) -> Result<Written> {
        let mut images: HashMap<&str, usize> = HashMap::new();
        let (mut listed, mut rows) = (Vec::new(), Vec::new());
        for caption in &self.captions {
            images.entry(&caption.image_id).or_insert_with(|| {
                listed.push(json!({"id": caption.image_id, "file_name": caption.image_id}));
                rows.push(caption.row);
                listed.len()
            });
        }
        let annotations: Vec<_> = self
            .captions
            .iter()
            .map(|caption| json!({"image_id": caption.image_id, "caption": caption.caption}))
            .collect();
        let bytes: Vec<u8> = rows
            .iter()
            .flat_map(|row| &self.embeddings[row * self.clip_dim..][..self.clip_dim])
            .flat_map(|value| value.to_le_bytes())
            .collect();
        let view = TensorView::new(Dtype::F32, vec![rows.len(), self.clip_dim], &bytes)?;
        let serialized =
            safetensors::serialize([("clip_embedding", view)], None::<HashMap<String, String>>)?;
        files::write_folder(folder, |folder| {
            let coco = json!({"images": listed, "annotations": annotations});
            files::write_json(&folder.join("captions.json"), &coco)?;
            let path = folder.join("embeddings.safetensors");
            files::write_atomic(&path, |writer| writer.write_all(&serialized))?;
            Ok(Written {
                images: rows.len(),
                captions: self.captions.len(),
                clip_dim: self.clip_dim,
            })
        })
    }
}
