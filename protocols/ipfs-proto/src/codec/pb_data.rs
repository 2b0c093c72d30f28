//! A dag-pb node as data, and back: `{Data, Links: [{Hash, Name, Tsize}]}` (IPLD dag-pb specification, "Logical
//! Format").

use std::collections::BTreeMap;

use ipld_core::ipld::Ipld;

use super::link_target;
use crate::block::Flaw;
use crate::dag_pb::{Link, PbNode, encode};

fn malformed(why: &'static str) -> Flaw {
    Flaw::malformed("dag-pb", why)
}

pub(super) fn from_node(node: &PbNode<'_>) -> Result<Ipld, Flaw> {
    let links = node.links().map(|link| from_link(&link)).collect::<Result<_, _>>()?;
    let data = node.data().map(|data| ("Data".to_owned(), Ipld::Bytes(data.to_vec())));
    Ok(Ipld::Map([("Links".to_owned(), Ipld::List(links))].into_iter().chain(data).collect()))
}

fn from_link(link: &Link<'_>) -> Result<Ipld, Flaw> {
    let cid = link.cid.to_bytes();
    let cid = cid.as_slice().try_into().map_err(|_| malformed("a link is longer than the data model can hold"))?;
    let mut fields = BTreeMap::from([("Hash".to_owned(), Ipld::Link(cid))]);
    if let Some(name) = link.name {
        let name = std::str::from_utf8(name).map_err(|_| malformed("a name is not text"))?;
        fields.insert("Name".to_owned(), Ipld::String(name.to_owned()));
    }
    if let Some(size) = link.tsize {
        fields.insert("Tsize".to_owned(), Ipld::Integer(size.into()));
    }
    Ok(Ipld::Map(fields))
}

pub(super) fn to_node(value: &Ipld) -> Result<Vec<u8>, Flaw> {
    let Ipld::Map(fields) = value else { return Err(malformed("a node is a map")) };
    if fields.keys().any(|key| !["Data", "Links"].contains(&key.as_str())) {
        return Err(malformed("a node has Data and Links, nothing else"));
    }
    let data = match fields.get("Data") {
        None => None,
        Some(Ipld::Bytes(data)) => Some(data.as_slice()),
        Some(_) => return Err(malformed("Data is bytes")),
    };
    let Some(Ipld::List(links)) = fields.get("Links") else { return Err(malformed("Links is a list")) };
    let links = links.iter().map(to_link).collect::<Result<Vec<_>, _>>()?;
    Ok(encode(links, data))
}

fn to_link(value: &Ipld) -> Result<Link<'_>, Flaw> {
    let Ipld::Map(fields) = value else { return Err(malformed("a link is a map")) };
    if fields.keys().any(|key| !["Hash", "Name", "Tsize"].contains(&key.as_str())) {
        return Err(malformed("a link has Hash, Name and Tsize, nothing else"));
    }
    let cid = fields.get("Hash").and_then(link_target).ok_or_else(|| malformed("Hash is a link"))?;
    let name = match fields.get("Name") {
        None => None,
        Some(Ipld::String(name)) => Some(name.as_bytes()),
        Some(_) => return Err(malformed("Name is text")),
    };
    let tsize = match fields.get("Tsize") {
        None => None,
        Some(Ipld::Integer(size)) => Some(u64::try_from(*size).map_err(|_| malformed("Tsize is out of range"))?),
        Some(_) => return Err(malformed("Tsize is a number")),
    };
    Ok(Link { cid, name, tsize })
}
