//! `swarmgate health`: what a container's HEALTHCHECK runs, in images without a shell.

use std::io::Write;

use http::{Method, StatusCode};
use serde_json::{Value, json};
use swarmgate_config::Config;

use super::Exit;
use super::args::{Health, Output};
use super::ls::printable;
use super::running::Running;
use super::source::Failure;

/// Asks the gateway of this configuration how it is. Ends with 0 or 1 and nothing else: container engines keep the other
/// codes for themselves.
///
/// # Errors
/// [`Exit::Error`] when it is not well, or does not answer.
pub async fn run(config: &Config, health: &Health, output: Output, out: &mut dyn Write) -> Result<(), Failure> {
    let ill = |failure: Failure| Failure::new(Exit::Error, failure.message);
    let running = Running::of(config, health.api.as_deref()).map_err(ill)?;
    let path = if health.ready { "/readyz" } else { "/healthz" };
    let reply = running.ask(Method::GET, path).await.map_err(ill)?;
    let well = reply.status == StatusCode::OK;
    let written = match output {
        Output::Json => {
            let answer: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
            let url = running.url(path);
            writeln!(out, "{:#}", json!({ "ok": well, "url": url, "status": reply.status.as_u16(), "answer": answer }))
        }
        Output::Human if well => writeln!(out, "ok"),
        // What is wrong is the error itself, which the caller prints.
        Output::Human => Ok(()),
    };
    written.map_err(|error| Failure::new(Exit::Error, error.to_string()))?;
    if well { Ok(()) } else { Err(Failure::new(Exit::Error, complaint(&running.url(path), reply.status, &reply.body))) }
}

/// Why it is not well, with what the gateway says of its networks.
fn complaint(url: &str, status: StatusCode, body: &[u8]) -> String {
    let document: Value = serde_json::from_slice(body).unwrap_or_default();
    let networks = document["networks"].as_array().into_iter().flatten();
    let say = |network: &Value| {
        let evidence = network["health"]["evidence"].as_str().unwrap_or("no word");
        format!("{}: {}", network["kind"].as_str().unwrap_or("?"), printable(evidence))
    };
    let networks: Vec<_> = networks.map(say).collect();
    format!("{url} answers {}{}{}", status.as_u16(), if networks.is_empty() { "" } else { "; " }, networks.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, world};
    use swarmgate_content::HealthState;

    async fn asked(world: &World, ready: bool) -> (Result<(), Failure>, String) {
        let mut config = Config::default();
        config.server.listen = vec![world.address.into()];
        let mut out = Vec::new();
        let result = run(&config, &Health { ready, api: None }, Output::Human, &mut out).await;
        (result, String::from_utf8(out).unwrap())
    }

    #[tokio::test]
    async fn a_gateway_without_a_working_network_is_alive_and_not_ready() {
        let world = world(&[("a", 1)]).await;
        assert_eq!(asked(&world, true).await, (Ok(()), "ok\n".to_owned()));
        world.protocol.set_health(HealthState::Down);
        assert_eq!(asked(&world, false).await, (Ok(()), "ok\n".to_owned()));
        let (ready, out) = asked(&world, true).await;
        let failure = ready.unwrap_err();
        assert_eq!((failure.exit, out.as_str()), (Exit::Error, ""));
        assert!(failure.message.contains("503; bittorrent: in memory"), "{failure}");
    }

    #[tokio::test]
    async fn whatever_is_wrong_it_ends_with_1() {
        let (mut nowhere, mut nobody) = (Config::default(), Config::default());
        nowhere.server.listen = vec!["127.0.0.1:0".parse().unwrap()];
        nobody.server.listen = vec![std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().into()];
        for config in [nowhere, nobody] {
            let failure = run(&config, &Health::default(), Output::Json, &mut Vec::new()).await.unwrap_err();
            assert_eq!(failure.exit, Exit::Error, "{failure}");
        }
    }
}
