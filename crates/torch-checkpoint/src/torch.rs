//! What `torch.save`, `torch.jit.save` and a plain `pickle.dump` of tensors write: a pickle, and storages that it refers to.
//!
//! - zip archive: `NAME/data.pkl` and one `NAME/data/KEY` a storage (PyTorch 1.6 and later, TorchScript archives);
//! - legacy stream: five pickles (magic, protocol, system, object, storage keys), then each storage after its length;
//! - plain pickle: tensors refer to a legacy stream of their own, kept in the pickle as bytes.
//!
//! Formats after `torch/serialization.py` and `torch/_utils.py`, 2.15.

use std::collections::HashMap;

use anyhow::{Context, Result, bail, ensure};

use super::pickle::{Id, Node, Pickle};
use super::source::{Cursor, Section};
use super::tensor::{DType, StoredTensor};

/// `0x1950a86a20f9469cfc6c`, little-endian: what a legacy stream begins with.
const LEGACY_MAGIC: &str = "6cfc9c46f9206aa85019";
/// The legacy stream's only version.
const LEGACY_PROTOCOL: i64 = 1001;

/// An object that PyTorch saved, with its storages.
#[derive(Debug)]
pub struct TorchObject {
    pub pickle: Pickle,
    /// How the file is put together, for the report.
    pub format: &'static str,
    storages: HashMap<String, Section>,
    /// The section that the pickle was read from: its bytes nodes are ranges of it.
    section: Section,
}

/// Bytes of elements, before a tensor gives them a shape.
struct Storage {
    dtype: DType,
    bytes: Section,
}

/// Whether a file is a zip archive.
pub fn is_zip(first: &[u8]) -> bool {
    first.starts_with(b"PK\x03\x04")
}

/// Whether a file is a pickle of protocol 2 or later.
pub fn is_pickle(first: &[u8]) -> bool {
    matches!(first, [0x80, 2..=5, ..])
}

impl TorchObject {
    /// Reads a zip archive.
    pub fn from_zip(section: &Section) -> Result<Self> {
        let mut archive = zip::ZipArchive::new(Cursor::new(section.clone(), 0))
            .context("it begins like a zip archive and is none, or is cut short")?;
        let mut root = None;
        let mut entries = HashMap::new();
        for index in 0..archive.len() {
            let entry = archive.by_index_raw(index)?;
            let stored = entry.compression() == zip::CompressionMethod::Stored;
            let name = entry.name()?.into_owned();
            if let Some(folder) = name.strip_suffix("data.pkl") {
                root = Some(folder.to_string());
            }
            let start = entry.data_start();
            let start = start.context("an entry of the archive has no place in it")?;
            entries.insert(name, (stored, start, entry.size()));
        }
        let root = root.with_context(|| {
            let held = entries.keys().min().map_or("nothing", String::as_str);
            format!("it is a zip archive without a data.pkl (it holds {held}), so no PyTorch checkpoint: unpack it, and give the file with the weights")
        })?;
        let open = |name: &str, (stored, start, len): (bool, u64, u64)| {
            ensure!(
                stored,
                "{name} in it is compressed: save it again with torch.save"
            );
            section.part(start, len).with_context(|| name.to_string())
        };
        if let Some(&entry) = entries.get(&format!("{root}byteorder")) {
            let order = open("byteorder", entry)?;
            ensure!(
                order.byte_len() <= 16 && order.read()? == b"little",
                "its numbers are big-endian: save it again on a little-endian machine"
            );
        }
        let name = format!("{root}data.pkl");
        let pickle_section = open(&name, entries[&name])?;
        let prefix = format!("{root}data/");
        let mut storages = HashMap::new();
        for (name, &entry) in &entries {
            if let Some(key) = name.strip_prefix(&prefix) {
                storages.insert(key.to_string(), open(name, entry)?);
            }
        }
        let is_script = entries
            .keys()
            .any(|name| name.starts_with(&format!("{root}code/")));
        Ok(Self {
            pickle: Pickle::read(&pickle_section, 0)?,
            format: if is_script {
                "TorchScript archive"
            } else {
                "PyTorch zip archive"
            },
            storages,
            section: pickle_section,
        })
    }

