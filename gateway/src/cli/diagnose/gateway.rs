//! The gateway that may be running at the configured address, and its networks.

use http::{Method, StatusCode};
use serde_json::Value;
use swarmgate_config::Config;

use super::{Check, Verdict};
use crate::cli::Exit;
use crate::cli::ls::printable;
use crate::cli::running::Running;

/// Asks the gateway of this configuration whether it is ready; says first whether one runs at all.
pub(super) async fn look(config: &Config) -> (bool, Vec<Check>) {
    let skipped = |why: &str| (false, vec![Check::new("gateway", Verdict::Skipped, why)]);
    let running = match Running::of(config, None) {
        Ok(running) => running,
        // With a port, it is the certificate that cannot be read.
        Err(failure) if config.server.addresses().any(|address| address.port() != 0) => {
            let advice = "without it a gateway does not start; name a certificate that is there, as PEM";
            return (false, vec![Check::new("gateway", Verdict::Fail, failure.message).advice(advice)]);
        }
        Err(_) => {
            return skipped("server.listen leaves the port to the system, so it is not known where one would run");
        }
    };
    match running.ask(Method::GET, "/readyz").await {
        Ok(reply) => {
            judge(&running.url("/readyz"), reply.status, &serde_json::from_slice(&reply.body).unwrap_or_default())
        }
        Err(failure) if failure.exit == Exit::NotFound => skipped("none is running"),
        // A socket that is not for this user.
        Err(failure) if failure.exit == Exit::Denied => skipped(&failure.message),
        Err(failure) => (false, vec![Check::new("gateway", Verdict::Fail, failure.message).advice(STRANGER)]),
    }
}

const STRANGER: &str =
    "something else listens there, or the gateway hangs: `ss -ltnp` says what it is; choose another server.listen";

/// Judges the networks of the gateway that asks itself, by what it would answer to others.
pub(super) fn of_itself(document: &Value) -> Vec<Check> {
    judge("/readyz", StatusCode::OK, document).1
}

fn judge(url: &str, status: StatusCode, document: &Value) -> (bool, Vec<Check>) {
    let Some(networks) = document["networks"].as_array() else {
        let found = format!("what answers {url} with {} is no swarmgate", status.as_u16());
        return (false, vec![Check::new("gateway", Verdict::Fail, found).advice(STRANGER)]);
    };
    let gateway = if document["ready"] == true {
        Check::new("gateway", Verdict::Ok, format!("one is running and ready: {url}"))
    } else if document["closing"] == true {
        Check::new("gateway", Verdict::Warn, "one is running and about to stop")
    } else {
        let found = "one is running and not ready: none of its networks works";
        Check::new("gateway", Verdict::Fail, found).advice("its log says why, and so do the next lines")
    };
    (true, std::iter::once(gateway).chain(networks.iter().map(network)).collect())
}

fn network(network: &Value) -> Check {
    let (kind, health) = (network["kind"].as_str().unwrap_or("?"), &network["health"]);
    let evidence = printable(health["evidence"].as_str().unwrap_or_default());
    let (verdict, word) = match health["state"].as_str() {
        Some("ok") => (Verdict::Ok, "works"),
        Some("degraded") => (Verdict::Warn, "works in part"),
        Some(_) | None => (Verdict::Warn, "does not work"),
    };
    Check::new("network", verdict, format!("{kind} {word}: {evidence}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::world;
    use swarmgate_content::HealthState;

    #[tokio::test]
    async fn a_running_gateway_is_asked_for_its_networks() {
        let world = world(&[("a", 1)]).await;
        let mut config = Config::default();
        config.server.listen = vec![world.address.into()];
        let (running, checks) = look(&config).await;
        assert!(running && checks.iter().all(|check| check.verdict == Verdict::Ok), "{checks:?}");
        assert!(checks[1].found.contains("bittorrent works"), "{checks:?}");
        world.protocol.set_health(HealthState::Down);
        let (running, checks) = look(&config).await;
        assert!(running && checks[0].verdict == Verdict::Fail && checks[1].verdict == Verdict::Warn, "{checks:?}");
    }

    #[tokio::test]
    async fn where_none_runs_that_is_no_mistake() {
        let mut config = Config::default();
        config.server.listen = vec![std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().into()];
        let (running, checks) = look(&config).await;
        assert_eq!((running, checks[0].verdict), (false, Verdict::Skipped));
        config.server.listen = vec!["127.0.0.1:0".parse().unwrap()];
        assert_eq!(look(&config).await.1[0].verdict, Verdict::Skipped);
    }

    #[test]
    fn another_program_at_the_address_is_told_as_such() {
        let (running, checks) = judge("http://127.0.0.1:8420/readyz", StatusCode::OK, &Value::Null);
        assert!(
            !running && checks[0].verdict == Verdict::Fail && checks[0].found.contains("no swarmgate"),
            "{checks:?}"
        );
    }
}
