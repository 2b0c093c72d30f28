//! Who may do what, where the configuration is valid and yet hardly what was meant.

use swarmgate_config::{AnonymousContent, AuthMode, Config};

use super::{Check, Verdict};

/// A token with fewer characters can be guessed by who has a while.
const MIN_TOKEN_CHARS: usize = 16;

/// Looks at the options of access; one line where all is well.
pub(super) fn checks(config: &Config) -> Vec<Check> {
    let mut checks: Vec<_> =
        [open_to_all(config), behind_a_proxy(config), short_token(config)].into_iter().flatten().collect();
    if checks.is_empty() {
        let found = match (config.server.is_loopback_only(), config.auth.required_token()) {
            (true, None) => "this machine alone reaches the gateway, and needs no token",
            (true, Some(_)) => "this machine alone reaches the gateway, and the API asks for a token",
            (false, _) => "others reach the gateway, and the API asks for a token",
        };
        checks.push(Check::new("access", Verdict::Ok, found));
    }
    checks
}

fn open_to_all(config: &Config) -> Option<Check> {
    let open = !config.server.is_loopback_only() && config.auth.mode == AuthMode::None;
    open.then(|| {
        let found = "whoever reaches server.listen may change everything: auth.mode is \"none\"";
        Check::new("access", Verdict::Warn, found)
            .advice("set auth.token and leave auth.mode out, unless a proxy asks who it is")
    })
}

/// Behind a proxy on this machine every client looks like this machine.
fn behind_a_proxy(config: &Config) -> Option<Check> {
    let (server, auth) = (&config.server, &config.auth);
    let proxied = server.public_url.is_some() && server.is_loopback_only();
    let by_loopback = auth.required_token().is_some() && auth.anonymous_content == AnonymousContent::Loopback;
    (proxied && by_loopback).then(|| {
        let found =
            "behind a proxy on this machine every client looks like this machine, and reads content without the token";
        let advice = "say auth.anonymous_content = \"never\", or \"always\" if that is meant";
        Check::new("access", Verdict::Warn, found).advice(advice)
    })
}

fn short_token(config: &Config) -> Option<Check> {
    let chars = config.auth.required_token()?.expose().chars().count();
    (chars < MIN_TOKEN_CHARS).then(|| {
        let found = format!("auth.token has {chars} characters and can be guessed");
        Check::new("access", Verdict::Warn, found).advice("make one with `openssl rand -hex 32`")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use swarmgate_config::Secret;

    fn found(change: impl FnOnce(&mut Config)) -> Vec<(Verdict, String)> {
        let mut config = Config::default();
        config.auth.token = Secret::new("0123456789abcdef");
        change(&mut config);
        checks(&config).into_iter().map(|check| (check.verdict, check.found)).collect()
    }

    fn warns(change: impl FnOnce(&mut Config), of: &str) {
        let found = found(change);
        assert!(found.len() == 1 && found[0].0 == Verdict::Warn && found[0].1.contains(of), "{of}: {found:?}");
    }

    #[test]
    fn defaults_and_a_token_are_fine() {
        assert_eq!(found(|_| {})[0].0, Verdict::Ok);
        assert_eq!(found(|config| config.auth.token = Secret::default())[0].0, Verdict::Ok);
        assert_eq!(found(|config| config.server.listen = vec!["0.0.0.0:1".parse().unwrap()])[0].0, Verdict::Ok);
    }

    #[test]
    fn what_is_valid_and_hardly_meant_is_a_warning() {
        warns(
            |config| {
                config.server.listen = vec!["0.0.0.0:1".parse().unwrap()];
                config.auth.mode = AuthMode::None;
            },
            "may change everything",
        );
        warns(
            |config| config.server.public_url = "https://gate.example/".parse().ok(),
            "every client looks like this machine",
        );
        warns(|config| config.auth.token = Secret::new("hunter2"), "7 characters");
    }
}
