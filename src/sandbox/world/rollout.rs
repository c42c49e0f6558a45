//! The arithmetic of a rolling update. Pure.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// How far a rollout may stray from the wanted number of pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// So many more.
    pub surge: i32,
    /// So many fewer.
    pub unavailable: i32,
}

/// One ReplicaSet: what it is asked for, and how many of its pods are available.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sized {
    /// The replicas asked for.
    pub wanted: i32,
    /// Those available.
    pub available: i32,
}

impl Bounds {
    /// The bounds for `replicas`; both default to a quarter, and one of them lets the rollout move.
    pub fn new(surge: Option<&IntOrString>, unavailable: Option<&IntOrString>, replicas: i32) -> Self {
        let quarter = IntOrString::String("25%".to_owned());
        let surge = amount(surge.unwrap_or(&quarter), replicas, true);
        let unavailable = amount(unavailable.unwrap_or(&quarter), replicas, false);
        let stuck = surge == 0 && unavailable == 0;
        Self { surge, unavailable: if stuck { 1 } else { unavailable.min(replicas) } }
    }
}

fn amount(value: &IntOrString, of: i32, round_up: bool) -> i32 {
    match value {
        IntOrString::Int(count) => *count,
        IntOrString::String(text) => {
            let percent: i64 = text.trim_end_matches('%').parse().unwrap_or_default();
            let hundredfold = percent * i64::from(of);
            let count = if round_up { (hundredfold + 99) / 100 } else { hundredfold / 100 };
            i32::try_from(count).unwrap_or(of)
        }
    }
}

/// The next sizes of the new ReplicaSet and of the old ones, oldest first.
pub fn next(replicas: i32, bounds: Bounds, new: Sized, old: &[Sized]) -> (i32, Vec<i32>) {
    let total = new.wanted + old.iter().map(|set| set.wanted).sum::<i32>();
    let room = (replicas + bounds.surge - total).max(0);
    let grown = if new.wanted > replicas { replicas } else { replicas.min(new.wanted + room) };
    if grown != new.wanted {
        return (grown, old.iter().map(|set| set.wanted).collect());
    }
    (grown, shrink(replicas - bounds.unavailable, total, new, old))
}

/// The old sets' sizes such that at least `least` pods stay available.
fn shrink(least: i32, total: i32, new: Sized, old: &[Sized]) -> Vec<i32> {
    let mut sizes: Vec<i32> = old.iter().map(|set| set.wanted).collect();
    let mut spare = total - least - (new.wanted - new.available.min(new.wanted));
    if spare <= 0 {
        return sizes;
    }
    // Pods that are not available anyway go first: nobody misses them.
    for (size, set) in sizes.iter_mut().zip(old) {
        let broken = (set.wanted - set.available).max(0).min(spare);
        *size -= broken;
        spare -= broken;
    }
    let available =
        new.available.min(new.wanted) + old.iter().map(|set| set.available.min(set.wanted)).sum::<i32>();
    let mut spare = (available - least).max(0);
    for size in &mut sizes {
        let less = (*size).min(spare);
        *size -= less;
        spare -= less;
    }
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sized(wanted: i32, available: i32) -> Sized {
        Sized { wanted, available }
    }

    #[test]
    fn bounds_are_counts_or_shares() {
        let share = |text: &str| IntOrString::String(text.to_owned());
        for (surge, unavailable, replicas, expected) in [
            (None, None, 10, (3, 2)),
            (None, None, 1, (1, 0)),
            (Some(IntOrString::Int(0)), Some(IntOrString::Int(0)), 5, (0, 1)),
            (Some(share("0%")), Some(share("10%")), 5, (0, 1)),
            (Some(IntOrString::Int(2)), Some(share("100%")), 3, (2, 3)),
        ] {
            let bounds = Bounds::new(surge.as_ref(), unavailable.as_ref(), replicas);
            assert_eq!((bounds.surge, bounds.unavailable), expected, "{surge:?} {unavailable:?} {replicas}");
        }
    }

    #[test]
    fn one_step_at_a_time() {
        let bounds = Bounds { surge: 1, unavailable: 0 };
        for (new, old, expected) in [
            // Grows first, waits until the new pod is available, then shrinks.
            (sized(0, 0), vec![sized(1, 1)], (1, vec![1])),
            (sized(1, 0), vec![sized(1, 1)], (1, vec![1])),
            (sized(1, 1), vec![sized(1, 1)], (1, vec![0])),
            // Broken old pods make way only as far as the surge left room.
            (sized(1, 0), vec![sized(1, 0)], (1, vec![1])),
            (sized(1, 1), vec![sized(1, 0)], (1, vec![0])),
            (sized(3, 1), vec![], (1, vec![])),
        ] {
            assert_eq!(next(1, bounds, new, &old), expected, "{new:?} {old:?}");
        }
    }

    #[test]
    fn a_rollout_ends_and_keeps_its_bounds_on_the_way() {
        for (replicas, surge, unavailable) in [(1, 1, 0), (3, 1, 1), (4, 0, 1), (10, 3, 2), (2, 0, 2)] {
            let bounds = Bounds { surge, unavailable };
            let (mut new, mut old) = (sized(0, 0), vec![sized(replicas, replicas)]);
            for _ in 0..100 {
                let (wanted, olds) = next(replicas, bounds, new, &old);
                let total = wanted + olds.iter().sum::<i32>();
                assert!(total <= replicas + surge, "{total} at once");
                let available = new.available.min(wanted) + olds.iter().sum::<i32>();
                assert!(available >= replicas - unavailable, "only {available} available");
                new = sized(wanted, wanted);
                old = olds.into_iter().map(|wanted| sized(wanted, wanted)).collect();
            }
            assert_eq!((new.wanted, old[0].wanted), (replicas, 0), "{bounds:?}");
        }
    }

    #[test]
    fn a_broken_deployment_is_replaced() {
        let bounds = Bounds { surge: 1, unavailable: 1 };
        let (new, old) = next(3, bounds, sized(0, 0), &[sized(3, 0)]);
        assert_eq!((new, old), (1, vec![3]));
        assert_eq!(next(3, bounds, sized(1, 0), &[sized(3, 0)]), (1, vec![2]), "the surge is made up for");
    }
}
