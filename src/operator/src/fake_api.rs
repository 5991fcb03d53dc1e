//! An API server for tests that answers as it is told, and remembers what it was asked.

use http::{Method, Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use std::convert::Infallible;
use tokio::sync::watch;

/// Methods and paths, in their order.
pub(crate) type Asked = watch::Receiver<Vec<(Method, String)>>;

/// `answer` gives the status and the body, by the method, the path, and how many requests there have been with this one.
pub(crate) fn serve(
    answer: impl Fn(&Method, &str, usize) -> (u16, Value) + Send + Sync + 'static,
) -> (Client, Asked) {
    let (told, asked) = watch::channel(Vec::new());
    let serve = move |request: Request<Body>| {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        told.send_modify(|asked| asked.push((method.clone(), path.clone())));
        let (status, body) = answer(&method, &path, told.borrow().len());
        let body = Body::from(body.to_string().into_bytes());
        std::future::ready(Ok::<_, Infallible>(Response::builder().status(status).body(body).unwrap()))
    };
    (Client::new(tower::service_fn(serve), "default"), asked)
}

/// What an API server says that refuses.
pub(crate) fn refusal(code: u16) -> (u16, Value) {
    let reason = match code {
        404 => "NotFound",
        409 => "AlreadyExists",
        _ => "",
    };
    (code, json!({ "status": "Failure", "message": "no", "reason": reason, "code": code }))
}
