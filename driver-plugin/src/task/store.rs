//! The map of all tasks that the plugin knows.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Task;

/// The tasks by id.
#[derive(Clone, Debug, Default)]
pub struct Store(Arc<Mutex<HashMap<String, Entry>>>);

#[derive(Debug)]
enum Entry {
    /// Somebody is starting or recovering it.
    Awaited,
    Known(Arc<Task>),
}

/// Why there is no place for a task.
#[derive(Debug)]
pub enum Occupied {
    /// It is being started or recovered.
    Awaited,
    /// It is known.
    Known(Arc<Task>),
}

impl Store {
    /// The task of that id.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<Arc<Task>> {
        match self.entries().get(id)? {
            Entry::Awaited => None,
            Entry::Known(task) => Some(Arc::clone(task)),
        }
    }

    /// Keeps a place for a task that is not known yet, so that nobody else starts it.
    ///
    /// # Errors
    /// When there is one of that id.
    pub fn keep_place(&self, id: &str) -> Result<Place, Occupied> {
        let mut entries = self.entries();
        match entries.get(id) {
            Some(Entry::Awaited) => Err(Occupied::Awaited),
            Some(Entry::Known(task)) => Err(Occupied::Known(Arc::clone(task))),
            None => {
                entries.insert(id.to_owned(), Entry::Awaited);
                Ok(Place { id: id.to_owned(), store: self.clone(), taken: false })
            }
        }
    }

    /// Forgets the task, unless another one has taken its place.
    pub fn forget(&self, task: &Arc<Task>) {
        let mut entries = self.entries();
        if let Some(Entry::Known(known)) = entries.get(&task.name().id)
            && Arc::ptr_eq(known, task)
        {
            entries.remove(&task.name().id);
        }
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place for a task; free again when dropped before the task took it.
#[derive(Debug)]
pub struct Place {
    id: String,
    store: Store,
    taken: bool,
}

impl Place {
    /// Puts the task into its place.
    pub fn take(mut self, task: Arc<Task>) {
        self.taken = true;
        self.store.entries().insert(self.id.clone(), Entry::Known(task));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.taken {
            self.store.entries().remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_kept_once_and_free_again_when_nothing_came_of_it() {
        let store = Store::default();
        let place = store.keep_place("a").unwrap();
        assert!(matches!(store.keep_place("a"), Err(Occupied::Awaited)));
        assert!(store.find("a").is_none() && store.keep_place("b").is_ok());
        drop(place);
        assert!(store.keep_place("a").is_ok());
    }
}
