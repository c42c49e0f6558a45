//! The series of a metric, by their labels. A `Family` of `prometheus_client` cannot say which it has, so that none could go
//! with its Rule, and cannot be filled anew in one moment.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::RwLock;
use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::{MetricType, TypedMetric};

use super::metrics::Labels;

/// One metric for each set of labels, which makes a new one where there is none.
#[derive(Clone, Debug)]
pub(super) struct Series<M> {
    make: fn() -> M,
    known: Arc<RwLock<HashMap<Labels, One<M>>>>,
}

#[derive(Debug)]
struct One<M> {
    metric: M,
    /// Whether nobody wanted it when it was asked last.
    was_unwanted: bool,
}

impl<M> One<M> {
    fn new(metric: M) -> Self {
        Self { metric, was_unwanted: false }
    }
}

impl<M: Default> Default for Series<M> {
    fn default() -> Self {
        Self::new(M::default)
    }
}

impl<M> Series<M> {
    /// None yet.
    pub(super) fn new(make: fn() -> M) -> Self {
        Self { make, known: Arc::default() }
    }

    /// Counts or observes in one of them.
    pub(super) fn with<T>(&self, labels: &Labels, change: impl FnOnce(&M) -> T) -> T {
        if let Some(one) = self.known.read().get(labels) {
            return change(&one.metric);
        }
        let mut known = self.known.write();
        let one = known.entry(labels.clone()).or_insert_with(|| One::new((self.make)()));
        change(&one.metric)
    }

    /// Lets go of those that are not wanted, if they were not the last time either: what was made a moment ago may be
    /// wanted by somebody of whom `is_wanted` does not know yet.
    pub(super) fn retain(&self, is_wanted: impl Fn(&Labels) -> bool) {
        self.known.write().retain(|labels, one| {
            let is_unwanted = !is_wanted(labels);
            let goes = is_unwanted && one.was_unwanted;
            one.was_unwanted = is_unwanted;
            !goes
        });
    }
}

impl Series<Gauge> {
    /// Counts anew how often there is what, in one moment: whoever reads meanwhile sees what was before. For want of a
    /// series alerts would take it that what they wait for is over.
    pub(super) fn count(&self, all: impl IntoIterator<Item = Labels>) {
        let mut fresh: HashMap<Labels, One<Gauge>> = HashMap::new();
        for labels in all {
            fresh.entry(labels).or_insert_with(|| One::new(Gauge::default())).metric.inc();
        }
        *self.known.write() = fresh;
    }
}

impl<M: TypedMetric> TypedMetric for Series<M> {
    const TYPE: MetricType = M::TYPE;
}

impl<M: EncodeMetric + TypedMetric> EncodeMetric for Series<M> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        for (labels, one) in self.known.read().iter() {
            one.metric.encode(encoder.encode_family(labels)?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        M::TYPE
    }

    fn is_empty(&self) -> bool {
        self.known.read().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::metrics::counter::Counter;

    #[test]
    fn what_is_not_wanted_goes_when_that_is_said_twice_in_a_row() {
        let series: Series<Counter> = Series::default();
        let labels: Labels = vec![("rule", "r".to_owned())];
        let mut told = Vec::new();
        for is_wanted in [false, true, false, false] {
            told.push(series.with(&labels, Counter::inc));
            series.retain(|_| is_wanted);
        }
        assert_eq!((told, series.is_empty()), (vec![0, 1, 2, 3], true));
    }

    #[test]
    fn what_is_counted_anew_is_seen_when_all_of_it_is() {
        let series: Series<Gauge> = Series::default();
        let labels = |rule: &str| -> Labels { vec![("rule", rule.to_owned())] };
        series.count([labels("before")]);
        let seen = || {
            let known = series.known.read();
            let mut seen: Vec<_> =
                known.iter().map(|(of, one)| (of[0].1.clone(), one.metric.get())).collect();
            seen.sort();
            seen
        };
        series.count([labels("r"), labels("s"), labels("r")].into_iter().inspect(|_| {
            assert_eq!(seen(), [("before".to_owned(), 1)]);
        }));
        assert_eq!(seen(), [("r".to_owned(), 2), ("s".to_owned(), 1)]);
    }
}
