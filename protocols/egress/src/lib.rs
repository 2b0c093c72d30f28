//! Where this process may connect to because somebody outside said so: the policy, and an HTTP client that obeys it.
//!
//! Every network's shell stands on this crate, so that there is one guard and not one a network.

mod http_answer;
mod http_client;
mod policy;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use http_answer::{HttpAnswer, HttpMethod, HttpRequest};
pub use http_client::{HttpClient, HttpError};
pub use policy::{EgressPolicy, EgressRefused, ResolveError, is_public};
