//! The Open Inference Protocol over gRPC.

use super::answer::{
    Answer, Failure, MOST_BYTES, choose, excerpt, from_bytes, input_shape, is_double,
};
use super::messages::{
    ModelInferRequest, ModelInferResponse, ModelReadyRequest, ReadyResponse, RequestedOutput,
    ServerReadyRequest, Tensor,
};
use super::node::{Endpoint, Soon};
use super::tls::Roots;
use super::token::Token;
use crate::config::Address;
use hyper::http::uri::PathAndQuery;
use prost::Message;
use prost::bytes::Bytes;
use serveflow_model::remote::{Datatype, InferenceRequest, RemoteSpec};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tonic::transport::{Certificate, Channel, ClientTlsConfig};
use tonic::{Code, Status};
use tonic_prost::ProstCodec;

const MODEL_INFER: &str = "/inference.GRPCInferenceService/ModelInfer";
const MODEL_READY: &str = "/inference.GRPCInferenceService/ModelReady";
const SERVER_READY: &str = "/inference.GRPCInferenceService/ServerReady";

/// A server that is asked over gRPC.
#[derive(Debug)]
pub(super) struct Grpc {
    builder: tonic::transport::Endpoint,
    channel: Mutex<Channel>,
    token: Option<Arc<Token>>,
}

impl Grpc {
    /// A server, which is connected when it is first asked. Called inside of the runtime.
    pub(super) fn open(
        address: &Address,
        roots: &Roots,
        token: Option<Arc<Token>>,
        connect: Duration,
    ) -> Result<Self, String> {
        let scheme = if address.scheme.is_clear() { "http" } else { "https" };
        let told = |error: tonic::transport::Error| format!("{address}: {}", causes(&error));
        let uri = format!("{scheme}://{}", address.authority);
        let mut builder = Channel::from_shared(uri).map_err(|e| format!("{address}: {e}"))?;
        builder = builder.connect_timeout(connect).tcp_nodelay(true);
        if !address.scheme.is_clear() {
            let tls = match &roots.pem {
                Some(pem) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)),
                None => ClientTlsConfig::new().with_native_roots(),
            };
            builder = builder.tls_config(tls.domain_name(address.host())).map_err(told)?;
        }
        let channel = Mutex::new(builder.connect_lazy());
        Ok(Self { builder, channel, token })
    }

    async fn call<Q, A>(&self, path: &'static str, message: Q) -> Result<A, Status>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let channel = self.channel.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut client = tonic::client::Grpc::new(channel).max_decoding_message_size(MOST_BYTES);
        let unready = |error: tonic::transport::Error| Status::unavailable(causes(&error));
        client.ready().await.map_err(unready)?;
        let mut request = tonic::Request::new(message);
        if let Some(token) = &self.token {
            let value = token.header().parse();
            let value = value.map_err(|_| Status::unauthenticated("the token is no header"))?;
            request.metadata_mut().insert("authorization", value);
        }
        let codec = ProstCodec::<Q, A>::default();
        let answer = client.unary(request, PathAndQuery::from_static(path), codec).await;
        answer.map(tonic::Response::into_inner)
    }

    async fn infer(&self, request: &InferenceRequest<'_>) -> Result<Answer, Failure> {
        let spec = request.spec;
        let output = |name: &String| RequestedOutput { name: name.clone() };
        let message = ModelInferRequest {
            model_name: spec.model.clone(),
            model_version: spec.version.clone(),
            inputs: vec![Tensor {
                name: spec.input.clone(),
                datatype: spec.datatype.name().to_owned(),
                shape: input_shape(request),
                contents: None,
            }],
            outputs: spec.output.iter().map(output).collect(),
            raw_input_contents: vec![as_bytes(request)],
        };
        let answer = self.call::<_, ModelInferResponse>(MODEL_INFER, message).await;
        read(&answer.map_err(|status| failure(&status))?, spec).map_err(Failure::Question)
    }

    async fn ready(&self, spec: &RemoteSpec) -> Result<(), String> {
        let told = |status: Status| words(&status);
        let server: ReadyResponse =
            self.call(SERVER_READY, ServerReadyRequest {}).await.map_err(told)?;
        let (name, version) = (spec.model.clone(), spec.version.clone());
        let model = ModelReadyRequest { name, version };
        let model: ReadyResponse = self.call(MODEL_READY, model).await.map_err(told)?;
        match (server.ready, model.ready) {
            (true, true) => Ok(()),
            (false, _) => Err("the server is not ready".to_owned()),
            (true, false) => Err(format!("model `{}` is not ready", spec.model)),
        }
    }
}

