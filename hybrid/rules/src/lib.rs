//! Rules for fetching one content over several networks at once, so that losing any of them does not stop the reader.
//!
//! [`FetchPlan`] decides which unit of a content is asked of which source, and when a second one is asked. It stands on
//! what readers want ([`ReaderOptions`]), on what each source has shown so far, on a [`Policy`] that an operator wrote,
//! on [`Breakers`] that say who may be asked at all, and on one [`Budget`] for everything that is asked twice.
//! [`Bindings`] knows which names on which networks are the same bytes; [`Attribution`] who delivered what.
//!
//! What is absent here: async, sockets, a clock, hashing. Time is an argument, chance comes from seeds, and bytes are
//! never seen: whoever calls says that a unit was verified, or that it was not what its name says.
//!
//! # Why do breakers and budgets have locks, when rules have no need of any?
//! They outlive every plan and are shared by all: a mirror that fails one reader must rest for the others too, and what
//! is asked twice is limited for the whole process. A plan is owned by one task and has no lock.
//!
//! # Why may a unit wait though a source stands idle?
//! Because the idle one would deliver it later than the busy one will. Units are dealt out in the order in which they
//! are wanted, each to where it would be complete first, counting what was dealt out before; a slow source that takes
//! the next unit of a film delivers it after everything behind it, and the reader stands still.

mod attribution;
mod binding;
mod breaker;
mod budget;
mod classify;
mod demand;
mod estimate;
mod latencies;
mod plan;
mod policy;
mod source;
mod units;

#[cfg(test)]
mod testing;

pub use attribution::{Attribution, MAX_ORIGINS, MAX_READINGS, Reading, SourceShare};
pub use binding::{
    Authority, BindingError, Bindings, ContentBinding, MAX_BINDINGS, MAX_MIRROR_URL_BYTES, MAX_NAMES_OF_A_BINDING,
    MAX_REFUTED, Name, PushedOut,
};
pub use breaker::{
    BreakerChange, BreakerKey, BreakerOptions, BreakerState, BreakerStatus, Breakers, CircuitBreaker, MAX_BREAKERS,
    MAX_CHANGES, Operation, Permit, Refusal, Ticket, Urgency,
};
pub use budget::{Budget, BudgetOptions, BudgetStatus};
pub use classify::{Fault, Verdict, class, verdict};
pub use demand::{MAX_READERS, MAX_WANTS, ReaderKey, ReaderOptions};
pub use latencies::Latencies;
pub use plan::{
    Action, AskReason, CancelReason, Delivery, FetchPlan, GiveUpReason, MAX_SOURCES, PlanOptions, SourceStatus,
};
pub use policy::{MAX_HEDGE_SHARE, Policies, Policy};
pub use source::{Domain, Holdings, Network, Prior, SourceKey, SourceSpec};
pub use units::{MAX_UNITS, Unit, Units};
