//! Many points, cut into shards: how sweeps, searches and studies are spread over threads, and sweeps over machines.
//!
//! A point is a number, and what is made of it depends on nothing else. So a shard is pure, and results are the same for any number of
//! workers. What a worker keeps from point to point, such as situations to be replayed, may only make the next one faster.

use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// How points are cut into shards: in their order, as evenly as can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shards {
    points: usize,
    count: usize,
}

impl Shards {
    /// So many points in so many shards; in fewer if there are not as many points, and in one at least.
    pub fn new(points: usize, count: usize) -> Self {
        Self { points, count: count.clamp(1, points.max(1)) }
    }

    /// Each point by itself.
    pub fn single(points: usize) -> Self {
        Self::new(points, points)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The points of a shard.
    pub fn range(&self, shard: usize) -> Range<usize> {
        let begin = |shard: usize| (shard as u128 * self.points as u128 / self.count as u128) as usize;
        begin(shard)..begin(shard + 1)
    }
}

/// Works on all points, with a thread for each worker that finds a shard; one worker is this thread. `point` gets the worker's
/// state and the number of the point. Results are in the order of the points.
///
/// # Errors
/// That of the first point with one, in the order of the points. No shard is begun after it.
///
/// # Panics
/// If there are points and no workers; and if `point` panics.
pub fn run<W: Send, R: Send, E: Send>(
    shards: &Shards,
    workers: &mut [W],
    point: impl Fn(&mut W, usize) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    if shards.points == 0 {
        return Ok(Vec::new());
    }
    let next = AtomicUsize::new(0);
    let work = |worker: &mut W| {
        let mut done = Vec::new();
        loop {
            let shard = next.fetch_add(1, Ordering::Relaxed);
            if shard >= shards.count {
                return done;
            }
            // Shards are begun in their order, and those that are begun come to their end: which error is the first depends on nobody.
            let results: Result<Vec<R>, E> = shards.range(shard).map(|at| point(worker, at)).collect();
            if results.is_err() {
                next.store(shards.count, Ordering::Relaxed);
            }
            done.push((shard, results));
        }
    };
    let used = workers.len().min(shards.count);
    let mut done = match &mut workers[..used] {
        [] => panic!("no workers for {} points", shards.points),
        [worker] => work(worker),
        workers => thread::scope(|scope| {
            let threads: Vec<_> = workers.iter_mut().map(|worker| scope.spawn(|| work(worker))).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
        }),
    };
    done.sort_by_key(|(shard, _)| *shard);
    let mut all = Vec::with_capacity(shards.points);
    for (_, results) in done {
        all.extend(results?);
    }
    Ok(all)
}

/// Works on each item by itself, with so many threads (at least one); results in the order of the items.
///
/// # Errors
/// That of the first item with one.
pub fn each<T: Sync, R: Send, E: Send>(
    items: &[T],
    threads: usize,
    work: impl Fn(&T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    let mut workers = vec![(); threads.clamp(1, items.len().max(1))];
    run(&Shards::single(items.len()), &mut workers, |(), at| work(&items[at]))
}

/// The example of the README is a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn shards_are_all_points_once_in_their_order_and_even(points in 0usize..10_000, count in 0usize..200) {
            let shards = Shards::new(points, count);
            let ranges: Vec<_> = (0..shards.count()).map(|shard| shards.range(shard)).collect();
            prop_assert!(ranges.iter().cloned().flatten().eq(0..points));
            let sizes = || ranges.iter().map(|range| range.len());
            prop_assert!(sizes().max().unwrap() - sizes().min().unwrap() <= 1);
        }

        #[test]
        fn results_and_errors_do_not_depend_on_the_workers(
            points in prop::collection::vec(0u32..40, 0..60),
            count in 1usize..20,
            workers in 1usize..5,
        ) {
            let shards = Shards::new(points.len(), count);
            let one = |_: &mut u8, at: usize| if points[at] == 0 { Err(at) } else { Ok(points[at] + 1) };
            let expected = match points.iter().position(|point| *point == 0) {
                Some(at) => Err(at),
                None => Ok(points.iter().map(|point| point + 1).collect()),
            };
            prop_assert_eq!(run(&shards, &mut vec![0; workers], one), expected);
        }
    }

    #[test]
    fn an_error_ends_the_work_and_a_panic_is_passed_on() {
        let items: Vec<usize> = (0..50).collect();
        assert_eq!(each(&items, 3, |x| Ok::<_, ()>(2 * x)).unwrap()[49], 98);
        let begun = AtomicUsize::new(0);
        let failing = each(&items, 1, |x| {
            begun.fetch_add(1, Ordering::Relaxed);
            if *x == 7 { Err("seven") } else { Ok(*x) }
        });
        assert_eq!((failing, begun.into_inner()), (Err("seven"), 8));
        let panics =
            std::panic::catch_unwind(|| each(&items, 2, |x| if *x == 9 { panic!("nine") } else { Ok::<_, ()>(*x) }));
        assert_eq!(panics.unwrap_err().downcast_ref::<&str>(), Some(&"nine"));
    }
}
