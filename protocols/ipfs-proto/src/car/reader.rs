//! A CAR of either version, from bytes as they come.

use std::borrow::Cow;

use bytes::{Buf, Bytes, BytesMut};
use ipld_core::ipld::Ipld;
use swarmgate_content::Cid;

use super::{MAX_HEADER_BYTES, MAX_SECTION_BYTES};
use crate::codec::{Codec, link_target};
use crate::protobuf::peek_varint;

/// The header of version 2 behind its first section, in bytes: characteristics, then where its data begins, how long it
/// is, and where the index begins.
const V2_HEADER_BYTES: usize = 40;
/// The first section of version 2, in bytes. It is always the same.
const V2_PRAGMA_BYTES: u64 = 11;

/// What a [`CarReader`] reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CarEvent {
    /// The header, once, before all blocks.
    Header {
        /// 1 or 2.
        version: u8,
        /// The roots, as the header has them; they may be none, and may be missing from the blocks.
        roots: Vec<Cid>,
    },
    /// A block. Nobody has hashed it yet.
    Block {
        /// The name it claims.
        cid: Cid,
        /// Its bytes.
        bytes: Bytes,
    },
}

/// What is wrong with a CAR, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("CAR, byte {offset}: {why}")]
pub struct CarError {
    /// The offset of the section that is wrong, or of the end that came too early.
    pub offset: u64,
    /// The first thing that is wrong.
    pub why: Cow<'static, str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    /// The first section: the header of version 1, or the mark of version 2.
    First,
    V2Header,
    /// So many bytes that mean nothing here.
    Padding(u64),
    /// The header of the data in a CAR of version 2.
    Inner,
    Sections,
    /// Whatever: the index of version 2.
    Rest,
}

/// Reads a CAR. Poll it until it gives nothing before the next push, and it holds no more than one section and what was
/// pushed last.
#[derive(Debug)]
pub struct CarReader {
    buffer: BytesMut,
    expect: Expect,
    /// How many bytes were read before the buffer.
    offset: u64,
    /// In version 2, how many bytes of data are to come.
    data_left: Option<u64>,
}

impl Default for CarReader {
    fn default() -> Self {
        Self::new()
    }
}

