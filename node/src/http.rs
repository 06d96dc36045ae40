//! `listen.admin_http`: `/metrics`, `/healthz`, `/readyz` and a status page. A token unless loopback.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::serve::Running;

/// What the handlers see.
#[derive(Clone)]
struct Shown {
    running: Arc<Running>,
    token: Option<Arc<str>>,
}

/// Answers until the node has stopped.
pub async fn serve(
    listener: TcpListener,
    running: Arc<Running>,
    token: Option<String>,
    mut end: watch::Receiver<bool>,
) {
    let shown = Shown { running, token: token.map(Into::into) };
    let router = Router::new()
        .route("/", get(status))
        .route("/metrics", get(metrics))
        .route("/healthz", get(health))
        .route("/readyz", get(ready))
        .layer(middleware::from_fn_with_state(shown.clone(), admit))
        .with_state(shown)
        .into_make_service_with_connect_info::<SocketAddr>();
    let ended = async move {
        // The sender is gone only when the node is.
        let _ = end.wait_for(|end| *end).await;
    };
    if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(ended).await {
        tracing::error!(%error, "admin_http ended");
    }
}

/// Lets loopback in, and who knows the token.
async fn admit(
    State(shown): State<Shown>,
    ConnectInfo(remote): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.strip_prefix("Bearer "));
    let knows = shown.token.as_deref().is_some_and(|token| given.is_some_and(|given| same(given, token)));
    if knows || (shown.token.is_none() && remote.ip().to_canonical().is_loopback()) {
        next.run(request).await
    } else {
        (StatusCode::UNAUTHORIZED, "send metrics.token as Authorization: Bearer\n").into_response()
    }
}

/// Compares without telling by its duration where the first difference is.
fn same(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

async fn metrics(State(shown): State<Shown>) -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")],
        shown.running.metrics_text(),
    )
}

/// The process works; says nothing about whether it can serve.
async fn health() -> &'static str {
    "ok\n"
}

/// 200 when this node can acknowledge a change.
async fn ready(State(shown): State<Shown>) -> Response {
    match shown.running.ready() {
        Ok(()) => "ready\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn status(State(shown): State<Shown>) -> Html<String> {
    let rows: String = shown
        .running
        .facts()
        .into_iter()
        .map(|(name, value)| format!("<tr><th>{}</th><td>{}</td></tr>", escape(&name), escape(&value)))
        .collect();
    Html(format!(
        "<!doctype html><meta charset=utf-8><title>Roost {0}</title>\
         <style>body{{font:16px sans-serif;margin:2em}}th{{text-align:left;padding-right:2em}}</style>\
         <h1>Roost {0}</h1><table>{rows}</table><p><a href=/metrics>metrics</a>",
        escape(&shown.running.name)
    ))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
