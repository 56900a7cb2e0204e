//! A server of the Open Inference Protocol over HTTP that does what a test tells it to.

use serde_json::{Value, json};
use serveflow_core::lane::ScoreError;
use serveflow_core::rows::Scores;
use serveflow_model::binding::Binding;
use serveflow_model::remote::{InferenceRequest, RemoteSpec, RemoteTransport};
use serveflow_serve::config::{Servers, TypedRemote};
use serveflow_serve::remote::ServerPool;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What a server does with a request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Mood {
    /// Answers right.
    Well,
    /// Answers right, but late.
    Slow(Duration),
    /// Answers with this status and text.
    Status(u16, &'static str),
    /// Answers with this body in place of a tensor.
    Body(&'static str),
    /// Is not ready, and answers all the same.
    Unready,
}

/// What a server was asked.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Rows of each request.
    pub(crate) rows: Vec<usize>,
    /// The `authorization` of each request, looks included.
    pub(crate) tokens: Vec<Option<String>>,
    /// The last body.
    pub(crate) body: Value,
}

/// What its threads share.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) mood: Mutex<Mood>,
    pub(crate) seen: Mutex<Seen>,
    over: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

/// A server; it ends when it is dropped.
pub(crate) struct Fake {
    pub(crate) state: Arc<State>,
    pub(crate) port: u16,
    tls: Option<Arc<rustls::ServerConfig>>,
    thread: Option<JoinHandle<()>>,
}

impl Fake {
    pub(crate) fn new(mood: Mood) -> Self {
        Self::on(0, mood, None)
    }

    pub(crate) fn with_tls(mood: Mood, tls: Arc<rustls::ServerConfig>) -> Self {
        Self::on(0, mood, Some(tls))
    }

    fn on(port: u16, mood: Mood, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let state = State {
            mood: Mutex::new(mood),
            seen: Mutex::default(),
            over: AtomicBool::new(false),
            open: Mutex::default(),
        };
        let mut fake = Self { state: Arc::new(state), port, tls, thread: None };
        fake.start();
        fake
    }

    /// Listens, on the port that it had before if it had one.
    pub(crate) fn start(&mut self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).unwrap();
        self.port = listener.local_addr().unwrap().port();
        self.state.over.store(false, Ordering::SeqCst);
        let (state, tls) = (Arc::clone(&self.state), self.tls.clone());
        self.thread = Some(std::thread::spawn(move || {
            for stream in listener.incoming() {
                if state.over.load(Ordering::SeqCst) {
                    return;
                }
                let stream = stream.unwrap();
                state.open.lock().unwrap().push(stream.try_clone().unwrap());
                let (state, tls) = (Arc::clone(&state), tls.clone());
                std::thread::spawn(move || match tls {
                    None => converse(stream, &state),
                    Some(tls) => {
                        let session = rustls::ServerConnection::new(tls).unwrap();
                        converse(rustls::StreamOwned::new(session, stream), &state);
                    }
                });
            }
        }));
    }

    /// Is gone, with all connections.
    pub(crate) fn stop(&mut self) {
        self.state.over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
        for stream in self.state.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    pub(crate) fn set(&self, mood: Mood) {
        *self.state.mood.lock().unwrap() = mood;
    }

    pub(crate) fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// Requests that it was sent.
    pub(crate) fn asked(&self) -> usize {
        self.state.seen.lock().unwrap().rows.len()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Answers the requests of a connection.
fn converse(stream: impl Read + Write, state: &State) {
    let mut stream = BufReader::new(stream);
    while let Some((path, token, body)) = next_request(&mut stream) {
        let mood = state.mood.lock().unwrap().clone();
        state.seen.lock().unwrap().tokens.push(token);
        let (status, text) = if path.ends_with("/infer") {
            infer(&mood, &body, state)
        } else if mood == Mood::Unready
            || !(path == "/v2/health/ready" || path.contains("/models/m/"))
        {
            (503, String::new())
        } else {
            (200, "{}".to_owned())
        };
        if state.over.load(Ordering::SeqCst) {
            return;
        }
        let length = text.len();
        let head = format!("HTTP/1.1 {status} Told\r\ncontent-length: {length}\r\n\r\n{text}");
        if stream.get_mut().write_all(head.as_bytes()).is_err() || stream.get_mut().flush().is_err()
        {
            return;
        }
    }
}

/// Path, token and body of the next request.
fn next_request(stream: &mut impl BufRead) -> Option<(String, Option<String>, Vec<u8>)> {
    let mut line = String::new();
    if stream.read_line(&mut line).ok()? == 0 {
        return None;
    }
    let path = line.split(' ').nth(1)?.to_owned();
    let (mut token, mut length) = (None, 0);
    loop {
        line.clear();
        stream.read_line(&mut line).ok()?;
        let Some((key, value)) = line.trim().split_once(": ") else { break };
        match key.to_ascii_lowercase().as_str() {
            "authorization" => token = Some(value.to_owned()),
            "content-length" => length = value.parse().unwrap(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some((path, token, body))
}

fn infer(mood: &Mood, body: &[u8], state: &State) -> (u16, String) {
    let body: Value = serde_json::from_slice(body).unwrap();
    let input = &body["inputs"][0];
    let rows = input["shape"][0].as_u64().unwrap() as usize;
    let values: Vec<f32> =
        input["data"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect();
    let columns = values.len() / rows;
    let classes: Vec<f32> = values.chunks(columns).flat_map(right_answer).collect();
    {
        let mut seen = state.seen.lock().unwrap();
        seen.rows.push(rows);
        seen.body = body.clone();
    }
    if let Mood::Slow(time) = mood {
        std::thread::sleep(*time);
    }
    match mood {
        Mood::Status(status, text) => (*status, (*text).to_owned()),
        Mood::Body(text) => (200, (*text).to_owned()),
        _ => {
            let output =
                json!({"name": "p", "datatype": "FP32", "shape": [rows, 2], "data": classes});
            (200, json!({"model_name": "m", "outputs": [output]}).to_string())
        }
    }
}

/// What a server that is well says of a row.
pub(crate) fn right_answer(row: &[f32]) -> [f32; 2] {
    let ones = row.iter().filter(|&&value| value == 1.0).count() as f32;
    let sure = 1.0 / (1.0 + ones);
    [sure, 1.0 - sure]
}

pub(crate) fn spec(more: &str) -> RemoteSpec {
    let text = format!("model = \"m\"\ninput = \"X\"\nclasses = 2\n{more}");
    RemoteSpec::read(text.as_bytes(), &Binding::bits(3).unwrap()).unwrap()
}

/// Servers as they are typed; a look every 20 ms.
pub(crate) fn servers(urls: &[String], more: &str) -> Servers {
    let health = if more.contains("health_ms") { "" } else { "health_ms = 20" };
    let text = format!("endpoints = {urls:?}\n{health}\n{more}");
    let typed: TypedRemote = toml::from_str(&text).unwrap();
    typed.check().unwrap().of("m").unwrap().clone()
}

pub(crate) fn pool(urls: &[String], more: &str) -> ServerPool {
    ServerPool::open(&spec(""), &servers(urls, more)).unwrap()
}

/// Asks for three rows; whether the answer is right, or the error.
pub(crate) fn ask(pool: &ServerPool) -> Result<(), String> {
    let spec = spec("");
    let values = [0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0];
    let mut scores = Scores::default();
    let asked =
        pool.infer(&InferenceRequest { spec: &spec, rows: 3, values: &values }, &mut scores);
    asked.map_err(|ScoreError { message }| message)?;
    let expected: Vec<[f32; 2]> = values.chunks(3).map(right_answer).collect();
    assert_eq!((0..3).map(|row| scores.row(row)).collect::<Vec<_>>(), expected);
    Ok(())
}

/// Waits until something holds, for at most ten seconds.
pub(crate) fn until(what: &str, holds: impl Fn() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_secs(10), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