impl CarReader {
    /// Before the first byte.
    #[must_use]
    pub fn new() -> Self {
        Self { buffer: BytesMut::new(), expect: Expect::First, offset: 0, data_left: None }
    }

    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.expect == Expect::Rest {
            self.offset += bytes.len() as u64;
        } else {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// The next thing that is whole; `None` when more bytes are needed.
    ///
    /// # Errors
    /// [`CarError`] when this is no CAR, or a part of it is larger than it may be.
    pub fn poll(&mut self) -> Result<Option<CarEvent>, CarError> {
        loop {
            match self.expect {
                Expect::First | Expect::Inner => match self.read_header()? {
                    Some(event @ Some(_)) => return Ok(event),
                    Some(None) => {}
                    None => return Ok(None),
                },
                Expect::V2Header => {
                    let Some(header) = self.buffer.get(..V2_HEADER_BYTES) else { return Ok(None) };
                    let number = |at: usize| {
                        u64::from_le_bytes(header[at..at + 8].try_into().expect("eight bytes are an array of eight"))
                    };
                    let (start, len) = (number(16), number(24));
                    let padding = start.checked_sub(V2_PRAGMA_BYTES + V2_HEADER_BYTES as u64);
                    let padding = padding.filter(|_| len > 0 && start.checked_add(len).is_some());
                    let padding = padding.ok_or_else(|| self.error("its data has no place"))?;
                    self.skip(V2_HEADER_BYTES);
                    self.data_left = Some(len);
                    self.expect = Expect::Padding(padding);
                }
                Expect::Padding(0) => self.expect = Expect::Inner,
                Expect::Padding(left) => {
                    let now = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
                    if now == 0 {
                        return Ok(None);
                    }
                    self.skip(now);
                    self.expect = Expect::Padding(left - now as u64);
                }
                Expect::Sections if self.data_left == Some(0) => {
                    self.offset += self.buffer.len() as u64;
                    self.buffer = BytesMut::new();
                    self.expect = Expect::Rest;
                }
                Expect::Sections => return self.read_block(),
                Expect::Rest => return Ok(None),
            }
        }
    }

    /// Says that no more bytes come.
    ///
    /// # Errors
    /// [`CarError`] when the CAR is not whole.
    pub fn finish(&self) -> Result<(), CarError> {
        let whole = match self.expect {
            Expect::Sections => self.buffer.is_empty() && self.data_left.is_none_or(|left| left == 0),
            Expect::Rest => true,
            Expect::First | Expect::V2Header | Expect::Padding(_) | Expect::Inner => false,
        };
        if whole {
            return Ok(());
        }
        Err(CarError { offset: self.offset + self.buffer.len() as u64, why: "it ends too early".into() })
    }

    fn error(&self, why: impl Into<Cow<'static, str>>) -> CarError {
        CarError { offset: self.offset, why: why.into() }
    }

    fn skip(&mut self, len: usize) {
        self.buffer.advance(len);
        self.offset += len as u64;
    }

    /// Takes a section off the buffer, if it is all there.
    fn section(&mut self, max_bytes: usize) -> Result<Option<Bytes>, CarError> {
        let peeked = peek_varint(&self.buffer).map_err(|why| self.error(why))?;
        let Some((len, head)) = peeked else { return Ok(None) };
        let fits = usize::try_from(len).ok().filter(|len| (1..=max_bytes).contains(len));
        let Some(len) = fits else { return Err(self.error(format!("a section of {len} bytes"))) };
        let all = (head + len) as u64;
        if self.data_left.is_some_and(|left| left < all) {
            return Err(self.error("a section reaches out of the data"));
        }
        if self.buffer.len() < head + len {
            self.buffer.reserve(head + len - self.buffer.len());
            return Ok(None);
        }
        self.buffer.advance(head);
        let section = self.buffer.split_to(len).freeze();
        self.data_left = self.data_left.map(|left| left - all);
        self.offset += all;
        Ok(Some(section))
    }

    /// `Some(None)` when it was the mark of version 2, behind which the header is still to come.
    fn read_header(&mut self) -> Result<Option<Option<CarEvent>>, CarError> {
        let start = self.offset;
        let error = |why: Cow<'static, str>| CarError { offset: start, why };
        let inner = self.expect == Expect::Inner;
        let Some(section) = self.section(MAX_HEADER_BYTES)? else { return Ok(None) };
        let value = Codec::DagCbor.decode(&section).map_err(|flaw| error(flaw.to_string().into()))?;
        let Ipld::Map(fields) = value else { return Err(error("its header is not a map".into())) };
        match fields.get("version") {
            Some(Ipld::Integer(1)) => {}
            Some(Ipld::Integer(2)) if !inner && self.offset == V2_PRAGMA_BYTES => {
                self.expect = Expect::V2Header;
                return Ok(Some(None));
            }
            _ => return Err(error("its version is neither 1 nor 2".into())),
        }
        let Some(Ipld::List(roots)) = fields.get("roots") else { return Err(error("its header has no roots".into())) };
        let roots = roots.iter().map(link_target).collect::<Option<_>>();
        let roots = roots.ok_or_else(|| error("a root is not a link".into()))?;
        self.expect = Expect::Sections;
        Ok(Some(Some(CarEvent::Header { version: if inner { 2 } else { 1 }, roots })))
    }

    fn read_block(&mut self) -> Result<Option<CarEvent>, CarError> {
        let start = self.offset;
        let Some(section) = self.section(MAX_SECTION_BYTES)? else { return Ok(None) };
        let mut rest = &section[..];
        let cid = Cid::read_bytes(&mut rest);
        let cid = cid.map_err(|_| CarError { offset: start, why: "a section does not begin with a CID".into() })?;
        let bytes = section.slice_ref(rest);
        Ok(Some(CarEvent::Block { cid, bytes }))
    }
}
