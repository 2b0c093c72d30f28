//! Who has the cache: the command itself, or a gateway that runs on it and is asked instead.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use swarmgate_config::Config;

use super::Exit;
use super::running::Running;
use super::source::Failure;

/// Who has the cache.
#[derive(Debug)]
pub(super) enum Holder<T> {
    /// The command, which opened it.
    Command(T),
    /// A gateway.
    Gateway(Running),
}

/// The gateway of this configuration, which is to be the one that holds the cache in `dir`.
///
/// # Errors
/// When no gateway answers, or it has another cache: then somebody else holds this one.
pub(super) async fn gateway(config: &Config, dir: &Path) -> Result<Running, Failure> {
    let held = |why: &dyn Display| {
        let what = format!("another swarmgate holds the cache in {}", dir.display());
        Failure::new(Exit::Error, format!("{what}, and {why}. Name that one with --api, or end it first"))
    };
    let running = Running::of(config, None).map_err(|failure| held(&failure))?;
    let refused = |failure: Failure| if failure.exit == Exit::Denied { failure } else { held(&failure) };
    let options = running.document("/api/v1/config").await.map_err(refused)?;
    let mut options = options["options"].as_array().into_iter().flatten();
    let its = options.find(|option| option["key"] == "cache.dir").and_then(|option| option["value"].as_str());
    match its.map(PathBuf::from) {
        // From where it was started a relative one leads elsewhere.
        Some(its) if its.is_absolute() && !is_same(&its, dir) => {
            Err(held(&format!("the gateway at {} has its own in {}", running.url("/"), its.display())))
        }
        Some(_) | None => Ok(running),
    }
}

fn is_same(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    real(one) == real(other)
}
