//! Work on many sources, on several cores when it takes longer.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use crate::{Guard, QueryError};

/// A query stays on its own core for so long: most are done by then, and a thread costs some of it.
const ALONE: Duration = Duration::from_millis(if cfg!(test) { 0 } else { 3 });

/// Threads that help queries now, of all queries together: there are never more than cores, less one.
static HELPERS: AtomicUsize = AtomicUsize::new(0);

/// Cores that a query may use.
pub(crate) fn cores() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    let least = if cfg!(test) { 4 } else { 1 };
    *CORES.get_or_init(|| thread::available_parallelism().map_or(1, usize::from).max(least))
}

/// Bytes that the parts of an answer may take together.
#[derive(Debug)]
pub(crate) struct Budget {
    used: AtomicUsize,
    max: usize,
}

impl Budget {
    pub(crate) fn new(guard: &Guard) -> Budget {
        Budget { used: AtomicUsize::new(0), max: guard.memory_bytes_max }
    }

    /// Takes so many bytes more; whether there were so many.
    pub(crate) fn take(&self, bytes: usize) -> bool {
        self.used.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) <= self.max
    }

    /// Gives so many back.
    pub(crate) fn give(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// The most there can be.
    pub(crate) fn max(&self) -> usize {
        self.max
    }
}

/// Threads that were taken from all queries' [`HELPERS`].
struct Helpers(usize);

impl Helpers {
    fn take(wanted: usize, max: usize) -> Helpers {
        let mut taken = 0;
        let _ = HELPERS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |busy| {
            taken = max.saturating_sub(busy).min(wanted);
            (taken > 0).then_some(busy + taken)
        });
        Helpers(taken)
    }
}

impl Drop for Helpers {
    fn drop(&mut self) {
        HELPERS.fetch_sub(self.0, Ordering::Relaxed);
    }
}

/// Work that has been begun.
struct Work<'a, T, F> {
    items: &'a [T],
    next: AtomicUsize,
    guard: &'a Guard,
    add: F,
}

impl<T, F> Work<'_, T, F> {
    /// Goes on until nothing is left, or the time has come; whether something is left.
    fn go_on<A>(&self, part: &mut A, until: Option<Instant>) -> Result<bool, QueryError>
    where
        F: Fn(&mut A, &T) -> Result<ControlFlow<()>, QueryError>,
    {
        while until.is_none_or(|until| Instant::now() < until) {
            let next = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = self.items.get(next) else { return Ok(false) };
            let added = self.guard.check().and_then(|()| (self.add)(part, item));
            if !matches!(added, Ok(ControlFlow::Continue(()))) {
                // The others need not go on either.
                self.next.store(self.items.len(), Ordering::Relaxed);
                return added.map(|_| false);
            }
        }
        Ok(true)
    }
}

