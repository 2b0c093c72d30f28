//! DNSLinks by DNS, as the system's resolver is set up (<https://dnslink.dev/>).

use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::net::NetError;
use hickory_resolver::proto::rr::{RData, Record};
use swarmgate_content::{Attempt, AttemptOutcome};
use swarmgate_ipfs_proto::content_path::{ContentPath, Root};
use swarmgate_ipfs_proto::dnslink::{HostName, choose, query_names};

use super::{NameError, NameErrorKind};

/// TXT records of one name that are looked at.
const MAX_RECORDS: usize = swarmgate_ipfs_proto::dnslink::MAX_RECORDS;

pub(super) struct Dns {
    resolver: TokioResolver,
}

impl Dns {
    /// Asks whom the system asks.
    pub(super) fn of_the_system() -> Result<Self, NetError> {
        Ok(Self { resolver: TokioResolver::builder_tokio()?.build()? })
    }

    /// Where a host links to, and for how long.
    pub(super) async fn link_of(
        &self,
        host: &HostName,
        timeout: Duration,
    ) -> Result<(ContentPath, Duration), NameError> {
        let mut attempts = Vec::new();
        let mut kind = NameErrorKind::NotFound;
        for name in query_names(host) {
            let began = tokio::time::Instant::now();
            let answered = tokio::time::timeout(timeout, self.resolver.txt_lookup(format!("{name}."))).await;
            let outcome = match answered {
                Ok(Ok(found)) => {
                    let texts: Vec<String> = found.answers().iter().take(MAX_RECORDS).filter_map(text).collect();
                    if let Some(link) = choose(texts.iter().map(String::as_str)) {
                        return Ok((link, found.valid_until().saturating_duration_since(Instant::now())));
                    }
                    AttemptOutcome::Ok(format!("{} TXT records, and no link", texts.len()))
                }
                Ok(Err(error)) => {
                    if !error.is_no_records_found() {
                        kind = NameErrorKind::TimedOut;
                    }
                    AttemptOutcome::Failed(error.to_string())
                }
                Err(_) => {
                    kind = NameErrorKind::TimedOut;
                    AttemptOutcome::Timeout
                }
            };
            attempts.push(Attempt { source: "dns", target: Some(name), outcome, took: began.elapsed() });
        }
        let detail = if kind == NameErrorKind::NotFound { "the host has no DNSLink" } else { "DNS does not answer" };
        Err(NameError::new(Root::Host(host.clone()), kind, detail).with_attempts(attempts))
    }
}

impl std::fmt::Debug for Dns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Dns")
    }
}

/// The text of a TXT record: its strings, one after another (RFC 7208 §3.3).
fn text(record: &Record) -> Option<String> {
    let RData::TXT(txt) = &record.data else { return None };
    String::from_utf8(txt.txt_data.concat()).ok()
}
