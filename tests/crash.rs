//! kill -9 of whatever renews, at an issuer that forgives within its overlap: no session is lost, no file is torn.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "tests; the histogram is printed"
)]

use std::collections::BTreeMap;
use std::time::Duration;

use mock_auth0::{Fault, FaultRule, MockAuth0};
use tokenkeep_clock::SystemClock;
use tokenkeep_tests::{Home, deputy_now, deputy_of, is_running, random_fraction, signal, until};

const ROUNDS: usize = 100;

/// How long the issuer thinks before the grant takes effect, and after it.
const BEFORE: Duration = Duration::from_millis(15);
const AFTER: Duration = Duration::from_millis(30);

/// From the request's arrival to the end of an undisturbed process: the span in which a round's instant is drawn.
fn undisturbed(mock: &MockAuth0, home: &Home) -> Duration {
    home.expire_at(mock);
    slow_down(mock);
    let mut child = home.spawn(&["token"]);
    until("the request to arrive", || mock.counters().refreshes() == 1);
    let arrived = SystemClock::shared().boot();
    assert!(child.wait().unwrap().success());
    SystemClock::shared().boot() - arrived
}

fn slow_down(mock: &MockAuth0) {
    mock.clear_faults();
    mock.add_fault(FaultRule::refresh(Fault::delay(BEFORE)));
    mock.add_fault(FaultRule::refresh(Fault::delay_after(AFTER)));
}

/// kill -9 of a renewing process, which may have ended already.
fn kill_renewal(deputy: u32) {
    if is_running(deputy) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(deputy).unwrap());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
    }
    until("the renewing process to end", || !is_running(deputy));
}

#[test]
fn no_kill_at_any_instant_of_a_renewal_loses_the_session() {
    let mock = MockAuth0::builder().overlap(Duration::from_secs(10)).start_blocking().unwrap();
    let home = Home::new();
    let span = undisturbed(&mock, &home);
    let mut histogram: BTreeMap<&str, usize> = BTreeMap::new();
    let mut after_effect = 0;
    for round in 0..ROUNDS {
        home.expire_at(&mock);
        let before = home.stored_refresh_token();
        slow_down(&mock);
        let mut child = home.spawn(&["token"]);
        until("the request to arrive", || mock.counters().refreshes() == 1);
        // None if it has ended already.
        let deputy = deputy_now(&child);
        // Not a wait for anything: the instant of the kill, drawn uniformly.
        std::thread::sleep(span.mul_f64(random_fraction()));
        // Whoever asked would take over, and is tested for itself.
        child.kill().unwrap();
        deputy.into_iter().for_each(kill_renewal);
        child.wait().unwrap();
        let effect = mock.counters().took_effect("refresh_token") > 0;
        let stored = home.stored_refresh_token() != before;
        after_effect += usize::from(effect);
        let instant = match (effect, stored) {
            (false, _) => "before the grant took effect",
            (true, false) => "after the grant, before the put",
            (true, true) => "after the put",
        };
        *histogram.entry(instant).or_default() += 1;
        mock.clear_faults();
        home.token();
        let alive = home.stored_refresh_token().is_some_and(|token| mock.is_alive(&token));
        assert!(alive, "round {round}, killed {instant}: the session is lost");
        let verified = home.run(&["vault", "verify"]);
        assert_eq!(verified.code, 0, "round {round}, killed {instant}: {verified:?}");
    }
    for (instant, rounds) in &histogram {
        println!("{rounds:>4} killed {instant}");
    }
    assert!(after_effect >= 30, "only {after_effect} rounds were killed after the grant took effect");
    assert!(histogram.contains_key("after the grant, before the put"), "the worst instant was never drawn");
}

// All who renew are killed while another waits: the other takes over, with the cut-off exchange's resend first.
#[test]
fn who_waits_takes_over_from_a_killed_holder() {
    let mock = MockAuth0::builder().overlap(Duration::from_secs(10)).start_blocking().unwrap();
    let home = Home::expired(&mock);
    let spent = home.stored_refresh_token().unwrap();
    mock.add_fault(FaultRule::refresh(Fault::HoldAfter));
    let mut holder = home.spawn(&["token"]);
    until("the grant to take effect", || mock.held() == 1);
    let waiting = home.spawn(&["token"]);
    let deputy = deputy_of(&holder);
    holder.kill().unwrap();
    holder.wait().unwrap();
    signal(deputy, "KILL");
    let out = tokenkeep_tests::Ran::from(waiting.wait_with_output().unwrap());
    assert_eq!(out.code, 0, "{out:?}");
    mock.release();
    assert_eq!(mock.counters().presented(&spent), 2, "the same token again, nothing else");
    assert!(mock.is_alive(&home.stored_refresh_token().unwrap()));
    // The first request may still be under way: no second rotation for half a minute.
    let out = home.run(&["renew"]);
    assert_eq!(out.code, 5, "{out:?}");
    home.token();
}

// Without an overlap the issuer's word is final, and said with the reason, not as a riddle.
#[test]
fn without_an_overlap_a_kill_after_the_grant_is_told_as_what_it_is() {
    let mock = MockAuth0::start_blocking().unwrap();
    let home = Home::expired(&mock);
    mock.add_fault(FaultRule::refresh(Fault::HoldAfter));
    let mut holder = home.spawn(&["token"]);
    until("the grant to take effect", || mock.held() == 1);
    let deputy = deputy_of(&holder);
    holder.kill().unwrap();
    holder.wait().unwrap();
    signal(deputy, "KILL");
    mock.release();
    let out = home.run(&["token"]);
    assert_eq!(out.code, 3, "{out:?}");
    assert!(out.stderr.contains("used twice") || out.stderr.contains("invalid_grant"), "{out:?}");
    assert_eq!(home.run(&["vault", "verify"]).code, 0);
}
