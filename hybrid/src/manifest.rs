//! A signed manifest: one publisher's word on which names are the same bytes, small enough to be one block.
//!
//! A block of DAG-CBOR, which spells every value in one way only (RFC 8949 §4.2.1, without indefinite lengths, floats
//! and tags). It is a map of three strings of bytes:
//!
//! | key | is |
//! |---|---|
//! | `key` | the publisher's Ed25519 public key (RFC 8032), 32 bytes |
//! | `payload` | the encoded payload |
//! | `signature` | of `swarmgate manifest v1\0` and the payload's bytes behind it, 64 bytes |
//!
//! The payload is DAG-CBOR too, a map:
//!
//! | key | is |
//! |---|---|
//! | `version` | 1 |
//! | `name` | of the torrent, text |
//! | `infohash` | v1, 20 bytes |
//! | `cid` | the root of the DAG, text |
//! | `trackers` | list of URLs |
//! | `files` | list of maps: `file`, its number in the torrent; `path`, a list of texts; `length` in bytes; `cid`, text; `mirrors`, a list of https URLs |
//!
//! Other keys, another version, and anything spelled in another way are refused. A manifest's name is the CID of its
//! block, so it cannot be changed under its name; the key says whose word it is, and every binding that it gives
//! carries that key ([`Authority::Manifest`]). What it says is a hint about where bytes are, never about what they are:
//! those are checked by the name that a client asked for.
//!
//! # Why are CIDs text and not links?
//! Whoever keeps a manifest should not have to keep the film.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

use aws_lc_rs::rand;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use data_encoding::HEXLOWER;
use ipld_core::ipld::Ipld;
use swarmgate_content::{Cid, ContentId, InfoHash};
use swarmgate_hybrid_rules::{Authority, ContentBinding, MAX_MIRROR_URL_BYTES, MAX_NAMES_OF_A_BINDING, Name};
use swarmgate_ipfs_proto::codec::Codec;

/// Longest manifest, in bytes: 1 MiB, a block that every implementation of IPFS takes.
pub const MAX_MANIFEST_BYTES: usize = 1 << 20;
/// Files in one manifest.
pub const MAX_MANIFEST_FILES: usize = 10_000;
/// Mirrors of one file: with its two other names they make one binding.
pub const MAX_MIRRORS: usize = MAX_NAMES_OF_A_BINDING - 2;
/// Trackers in one manifest.
pub const MAX_MANIFEST_TRACKERS: usize = 64;
/// Longest name, part of a path or URL of a tracker, in bytes.
const MAX_TEXT_BYTES: usize = 2048;
/// Parts of one path.
const MAX_PATH_PARTS: usize = 128;
/// What is signed before the payload, so that the signature is of nothing else.
const DOMAIN: &[u8] = b"swarmgate manifest v1\0";
/// Bytes of a key's seed, as they are in its file.
const SEED_BYTES: usize = 32;
const KEY_BYTES: usize = 32;
const SIGNATURE_BYTES: usize = 64;

/// What a publisher says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The torrent's name, untrusted.
    pub name: String,
    /// The torrent.
    pub infohash: InfoHash,
    /// The root of the DAG.
    pub root: Cid,
    /// Its trackers.
    pub trackers: Vec<String>,
    /// The files, in the torrent's order.
    pub files: Vec<ManifestFile>,
}

/// One file of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestFile {
    /// Its number in the torrent.
    pub file: u32,
    /// Its path in the torrent, untrusted.
    pub path: Vec<String>,
    /// Its length in bytes.
    pub len: u64,
    /// Its CID.
    pub cid: Cid,
    /// Where an HTTP server has it.
    pub mirrors: Vec<String>,
}

/// A manifest whose signature was checked, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedManifest {
    /// What is said.
    pub manifest: Manifest,
    /// The Ed25519 public key of who says it.
    pub key: [u8; KEY_BYTES],
}

