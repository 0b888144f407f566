//! Taking times, and what is said of many of them.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::Context as _;

/// Measurements of the same thing: times in nanoseconds, or bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Times(Vec<f64>);

impl Times {
    /// All of these together.
    pub(crate) fn of_all(times: &[Self]) -> Self {
        Self(times.iter().flat_map(|times| times.0.iter().copied()).collect())
    }

    /// This alone.
    pub(crate) fn one(time: f64) -> Self {
        Self(vec![time])
    }

    pub(crate) fn push(&mut self, nanoseconds: f64) {
        self.0.push(nanoseconds);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The time that this part of them (0 to 1) do not exceed.
    pub(crate) fn quantile(&self, part: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().saturating_sub(1);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index into a few thousand samples"
        )]
        let at = (last as f64 * part).round() as usize;
        sorted.get(at).copied().unwrap_or(f64::NAN)
    }

    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    #[expect(clippy::cast_precision_loss, reason = "a few thousand samples")]
    pub(crate) fn mean(&self) -> f64 {
        self.0.iter().sum::<f64>() / self.0.len() as f64
    }
}

/// How often a thing is done before times count.
const WARM_UP: usize = 3;

/// Two things done alternately, so that both meet the same machine.
pub(crate) async fn alternately<A, B>(
    rounds: usize,
    mut ours: impl FnMut() -> A,
    mut limit: impl FnMut() -> B,
) -> anyhow::Result<(Times, Times)>
where
    A: Future<Output = anyhow::Result<()>>,
    B: Future<Output = anyhow::Result<()>>,
{
    let (mut of_ours, mut of_limit) = (Times::default(), Times::default());
    for round in 0..rounds + WARM_UP {
        let start = now();
        ours().await?;
        let between = now();
        limit().await?;
        let end = now();
        if round >= WARM_UP {
            of_ours.push(nanoseconds(between - start));
            of_limit.push(nanoseconds(end - between));
        }
    }
    Ok((of_ours, of_limit))
}

/// The time of one call, where it is too short to be taken singly: `calls` of them at a time.
pub(crate) fn in_batches(batches: usize, calls: u32, mut call: impl FnMut()) -> Times {
    let mut times = Times::default();
    for batch in 0..batches + WARM_UP {
        let start = now();
        (0..calls).for_each(|_| call());
        let took = nanoseconds(start.elapsed()) / f64::from(calls);
        if batch >= WARM_UP {
            times.push(took);
        }
    }
    times
}

/// What the system says of this process's memory under a name such as `VmRSS:`, in bytes.
pub(crate) fn own_memory(name: &str) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("this system does not tell")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let line = line.with_context(|| format!("there is no {name}"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().context("it is no number")?;
    Ok(kib * 1024)
}

pub(crate) fn nanoseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e9
}

#[expect(clippy::disallowed_methods, reason = "measuring is what it is for")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_sorted_times() {
        let mut times = Times::default();
        [5.0, 1.0, 4.0, 2.0, 3.0].into_iter().for_each(|time| times.push(time));
        assert_eq!((times.quantile(0.0), times.median(), times.quantile(1.0)), (1.0, 3.0, 5.0));
        assert_eq!((times.mean(), Times::one(7.0).median()), (3.0, 7.0));
        assert!(Times::default().median().is_nan());
    }
}
