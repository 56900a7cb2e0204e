//! The Open Inference Protocol over HTTP, with tensors as JSON.

use super::answer::{Answer, Failure, MOST_BYTES, choose, excerpt, input_shape, is_double};
use super::node::{Endpoint, Soon};
use super::tls::Roots;
use super::token::Token;
use crate::config::Address;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::http::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::{Method, StatusCode, http};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::Deserialize;
use serde_json::{Value, json};
use serveflow_model::remote::{InferenceRequest, RemoteSpec};
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

/// How long a connection is kept that nobody uses: shorter than servers keep theirs.
const IDLE: Duration = Duration::from_secs(4);

/// A server that is asked over HTTP.
#[derive(Debug)]
pub(super) struct Http {
    /// What stands before `/v2`.
    base: String,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    token: Option<Arc<Token>>,
}

/// The body of an answer.
#[derive(Deserialize)]
struct Answered {
    outputs: Vec<Output>,
}

#[derive(Deserialize)]
struct Output {
    name: String,
    datatype: String,
    shape: Vec<i64>,
    #[serde(default)]
    data: Value,
}

impl Http {
    /// A server, which is connected when it is first asked.
    pub(super) fn open(
        address: &Address,
        roots: &Roots,
        token: Option<Arc<Token>>,
        connect: Duration,
    ) -> Result<Self, String> {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(connect));
        tcp.enforce_http(false);
        let tls = HttpsConnectorBuilder::new().with_tls_config(roots.client()?);
        let connector = tls.https_or_http().enable_http1().wrap_connector(tcp);
        let mut client = Client::builder(TokioExecutor::new());
        client.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE);
        let scheme = if address.scheme.is_clear() { "http" } else { "https" };
        let base = format!("{scheme}://{}{}", address.authority, address.path);
        Ok(Self { base, client: client.build(connector), token })
    }

    /// Status and body of the answer.
    async fn call(
        &self,
        method: Method,
        path: &str,
        body: String,
    ) -> Result<(StatusCode, Bytes), String> {
        let mut request =
            http::Request::builder().method(method).uri(format!("{}{path}", self.base));
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token.header());
        }
        let request = request.body(Full::new(Bytes::from(body))).map_err(|e| e.to_string())?;
        let answer = self.client.request(request).await.map_err(|error| causes(&error))?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, MOST_BYTES).collect().await;
        Ok((head.status, body.map_err(|error| causes(error.as_ref()))?.to_bytes()))
    }

    async fn infer(&self, request: &InferenceRequest<'_>) -> Result<Answer, Failure> {
        let path = format!("{}/infer", model_path(request.spec));
        let body = written(request).map_err(Failure::Question)?;
        let (status, body) = self.call(Method::POST, &path, body).await.map_err(Failure::Server)?;
        if status.is_success() {
            return read(&body, request.spec).map_err(Failure::Question);
        }
        let words = format!("{status}: {}", excerpt(&String::from_utf8_lossy(&body)));
        let is_busy =
            [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT].contains(&status);
        if status.is_server_error() || is_busy {
            Err(Failure::Server(words))
        } else {
            Err(Failure::Question(words))
        }
    }

    async fn ready(&self, spec: &RemoteSpec) -> Result<(), String> {
        let model = format!("{}/ready", model_path(spec));
        for path in ["/v2/health/ready", &model] {
            let (status, body) = self.call(Method::GET, path, String::new()).await?;
            if !status.is_success() {
                let body = excerpt(&String::from_utf8_lossy(&body));
                return Err(format!("{path}: {status} {body}").trim_end().to_owned());
            }
        }
        Ok(())
    }
}

impl Endpoint for Http {
    fn infer<'a>(&'a self, request: &'a InferenceRequest<'a>) -> Soon<'a, Result<Answer, Failure>> {
        Box::pin(self.infer(request))
    }

    fn ready<'a>(&'a self, spec: &'a RemoteSpec) -> Soon<'a, Result<(), String>> {
        Box::pin(self.ready(spec))
    }

    // A connection whose request is given up is closed.
    fn renew(&self) {}
}

/// The names of a spec are such that nothing needs to be escaped.
fn model_path(spec: &RemoteSpec) -> String {
    match spec.version.as_str() {
        "" => format!("/v2/models/{}", spec.model),
        version => format!("/v2/models/{}/versions/{version}", spec.model),
    }
}

