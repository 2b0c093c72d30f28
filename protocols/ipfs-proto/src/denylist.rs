//! Denylists: what an operator does not serve, in the compact format that IPFS nodes share
//! (<https://specs.ipfs.tech/compact-denylist-format/>, IPIP-383), with one line of our own for torrents.
//!
//! | line | blocks |
//! |---|---|
//! | `/ipfs/CID`, `/ipns/NAME` | exactly that, by its multihash |
//! | `/ipfs/CID/a/b` | exactly that path |
//! | `/ipfs/CID/a*`, `/ipfs/CID/*` | every path that begins so |
//! | `//HASH` | what hashes to that: a base58 multihash or 64 hex digits, so that a list need not name what it bans |
//! | `/bt/INFOHASH`, with a path too | the same for torrents |
//!
//! A `!` before a line makes an exception. Of all lines that match, the last decides, so lists can be appended to. A
//! line that cannot be read is reported with its number and skipped: the others still hold.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER_PERMISSIVE;
use multibase::Base;
use swarmgate_content::{BlockHash, Cid, ContentId, HashKind};

use crate::codec::Codec;
use crate::content_path::{ContentPath, Root};

/// Longest line that is read, in bytes. The format allows 2 MiB; no content path has more than this.
pub const MAX_LINE_BYTES: usize = 16 << 10;
/// Longest header, in bytes.
pub const MAX_HEADER_BYTES: usize = 1 << 20;
/// Rules in one list: about ten times the largest public one.
pub const MAX_RULES: usize = 4_000_000;
/// Bad lines that are told one by one; more are counted.
pub const MAX_REPORTED: usize = 100;
/// The codecs under which a block is looked for by its double hash, besides the one it is asked for by.
const BLOCK_CODECS: [Codec; 6] = [Codec::Raw, Codec::DagPb, Codec::DagCbor, Codec::DagJson, Codec::Cbor, Codec::Json];
/// Longest hints of a line that are kept, in bytes.
const MAX_HINT_BYTES: usize = 1024;

/// A list, ready to be asked.
#[derive(Debug, Default)]
pub struct Denylist {
    /// Its name, from the header.
    name: Option<String>,
    rules: BTreeMap<Subject, Vec<Rule>>,
    /// By SHA2-256 of what is asked for: line, and whether it is an exception.
    hashed: BTreeMap<[u8; 32], (u32, bool)>,
    hints: BTreeMap<u32, String>,
    count: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    /// By its binary multihash, of whatever kind.
    Ipfs(Box<[u8]>),
    Ipns(Root),
    Torrent(ContentId),
}

impl Subject {
    fn of_root(root: &Root) -> Self {
        match root {
            Root::Ipfs(cid) => Self::Ipfs(cid.hash().to_bytes().into()),
            Root::Key(_) | Root::Host(_) => Self::Ipns(root.clone()),
        }
    }
}

#[derive(Debug)]
struct Rule {
    line: u32,
    allows: bool,
    path: String,
    is_prefix: bool,
}

/// A line of the list blocks what was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocked {
    /// Its number, from 1.
    pub line: u32,
    /// What it has after the rule: `hint=value`, as written.
    pub hints: Option<String>,
}

