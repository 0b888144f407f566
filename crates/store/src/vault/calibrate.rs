//! Choosing what a passphrase costs by measuring this machine.

use std::time::Duration;

use tokenkeep_clock::SystemClock;

use super::argon2id::{CEILING, Costs};
use crate::StoreError;

/// Passes that are chosen first: RFC 9106 wants memory before passes.
const PASSES: u32 = 3;
/// The least memory that is chosen: below it OWASP has no recommendation with few passes.
const LEAST_KIB: u64 = 19 * 1024;
/// Memory grows up to this before passes do. Four passphrases of it stay under the vault's ceiling.
const MOST_KIB: u64 = 256 * 1024;

impl Costs {
    /// Costs of which one guess takes about `target` on this machine, as far as the bounds and what `others` (the
    /// vault's other passphrases) leave of them allow. Computes Argon2id twice. They count as chosen, and are never
    /// raised.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] if `others` leave nothing, or the system has not the memory for it.
    pub fn calibrate(target: Duration, others: &[Self]) -> Result<Self, StoreError> {
        let clock = SystemClock::shared();
        plan(target, others, |costs| costs.time(&*clock))
    }
}

fn plan(
    target: Duration,
    others: &[Costs],
    mut measure: impl FnMut(Costs) -> Option<Duration>,
) -> Result<Costs, StoreError> {
    let invalid = |what: &str| StoreError::Invalid { what: what.to_owned() };
    let spent = |part: fn(Costs) -> u32| others.iter().map(|costs| part(*costs)).fold(0, u32::saturating_add);
    let left = |ceiling: Costs, part: fn(Costs) -> u32| part(ceiling).saturating_sub(spent(part));
    let (memory, passes) = (u64::from(left(CEILING, Costs::memory_kib)), left(CEILING, Costs::passes));
    let lanes = left(CEILING, Costs::lanes).min(Costs::default().lanes());
    if memory < LEAST_KIB || passes == 0 || lanes == 0 {
        return Err(invalid(
            "the vault's other passphrases leave no costs for another: replace or remove one",
        ));
    }
    let first = PASSES.min(passes);
    let most = MOST_KIB.min(memory);
    let fitting = |kib_passes: u128| {
        let kib = u64::try_from(kib_passes / u128::from(first)).unwrap_or(u64::MAX).clamp(LEAST_KIB, most);
        let passes = u32::try_from(kib_passes / u128::from(kib)).unwrap_or(u32::MAX).clamp(first, passes);
        // Both fit: memory is at most the ceiling's.
        Costs::new(u32::try_from(kib).unwrap_or(u32::MAX), passes, lanes)
    };
    let mut costs = fitting(u128::from(Costs::default().memory_kib()) * u128::from(first))?;
    for _ in 0..2 {
        let took = measure(costs).ok_or_else(|| invalid("the system has not the memory to measure costs"))?;
        let work = u128::from(costs.memory_kib()) * u128::from(costs.passes());
        costs = fitting(work * target.as_nanos() / took.as_nanos().max(1))?;
    }
    Ok(costs)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine that needs so many nanoseconds for a KiB and a pass.
    fn machine(nanos: u64) -> impl FnMut(Costs) -> Option<Duration> {
        move |costs| {
            Some(Duration::from_nanos(nanos * u64::from(costs.memory_kib()) * u64::from(costs.passes())))
        }
    }

    fn took(costs: Costs, nanos: u64) -> Duration {
        machine(nanos)(costs).unwrap()
    }

    #[test]
    fn costs_take_about_the_time_that_is_asked_for() {
        let target = Duration::from_millis(500);
        for nanos in [300, 1_000, 5_000] {
            let costs = plan(target, &[], machine(nanos)).unwrap();
            assert!(took(costs, nanos) <= target && took(costs, nanos) > target.mul_f32(0.8), "{costs:?}");
            assert!(costs.is_chosen() && costs.passes() >= PASSES);
        }
    }

    #[test]
    fn memory_comes_first_and_the_bounds_hold() {
        let fast = plan(Duration::from_secs(3600), &[], machine(300)).unwrap();
        assert_eq!((fast.memory_kib(), fast.passes(), fast.lanes()), (256 * 1024, 16, 4));
        let slow = plan(Duration::from_millis(1), &[], machine(50_000)).unwrap();
        assert_eq!((slow.memory_kib(), slow.passes()), (19 * 1024, 3));
        let one = plan(Duration::from_millis(100), &[], machine(300)).unwrap();
        assert_eq!(one.passes(), PASSES, "{one:?}");
    }

    #[test]
    fn what_others_cost_is_left_to_them() {
        let others = [Costs::new(900 * 1024, 14, 14).unwrap()];
        let costs = plan(Duration::from_secs(3600), &others, machine(300)).unwrap();
        assert_eq!((costs.memory_kib(), costs.passes(), costs.lanes()), (124 * 1024, 2, 2));
        assert!(Costs::within_ceilings(&[others[0], costs]));
        let all = [Costs::new(1024 * 1024, 1, 1).unwrap()];
        assert!(plan(Duration::from_secs(1), &all, machine(300)).is_err());
        assert!(plan(Duration::from_secs(1), &[], |_| None).is_err());
    }
}
