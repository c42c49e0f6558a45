//! Medians, spreads and percentiles.

/// What was measured, repetition by repetition.
#[derive(Clone, Debug, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value that `share` of the samples do not exceed; not a number if there are none.
    pub fn percentile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index into a list of samples"
        )]
        let at = ((sorted.len() as f64 * share).ceil() as usize).max(1) - 1;
        sorted.get(at).copied().unwrap_or(f64::NAN)
    }

    /// The middle; between two, what lies half-way.
    pub fn median(&self) -> f64 {
        let reversed = Self(self.0.iter().map(|value| -value).collect());
        f64::midpoint(self.percentile(0.5), -reversed.percentile(0.5))
    }

    /// The least and the most.
    pub fn spread(&self) -> (f64, f64) {
        (self.percentile(0.0), self.percentile(1.0))
    }

    /// The median of what each was of its partner of the same turn.
    pub fn ratio_to(&self, floor: &Self) -> f64 {
        Self(self.0.iter().zip(&floor.0).map(|(mine, least)| mine / least).collect()).median()
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<T: IntoIterator<Item = f64>>(values: T) -> Self {
        Self(values.into_iter().collect())
    }
}