/// Calls `add(part, item)` for the items, which are begun in their order, until one says that none of those that follow
/// is wanted. Each of at most `cores` has a part of its own, from `new`, which gets the budget of all; in the end `merge`
/// puts them together, in no order.
///
/// # Errors
/// The first error of `add` or `merge`. Where parts on several cores take more memory than the guard allows, it is done
/// again on one before that is said.
pub(crate) fn on_cores<T: Sync, A: Send>(
    items: &[T],
    cores: usize,
    guard: &Guard,
    new: impl Fn(&Arc<Budget>) -> A + Sync,
    add: impl Fn(&mut A, &T) -> Result<ControlFlow<()>, QueryError> + Sync,
    merge: impl Fn(&mut A, A) -> Result<(), QueryError>,
) -> Result<A, QueryError> {
    let work = Work { items, next: AtomicUsize::new(0), guard, add: &add };
    let budget = Arc::new(Budget::new(guard));
    let mut own = new(&budget);
    let alone = (cores > 1).then(|| Instant::now() + ALONE);
    if !work.go_on(&mut own, alone)? {
        return Ok(own);
    }
    let left = items.len().saturating_sub(work.next.load(Ordering::Relaxed));
    let helpers = Helpers::take(left.saturating_sub(1), cores - 1);
    let help = || {
        let mut part = new(&budget);
        work.go_on(&mut part, None).map(|_| part)
    };
    let whole = thread::scope(|scope| {
        let threads: Vec<_> = (0..helpers.0)
            .filter_map(|_| thread::Builder::new().name("query".to_owned()).spawn_scoped(scope, help).ok())
            .collect();
        work.go_on(&mut own, None)?;
        for thread in threads {
            let panicked = |_| QueryError::Internal("a thread that read files panicked".to_owned());
            merge(&mut own, thread.join().map_err(panicked).flatten()?)?;
        }
        Ok(own)
    });
    match whole {
        // Parts may hold the same again, each for itself.
        Err(QueryError::TooExpensive(_)) if helpers.0 > 0 => {
            drop(helpers);
            on_cores(items, 1, guard, new, add, merge)
        }
        whole => whole,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    const PAUSE: Duration = Duration::from_millis(2);

    fn put_together(all: &mut Vec<usize>, part: Vec<usize>) -> Result<(), QueryError> {
        all.extend(part);
        Ok(())
    }

    #[test]
    fn every_item_is_met_once_on_any_number_of_cores() {
        for count in [0, 1, 2, 3, 40] {
            let items: Vec<usize> = (0..count).collect();
            for cores in [1, 2, 4] {
                let add = |part: &mut Vec<usize>, item: &usize| {
                    thread::sleep(PAUSE);
                    part.push(*item);
                    Ok(ControlFlow::Continue(()))
                };
                let mut all =
                    on_cores(&items, cores, &Guard::default(), |_| Vec::new(), add, put_together).unwrap();
                all.sort_unstable();
                assert_eq!(all, items, "{cores} cores");
            }
        }
    }

    /// Ten items are met at once; each of the many that follow takes long, so that they cannot all be begun before it is
    /// known that none is wanted.
    #[test]
    fn what_follows_the_last_wanted_item_is_not_begun() {
        let items: Vec<usize> = (0..1000).collect();
        for cores in [1, 4] {
            for fails in [false, true] {
                let met = Mutex::new(Vec::new());
                let add = |(): &mut (), item: &usize| {
                    met.lock().unwrap().push(*item);
                    match *item {
                        9 if fails => return Err(QueryError::Invalid("nine".to_owned())),
                        9 => return Ok(ControlFlow::Break(())),
                        10.. => thread::sleep(10 * PAUSE),
                        _ => {}
                    }
                    Ok(ControlFlow::Continue(()))
                };
                let result = on_cores(&items, cores, &Guard::default(), |_| (), add, |(), ()| Ok(()));
                let as_told = matches!(&result, Err(QueryError::Invalid(text)) if text == "nine");
                assert_eq!((result.is_err(), as_told), (fails, fails));
                let mut met = met.into_inner().unwrap();
                met.sort_unstable();
                assert_eq!(met, items[..met.len()], "all before it, and each once");
                assert!((10..items.len()).contains(&met.len()), "{} met", met.len());
                assert!(cores > 1 || met.len() == 10);
            }
        }
    }

    #[test]
    fn a_query_that_is_cancelled_begins_nothing() {
        let guard = Guard::default();
        guard.cancelled.store(true, Ordering::Relaxed);
        let add = |(): &mut (), (): &()| -> Result<ControlFlow<()>, QueryError> { panic!("it was begun") };
        let result = on_cores(&[(); 9], 2, &guard, |_| (), add, |(), ()| Ok(()));
        assert!(matches!(result, Err(QueryError::Cancelled)));
    }

    /// Each part keeps ten bytes once, whatever it meets.
    #[test]
    fn memory_that_suffices_on_one_core_suffices() {
        for (bytes, wanted) in [(10, true), (9, false)] {
            let guard = Guard { memory_bytes_max: bytes, ..Guard::default() };
            let new = |budget: &Arc<Budget>| (false, Arc::clone(budget));
            let add = |(kept, budget): &mut (bool, Arc<Budget>), (): &()| {
                thread::sleep(PAUSE);
                if !std::mem::replace(kept, true) && !budget.take(10) {
                    return Err(QueryError::TooExpensive("too much".to_owned()));
                }
                Ok(ControlFlow::Continue(()))
            };
            let result = on_cores(&[(); 20], 4, &guard, new, add, |_, _| Ok(()));
            assert_eq!(result.is_ok(), wanted, "{bytes} bytes");
        }
    }
}
