//! A running gateway's diagnosis of itself. It knows of its networks what the command has to ask for, and it has the
//! ports that the command would try; no socket is opened for it and nobody outside of this machine is asked.

use std::sync::Arc;

use swarmgate_config::Config;
use swarmgate_portmap::MappingStatus;

use super::{Check, Verdict, access, cache, gateway, machine};
use crate::routes::ops;
use crate::state::GatewayState;

/// What is looked at together, in the order in which one thing spoils the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The configuration, and who it lets in.
    Access,
    /// The networks, by their own evidence.
    Networks,
    /// The ports that the router forwards.
    Router,
    /// The directory of the cache, and the clock.
    Cache,
    /// The machine's limits.
    Machine,
}

impl Step {
    /// All of them, in order.
    pub(crate) const ALL: [Self; 5] = [Self::Access, Self::Networks, Self::Router, Self::Cache, Self::Machine];

    /// Takes the step. At most a small file is written and deleted, in the directory of the cache.
    pub(crate) async fn take(self, config: Arc<Config>, state: &GatewayState) -> Vec<Check> {
        match self {
            Self::Access => {
                let valid = Check::new("configuration", Verdict::Ok, "it was valid at the start");
                std::iter::once(valid).chain(access::checks(&config)).collect()
            }
            Self::Networks => gateway::of_itself(&ops::readiness(state).1),
            Self::Router => vec![router(state.mapping.as_ref().map(|status| status.borrow().clone()).as_ref())],
            Self::Cache => aside(config, cache::look).await,
            Self::Machine => aside(config, machine::checks).await,
        }
    }
}

/// Files are looked at, so not on a thread that others wait for.
async fn aside(config: Arc<Config>, look: fn(&Config) -> Vec<Check>) -> Vec<Check> {
    let looked = tokio::task::spawn_blocking(move || look(&config)).await;
    looked.unwrap_or_else(|error| vec![Check::new("diagnosis", Verdict::Fail, format!("a check has ended: {error}"))])
}

fn router(status: Option<&MappingStatus>) -> Check {
    match status {
        None => Check::new("router", Verdict::Skipped, "it is not asked to forward ports (bittorrent.port_mapping)"),
        Some(MappingStatus { trouble: Some(trouble), .. }) => Check::new("router", Verdict::Warn, trouble.as_str())
            .advice("forward the ports at the router by hand, or switch on PCP, NAT-PMP or UPnP there"),
        Some(MappingStatus { forwardings, .. }) if forwardings.is_empty() => {
            Check::new("router", Verdict::Warn, "it forwards nothing yet").advice("look again in a minute")
        }
        Some(MappingStatus { forwardings, .. }) => {
            Check::new("router", Verdict::Ok, format!("it forwards {} ports", forwardings.len()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_router_that_does_not_do_what_it_is_asked_is_a_warning() {
        assert_eq!(router(None).verdict, Verdict::Skipped);
        assert_eq!(router(Some(&MappingStatus::default())).verdict, Verdict::Warn);
        let trouble = MappingStatus { trouble: Some("it refuses".to_owned()), ..MappingStatus::default() };
        let check = router(Some(&trouble));
        assert_eq!((check.verdict, check.found.as_str()), (Verdict::Warn, "it refuses"));
        assert!(check.advice.is_some());
    }
}
