//! One connection: requests in, answers out, within their deadlines.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::header::EXPECT;
use axum::http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tower::ServiceExt;

use super::app::App;
use super::caption::Arrived;
use super::connections::{Admitted, Connection, Phase};
use super::log::{Client, Entry};

/// Bytes that a request's head may take.
const HEAD_BYTES: usize = 64 * 1024;
/// How long the last words to a client may take.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Why a connection ended.
enum End {
    Closed,
    /// What came is not HTTP.
    Malformed(hyper::Error),
    TooSlow(Phase),
    Evicted,
}

/// Answers a connection's requests until it ends. Once `stop` is true, no further one than that
/// which is under way.
pub(super) async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    address: SocketAddr,
    admitted: Admitted,
    app: Arc<App>,
    router: Router,
    mut stop: watch::Receiver<bool>,
) {
    let connection = &admitted.connection;
    let body_deadline = app.config.deadlines.body;
    let service = service_fn(|request| {
        answer(
            request,
            Client(address),
            connection.clone(),
            router.clone(),
            body_deadline,
        )
    });
    let mut http = http1::Builder::new()
        // The phases have their own deadlines.
        .header_read_timeout(None)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut state = connection.watch();
    let mut is_stopping = *stop.borrow_and_update();
    if is_stopping {
        Pin::new(&mut http).graceful_shutdown();
    }
    let end = loop {
        let now = *state.borrow_and_update();
        if now.is_evicted {
            break End::Evicted;
        }
        let mut deadline = now.deadline(&app.config.deadlines);
        if is_stopping {
            deadline = sooner(deadline, last_wait(now.phase));
        }
        tokio::select! {
            biased;
            ended = &mut http => break match ended {
                Err(error) if error.is_parse() => End::Malformed(error),
                _ => End::Closed,
            },
            _ = state.changed() => {}
            () = until(deadline) => break End::TooSlow(now.phase),
            _ = stop.changed(), if !is_stopping => {
                is_stopping = true;
                Pin::new(&mut http).graceful_shutdown();
            }
        }
    };
    match end {
        End::Malformed(error) => log_malformed(&app, address, 400, &error.to_string()),
        End::TooSlow(Phase::Opened) => {
            let parts = http.into_parts();
            // A browser's spare connection is closed without a word.
            if !parts.read_buf.is_empty() {
                log_malformed(&app, address, 408, "the head did not come whole in time");
                let words = refuse_head(parts.io.into_inner());
                let _ = timeout(LAST_WORDS, words).await;
            }
        }
        End::Closed | End::TooSlow(_) | End::Evicted => {}
    }
}

/// How much longer a connection may last once the service is ending: no request is waited for, but
/// every one that came is answered.
fn last_wait(phase: Phase) -> Option<Duration> {
    match phase {
        Phase::Opened => Some(Duration::from_secs(1)),
        Phase::Answered => Some(Duration::from_secs(5)),
        Phase::Receiving | Phase::Answering => None,
    }
}

fn sooner(deadline: Option<Instant>, wait: Option<Duration>) -> Option<Instant> {
    let last = wait.map(|wait| Instant::now() + wait);
    deadline.into_iter().chain(last).min()
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Tells a client whose request's head took too long.
async fn refuse_head(mut stream: impl AsyncWrite + Unpin) {
    let body = "{\"error\":\"the request's head did not come whole in time: send it faster\"}\n";
    let answer = format!(
        "HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json; charset=utf-8\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    // The client may be gone.
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// Logs and counts what never became a request.
fn log_malformed(app: &App, address: SocketAddr, status: u16, error: &str) {
    app.metrics.answered("other", status, Duration::ZERO);
    if let Some(log) = &app.config.log {
        let mut entry = Entry::now(Some(address));
        entry.status = status;
        entry.error = Some(error.to_string());
        log(&entry);
    }
}

async fn answer(
    request: Request<Incoming>,
    client: Client,
    connection: Arc<Connection>,
    router: Router,
    body_deadline: Duration,
) -> Result<Response<Body>, Infallible> {
    let arrived = Instant::now();
    let is_whole = request.body().is_end_stream();
    connection.enter(match is_whole {
        true => Phase::Answering,
        false => Phase::Receiving,
    });
    // A client that waits to be told to go on sends no body after it was told no.
    let is_awaited = !request.headers().contains_key(EXPECT);
    let mut request = request.map(|body| {
        Body::new(Upload {
            body: (!is_whole).then_some(body),
            connection: connection.clone(),
            drain_until: is_awaited.then_some(arrived + body_deadline),
        })
    });
    request.extensions_mut().insert(client);
    request.extensions_mut().insert(Arrived(arrived));
    let response = router.oneshot(request).await?;
    connection.enter(Phase::Answered);
    Ok(response)
}

/// A request's body. What is not read of it is read and thrown away, so that a client that sends
/// before it reads gets its answer.
struct Upload {
    /// None once it came whole, or broke off.
    body: Option<Incoming>,
    connection: Arc<Connection>,
    drain_until: Option<Instant>,
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let frame = std::task::ready!(Pin::new(&mut *body).poll_frame(context));
        let is_whole = frame.is_none() || body.is_end_stream();
        let is_broken = matches!(frame, Some(Err(_)));
        if is_whole || is_broken {
            self.body = None;
        }
        if is_whole {
            self.connection.enter(Phase::Answering);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let whole = || SizeHint::with_exact(0);
        self.body.as_ref().map_or_else(whole, HttpBody::size_hint)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let rest = self.body.take().zip(self.drain_until);
        if let Some((body, deadline)) = rest
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(drain(body, deadline));
        }
    }
}

/// Throws a body away, until it ends or takes too long.
async fn drain(mut body: Incoming, deadline: Instant) {
    let rest = async { while let Some(Ok(_)) = body.frame().await {} };
    let _ = timeout_at(deadline, rest).await;
}
