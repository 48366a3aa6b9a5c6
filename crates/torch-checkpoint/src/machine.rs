//! The stack machine that a pickle is a program for. Opcodes after `pickletools.py` (CPython 3.13), protocols 2 to 5.

mod literals;

use std::collections::HashMap;

use anyhow::{Context, Result, bail, ensure};

use super::globals::is_known;
use super::pickle::{Id, Node, Span};
use super::source::{Cursor, Section};

/// Opcodes that one pickle may have: twice what a training set of three million captions takes.
const MOST_OPCODES: u64 = 100_000_000;
/// Longest name that the pickle would import, in bytes.
const LONGEST_NAME: usize = 512;

/// The stack, and what was made so far.
pub struct Machine {
    cursor: Cursor,
    nodes: Vec<Node>,
    text: String,
    stack: Vec<Id>,
    /// Heights of the stack at which marks stand.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
}

impl Machine {
    /// Begins at byte `start`.
    pub fn new(section: &Section, start: u64) -> Self {
        Self {
            cursor: Cursor::new(section.clone(), start),
            nodes: Vec::new(),
            text: String::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        }
    }

    /// Where the next instruction is.
    pub fn position(&self) -> u64 {
        self.cursor.position()
    }

    /// All nodes, and the text that their spans are parts of.
    pub fn finish(self) -> (Vec<Node>, String) {
        (self.nodes, self.text)
    }

    /// Goes on to the end and returns the root.
    pub fn run(&mut self) -> Result<Id> {
        for _ in 0..MOST_OPCODES {
            let [opcode] = self.cursor.array()?;
            if opcode == b'.' {
                return self.pop();
            }
            self.step(opcode)?;
        }
        bail!("the pickle has more than {MOST_OPCODES} instructions");
    }

