//! Where this process may connect to because somebody outside said so: the policy, an HTTP client that obeys it,
//! and the gate that every peer passes, with the operator's lists and the bans.
//!
//! Every network's shell stands on this crate, so that there is one guard and not one a network.

mod address_list;
mod gate;
mod http_answer;
mod http_client;
mod policy;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use address_list::{AddressList, ListCount, MAX_RANGES};
pub use gate::{Ban, GateRefused, MAX_BANS, PeerGate, Way};
pub use http_answer::{HttpAnswer, HttpMethod, HttpRequest};
pub use http_client::{HttpClient, HttpError, HttpRoute, IpFamily};
pub use policy::{EgressPolicy, EgressRefused, ResolveError, is_public};
