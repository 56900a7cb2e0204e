//! The same over gRPC.

use super::grpc_kit::FakeGrpc;
use super::kit::{Fake, Mood, ask, pool, servers, spec, until};
use serveflow_core::rows::Scores;
use serveflow_model::remote::{InferenceRequest, RemoteSpec, RemoteTransport};
use serveflow_serve::remote::ServerPool;

#[test]
fn a_right_answer_arrives() {
    let fake = FakeGrpc::new(0);
    let pool = pool(&[fake.url()], "");
    (0..20).for_each(|_| ask(&pool).unwrap());
    let asked = fake.asked.lock().unwrap();
    let (infer, token) = asked.last().unwrap();
    assert_eq!((asked.len(), infer.model.as_str(), token), (20, "m", &None));
    assert_eq!((infer.inputs[0].shape.as_slice(), infer.raw[0].len()), (&[3, 3][..], 36));
}

#[test]
fn header_bits_go_as_bytes() {
    let fake = FakeGrpc::new(0);
    let spec = RemoteSpec { shape: vec![1, 3], ..spec("datatype = \"INT8\"\noutput = \"p\"") };
    let pool = ServerPool::open(&spec, &servers(&[fake.url()], "")).unwrap();
    let mut scores = Scores::default();
    let request = InferenceRequest { spec: &spec, rows: 1, values: &[-1.0, 0.0, 1.0] };
    pool.infer(&request, &mut scores).unwrap();
    assert_eq!(scores.row(0), [0.5, 0.5]);
    let (infer, _) = fake.asked.lock().unwrap().pop().unwrap();
    assert_eq!(
        (infer.raw, infer.inputs[0].shape.as_slice()),
        (vec![vec![0xff, 0, 1]], &[1, 1, 3][..])
    );
}

#[test]
fn statuses_are_the_servers_fault_or_the_questions() {
    let fake = FakeGrpc::new(0);
    let pool = pool(&[fake.url()], "");
    // INVALID_ARGUMENT, NOT_FOUND, UNAUTHENTICATED; INTERNAL, UNAVAILABLE.
    for (code, tries) in [(3, 1), (5, 1), (16, 1), (13, 2), (14, 2)] {
        until("it is ready", || pool.status()[0].is_ready);
        *fake.status.lock().unwrap() = code;
        let before = fake.asked.lock().unwrap().len();
        let error = ask(&pool).unwrap_err();
        assert!(error.contains("on purpose") && error.contains(&fake.url()), "{error}");
        assert_eq!(fake.asked.lock().unwrap().len() - before, tries, "status {code}");
    }
    *fake.status.lock().unwrap() = 0;
    ask(&pool).unwrap();
}

#[test]
fn a_lost_server_comes_back_and_another_kind_takes_over() {
    let fake = FakeGrpc::new(0);
    let other = Fake::new(Mood::Well);
    let pool = pool(&[fake.url(), other.url()], "");
    until("both are ready", || pool.status().iter().all(|status| status.is_ready));
    (0..4).for_each(|_| ask(&pool).unwrap());
    assert_eq!((fake.asked.lock().unwrap().len(), other.asked()), (2, 2));
    let port = fake.port;
    drop(fake);
    (0..10).for_each(|_| ask(&pool).unwrap());
    until("it is out", || !pool.status()[0].is_ready);
    until("its port is free", || std::net::TcpListener::bind(("127.0.0.1", port)).is_ok());
    let fake = FakeGrpc::new(port);
    until("it is in again", || pool.status()[0].is_ready);
    (0..4).for_each(|_| ask(&pool).unwrap());
    assert_eq!(fake.asked.lock().unwrap().len(), 2);
}