/// A line that was skipped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct LineError {
    /// Its number, from 1.
    pub line: u32,
    /// What is wrong with it.
    pub why: Why,
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// None of the forms that there are.
    #[error("not a rule: it begins with neither /ipfs/, /ipns/, /bt/ nor //")]
    Form,
    /// A content path that cannot be read.
    #[error("{0}")]
    Path(#[from] crate::content_path::ParsePathError),
    /// A torrent's id that cannot be read.
    #[error("{0}")]
    Torrent(#[from] swarmgate_content::ParseIdError),
    /// Neither a base58 multihash nor 64 hex digits, or of another hash than SHA2-256.
    #[error("not a double hash of SHA2-256, in base58 or hex")]
    Hash,
    /// Longer than [`MAX_LINE_BYTES`].
    #[error("longer than {MAX_LINE_BYTES} bytes")]
    TooLong,
    /// Not UTF-8.
    #[error("not UTF-8")]
    Encoding,
    /// There are [`MAX_RULES`] already.
    #[error("more than {MAX_RULES} rules")]
    TooMany,
    /// The header names a version that is not 1.
    #[error("a list of another version than 1")]
    Version,
}

/// Reads a list as it arrives.
#[derive(Debug, Default)]
pub struct Parser {
    list: Denylist,
    buffer: Vec<u8>,
    /// The line in the buffer is too long; the rest of it is dropped.
    overlong: bool,
    line: u32,
    header: Header,
    errors: Vec<LineError>,
    bad_lines: usize,
}

/// What has not been a rule so far may turn out to be the header.
#[derive(Debug, Default)]
struct Header {
    over: bool,
    bytes: usize,
    name: Option<String>,
    version: Option<String>,
    /// Lines that are bad unless they are the header.
    suspects: Vec<LineError>,
    suspect_count: usize,
}

impl Parser {
    /// Takes the next bytes of the list.
    pub fn push(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = (MAX_LINE_BYTES + 2).saturating_sub(self.buffer.len());
            self.overlong |= part.len() > room;
            self.buffer.extend_from_slice(&part[..part.len().min(room)]);
            if part.ends_with(b"\n") {
                self.end_line();
            }
        }
    }

    /// The end has come: gives the list, the first bad lines, and how many there were in all.
    #[must_use]
    pub fn finish(mut self) -> (Denylist, Vec<LineError>, usize) {
        if !self.buffer.is_empty() {
            self.end_line();
        }
        self.end_header(false);
        (self.list, self.errors, self.bad_lines)
    }

    fn end_line(&mut self) {
        self.line = self.line.saturating_add(1);
        let line = std::mem::take(&mut self.buffer);
        let overlong = std::mem::take(&mut self.overlong);
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let read = if overlong || text.len() > MAX_LINE_BYTES {
            Err(Why::TooLong)
        } else {
            match std::str::from_utf8(text) {
                Ok(text) => self.read_line(text),
                Err(_) => Err(Why::Encoding),
            }
        };
        if let Err(why) = read {
            self.report(why);
        }
        self.header.bytes = self.header.bytes.saturating_add(line.len());
        if !self.header.over && self.header.bytes > MAX_HEADER_BYTES {
            self.end_header(false);
        }
    }

    fn read_line(&mut self, text: &str) -> Result<(), Why> {
        if !self.header.over {
            if text.trim_end() == "---" {
                self.end_header(true);
                return Ok(());
            }
            self.read_header(text);
        }
        // An indented line belongs to the header, or is no rule.
        if text.trim().is_empty() || text.starts_with('#') {
            return Ok(());
        }
        self.list.add(text, self.line)
    }

    fn read_header(&mut self, text: &str) {
        if let Some((key, value)) = text.split_once(':') {
            let value = || Some(value.trim().trim_matches(['"', '\'']).chars().take(200).collect());
            match key {
                "name" => self.header.name = value(),
                "version" => self.header.version = value(),
                _ => {}
            }
        }
    }

    /// Either there was a header, which then takes all that was not a rule; or there was none.
    fn end_header(&mut self, found: bool) {
        if std::mem::replace(&mut self.header.over, true) {
            return;
        }
        let (suspects, count) = (std::mem::take(&mut self.header.suspects), self.header.suspect_count);
        if !found {
            self.errors.extend(suspects);
            self.bad_lines += count;
            return;
        }
        self.list.name = self.header.name.take();
        if self.header.version.take().is_some_and(|version| version != "1") {
            self.report(Why::Version);
        }
    }

    fn report(&mut self, why: Why) {
        let (errors, count) = if self.header.over {
            (&mut self.errors, &mut self.bad_lines)
        } else {
            (&mut self.header.suspects, &mut self.header.suspect_count)
        };
        *count += 1;
        if errors.len() < MAX_REPORTED {
            errors.push(LineError { line: self.line, why });
        }
    }
}

impl Denylist {
    /// Reads a whole list.
    #[must_use]
    pub fn parse(text: &[u8]) -> (Self, Vec<LineError>, usize) {
        let mut parser = Parser::default();
        parser.push(text);
        parser.finish()
    }

