//! Python's pickles as data.
//!
//! A pickle is a program for a small stack machine. Here it becomes a tree of inert nodes, and nothing is run: where
//! Python would import a name and call it, the tree says that it would.

use anyhow::{Context, Result};

use super::machine::Machine;
use super::source::Section;

/// Names a node of a [`Pickle`].
pub type Id = u32;

/// A part of a [`Pickle`]'s text.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub start: usize,
    pub len: u32,
}

impl Span {
    /// Its characters in the text that it is a part of.
    pub fn of(self, text: &str) -> &str {
        &text[self.start..][..self.len as usize]
    }
}

/// A value of the tree.
#[derive(Clone, Debug)]
pub enum Node {
    None,
    Bool(bool),
    Int(i64),
    /// An integer beyond 64 bits, as the pickle spells it: two's complement, little-endian, in hexadecimal.
    Long(Span),
    Float(f64),
    Text(Span),
    /// Bytes, left where they are: offset and length in the section that was read.
    Bytes(u64, u64),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// A name that Python would import: `module.name`.
    Global(Span),
    /// What Python would get by calling a function with a tuple of arguments, with the state that is put into it.
    Call {
        function: Id,
        arguments: Id,
        state: Option<Id>,
    },
    /// A reference to something beside the pickle; PyTorch's storages.
    Persistent(Id),
}

/// The tree of one pickle.
#[derive(Debug)]
pub struct Pickle {
    nodes: Vec<Node>,
    text: String,
    pub root: Id,
    /// The section's byte after the pickle.
    pub end: u64,
}

impl Pickle {
    /// Reads the pickle that begins at byte `start` of a section.
    ///
    /// # Errors
    /// When it is cut short, is no pickle, or names what checkpoints have no use for.
    pub fn read(section: &Section, start: u64) -> Result<Self> {
        let mut machine = Machine::new(section, start);
        let root = machine
            .run()
            .with_context(|| format!("byte {}", machine.position()))?;
        let end = machine.position();
        let (nodes, text) = machine.finish();
        Ok(Self {
            nodes,
            text,
            root,
            end,
        })
    }

    /// A node of this tree.
    pub fn node(&self, id: Id) -> &Node {
        &self.nodes[id as usize]
    }

    /// Every node, in the order of making.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The characters of a span of this tree.
    pub fn str(&self, span: Span) -> &str {
        span.of(&self.text)
    }

    /// The characters of a text node.
    pub fn text(&self, id: Id) -> Option<&str> {
        match self.node(id) {
            Node::Text(span) => Some(self.str(*span)),
            _ => None,
        }
    }

    /// The `module.name` of a global node.
    pub fn global(&self, id: Id) -> Option<&str> {
        match self.node(id) {
            Node::Global(span) => Some(self.str(*span)),
            _ => None,
        }
    }

    /// The elements of a tuple or list.
    pub fn items(&self, id: Id) -> Option<&[Id]> {
        match self.node(id) {
            Node::Tuple(items) | Node::List(items) => Some(items),
            _ => None,
        }
    }

    /// The value of an integer node that is not negative.
    pub fn size(&self, id: Id) -> Option<usize> {
        match self.node(id) {
            Node::Int(value) => usize::try_from(*value).ok(),
            _ => None,
        }
    }

    /// The value of a dictionary's key.
    pub fn get(&self, dict: Id, key: &str) -> Option<Id> {
        match self.node(dict) {
            Node::Dict(entries) => entries
                .iter()
                .rev()
                .find(|(name, _)| self.text(*name) == Some(key))
                .map(|&(_, value)| value),
            _ => None,
        }
    }
}

impl Node {
    /// What it is, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Bool(_) => "a truth value",
            Self::Int(_) | Self::Long(_) => "an integer",
            Self::Float(_) => "a float",
            Self::Text(_) => "a text",
            Self::Bytes(..) => "bytes",
            Self::Tuple(_) => "a tuple",
            Self::List(_) => "a list",
            Self::Dict(_) => "a dictionary",
            Self::Global(_) => "a name",
            Self::Call { .. } => "an object",
            Self::Persistent(_) => "a storage",
        }
    }
}