/// Why bytes are no manifest, or a manifest cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Too long.
    #[error("{0} bytes are more than the {MAX_MANIFEST_BYTES} of a manifest")]
    TooLong(usize),
    /// Not the one spelling of CBOR, or not CBOR.
    #[error("it is no canonical CBOR")]
    Spelling,
    /// A value is missing, of another kind, beyond its bounds, or none that is known.
    #[error("its `{0}` is none of a manifest")]
    Field(&'static str),
    /// Of another version.
    #[error("it is of another version than 1")]
    Version,
    /// Not signed by that key.
    #[error("its signature is not that of its key")]
    Signature,
}

/// The key with which a publisher signs.
#[derive(Debug)]
pub struct ManifestKey(Ed25519KeyPair);

impl ManifestKey {
    /// The key of a seed, which is the secret.
    #[must_use]
    pub fn from_seed(seed: &[u8; SEED_BYTES]) -> Self {
        Self(Ed25519KeyPair::from_seed_unchecked(seed).expect("every 32 bytes are a seed"))
    }

    /// Reads the key that a file has, and makes both when there is none. The file is its owner's alone (0600), and holds
    /// the seed's 32 bytes. Blocks.
    ///
    /// # Errors
    /// When the file cannot be read or written, or is no key.
    pub fn load_or_make(path: &Path) -> io::Result<Self> {
        match File::open(path) {
            Ok(file) => {
                let mut bytes = Vec::with_capacity(SEED_BYTES);
                file.take(SEED_BYTES as u64 + 1).read_to_end(&mut bytes)?;
                let seed = <[u8; SEED_BYTES]>::try_from(&bytes[..]);
                seed.map(|seed| Self::from_seed(&seed)).map_err(|_| io::Error::other("it is no key of 32 bytes"))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::make(path),
            Err(error) => Err(error),
        }
    }

    fn make(path: &Path) -> io::Result<Self> {
        let mut seed = [0; SEED_BYTES];
        rand::fill(&mut seed).map_err(|_| io::Error::other("the system gives no random bytes"))?;
        // Under another name first: a kill leaves no half of a key.
        let aside = path.with_extension("new");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&aside)?;
        file.write_all(&seed)?;
        file.sync_all()?;
        fs::rename(&aside, path)?;
        Ok(Self::from_seed(&seed))
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> [u8; KEY_BYTES] {
        self.0.public_key().as_ref().try_into().expect("an Ed25519 public key has 32 bytes")
    }
}

impl Manifest {
    /// Signs it: the bytes of its block.
    ///
    /// # Errors
    /// [`ManifestError::TooLong`], [`ManifestError::Field`] when it is beyond the bounds of a manifest.
    pub fn sign(&self, key: &ManifestKey) -> Result<Vec<u8>, ManifestError> {
        let payload = self.to_payload()?;
        let signature = key.0.sign(&signed(&payload)).as_ref().to_vec();
        let block = encode(&map([
            ("key", Ipld::Bytes(key.public().to_vec())),
            ("payload", Ipld::Bytes(payload)),
            ("signature", Ipld::Bytes(signature)),
        ]))?;
        if block.len() > MAX_MANIFEST_BYTES { Err(ManifestError::TooLong(block.len())) } else { Ok(block) }
    }

    /// The bytes that are signed, without what is signed before them.
    ///
    /// # Errors
    /// [`ManifestError::Field`] when it is beyond the bounds of a manifest.
    pub fn to_payload(&self) -> Result<Vec<u8>, ManifestError> {
        self.check()?;
        encode(&self.to_ipld())
    }

    /// Reads [`Self::to_payload`] back. Whose word it is is for the caller to know: [`SignedManifest::read`] does.
    ///
    /// # Errors
    /// [`ManifestError`].
    pub fn from_payload(payload: &[u8]) -> Result<Self, ManifestError> {
        Self::from_ipld(decode(payload)?)
    }

