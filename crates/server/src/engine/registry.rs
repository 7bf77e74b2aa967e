//! Which sandboxes there are, by id and by name.

use std::collections::HashMap;
use std::sync::Arc;

use uuid::Uuid;

use super::name;
use super::sandbox::Sandbox;

#[derive(Default)]
pub(super) struct Registry {
    by_id: HashMap<Uuid, Arc<Sandbox>>,
    by_name: HashMap<Arc<str>, Uuid>,
    closed: bool,
}

impl Registry {
    /// A sandbox by name or id.
    pub(super) fn get(&self, reference: &str) -> Option<Arc<Sandbox>> {
        self.by_id.get(&self.id(reference)?).map(Arc::clone)
    }

    pub(super) fn by_name(&self, name: &str) -> Option<Arc<Sandbox>> {
        self.by_id.get(self.by_name.get(name)?).map(Arc::clone)
    }

    pub(super) fn has_name(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn all(&self) -> Vec<Arc<Sandbox>> {
        self.by_id.values().map(Arc::clone).collect()
    }

    pub(super) fn insert(&mut self, sandbox: &Arc<Sandbox>) {
        self.by_name.insert(sandbox.name(), sandbox.id());
        self.by_id.insert(sandbox.id(), Arc::clone(sandbox));
    }

    /// Takes a sandbox out; its name is free.
    pub(super) fn remove(&mut self, reference: &str) -> Option<Arc<Sandbox>> {
        let sandbox = self.by_id.remove(&self.id(reference)?)?;
        self.free(&sandbox);
        Some(sandbox)
    }

    /// Gives a sandbox that is here another name, which must be free.
    pub(super) fn rename(&mut self, sandbox: &Sandbox, name: &str) {
        self.free(sandbox);
        self.by_name.insert(name.into(), sandbox.id());
    }

    /// Whether it was not taken out meanwhile.
    pub(super) fn has(&self, sandbox: &Sandbox) -> bool {
        self.by_id.contains_key(&sandbox.id())
    }

    fn free(&mut self, sandbox: &Sandbox) {
        let name = sandbox.name();
        if self.by_name.get(&name) == Some(&sandbox.id()) {
            self.by_name.remove(&name);
        }
    }

    /// Nothing comes in any more.
    pub(super) fn close(&mut self) -> Vec<Arc<Sandbox>> {
        self.closed = true;
        self.by_name.clear();
        std::mem::take(&mut self.by_id).into_values().collect()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(super) fn free_name(&self) -> Arc<str> {
        loop {
            let name = name::random();
            if !self.has_name(&name) {
                return name.into();
            }
        }
    }

    fn id(&self, reference: &str) -> Option<Uuid> {
        let by_name = self.by_name.get(reference).copied();
        by_name.or_else(|| Uuid::try_parse(reference).ok().filter(|id| self.by_id.contains_key(id)))
    }
}