    /// Reads a stream that begins with a pickle: a legacy checkpoint, or a plain pickle.
    pub fn from_pickle(section: &Section) -> Result<Self> {
        let first = Pickle::read(section, 0)?;
        if !matches!(first.node(first.root), Node::Long(digits) if first.str(*digits) == LEGACY_MAGIC)
        {
            return Ok(Self {
                pickle: first,
                format: "pickle",
                storages: HashMap::new(),
                section: section.clone(),
            });
        }
        let protocol = Pickle::read(section, first.end)?;
        ensure!(
            matches!(protocol.node(protocol.root), Node::Int(LEGACY_PROTOCOL)),
            "it is a legacy PyTorch file of an unknown version"
        );
        let system = Pickle::read(section, protocol.end)?;
        if let Some(order) = system.get(system.root, "little_endian") {
            ensure!(
                !matches!(system.node(order), Node::Bool(false)),
                "its numbers are big-endian: save it again on a little-endian machine"
            );
        }
        let object = Pickle::read(section, system.end)?;
        let keys = Pickle::read(section, object.end)?;
        let storages = legacy_storages(section, &object, &keys)?;
        Ok(Self {
            pickle: object,
            format: "legacy PyTorch file",
            storages,
            section: section.clone(),
        })
    }

    /// The tensor that a node describes, or `None` when it describes something else.
    pub fn tensor(&self, id: Id) -> Result<Option<StoredTensor>> {
        let Node::Call {
            function,
            arguments,
            ..
        } = self.pickle.node(id)
        else {
            return Ok(None);
        };
        let arguments = self.pickle.items(*arguments).unwrap_or_default();
        match (self.pickle.global(*function), arguments) {
            (
                Some("torch._utils._rebuild_tensor_v2" | "torch._utils._rebuild_tensor"),
                [storage, offset, shape, strides, ..],
            ) => {
                let storage = self.storage(*storage)?;
                let offset = self
                    .pickle
                    .size(*offset)
                    .context("its offset is not a size")?;
                let (shape, strides) = (self.sizes(*shape)?, self.sizes(*strides)?);
                StoredTensor::view(storage.dtype, shape, strides, offset, storage.bytes).map(Some)
            }
            (
                Some(
                    "torch._utils._rebuild_parameter"
                    | "torch._utils._rebuild_parameter_with_state"
                    | "torch.nn.parameter.Parameter",
                ),
                [data, ..],
            ) if *data < id => self.tensor(*data), // made before it, so this comes to an end
            _ => Ok(None),
        }
    }

    fn sizes(&self, id: Id) -> Result<Vec<usize>> {
        let sizes = match self.pickle.node(id) {
            // torch.Size((..))
            Node::Call { arguments, .. } => {
                let arguments = self.pickle.items(*arguments).unwrap_or_default();
                arguments.first().copied().unwrap_or(id)
            }
            _ => id,
        };
        let sizes = self
            .pickle
            .items(sizes)
            .context("its shape is not a tuple")?;
        sizes
            .iter()
            .map(|&size| {
                self.pickle
                    .size(size)
                    .context("one of its sizes is not a size")
            })
            .collect()
    }