    fn check(&self) -> Result<(), ManifestError> {
        let text = |text: &String| text.len() <= MAX_TEXT_BYTES;
        let mirror = |url: &String| {
            let graphic = url.chars().all(|c| c.is_ascii_graphic());
            graphic && url.starts_with("https://") && url.len() <= MAX_MIRROR_URL_BYTES
        };
        let bounds = |sound: bool, field| if sound { Ok(()) } else { Err(ManifestError::Field(field)) };
        bounds(text(&self.name), "name")?;
        bounds(self.trackers.len() <= MAX_MANIFEST_TRACKERS && self.trackers.iter().all(text), "trackers")?;
        bounds(self.files.len() <= MAX_MANIFEST_FILES, "files")?;
        let mut seen = BTreeSet::new();
        for file in &self.files {
            bounds(seen.insert(file.file), "file")?;
            bounds((1..=MAX_PATH_PARTS).contains(&file.path.len()) && file.path.iter().all(text), "path")?;
            bounds(i64::try_from(file.len).is_ok(), "length")?;
            bounds(file.mirrors.len() <= MAX_MIRRORS && file.mirrors.iter().all(mirror), "mirrors")?;
        }
        Ok(())
    }

    fn to_ipld(&self) -> Ipld {
        map([
            ("version", Ipld::Integer(1)),
            ("name", Ipld::String(self.name.clone())),
            ("infohash", Ipld::Bytes(self.infohash.as_bytes().to_vec())),
            ("cid", Ipld::String(self.root.to_string())),
            ("trackers", texts(&self.trackers)),
            ("files", Ipld::List(self.files.iter().map(ManifestFile::to_ipld).collect())),
        ])
    }

    fn from_ipld(value: Ipld) -> Result<Self, ManifestError> {
        let mut fields = Fields::of(value, "payload")?;
        if fields.number("version") != Ok(1) {
            return Err(ManifestError::Version);
        }
        let infohash = InfoHash::from_slice(&fields.bytes("infohash")?);
        let manifest = Self {
            name: fields.text("name")?,
            infohash: infohash.ok_or(ManifestError::Field("infohash"))?,
            root: fields.cid("cid")?,
            trackers: fields.texts("trackers")?,
            files: fields.list("files")?.into_iter().map(ManifestFile::from_ipld).collect::<Result<_, _>>()?,
        };
        fields.end("payload")?;
        manifest.check()?;
        Ok(manifest)
    }
}

impl ManifestFile {
    fn to_ipld(&self) -> Ipld {
        map([
            ("file", Ipld::Integer(self.file.into())),
            ("path", texts(&self.path)),
            ("length", Ipld::Integer(self.len.into())),
            ("cid", Ipld::String(self.cid.to_string())),
            ("mirrors", texts(&self.mirrors)),
        ])
    }

    fn from_ipld(value: Ipld) -> Result<Self, ManifestError> {
        let mut fields = Fields::of(value, "files")?;
        let file = Self {
            file: u32::try_from(fields.number("file")?).map_err(|_| ManifestError::Field("file"))?,
            path: fields.texts("path")?,
            len: u64::try_from(fields.number("length")?).map_err(|_| ManifestError::Field("length"))?,
            cid: fields.cid("cid")?,
            mirrors: fields.texts("mirrors")?,
        };
        fields.end("files")?;
        Ok(file)
    }
}

impl SignedManifest {
    /// Reads the block of a manifest and checks its signature.
    ///
    /// # Errors
    /// [`ManifestError`].
    pub fn read(block: &[u8]) -> Result<Self, ManifestError> {
        if block.len() > MAX_MANIFEST_BYTES {
            return Err(ManifestError::TooLong(block.len()));
        }
        let mut fields = Fields::of(decode(block)?, "manifest")?;
        let key = fields.bytes("key")?.try_into().map_err(|_| ManifestError::Field("key"))?;
        let (payload, signature) = (fields.bytes("payload")?, fields.bytes("signature")?);
        fields.end("manifest")?;
        if signature.len() != SIGNATURE_BYTES {
            return Err(ManifestError::Field("signature"));
        }
        let public = UnparsedPublicKey::new(&ED25519, key);
        public.verify(&signed(&payload), &signature).map_err(|_| ManifestError::Signature)?;
        Ok(Self { manifest: Manifest::from_payload(&payload)?, key })
    }