impl Endpoint for Grpc {
    fn infer<'a>(&'a self, request: &'a InferenceRequest<'a>) -> Soon<'a, Result<Answer, Failure>> {
        Box::pin(self.infer(request))
    }

    fn ready<'a>(&'a self, spec: &'a RemoteSpec) -> Soon<'a, Result<(), String>> {
        Box::pin(self.ready(spec))
    }

    fn renew(&self) {
        // A connection to a machine that went away may say nothing for a quarter of an hour.
        let fresh = self.builder.connect_lazy();
        *self.channel.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
    }
}

/// The values of a request, as they are sent.
fn as_bytes(request: &InferenceRequest<'_>) -> Bytes {
    let values = request.values.iter();
    match request.spec.datatype {
        Datatype::Fp32 => values.flat_map(|value| value.to_le_bytes()).collect(),
        Datatype::Int8 => values.flat_map(|&value| (value as i8).to_le_bytes()).collect(),
        Datatype::Uint8 => values.map(|&value| value as u8).collect(),
    }
}

/// The output that was asked for.
fn read(answer: &ModelInferResponse, spec: &RemoteSpec) -> Result<Answer, String> {
    let names = answer.outputs.iter().map(|output| output.name.as_str());
    let index = choose(names, spec)?;
    let output = &answer.outputs[index];
    let raw = &answer.raw_output_contents;
    let values = if raw.is_empty() {
        let contents = output.contents.clone().unwrap_or_default();
        match is_double(&output.datatype)? {
            true => contents.fp64.iter().map(|&value| value as f32).collect(),
            false => contents.fp32,
        }
    } else {
        let missing = || format!("expected {} outputs, found {}", answer.outputs.len(), raw.len());
        from_bytes(&output.datatype, raw.get(index).ok_or_else(missing)?)?
    };
    Ok(Answer { shape: output.shape.clone(), values })
}

/// Whose fault it is.
fn failure(status: &Status) -> Failure {
    let is_server = match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Aborted | Code::Cancelled => true,
        Code::Internal | Code::Unknown | Code::DataLoss => true,
        // Also what a message is answered with that is too large for any server.
        Code::ResourceExhausted => !status.message().contains("larger than max"),
        _ => false,
    };
    if is_server { Failure::Server(words(status)) } else { Failure::Question(words(status)) }
}

fn words(status: &Status) -> String {
    let message = excerpt(status.message());
    let cause = std::error::Error::source(status).map(causes).unwrap_or_default();
    format!("{:?}: {message} {cause}", status.code()).trim_end_matches([' ', ':']).to_owned()
}

/// An error with what it comes from.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    excerpt(&text)
}

#[cfg(test)]
mod tests {
    use super::super::messages::Contents;
    use super::*;
    use serveflow_model::binding::Binding;

    #[test]
    fn values_stand_in_the_tensor_or_beside_it() {
        let text =
            b"model = \"m\"\ninput = \"X\"\nclasses = 2\noutput = \"p\"\ndatatype = \"INT8\"";
        let spec = RemoteSpec::read(text, &Binding::bits(3).unwrap()).unwrap();
        let tensor = |name: &str, datatype: &str, contents| Tensor {
            name: name.to_owned(),
            datatype: datatype.to_owned(),
            shape: vec![1, 2],
            contents,
        };
        let contents = Contents { fp32: vec![0.5; 2], fp64: vec![0.25; 2] };
        for (datatype, value) in [("FP32", 0.5), ("FP64", 0.25)] {
            let outputs =
                vec![tensor("p", datatype, Some(contents.clone())), tensor("q", "", None)];
            let inside = ModelInferResponse { outputs, raw_output_contents: Vec::new() };
            let expected = Answer { shape: vec![1, 2], values: vec![value; 2] };
            assert_eq!(read(&inside, &spec), Ok(expected.clone()));
            let bytes = match datatype {
                "FP32" => {
                    [0.5f32; 2].iter().flat_map(|value| value.to_le_bytes()).collect::<Bytes>()
                }
                _ => [0.25f64; 2].iter().flat_map(|value| value.to_le_bytes()).collect(),
            };
            let beside = ModelInferResponse { raw_output_contents: vec![bytes], ..inside };
            assert_eq!(read(&beside, &spec), Ok(expected));
        }
        let request = InferenceRequest { spec: &spec, rows: 1, values: &[-1.0, 0.0, 1.0] };
        assert_eq!(&as_bytes(&request)[..], [0xff, 0, 1]);
    }

    #[test]
    fn a_message_that_is_too_large_is_not_asked_again() {
        let large = Status::resource_exhausted("Received message larger than max (9 vs. 4)");
        assert!(matches!(failure(&large), Failure::Question(_)));
        let busy = Status::resource_exhausted("no memory");
        assert!(matches!(failure(&busy), Failure::Server(_)));
        assert!(matches!(failure(&Status::not_found("no model")), Failure::Question(_)));
    }
}