    /// The name in its header.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// How many rules it has.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether it has none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn add(&mut self, text: &str, line: u32) -> Result<(), Why> {
        if self.count >= MAX_RULES {
            return Err(Why::TooMany);
        }
        let (rule, hints) = text.split_once([' ', '\t']).unwrap_or((text, ""));
        let (rule, allows) = rule.strip_prefix('!').map_or((rule, false), |rule| (rule, true));
        match rule.strip_prefix("//") {
            Some(hash) => {
                for hash in read_double_hash(hash)? {
                    self.hashed.insert(hash, (line, allows));
                }
            }
            None => {
                let (subject, path, is_prefix) = read_rule(rule)?;
                self.rules.entry(subject).or_default().push(Rule { line, allows, path, is_prefix });
            }
        }
        self.count += 1;
        let hints = hints.trim();
        if !hints.is_empty() && hints.len() <= MAX_HINT_BYTES {
            self.hints.insert(line, hints.to_owned());
        }
        Ok(())
    }

    /// Whether a content path is blocked. Ask before it is resolved, and again for what it resolves to.
    #[must_use]
    pub fn check(&self, path: &ContentPath) -> Option<Blocked> {
        let below = path.segments().join("/");
        let named = self.last_match(&Subject::of_root(&path.root), &below);
        let hashed = if self.hashed.is_empty() { None } else { self.last_hashed(&path.root, &below) };
        self.verdict(named.max(hashed))
    }

    /// Whether a block is blocked, whatever path led to it.
    #[must_use]
    pub fn check_cid(&self, cid: &Cid) -> Option<Blocked> {
        self.check(&ContentPath::new(Root::Ipfs(*cid)))
    }

    /// Whether a block is blocked under whichever codec it is asked for: to a peer that wants single blocks the codec is
    /// its own word, and the bytes are the same. Rules about what is below a path cannot be asked here, since a block
    /// does not say where it is: `/ipfs/CID/*` blocks the block of that CID, and not those that it links to.
    #[must_use]
    pub fn check_block(&self, cid: &Cid) -> Option<Blocked> {
        let named = self.last_match(&Subject::of_root(&Root::Ipfs(*cid)), "");
        let hashed = if self.hashed.is_empty() { None } else { self.last_hashed_block(cid) };
        self.verdict(named.max(hashed))
    }

    /// Whether a file of a torrent is blocked, or the torrent when `path` is empty. A content id that is a CID is
    /// checked as one.
    #[must_use]
    pub fn check_content(&self, id: &ContentId, path: &str) -> Option<Blocked> {
        let subject = match id {
            ContentId::Ipfs(cid) => return self.check_cid(cid),
            ContentId::BtV1(_) | ContentId::BtV2(_) => Subject::Torrent(*id),
        };
        self.verdict(self.last_match(&subject, path.trim_matches('/')))
    }

    fn verdict(&self, last: Option<(u32, bool)>) -> Option<Blocked> {
        let (line, allows) = last?;
        (!allows).then(|| Blocked { line, hints: self.hints.get(&line).cloned() })
    }

    fn last_match(&self, subject: &Subject, path: &str) -> Option<(u32, bool)> {
        let rules = self.rules.get(subject)?.iter().rev();
        let matches = |rule: &&Rule| {
            if rule.is_prefix { path.starts_with(&rule.path) } else { path == rule.path }
        };
        rules.clone().find(matches).map(|rule| (rule.line, rule.allows))
    }

    fn last_hashed(&self, root: &Root, path: &str) -> Option<(u32, bool)> {
        let below = if path.is_empty() { String::new() } else { format!("/{path}") };
        let (modern, legacy) = match root {
            Root::Ipfs(cid) => (base58(&cid.hash().to_bytes()), base32(cid, cid.codec())),
            Root::Key(name) => (base58(&name.peer_id().to_bytes()), base32(&name.to_cid(), name.to_cid().codec())),
            Root::Host(host) => (format!("/ipns/{host}"), host.to_string()),
        };
        self.hashed(&format!("{modern}{below}")).max(self.hashed(&format!("{legacy}/{path}")))
    }

    /// As [`Self::last_hashed`], of the block that has this hash. Only the older spelling has the codec in it.
    fn last_hashed_block(&self, cid: &Cid) -> Option<(u32, bool)> {
        let codecs = BLOCK_CODECS.map(Codec::code).into_iter().chain([cid.codec()]);
        let legacy = codecs.map(|codec| self.hashed(&format!("{}/", base32(cid, codec)))).max().flatten();
        self.hashed(&base58(&cid.hash().to_bytes())).max(legacy)
    }

    fn hashed(&self, text: &str) -> Option<(u32, bool)> {
        let hash = HashKind::Sha2_256.hash(text.as_bytes());
        self.hashed.get(hash.digest()).copied()
    }
}

fn base58(hash: &[u8]) -> String {
    Base::Base58Btc.encode(hash)
}

fn base32(cid: &Cid, codec: u64) -> String {
    multibase::encode(Base::Base32Lower, Cid::new_v1(codec, *cid.hash()).to_bytes())
}

/// The hashes that a double hash may stand for: which of the two spellings it is cannot always be told.
fn read_double_hash(text: &str) -> Result<Vec<[u8; 32]>, Why> {
    let legacy = || HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()?.try_into().ok();
    let modern = || {
        let hash = BlockHash::from_bytes(&Base::Base58Btc.decode(text).ok()?)?;
        (hash.kind() == HashKind::Sha2_256).then(|| hash.digest().try_into().ok()).flatten()
    };
    // Longer texts are neither, and need not be decoded.
    let hashes: Vec<_> = if text.len() > 64 { Vec::new() } else { legacy().into_iter().chain(modern()).collect() };
    if hashes.is_empty() { Err(Why::Hash) } else { Ok(hashes) }
}

fn read_rule(text: &str) -> Result<(Subject, String, bool), Why> {
    let (text, is_prefix) = text.strip_suffix('*').map_or((text, false), |text| (text, true));
    let (subject, segments) = if let Some(torrent) = text.strip_prefix("/bt/") {
        let (id, path) = torrent.split_once('/').unwrap_or((torrent, ""));
        (Subject::Torrent(ContentId::parse_torrent(id)?), ContentPath::decode_segments(path)?)
    } else if text.starts_with("/ipfs/") || text.starts_with("/ipns/") {
        let path = ContentPath::from_url_path(text)?;
        (Subject::of_root(&path.root), path.segments().to_vec())
    } else {
        return Err(Why::Form);
    };
    Ok((subject, segments.join("/"), is_prefix))
}

#[cfg(test)]
mod tests;
