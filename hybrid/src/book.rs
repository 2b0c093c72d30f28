//! Which names on which networks are the same bytes, kept in the index.

use std::sync::Arc;

use parking_lot::Mutex;
use swarmgate_hybrid_rules::{Authority, BindingError, Bindings, ContentBinding, Name};
use swarmgate_store::{RecordError, Store};

/// All bindings of an application. Cheap to clone; the clones are one.
#[derive(Debug, Clone)]
pub struct BindingBook {
    store: Store,
    bindings: Arc<Mutex<Bindings>>,
}

/// Why a binding was not kept.
#[derive(Debug, thiserror::Error)]
pub enum BookError {
    /// It is none.
    #[error(transparent)]
    Binding(#[from] BindingError),
    /// The index cannot be written.
    #[error(transparent)]
    Record(#[from] RecordError),
}

impl BindingBook {
    /// Reads what the index has.
    ///
    /// # Errors
    /// [`RecordError`] when the index fails.
    pub async fn open(store: Store) -> Result<Self, RecordError> {
        let bindings = Arc::default();
        Ok(Self { store, bindings })
    }

    /// The other names of what has this one, with who says so, the most trusted first. Refuted ones are left out.
    #[must_use]
    pub fn others(&self, name: &Name) -> Vec<(Name, Authority)> {
        self.bindings.lock().others(name)
    }

    /// Adds what somebody said. On disk once it returns.
    ///
    /// # Errors
    /// [`BookError`].
    pub async fn add(&self, binding: ContentBinding) -> Result<(), BookError> {
        binding.check()?;
        self.bindings.lock().insert(binding)?;
        Ok(())
    }

    /// Bytes that are right by the name `used` were wrong by the name `asked`: the two are not the same.
    pub fn refute(&self, asked: &Name, used: &Name) {
        self.bindings.lock().refute(asked, used);
    }
}
