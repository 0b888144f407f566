//! The rules in force, what each request takes of them, and the requests that are held back.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde_json::{Map, Value};
use tokio::sync::oneshot;

use crate::bad_answer::BadAnswer;
use crate::endpoint::Endpoint;
use crate::faults::{Fault, FaultRule, Slot};
use crate::keys::Forgery;

/// A rule in force.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ActiveFault {
    /// Its number.
    pub id: u64,
    /// How many requests it has hit.
    pub hits: u64,
    /// The rule, `times` being what is left of it.
    pub rule: FaultRule,
}

#[derive(Debug, Default)]
pub(crate) struct FaultBook {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    next_id: u64,
    active: Vec<ActiveFault>,
    held: VecDeque<oneshot::Sender<()>>,
}

/// The faults that hit one request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    faults: Vec<Fault>,
}

impl FaultBook {
    pub(crate) fn add(&self, rule: FaultRule) -> u64 {
        let mut inner = self.lock();
        inner.next_id += 1;
        let id = inner.next_id;
        inner.active.push(ActiveFault { id, hits: 0, rule });
        id
    }

    /// Takes away one rule, or all. Requests that are held stay held.
    pub(crate) fn clear(&self, id: Option<u64>) {
        self.lock().active.retain(|fault| id.is_some_and(|id| id != fault.id));
    }

    pub(crate) fn active(&self) -> Vec<ActiveFault> {
        self.lock().active.clone()
    }

    /// What hits this request; counts it against the rules.
    pub(crate) fn take(&self, endpoint: Endpoint, grant: Option<&str>) -> Plan {
        let mut inner = self.lock();
        let mut slots: Vec<Slot> = Vec::new();
        let mut plan = Plan::default();
        for active in &mut inner.active {
            let slot = active.rule.fault.slot();
            if !active.rule.matches(endpoint, grant) || active.rule.times == Some(0) || slots.contains(&slot)
            {
                continue;
            }
            if active.rule.skip > 0 {
                active.rule.skip -= 1;
                continue;
            }
            active.hits += 1;
            active.rule.times = active.rule.times.map(|left| left - 1);
            slots.push(slot);
            plan.faults.push(active.rule.fault.clone());
        }
        inner.active.retain(|active| active.rule.times != Some(0));
        plan
    }

    /// Waits until released.
    pub(crate) async fn hold(&self) {
        let (sender, receiver) = oneshot::channel();
        self.lock().held.push_back(sender);
        // An error means that the mock is going down.
        let _ = receiver.await;
    }

    pub(crate) fn held(&self) -> usize {
        self.lock().held.len()
    }

    /// Lets the oldest `count` held requests go on. Gives how many there were.
    pub(crate) fn release(&self, count: usize) -> usize {
        let mut inner = self.lock();
        let count = count.min(inner.held.len());
        for sender in inner.held.drain(..count) {
            let _ = sender.send(());
        }
        count
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Plan {
    pub(crate) fn delay_ms(&self) -> Option<u64> {
        self.find(|fault| if let Fault::Delay { ms } = fault { Some(*ms) } else { None })
    }

    pub(crate) fn delay_after_ms(&self) -> Option<u64> {
        self.find(|fault| if let Fault::DelayAfter { ms } = fault { Some(*ms) } else { None })
    }

    pub(crate) fn holds(&self) -> bool {
        self.faults.contains(&Fault::Hold)
    }

    pub(crate) fn holds_after(&self) -> bool {
        self.faults.contains(&Fault::HoldAfter)
    }

    pub(crate) fn instead(&self) -> Option<&BadAnswer> {
        self.find(|fault| if let Fault::Instead { answer } = fault { Some(answer) } else { None })
    }

    pub(crate) fn after(&self) -> Option<&BadAnswer> {
        self.find(|fault| if let Fault::After { answer } = fault { Some(answer) } else { None })
    }

    pub(crate) fn members(&self) -> Option<&Map<String, Value>> {
        self.find(|fault| if let Fault::Members { set } = fault { Some(set) } else { None })
    }

    pub(crate) fn headers(&self) -> Option<&Map<String, Value>> {
        self.find(|fault| if let Fault::Headers { set } = fault { Some(set) } else { None })
    }

    pub(crate) fn claims(&self) -> Option<&Map<String, Value>> {
        self.find(|fault| if let Fault::Claims { set } = fault { Some(set) } else { None })
    }

    pub(crate) fn id_token_text(&self) -> Option<&str> {
        self.find(|fault| if let Fault::IdTokenText { text } = fault { Some(text.as_str()) } else { None })
    }

    pub(crate) fn subject(&self) -> Option<&str> {
        self.find(|fault| if let Fault::Subject { sub } = fault { Some(sub.as_str()) } else { None })
    }

    pub(crate) fn forgery(&self) -> Option<Forgery> {
        self.find(Fault::forgery)
    }

    pub(crate) fn names(&self) -> Vec<&'static str> {
        self.faults.iter().map(Fault::name).collect()
    }

    fn find<'a, T>(&'a self, pick: impl Fn(&'a Fault) -> Option<T>) -> Option<T> {
        self.faults.iter().find_map(pick)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn status(status: u16) -> Fault {
        Fault::instead(BadAnswer::Status { status, body: crate::bad_answer::BadBody::Json })
    }

    #[test]
    fn rules_of_one_slot_are_taken_one_after_the_other_and_others_together() {
        let book = FaultBook::default();
        book.add(FaultRule::refresh(status(500)).times(2));
        book.add(FaultRule::refresh(status(502)));
        book.add(FaultRule::refresh(Fault::delay(Duration::from_millis(5))).after(1));
        let take = || book.take(Endpoint::Token, Some("refresh_token"));
        let code = |plan: &Plan| match plan.instead() {
            Some(BadAnswer::Status { status, .. }) => *status,
            _ => 0,
        };
        assert!(book.take(Endpoint::Token, Some("password")).names().is_empty());
        let first = take();
        assert_eq!((code(&first), first.delay_ms()), (500, None));
        let second = take();
        assert_eq!((code(&second), second.delay_ms()), (500, Some(5)));
        let third = take();
        assert_eq!((code(&third), third.delay_ms()), (502, None));
        assert!(take().names().is_empty());
        assert!(book.active().is_empty());
    }

    #[test]
    fn a_rule_without_a_count_stays_until_cleared() {
        let book = FaultBook::default();
        let id = book.add(FaultRule::new(status(503)).always());
        for _ in 0..5 {
            assert_eq!(book.take(Endpoint::Api, None).names(), ["instead"]);
        }
        assert_eq!(book.active()[0].hits, 5);
        book.clear(Some(id + 1));
        assert_eq!(book.active().len(), 1);
        book.clear(Some(id));
        assert!(book.take(Endpoint::Api, None).names().is_empty());
    }
}
