//! The numbers, texts and bytes that a pickle holds as they are.

use anyhow::{Context, Result, ensure};

use super::super::pickle::Node;
use super::Machine;

/// Longest name or sentence, in bytes.
const LONGEST_TEXT: u64 = 1 << 20;
/// Longest of Python 2's strings that is taken for text, in bytes.
const LONGEST_OLD_TEXT: u64 = 4096;

impl Machine {
    pub(super) fn integer(&mut self, opcode: u8) -> Result<()> {
        let value = match opcode {
            b'J' => i32::from_le_bytes(self.cursor.array()?).into(),
            b'K' => u8::from_le_bytes(self.cursor.array()?).into(),
            b'M' => u16::from_le_bytes(self.cursor.array()?).into(),
            b'I' | b'L' => return self.decimal(),
            0x8a => {
                let [len] = self.cursor.array()?;
                return self.long(len.into());
            }
            _ => {
                let len = u32::from_le_bytes(self.cursor.array()?);
                return self.long(len.into());
            }
        };
        self.push(Node::Int(value))
    }

    fn decimal(&mut self) -> Result<()> {
        let line = self.cursor.line()?;
        let digits = line.strip_suffix(b"L").unwrap_or(&line);
        let value = match digits {
            b"00" => Node::Bool(false),
            b"01" => Node::Bool(true),
            _ => Node::Int(
                str::from_utf8(digits)
                    .ok()
                    .and_then(|digits| digits.parse().ok())
                    .context("an integer of the pickle cannot be read")?,
            ),
        };
        self.push(value)
    }

    fn long(&mut self, len: u64) -> Result<()> {
        ensure!(len <= 1024, "an integer of the pickle has {len} bytes");
        let bytes = self.cursor.bytes(len)?;
        if bytes.len() > 8 {
            let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let span = self.push_text(&digits)?;
            return self.push(Node::Long(span));
        }
        let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
        let mut value = [if negative { 0xff } else { 0 }; 8];
        value[..bytes.len()].copy_from_slice(&bytes);
        self.push(Node::Int(i64::from_le_bytes(value)))
    }

    fn length(&mut self, width: usize) -> Result<u64> {
        Ok(match width {
            1 => u8::from_le_bytes(self.cursor.array()?).into(),
            4 => u32::from_le_bytes(self.cursor.array()?).into(),
            _ => u64::from_le_bytes(self.cursor.array()?),
        })
    }

    pub(super) fn unicode(&mut self, opcode: u8) -> Result<()> {
        let len = self.length(match opcode {
            0x8c => 1,
            b'X' => 4,
            _ => 8,
        })?;
        ensure!(len <= LONGEST_TEXT, "a text of the pickle has {len} bytes");
        let bytes = self.cursor.bytes(len)?;
        // Python writes lone surrogates, which are no characters.
        let span = self.push_text(&String::from_utf8_lossy(&bytes))?;
        self.push(Node::Text(span))
    }

    pub(super) fn byte_string(&mut self, opcode: u8) -> Result<()> {
        let len = self.length(match opcode {
            b'C' | b'U' => 1,
            b'B' | b'T' => 4,
            _ => 8,
        })?;
        let at = self.cursor.position();
        if matches!(opcode, b'T' | b'U') && len <= LONGEST_OLD_TEXT {
            // Python 2's strings, which its state dicts have for names. Longer ones are its arrays' bytes.
            let bytes = self.cursor.bytes(len)?;
            let span = self.push_text(&String::from_utf8_lossy(&bytes))?;
            return self.push(Node::Text(span));
        }
        self.cursor.skip(len)?;
        self.push(Node::Bytes(at, len))
    }
}