    /// Who says it.
    #[must_use]
    pub fn authority(&self) -> Authority {
        Authority::Manifest(HEXLOWER.encode(&self.key))
    }

    /// What it says, a binding for each file that has bytes.
    pub fn bindings(&self) -> impl Iterator<Item = ContentBinding> {
        let id = ContentId::BtV1(self.manifest.infohash);
        self.manifest.files.iter().filter(|file| file.len > 0).map(move |file| {
            let names = [Name::Torrent { id, file: file.file }, Name::Ipfs(ContentId::Ipfs(file.cid))];
            let mirrors = file.mirrors.iter().cloned().map(Name::Mirror);
            ContentBinding {
                names: names.into_iter().chain(mirrors).collect(),
                len: Some(file.len),
                path: file.path.clone(),
                said_by: self.authority(),
            }
        })
    }
}

fn signed(payload: &[u8]) -> Vec<u8> {
    [DOMAIN, payload].concat()
}

fn encode(value: &Ipld) -> Result<Vec<u8>, ManifestError> {
    Codec::DagCbor.encode(value).map_err(|_| ManifestError::Spelling)
}

/// Reads a value that is spelled in the one way.
fn decode(bytes: &[u8]) -> Result<Ipld, ManifestError> {
    let value = Codec::DagCbor.decode(bytes).map_err(|_| ManifestError::Spelling)?;
    if encode(&value)? == bytes { Ok(value) } else { Err(ManifestError::Spelling) }
}

fn map<const COUNT: usize>(fields: [(&str, Ipld); COUNT]) -> Ipld {
    Ipld::Map(fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

fn texts(texts: &[String]) -> Ipld {
    Ipld::List(texts.iter().cloned().map(Ipld::String).collect())
}

/// A map out of which one value after the other is taken.
struct Fields(BTreeMap<String, Ipld>);

impl Fields {
    fn of(value: Ipld, what: &'static str) -> Result<Self, ManifestError> {
        if let Ipld::Map(map) = value { Ok(Self(map)) } else { Err(ManifestError::Field(what)) }
    }

    fn take(&mut self, key: &'static str) -> Result<Ipld, ManifestError> {
        self.0.remove(key).ok_or(ManifestError::Field(key))
    }

    fn number(&mut self, key: &'static str) -> Result<i128, ManifestError> {
        if let Ipld::Integer(number) = self.take(key)? { Ok(number) } else { Err(ManifestError::Field(key)) }
    }

    fn bytes(&mut self, key: &'static str) -> Result<Vec<u8>, ManifestError> {
        if let Ipld::Bytes(bytes) = self.take(key)? { Ok(bytes) } else { Err(ManifestError::Field(key)) }
    }

    fn text(&mut self, key: &'static str) -> Result<String, ManifestError> {
        if let Ipld::String(text) = self.take(key)? { Ok(text) } else { Err(ManifestError::Field(key)) }
    }

    fn list(&mut self, key: &'static str) -> Result<Vec<Ipld>, ManifestError> {
        if let Ipld::List(list) = self.take(key)? { Ok(list) } else { Err(ManifestError::Field(key)) }
    }

    fn texts(&mut self, key: &'static str) -> Result<Vec<String>, ManifestError> {
        let text = |value| if let Ipld::String(text) = value { Ok(text) } else { Err(ManifestError::Field(key)) };
        self.list(key)?.into_iter().map(text).collect()
    }

    /// A CID in its canonical spelling.
    fn cid(&mut self, key: &'static str) -> Result<Cid, ManifestError> {
        let text = self.text(key)?;
        let cid: Cid = text.parse().map_err(|_| ManifestError::Field(key))?;
        if cid.to_string() == text { Ok(cid) } else { Err(ManifestError::Field(key)) }
    }

    /// That nothing is left.
    fn end(self, what: &'static str) -> Result<(), ManifestError> {
        if self.0.is_empty() { Ok(()) } else { Err(ManifestError::Field(what)) }
    }
}

#[cfg(test)]
mod tests;
