//! Connections that break: seen from a bare socket.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use mock_auth0::{BadAnswer, Endpoint, Fault, FaultRule, MockAuth0};

/// What a bare socket reads until the end of the connection.
fn exchange(mock: &MockAuth0, token: &str) -> Result<String, ErrorKind> {
    let mut socket = send(mock, token);
    let mut text = Vec::new();
    socket.read_to_end(&mut text).map_err(|e| e.kind())?;
    Ok(String::from_utf8(text).unwrap())
}

fn send(mock: &MockAuth0, token: &str) -> TcpStream {
    let body = format!("grant_type=refresh_token&client_id={}&refresh_token={token}", mock.client_id());
    let mut socket = TcpStream::connect(mock.domain()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    write!(
        socket,
        "POST /oauth/token HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    socket
}

fn wait_until(what: &str, done: impl Fn() -> bool) {
    for _ in 0..12_000 {
        if done() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("waited in vain until {what}");
}

#[test]
fn a_reset_is_a_reset_and_comes_before_or_after_the_grant() {
    let mock = MockAuth0::start_blocking().unwrap();
    for (fault, takes_effect) in [(Fault::instead(BadAnswer::Reset), 0), (Fault::after(BadAnswer::Reset), 1)]
    {
        let token = mock.seed_session().unwrap().refresh_token.unwrap();
        mock.reset_counters();
        mock.next_refresh(fault);
        assert_eq!(exchange(&mock, &token), Err(ErrorKind::ConnectionReset));
        assert_eq!(mock.counters().took_effect("refresh_token"), takes_effect);
        assert_eq!(mock.counters().by_outcome["token refresh_token reset"], 1);
        assert_eq!(exchange(&mock, &token).unwrap().starts_with("HTTP/1.1 200"), takes_effect == 0);
    }
}

#[test]
fn a_close_is_an_orderly_end_before_or_after_the_grant() {
    let mock = MockAuth0::start_blocking().unwrap();
    for (fault, takes_effect) in [(Fault::instead(BadAnswer::Close), 0), (Fault::after(BadAnswer::Close), 1)]
    {
        let token = mock.seed_session().unwrap().refresh_token.unwrap();
        mock.reset_counters();
        mock.next_refresh(fault);
        assert_eq!(exchange(&mock, &token), Ok(String::new()));
        assert_eq!(mock.counters().took_effect("refresh_token"), takes_effect);
    }
}

#[test]
fn half_an_answer_announces_the_whole() {
    let mock = MockAuth0::start_blocking().unwrap();
    let token = mock.seed_session().unwrap().refresh_token.unwrap();
    mock.next_refresh(Fault::after(BadAnswer::Half));
    let text = exchange(&mock, &token).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"));
    let announced: usize = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .and_then(|n| n.parse().ok())
        .unwrap();
    assert_eq!(body.len(), announced / 2);
    assert!(body.starts_with('{'));
    assert_eq!(mock.counters().took_effect("refresh_token"), 1);
}

#[test]
fn silence_keeps_the_connection_open() {
    let mock = MockAuth0::start_blocking().unwrap();
    let token = mock.seed_session().unwrap().refresh_token.unwrap();
    mock.next_refresh(Fault::instead(BadAnswer::Silence));
    let mut socket = send(&mock, &token);
    wait_until("the request is there", || !mock.requests().is_empty());
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let kind = socket.read(&mut [0; 1]).unwrap_err().kind();
    assert!(matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut), "{kind:?}");
    assert_eq!(mock.counters().open_token_requests, 1);
    drop(socket);
    wait_until("the client's going is seen", || mock.counters().open_token_requests == 0);
    assert!(mock.requests()[0].client_gone);
}

#[test]
fn a_client_that_goes_does_not_stop_what_it_asked_for() {
    let mock = MockAuth0::start_blocking().unwrap();
    for fault in [Fault::Hold, Fault::HoldAfter] {
        let token = mock.seed_session().unwrap().refresh_token.unwrap();
        mock.reset_counters();
        mock.next_refresh(fault.clone());
        let socket = send(&mock, &token);
        wait_until("it is held", || mock.held() == 1);
        let early = u64::from(fault == Fault::HoldAfter);
        assert_eq!(mock.counters().took_effect("refresh_token"), early, "{fault:?}");
        drop(socket);
        wait_until("the client's going is seen", || mock.counters().open_token_requests == 0);
        assert_eq!((mock.held(), mock.counters().processing), (1, 1));
        assert_eq!(mock.release(), 1);
        wait_until("it is done", || mock.counters().processing == 0);
        assert_eq!(mock.counters().took_effect("refresh_token"), 1);
        let record = &mock.requests()[0];
        assert!(record.client_gone && record.effect);
        assert_eq!((record.status, record.outcome.as_deref()), (Some(200), Some("ok")));
        assert!(!mock.is_alive(&token), "the token was spent");
    }
}

#[test]
fn a_delay_acts_before_or_after_the_grant() {
    let mock = MockAuth0::start_blocking().unwrap();
    for (fault, early) in
        [(Fault::delay(Duration::from_millis(300)), 0), (Fault::delay_after(Duration::from_millis(300)), 1)]
    {
        let token = mock.seed_session().unwrap().refresh_token.unwrap();
        mock.reset_counters();
        mock.next_refresh(fault);
        let socket = send(&mock, &token);
        // The faults are noted before the delay begins; the effect, if it comes first, at once after that.
        wait_until("the fault has hit", || mock.requests().first().is_some_and(|r| !r.faults.is_empty()));
        if early == 1 {
            wait_until("it took effect", || mock.counters().took_effect("refresh_token") == 1);
        }
        drop(socket);
        wait_until("it is done", || mock.counters().processing == 0);
        let record = &mock.requests()[0];
        assert!(record.finished_ms.unwrap() >= record.arrived_ms + 300);
        assert!(record.client_gone && record.effect);
    }
}

#[test]
fn many_are_held_and_let_go_in_turn() {
    let mock = MockAuth0::builder().rotation(false).start_blocking().unwrap();
    let token = mock.seed_session().unwrap().refresh_token.unwrap();
    mock.add_fault(FaultRule::new(Fault::Hold).at(Endpoint::Token).always());
    std::thread::scope(|scope| {
        let waiting: Vec<_> = (0..20).map(|_| scope.spawn(|| exchange(&mock, &token))).collect();
        wait_until("all are held", || mock.held() == 20);
        assert_eq!(mock.counters().open_token_requests, 20);
        assert_eq!(mock.release_some(5), 5);
        wait_until("five are done", || mock.counters().took_effect("refresh_token") == 5);
        assert_eq!(mock.held(), 15);
        mock.release();
        for thread in waiting {
            assert!(thread.join().unwrap().unwrap().starts_with("HTTP/1.1 200"));
        }
    });
    let counters = mock.counters();
    assert_eq!((counters.max_open_token_requests, counters.open_token_requests), (20, 0));
    assert_eq!(counters.presented(&token), 20);
    let connections: std::collections::BTreeSet<_> = mock.requests().iter().map(|r| r.connection).collect();
    assert_eq!(connections.len(), 20);
}

#[test]
fn a_body_that_never_comes_is_no_request_in_work() {
    let mock = MockAuth0::start_blocking().unwrap();
    let mut socket = TcpStream::connect(mock.domain()).unwrap();
    write!(socket, "POST /oauth/token HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\ngrant").unwrap();
    wait_until("the head is there", || mock.counters().open_token_requests == 1);
    drop(socket);
    wait_until("it is over", || mock.counters().open_token_requests == 0);
    assert_eq!(mock.counters().processing, 0);
    assert_eq!(mock.requests()[0].outcome.as_deref(), Some("body not received"));
}
