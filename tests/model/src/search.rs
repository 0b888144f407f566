//! Every state that can be reached, breadth first, and whether everybody who waits is served in the end.
//!
//! A state is remembered by 64 bits of hash, as other checkers do: among ten million states the chance that any two meet
//! is one in four hundred thousand.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::{BuildHasherDefault, Hash, Hasher};

/// What can be searched.
pub(crate) trait Model {
    /// One state of everything.
    type State: Clone + Hash;

    /// Where it begins.
    fn first(&self) -> Self::State;

    /// Everything that may happen next.
    fn steps(&self, state: &Self::State, steps: &mut Vec<Step<Self::State>>);

    /// The rule that this state breaks.
    fn broken(&self, state: &Self::State) -> Option<Rule>;

    /// Whether somebody waits who must not wait for ever.
    fn is_waiting(&self, state: &Self::State) -> bool;
}

/// One thing that may happen.
#[derive(Clone, Debug)]
pub(crate) struct Step<S> {
    /// Who does it, and the function of the code that it stands for.
    pub(crate) label: Label,
    /// What comes of it.
    pub(crate) next: S,
    /// Whether it happens by itself, sooner or later. A fault, or what a person does, need not.
    pub(crate) is_due: bool,
}

impl<S> Step<S> {
    /// A step.
    pub(crate) fn new(label: Label, next: S, is_due: bool) -> Self {
        Self { label, next, is_due }
    }
}

/// The name of a step: the number of a process, and what it does.
pub type Label = (u8, &'static str);

/// The name of something that always holds.
pub type Rule = &'static str;

/// The rule that everybody who waits is served in the end.
pub const NOBODY_WAITS_FOR_EVER: Rule = "no caller waits for ever";

/// What a search has found.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Found {
    /// How many states there are.
    pub states: usize,
    /// How many steps between them.
    pub steps: usize,
    /// Whether the search ended at the limit, before it had seen all.
    pub is_cut: bool,
    /// Each step's name, and how often it can be taken.
    pub taken: HashMap<&'static str, usize>,
    /// The first rule that was found broken, and the shortest way there.
    pub broken: Option<(Rule, Vec<Label>)>,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cut = if self.is_cut { ", cut at the limit" } else { "" };
        write!(f, "{} states, {} steps{cut}", self.states, self.steps)?;
        if let Some((rule, way)) = &self.broken {
            write!(f, "; broken: {rule}")?;
            for (who, what) in way {
                write!(f, "\n  {who}: {what}")?;
            }
        }
        Ok(())
    }
}