/// The body of a request.
fn written(request: &InferenceRequest<'_>) -> Result<String, String> {
    let spec = request.spec;
    if let Some(index) = request.values.iter().position(|value| !value.is_finite()) {
        let row = index / (request.values.len() / request.rows.max(1)).max(1);
        return Err(format!(
            "row {row}: expected a finite number, found {}",
            request.values[index]
        ));
    }
    let (name, shape, datatype) =
        (json!(spec.input), json!(input_shape(request)), spec.datatype.name());
    let mut text = String::with_capacity(request.values.len() * 3 + 256);
    let _ = write!(
        text,
        "{{\"inputs\":[{{\"name\":{name},\"shape\":{shape},\"datatype\":\"{datatype}\",\"data\":["
    );
    for (index, value) in request.values.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let _ = write!(text, "{comma}{value}");
    }
    text.push_str("]}]");
    if let Some(output) = &spec.output {
        let _ = write!(text, ",\"outputs\":[{{\"name\":{}}}]", json!(output));
    }
    text.push('}');
    Ok(text)
}

/// The output that was asked for.
fn read(body: &[u8], spec: &RemoteSpec) -> Result<Answer, String> {
    let answered: Answered = serde_json::from_slice(body)
        .map_err(|error| format!("{error}: {}", excerpt(&String::from_utf8_lossy(body))))?;
    let names = answered.outputs.iter().map(|output| output.name.as_str());
    let output = &answered.outputs[choose(names, spec)?];
    is_double(&output.datatype)?;
    let mut values = Vec::new();
    flatten(&output.data, &mut values)?;
    Ok(Answer { shape: output.shape.clone(), values })
}

/// The numbers of data, which may be a list of lists.
fn flatten(data: &Value, values: &mut Vec<f32>) -> Result<(), String> {
    match data {
        Value::Array(list) => list.iter().try_for_each(|value| flatten(value, values)),
        Value::Number(number) => {
            values.push(number.as_f64().map_or(f32::NAN, |number| number as f32));
            Ok(())
        }
        other => Err(format!("data: expected numbers, found {}", excerpt(&other.to_string()))),
    }
}

/// An error with what it comes from.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |&error| error.source());
    let words: Vec<String> = chain.map(ToString::to_string).collect();
    excerpt(&words.join(": "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serveflow_model::binding::Binding;

    fn spec(more: &str) -> RemoteSpec {
        let text = format!("model = \"m\"\ninput = \"X\"\nclasses = 2\nshape = [1, 3]\n{more}");
        RemoteSpec::read(text.as_bytes(), &Binding::bits(3).unwrap()).unwrap()
    }

    #[test]
    fn a_request_is_written_as_the_protocol_has_it() {
        let spec = spec("output = \"p\"\nversion = \"3\"");
        let request = |values| InferenceRequest { spec: &spec, rows: 1, values };
        assert_eq!(
            written(&request(&[-1.0, 0.5, 1e10])).unwrap(),
            concat!(
                r#"{"inputs":[{"name":"X","shape":[1,1,3],"datatype":"FP32","#,
                r#""data":[-1,0.5,10000000000]}],"outputs":[{"name":"p"}]}"#
            )
        );
        assert!(written(&request(&[0.0, f32::NAN, 0.0])).unwrap_err().contains("row 0"));
        assert_eq!(model_path(&spec), "/v2/models/m/versions/3");
    }

    #[test]
    fn an_answer_is_read_flat_or_nested() {
        for data in ["[0.25, 0.75]", "[[0.25, 0.75]]"] {
            let tensor = format!(r#"{{"name":"p","datatype":"FP32","shape":[1,2],"data":{data}}}"#);
            let body = format!(r#"{{"model_name":"m","outputs":[{tensor}]}}"#);
            let expected = Answer { shape: vec![1, 2], values: vec![0.25, 0.75] };
            assert_eq!(read(body.as_bytes(), &spec("")), Ok(expected));
            let nulls = body.replace("0.25", "null");
            assert!(read(nulls.as_bytes(), &spec("")).unwrap_err().contains("found null"));
        }
        for body in ["", "{}", "{\"outputs\":[]}", "<html>"] {
            assert!(read(body.as_bytes(), &spec("")).is_err(), "{body}");
        }
    }
}
