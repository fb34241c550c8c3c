//! All tasks that the plugin knows.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Task;

/// The tasks by id. Clones are the same store.
#[derive(Clone, Debug, Default)]
pub struct TaskStore(Arc<Mutex<Slots>>);

#[derive(Debug, Default)]
struct Slots {
    tasks: HashMap<String, Slot>,
    /// The state directories of all tasks so far. They differ once the agent's configuration was changed.
    state_dirs: BTreeSet<PathBuf>,
}

#[derive(Debug)]
enum Slot {
    Reserved,
    Task(Arc<Task>),
}

/// Why an id cannot be reserved.
#[derive(Debug)]
pub enum TaskExists {
    /// The task is being started or recovered.
    Starting,
    /// The task is known.
    Known(Arc<Task>),
}

impl TaskStore {
    /// The task with this id.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<Arc<Task>> {
        match self.slots().tasks.get(id)? {
            Slot::Reserved => None,
            Slot::Task(task) => Some(Arc::clone(task)),
        }
    }

    /// Whether the task with this id runs, ran, or is being started or recovered.
    #[must_use]
    pub fn knows(&self, id: &str) -> bool {
        self.slots().tasks.contains_key(id)
    }

    /// The state directories of all tasks so far.
    #[must_use]
    pub fn state_dirs(&self) -> BTreeSet<PathBuf> {
        self.slots().state_dirs.clone()
    }

    /// Reserves an id for a task that is about to start, so that nobody else starts it.
    ///
    /// # Errors
    /// When the id is reserved, or its task is known.
    pub fn reserve(&self, id: &str) -> Result<Reservation, TaskExists> {
        let mut slots = self.slots();
        match slots.tasks.get(id) {
            Some(Slot::Reserved) => Err(TaskExists::Starting),
            Some(Slot::Task(task)) => Err(TaskExists::Known(Arc::clone(task))),
            None => {
                slots.tasks.insert(id.to_owned(), Slot::Reserved);
                Ok(Reservation { id: id.to_owned(), store: self.clone(), filled: false })
            }
        }
    }

    /// Removes this very task. Another one with the same id stays.
    pub fn remove(&self, task: &Arc<Task>) {
        let mut slots = self.slots();
        if let Some(Slot::Task(known)) = slots.tasks.get(&task.name().id)
            && Arc::ptr_eq(known, task)
        {
            slots.tasks.remove(&task.name().id);
        }
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A reserved id. Dropping it without a task releases the id.
#[derive(Debug)]
pub struct Reservation {
    id: String,
    store: TaskStore,
    filled: bool,
}

impl Reservation {
    /// Adds the task to the store.
    pub fn fill(mut self, task: Arc<Task>) {
        self.filled = true;
        let mut slots = self.store.slots();
        slots.state_dirs.extend(task.record().directory.parent().map(PathBuf::from));
        slots.tasks.insert(self.id.clone(), Slot::Task(task));
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.filled {
            self.store.slots().tasks.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_reserved_once_and_released_when_no_task_was_added() {
        let store = TaskStore::default();
        let reservation = store.reserve("a").unwrap();
        assert!(matches!(store.reserve("a"), Err(TaskExists::Starting)));
        assert!(store.find("a").is_none() && store.reserve("b").is_ok());
        drop(reservation);
        assert!(store.reserve("a").is_ok());
    }
}