/// Looks at every state within `limit`.
pub(crate) fn search<M: Model>(model: &M, limit: usize) -> Found {
    let mut seen = Seen::<M::State>::default();
    let mut found = Found { states: 0, steps: 0, is_cut: false, taken: HashMap::new(), broken: None };
    let mut queue = VecDeque::new();
    let first = model.first();
    seen.number(&first, 0, 0);
    queue.push_back((0_u32, first));
    let mut waiting = Vec::new();
    let mut due: Vec<(u32, u32)> = Vec::new();
    let mut steps = Vec::new();
    let mut taken: HashMap<u64, (&'static str, usize), BuildHasherDefault<Whole>> = HashMap::default();
    while let Some((at, state)) = queue.pop_front() {
        waiting.push(model.is_waiting(&state));
        if let Some(rule) = model.broken(&state) {
            found.broken = Some((rule, walk(model, &seen.came, at).1));
            break;
        }
        steps.clear();
        model.steps(&state, &mut steps);
        found.steps += steps.len();
        for (nth, step) in steps.drain(..).enumerate() {
            let name = step.label.1;
            taken.entry(name.as_ptr().addr() as u64).or_insert((name, 0)).1 += 1;
            let (to, is_new) = seen.number(&step.next, at, nth);
            if step.is_due {
                due.push((at, to));
            }
            if is_new {
                queue.push_back((to, step.next));
            }
        }
        if seen.came.len() > limit {
            found.is_cut = true;
            break;
        }
    }
    for (name, times) in taken.into_values() {
        *found.taken.entry(name).or_default() += times;
    }
    found.states = seen.came.len();
    if found.broken.is_none() && !found.is_cut {
        let stuck = stuck(&waiting, &due);
        found.broken = stuck.map(|turn| {
            let (start, mut labels) = walk(model, &seen.came, turn[0]);
            labels.extend(round(model, &mut seen, start, &turn));
            (NOBODY_WAITS_FOR_EVER, labels)
        });
    }
    found
}

/// The states seen, by number, and how each was come to first: from which, by which of its steps.
struct Seen<S> {
    numbers: HashMap<u64, u32, BuildHasherDefault<Whole>>,
    came: Vec<(u32, u16)>,
    of: std::marker::PhantomData<S>,
}

impl<S> Default for Seen<S> {
    fn default() -> Self {
        Self { numbers: HashMap::default(), came: Vec::new(), of: std::marker::PhantomData }
    }
}

impl<S: Hash> Seen<S> {
    fn number(&mut self, state: &S, from: u32, nth: usize) -> (u32, bool) {
        let mut hasher = Mix::default();
        state.hash(&mut hasher);
        let next = u32::try_from(self.came.len()).unwrap_or(u32::MAX);
        let number = *self.numbers.entry(hasher.finish()).or_insert(next);
        if number == next {
            self.came.push((from, u16::try_from(nth).unwrap_or(u16::MAX)));
        }
        (number, number == next)
    }
}

/// A state, and the shortest way to it, found by walking it again.
fn walk<M: Model>(model: &M, came: &[(u32, u16)], to: u32) -> (M::State, Vec<Label>) {
    let mut turns = Vec::new();
    let mut at = to;
    while at != 0 {
        let (from, nth) = came[at as usize];
        turns.push(usize::from(nth));
        at = from;
    }
    let (mut state, mut labels, mut steps) = (model.first(), Vec::new(), Vec::new());
    for nth in turns.into_iter().rev() {
        steps.clear();
        model.steps(&state, &mut steps);
        let step = steps.swap_remove(nth);
        labels.push(step.label);
        state = step.next;
    }
    (state, labels)
}

/// The steps of a circle that is walked once.
fn round<M: Model>(model: &M, seen: &mut Seen<M::State>, start: M::State, turn: &[u32]) -> Vec<Label> {
    let (mut state, mut labels, mut steps) =
        (start, vec![(u8::MAX, "from here on, round and round:")], Vec::new());
    for to in &turn[1..] {
        steps.clear();
        model.steps(&state, &mut steps);
        let taken = steps.drain(..).find(|step| step.is_due && seen.number(&step.next, 0, 0).0 == *to);
        let Some(step) = taken else { break };
        labels.push(step.label);
        state = step.next;
    }
    labels
}

/// Where due steps alone do not lead to where nobody waits: a state at which they end with somebody waiting, or a circle.
/// With none every caller is served whatever the order of steps, with no other fairness than that something
/// that is due happens.
fn stuck(waiting: &[bool], due: &[(u32, u32)]) -> Option<Vec<u32>> {
    let mut open = vec![0_u32; waiting.len()];
    let mut starts = vec![0_usize; waiting.len() + 1];
    for (from, to) in due {
        open[*from as usize] += 1;
        starts[*to as usize + 1] += 1;
    }
    for at in 1..starts.len() {
        starts[at] += starts[at - 1];
    }
    let (mut back, mut filled) = (vec![0_u32; due.len()], starts.clone());
    for (from, to) in due {
        back[filled[*to as usize]] = *from;
        filled[*to as usize] += 1;
    }
    let mut settled: Vec<u32> = (0..)
        .zip(waiting)
        .filter(|(at, waits)| !**waits && open[*at as usize] == 0)
        .map(|(at, _)| at)
        .collect();
    let mut is_settled = vec![false; waiting.len()];
    while let Some(at) = settled.pop() {
        is_settled[at as usize] = true;
        for from in &back[starts[at as usize]..starts[at as usize + 1]] {
            open[*from as usize] -= 1;
            if open[*from as usize] == 0 {
                settled.push(*from);
            }
        }
    }
    let mut at = is_settled.iter().zip(0..).find(|(settled, _)| !**settled).map(|(_, at)| at)?;
    let onward: HashMap<u32, u32> = due.iter().copied().filter(|(_, to)| !is_settled[*to as usize]).collect();
    let mut walked = Vec::new();
    loop {
        if let Some(since) = walked.iter().position(|before| *before == at) {
            walked.push(at);
            return Some(walked.split_off(since));
        }
        walked.push(at);
        match onward.get(&at) {
            Some(next) => at = *next,
            None => return Some(vec![at]),
        }
    }
}

/// Mixes what is hashed into 64 bits: multiplication and rotation, and a final avalanche.
#[derive(Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }

    fn write_u16(&mut self, value: u16) {
        self.write_u64(u64::from(value));
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    fn write_isize(&mut self, value: isize) {
        self.write_u64(value.cast_unsigned() as u64);
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0 ^ value.wrapping_mul(0x9E37_79B9_7F4A_7C15))
            .rotate_left(23)
            .wrapping_mul(0xD6E8_FEB8_6659_FD93);
    }

    fn finish(&self) -> u64 {
        let mut hash = self.0;
        hash = (hash ^ (hash >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        hash = (hash ^ (hash >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        hash ^ (hash >> 32)
    }
}

/// A key that is a hash already.
#[derive(Default)]
struct Whole(u64);

impl Hasher for Whole {
    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts from 0 to 9; at `trap` it may go round, or end too early.
    struct Counter {
        is_due: bool,
        goes_back: bool,
    }

    impl Model for Counter {
        type State = u8;

        fn first(&self) -> u8 {
            0
        }

        fn steps(&self, state: &u8, steps: &mut Vec<Step<u8>>) {
            if *state < 9 {
                steps.push(Step::new((0, "count"), state + 1, self.is_due || *state != 4));
            }
            if self.goes_back && *state == 4 {
                steps.push(Step::new((0, "back"), 2, true));
            }
        }

        fn broken(&self, _: &u8) -> Option<Rule> {
            None
        }

        fn is_waiting(&self, state: &u8) -> bool {
            *state < 9
        }
    }

    #[test]
    fn who_waits_is_served() {
        let found = search(&Counter { is_due: true, goes_back: false }, 100);
        assert_eq!((found.states, found.steps, found.broken), (10, 9, None));
    }

    #[test]
    fn an_end_too_early_and_a_circle_are_found() {
        for (is_due, goes_back) in [(false, false), (true, true)] {
            let found = search(&Counter { is_due, goes_back }, 100);
            assert_eq!(found.broken.map(|(rule, _)| rule), Some(NOBODY_WAITS_FOR_EVER));
        }
    }
}
