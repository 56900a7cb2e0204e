//! One server, and every answer that it may give.

use super::kit::{Fake, Mood, ask, pool};
use std::time::{Duration, Instant};

#[test]
fn a_right_answer_arrives() {
    let fake = Fake::new(Mood::Well);
    let pool = pool(&[fake.url()], "");
    (0..20).for_each(|_| ask(&pool).unwrap());
    assert_eq!(fake.asked(), 20);
    let body = fake.state.seen.lock().unwrap().body.clone();
    assert_eq!(body["inputs"][0]["shape"], serde_json::json!([3, 3]));
    let status = &pool.status()[0];
    assert_eq!((status.requests, status.failures, status.retries, status.in_flight), (20, 0, 0, 0));
    assert!(status.is_ready && status.trouble.is_empty());
}

/// What is said of an answer, and how often it was asked for.
fn said(mood: Mood) -> (String, usize) {
    let fake = Fake::new(mood);
    let pool = pool(&[fake.url()], "timeout_ms = 2000");
    let error = ask(&pool).unwrap_err();
    assert!(error.starts_with(&format!("model `m`: {}", fake.url())), "{error}");
    assert_eq!(pool.status()[0].failures, fake.asked() as u64);
    assert_eq!(pool.status()[0].in_flight, 0);
    (error, fake.asked())
}

#[test]
fn an_answer_that_is_wrong_by_itself_is_not_asked_for_again() {
    let tensor = |datatype: &str, shape: &str, data: &str| -> Mood {
        let tensor =
            format!(r#"{{"name":"p","datatype":"{datatype}","shape":{shape},"data":{data}}}"#);
        let body = format!(r#"{{"outputs":[{tensor}]}}"#);
        Mood::Body(body.leak())
    };
    let right = "[0,1,0,1,0,1]";
    for (mood, expected) in [
        (tensor("FP32", "[3, 4]", right), "shape: expected [3, 2], found [3, 4]"),
        (tensor("FP32", "[3, 2]", "[0,1]"), "values: expected 6, found 2"),
        (tensor("INT64", "[3, 2]", right), "datatype: expected FP32 or FP64, found `INT64`"),
        (
            tensor("FP32", "[3, 2]", "[0,1,0,7,0,1]"),
            "row 1, class 1: expected a probability, found 7",
        ),
        (tensor("FP32", "[3, 2]", "[0,1,null,1,0,1]"), "data: expected numbers, found null"),
        (tensor("FP32", "[3, 2]", "[0,1,NaN,1,0,1]"), "expected"),
        (Mood::Body("{}"), "missing field `outputs`"),
        (Mood::Body("<html>"), "<html>"),
        (Mood::Status(404, "Model m not found"), "404 Not Found: Model m not found"),
        (Mood::Status(401, ""), "401"),
        (Mood::Status(302, ""), "302"),
    ] {
        let (error, asked) = said(mood.clone());
        assert!(error.contains(expected), "{mood:?}: {error}");
        assert_eq!(asked, 1, "{mood:?}");
    }
}

#[test]
fn a_server_that_fails_is_asked_once_more_when_it_is_ready_again() {
    for status in [500, 503, 429] {
        let (error, asked) = said(Mood::Status(status, "no memory"));
        assert!(error.contains(&format!("{status}")) && error.contains("no memory"), "{error}");
        assert_eq!(asked, 2, "{status}");
    }
}

#[test]
fn an_answer_past_the_deadline_is_not_waited_for() {
    let fake = Fake::new(Mood::Slow(Duration::from_secs(2)));
    let pool = pool(&[fake.url()], "timeout_ms = 150");
    let started = Instant::now();
    let error = ask(&pool).unwrap_err();
    let took = started.elapsed();
    assert!(error.contains("no response within 1"), "{error}");
    assert!((100..1900).contains(&took.as_millis()), "{took:?}");
}

#[test]
fn a_refused_connection_is_told_and_after_an_outage_costs_no_time() {
    let mut fake = Fake::new(Mood::Well);
    fake.stop();
    let pool = pool(&[fake.url()], "timeout_ms = 1000");
    let started = Instant::now();
    let error = ask(&pool).unwrap_err();
    assert!(error.contains("no server is ready"), "{error}");
    assert!(pool.status()[0].trouble.contains("refused"), "{:?}", pool.status());
    std::thread::sleep(Duration::from_millis(1000));
    let outage = Instant::now();
    (0..100).for_each(|_| drop(ask(&pool).unwrap_err()));
    assert!(outage.elapsed() < Duration::from_millis(900), "{:?}", outage.elapsed());
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_server_whose_model_is_not_ready_is_not_asked() {
    let fake = Fake::new(Mood::Unready);
    let pool = pool(&[fake.url()], "timeout_ms = 100");
    ask(&pool).unwrap_err();
    assert_eq!(fake.asked(), 0);
    assert!(pool.status()[0].trouble.contains("503"), "{:?}", pool.status());
    fake.set(Mood::Well);
    super::kit::until("it is in again", || pool.status()[0].is_ready);
    ask(&pool).unwrap();
}