    fn step(&mut self, opcode: u8) -> Result<()> {
        match opcode {
            0x80 => self.protocol(),
            0x95 => self.cursor.array::<8>().map(drop), // FRAME
            b'N' => self.push(Node::None),
            0x88 => self.push(Node::Bool(true)),
            0x89 => self.push(Node::Bool(false)),
            b'J' | b'K' | b'M' | b'I' | b'L' | 0x8a | 0x8b => self.integer(opcode),
            b'G' => {
                let value = f64::from_be_bytes(self.cursor.array()?);
                self.push(Node::Float(value))
            }
            b'X' | 0x8c | 0x8d => self.unicode(opcode),
            b'B' | b'C' | 0x8e | 0x96 | b'T' | b'U' => self.byte_string(opcode),
            b'(' => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            b'0' | b'1' | b'2' => self.shuffle(opcode),
            b']' => self.push(Node::List(Vec::new())),
            b')' => self.push(Node::Tuple(Vec::new())),
            b'}' => self.push(Node::Dict(Vec::new())),
            0x8f => self.push(Node::List(Vec::new())), // EMPTY_SET: only its elements matter here
            b't' | 0x85..=0x87 => self.tuple(opcode),
            b'l' | 0x91 => {
                let items = self.pop_mark()?;
                self.push(Node::List(items))
            }
            b'd' => {
                let entries = pairs(self.pop_mark()?)?;
                self.push(Node::Dict(entries))
            }
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])
            }
            b'e' | 0x90 => {
                let items = self.pop_mark()?;
                self.append(items)
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set_items(vec![(key, value)])
            }
            b'u' => {
                let entries = pairs(self.pop_mark()?)?;
                self.set_items(entries)
            }
            b'c' | 0x93 => self.global(opcode),
            b'R' | 0x81 => {
                let arguments = self.pop()?;
                let function = self.pop()?;
                self.call(function, arguments)
            }
            0x92 => {
                // NEWOBJ_EX: named arguments are never needed here
                self.pop()?;
                let arguments = self.pop()?;
                let function = self.pop()?;
                self.call(function, arguments)
            }
            b'b' => self.build(),
            b'Q' => {
                let id = self.pop()?;
                self.push(Node::Persistent(id))
            }
            b'q' | b'r' | 0x94 | b'p' => self.put(opcode),
            b'h' | b'j' | b'g' => self.get(opcode),
            0x97 | 0x98 => bail!("the pickle keeps its data in buffers outside of it"),
            b'i' | b'o' | b'P' | b'S' | b'V' | b'F' => {
                bail!("the pickle is of protocol 0 or 1; save it again with a Python 3")
            }
            other => bail!("{other:#04x} is not an instruction of a pickle"),
        }
    }

    fn protocol(&mut self) -> Result<()> {
        let [version] = self.cursor.array()?;
        ensure!(
            version <= 5,
            "the pickle is of protocol {version}, and 5 is the latest known"
        );
        Ok(())
    }

    fn push(&mut self, node: Node) -> Result<()> {
        let id = Id::try_from(self.nodes.len())?;
        self.nodes.push(node);
        self.stack.push(id);
        Ok(())
    }

    fn pop(&mut self) -> Result<Id> {
        let floor = self.marks.last().copied().unwrap_or(0);
        ensure!(
            self.stack.len() > floor,
            "the pickle takes what it has not put there"
        );
        self.stack.pop().context("the pickle's stack is empty")
    }

    fn pop_mark(&mut self) -> Result<Vec<Id>> {
        let mark = self
            .marks
            .pop()
            .context("the pickle has no mark to go back to")?;
        Ok(self.stack.split_off(mark))
    }

    fn top(&self) -> Result<Id> {
        let floor = self.marks.last().copied().unwrap_or(0);
        (self.stack.len() > floor)
            .then(|| self.stack.last().copied())
            .flatten()
            .context("the pickle changes what it has not put there")
    }

    fn push_text(&mut self, text: &str) -> Result<Span> {
        let start = self.text.len();
        self.text.push_str(text);
        Ok(Span {
            start,
            len: u32::try_from(text.len())?,
        })
    }

    fn shuffle(&mut self, opcode: u8) -> Result<()> {
        match opcode {
            b'0' if self.marks.last() == Some(&self.stack.len()) => {
                self.marks.pop();
            }
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_mark()?),
            _ => self.stack.push(self.top()?),
        }
        Ok(())
    }

    fn tuple(&mut self, opcode: u8) -> Result<()> {
        let items = if opcode == b't' {
            self.pop_mark()?
        } else {
            let count = usize::from(opcode - 0x84);
            let mut items = (0..count).map(|_| self.pop()).collect::<Result<Vec<_>>>()?;
            items.reverse();
            items
        };
        self.push(Node::Tuple(items))
    }

    fn append(&mut self, items: Vec<Id>) -> Result<()> {
        let target = self.top()?;
        match &mut self.nodes[target as usize] {
            Node::List(list) => list.extend(items),
            Node::Call { .. } => {} // an object that behaves like a list, of no interest
            other => bail!("the pickle appends to {}", other.kind()),
        }
        Ok(())
    }

    fn set_items(&mut self, entries: Vec<(Id, Id)>) -> Result<()> {
        let target = self.top()?;
        match &mut self.nodes[target as usize] {
            Node::Dict(dict) => dict.extend(entries),
            Node::Call { .. } => {}
            other => bail!("the pickle sets keys of {}", other.kind()),
        }
        Ok(())
    }

    fn global(&mut self, opcode: u8) -> Result<()> {
        let name = if opcode == b'c' {
            let [module, name] = [self.cursor.line()?, self.cursor.line()?];
            format!(
                "{}.{}",
                String::from_utf8_lossy(&module),
                String::from_utf8_lossy(&name)
            )
        } else {
            let [name, module] = [self.pop()?, self.pop()?];
            match (&self.nodes[module as usize], &self.nodes[name as usize]) {
                (Node::Text(module), Node::Text(name)) => {
                    let text = |span: &Span| span.of(&self.text);
                    format!("{}.{}", text(module), text(name))
                }
                _ => bail!("the pickle imports something without a name"),
            }
        };
        ensure!(
            name.len() <= LONGEST_NAME,
            "a name of the pickle has {} bytes",
            name.len()
        );
        ensure!(
            is_known(&name),
            "it would have Python import `{name}`, which no checkpoint needs; nothing of it was run, and it should not be trusted"
        );
        let span = self.push_text(&name)?;
        self.push(Node::Global(span))
    }

    fn call(&mut self, function: Id, arguments: Id) -> Result<()> {
        let is_dict = match &self.nodes[function as usize] {
            Node::Global(span) => [
                "collections.OrderedDict",
                "collections.defaultdict",
                "builtins.dict",
            ]
            .contains(&span.of(&self.text)),
            Node::Call { .. } => false,
            other => bail!("the pickle calls {}", other.kind()),
        };
        if is_dict {
            let entries = self.ordered_dict(arguments);
            return self.push(Node::Dict(entries));
        }
        self.push(Node::Call {
            function,
            arguments,
            state: None,
        })
    }

    /// `OrderedDict([[key, value], ..])`, as Python 2 wrote it; otherwise the entries come later.
    fn ordered_dict(&self, arguments: Id) -> Vec<(Id, Id)> {
        let items = |id: Id| match &self.nodes[id as usize] {
            Node::List(items) | Node::Tuple(items) => items.as_slice(),
            _ => &[],
        };
        let Some(&list) = items(arguments).first() else {
            return Vec::new();
        };
        items(list)
            .iter()
            .filter_map(|&pair| match *items(pair) {
                [key, value] => Some((key, value)),
                _ => None,
            })
            .collect()
    }

    fn build(&mut self) -> Result<()> {
        let new = self.pop()?;
        let target = self.top()?;
        match &mut self.nodes[target as usize] {
            Node::Call { state, .. } => *state = Some(new),
            Node::Dict(_) | Node::List(_) => {} // attributes of a dictionary: a state dict's `_metadata`
            other => bail!("the pickle sets attributes of {}", other.kind()),
        }
        Ok(())
    }

    fn put(&mut self, opcode: u8) -> Result<()> {
        let key = match opcode {
            b'q' => u8::from_le_bytes(self.cursor.array()?).into(),
            b'r' => u32::from_le_bytes(self.cursor.array()?).into(),
            b'p' => self.memo_key()?,
            _ => self.memo.len() as u64,
        };
        self.memo.insert(key, self.top()?);
        Ok(())
    }

    fn get(&mut self, opcode: u8) -> Result<()> {
        let key = match opcode {
            b'h' => u8::from_le_bytes(self.cursor.array()?).into(),
            b'j' => u32::from_le_bytes(self.cursor.array()?).into(),
            _ => self.memo_key()?,
        };
        let id = self
            .memo
            .get(&key)
            .context("the pickle reads what it never kept")?;
        self.stack.push(*id);
        Ok(())
    }

    fn memo_key(&mut self) -> Result<u64> {
        let line = self.cursor.line()?;
        str::from_utf8(&line)
            .ok()
            .and_then(|digits| digits.parse().ok())
            .context("a name of the pickle's memory cannot be read")
    }
}

fn pairs(items: Vec<Id>) -> Result<Vec<(Id, Id)>> {
    let (pairs, rest) = items.as_chunks::<2>();
    ensure!(rest.is_empty(), "the pickle has a key without a value");
    Ok(pairs.iter().map(|&[key, value]| (key, value)).collect())
}
