//! A server of the Open Inference Protocol over gRPC: HTTP/2 frames by hand, as small as it goes.

use super::kit::right_answer;
use prost::Message;
use prost::bytes::Bytes;
use std::sync::{Arc, Mutex};
use tokio::runtime::Runtime;

/// `InferInputTensor` and `InferOutputTensor`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Tensor {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) datatype: String,
    #[prost(int64, repeated, tag = "3")]
    pub(crate) shape: Vec<i64>,
}

/// `ModelInferRequest`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Infer {
    #[prost(string, tag = "1")]
    pub(crate) model: String,
    #[prost(message, repeated, tag = "5")]
    pub(crate) inputs: Vec<Tensor>,
    #[prost(bytes = "vec", repeated, tag = "7")]
    pub(crate) raw: Vec<Vec<u8>>,
}

/// `ModelInferResponse`.
#[derive(Clone, PartialEq, Message)]
struct Inferred {
    #[prost(message, repeated, tag = "5")]
    outputs: Vec<Tensor>,
    #[prost(bytes = "vec", repeated, tag = "6")]
    raw: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct Ready {
    #[prost(bool, tag = "1")]
    ready: bool,
}

/// What it was asked, and with which token.
pub(crate) type Asked = Arc<Mutex<Vec<(Infer, Option<String>)>>>;

/// A server; it ends when it is dropped.
pub(crate) struct FakeGrpc {
    runtime: Option<Runtime>,
    pub(crate) port: u16,
    pub(crate) asked: Asked,
    /// What `grpc-status` infer requests get; 0 is well.
    pub(crate) status: Arc<Mutex<u32>>,
    is_clear: bool,
}

impl FakeGrpc {
    pub(crate) fn new(port: u16) -> Self {
        Self::on(port, None)
    }

    pub(crate) fn with_tls(tls: Arc<rustls::ServerConfig>) -> Self {
        Self::on(0, Some(tls))
    }

    fn on(port: u16, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let is_clear = tls.is_none();
        let listener = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = { runtime }.worker_threads(1).enable_all().build().unwrap();
        let (asked, status) = (Asked::default(), Arc::new(Mutex::new(0)));
        let shared = (Arc::clone(&asked), Arc::clone(&status));
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let shared = shared.clone();
                match tls.clone() {
                    None => drop(tokio::spawn(converse(stream, shared))),
                    Some(tls) => drop(tokio::spawn(async move {
                        let session = tokio_rustls::TlsAcceptor::from(tls).accept(stream).await;
                        if let Ok(stream) = session {
                            converse(stream, shared).await;
                        }
                    })),
                }
            }
        });
        Self { runtime: Some(runtime), port, asked, status, is_clear }
    }

    pub(crate) fn url(&self) -> String {
        let scheme = if self.is_clear { "grpc" } else { "grpcs" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }
}

impl Drop for FakeGrpc {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn converse<S>(stream: S, shared: (Asked, Arc<Mutex<u32>>))
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::spawn(answer(request, respond, shared.clone()));
    }
}

async fn answer(
    request: hyper::http::Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    (asked, status): (Asked, Arc<Mutex<u32>>),
) {
    let (head, mut body) = request.into_parts();
    let mut bytes = Vec::new();
    while let Some(Ok(chunk)) = body.data().await {
        let _ = body.flow_control().release_capacity(chunk.len());
        bytes.extend_from_slice(&chunk);
    }
    let token = head.headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
    let (code, message) = if head.uri.path().ends_with("/ModelInfer") {
        let infer = Infer::decode(&bytes[5..]).unwrap();
        let inferred = inferred(&infer);
        asked.lock().unwrap().push((infer, token));
        (*status.lock().unwrap(), inferred.encode_to_vec())
    } else {
        (0, Ready { ready: true }.encode_to_vec())
    };
    let head = hyper::http::Response::builder().header("content-type", "application/grpc");
    let mut trailers = hyper::http::HeaderMap::new();
    trailers.insert("grpc-status", code.into());
    trailers.insert("grpc-message", "on purpose".parse().unwrap());
    let Ok(mut stream) = respond.send_response(head.body(()).unwrap(), false) else { return };
    if code == 0 {
        let mut frame = vec![0];
        frame.extend_from_slice(&(message.len() as u32).to_be_bytes());
        frame.extend_from_slice(&message);
        let _ = stream.send_data(frame.into(), false);
    }
    let _ = stream.send_trailers(trailers);
}

/// The right answer, as raw FP64 so that both widths are met.
fn inferred(infer: &Infer) -> Inferred {
    let input = &infer.inputs[0];
    let values: Vec<f32> = match input.datatype.as_str() {
        "FP32" => infer.raw[0].as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect(),
        _ => infer.raw[0].iter().map(|&byte| f32::from(byte as i8)).collect(),
    };
    let rows = input.shape[0];
    let answers = values.chunks(values.len() / rows as usize).flat_map(right_answer);
    let raw = answers.flat_map(|value| f64::from(value).to_le_bytes()).collect();
    let (name, datatype) = ("p".to_owned(), "FP64".to_owned());
    let label =
        Tensor { name: "label".to_owned(), datatype: "INT64".to_owned(), shape: vec![rows] };
    let outputs = vec![label, Tensor { name, datatype, shape: vec![rows, 2] }];
    Inferred { outputs, raw: vec![vec![0; 8 * rows as usize], raw] }
}