    fn storage(&self, id: Id) -> Result<Storage> {
        match self.pickle.node(id) {
            Node::Persistent(reference) => {
                let reference = Reference::read(&self.pickle, *reference)?;
                let bytes = self.storages.get(reference.key).with_context(|| {
                    format!("its storage `{}` is not in the file", reference.key)
                })?;
                let size = reference.dtype.size() as u64;
                let start = (reference.view_offset as u64).checked_mul(size);
                let start = start.context("its storage begins outside of the file")?;
                let len = bytes.byte_len().checked_sub(start);
                let len = len.context("its storage begins outside of the file")?;
                Ok(Storage {
                    dtype: reference.dtype,
                    bytes: bytes.part(start, len)?,
                })
            }
            Node::Call {
                function,
                arguments,
                ..
            } => {
                ensure!(
                    self.pickle.global(*function) == Some("torch.storage._load_from_bytes"),
                    "its storage is of an unknown kind"
                );
                let arguments = self.pickle.items(*arguments).unwrap_or_default();
                let bytes = arguments.first().context("its storage is empty")?;
                self.nested_storage(*bytes)
            }
            _ => bail!("its storage is of an unknown kind"),
        }
    }

    /// A storage that is a legacy stream within the pickle.
    fn nested_storage(&self, bytes: Id) -> Result<Storage> {
        let Node::Bytes(offset, len) = *self.pickle.node(bytes) else {
            bail!("its storage is not bytes: save it with pickle protocol 3 or later");
        };
        let nested = Self::from_pickle(&self.section.part(offset, len)?)?;
        ensure!(
            matches!(nested.pickle.node(nested.pickle.root), Node::Persistent(_)),
            "its storage is of an unknown kind"
        );
        nested.storage(nested.pickle.root)
    }
}

/// What a pickle says of a storage beside it: `("storage", class, key, device, count, view)`.
struct Reference<'a> {
    dtype: DType,
    key: &'a str,
    count: usize,
    /// Elements before the view, where the storage is one.
    view_offset: usize,
}

impl<'a> Reference<'a> {
    fn read(pickle: &'a Pickle, id: Id) -> Result<Self> {
        let Some([kind, class, key, _device, count, rest @ ..]) = pickle.items(id) else {
            bail!("the pickle refers to something that is not a storage");
        };
        ensure!(
            pickle.text(*kind) == Some("storage"),
            "the pickle refers to something that is not a storage"
        );
        let class = pickle.global(*class).unwrap_or_default();
        let class = class.rsplit('.').next().unwrap_or_default();
        let view = rest.first().and_then(|&view| pickle.items(view));
        let view_offset = match view {
            Some([_, offset, ..]) => pickle
                .size(*offset)
                .context("a storage's offset is not a size")?,
            _ => 0,
        };
        Ok(Self {
            dtype: DType::from_storage(class)
                .with_context(|| format!("storages of `{class}` are not known"))?,
            key: pickle.text(*key).context("a storage has no name")?,
            count: pickle
                .size(*count)
                .context("a storage's length is not a size")?,
            view_offset,
        })
    }
}

/// Finds the storages behind the five pickles: each is its length, 8 bytes, and its elements.
fn legacy_storages(
    section: &Section,
    object: &Pickle,
    keys: &Pickle,
) -> Result<HashMap<String, Section>> {
    let mut dtypes = HashMap::new();
    for node in object.nodes() {
        if let Node::Persistent(id) = node {
            let reference = Reference::read(object, *id)?;
            dtypes.insert(reference.key, (reference.dtype, reference.count));
        }
    }
    let mut storages = HashMap::new();
    let mut cursor = Cursor::new(section.clone(), keys.end);
    for &key in keys
        .items(keys.root)
        .context("it has no list of storages")?
    {
        let key = keys.text(key).context("a storage has no name")?;
        let &(dtype, _) = dtypes
            .get(key)
            .with_context(|| format!("nothing refers to storage `{key}`"))?;
        let count = u64::from_le_bytes(cursor.array()?);
        let bytes = count
            .checked_mul(dtype.size() as u64)
            .with_context(|| format!("storage `{key}` has {count} elements"))?;
        let bytes = cursor
            .skip(bytes)
            .with_context(|| format!("storage `{key}`"))?;
        storages.insert(key.to_string(), bytes);
    }
    Ok(storages)
}
