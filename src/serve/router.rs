//! Which request is answered by what.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{
    ACCESS_CONTROL_REQUEST_METHOD, ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, Method, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::json;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::answer::{Failure, json_response, text_response};
use super::app::App;
use super::caption::caption;
use super::explain::explain;
use super::log::{REQUEST_ID, observe};
use super::metrics;
use super::queue::panic_message;

/// How long browsers may remember what CORS allows.
const CORS_AGE: Duration = Duration::from_secs(3600);

/// A path and what may be asked of it.
#[derive(Debug)]
pub(super) struct Route {
    pub path: &'static str,
    /// The methods, as the `Allow` header has them.
    pub allow: &'static str,
    /// Whether a token is asked for, where the service has one.
    is_guarded: bool,
}

/// All paths.
pub(super) const ROUTES: [Route; 6] = [
    Route::new("/", "GET, HEAD, OPTIONS", false),
    Route::new("/caption", "POST, OPTIONS", true),
    Route::new("/explain", "POST, OPTIONS", true),
    Route::new("/health", "GET, HEAD, OPTIONS", false),
    Route::new("/metrics", "GET, HEAD, OPTIONS", true),
    Route::new("/openapi.json", "GET, HEAD, OPTIONS", false),
];

impl Route {
    const fn new(path: &'static str, allow: &'static str, is_guarded: bool) -> Self {
        Self {
            path,
            allow,
            is_guarded,
        }
    }
}

/// The route of a path.
pub(super) fn route(path: &str) -> Option<&'static Route> {
    ROUTES.iter().find(|route| route.path == path)
}

/// Everything that answers requests.
///
/// # Errors
/// When an allowed origin is none.
pub(super) fn router(app: Arc<App>) -> Result<Router> {
    let cors = cors(&app.config.allow_origins)?;
    let mut router = Router::new()
        .route("/", get(page))
        .route("/caption", post(caption))
        .route("/explain", post(explain))
        .route("/health", get(health))
        .route("/metrics", get(metrics_text))
        .route("/openapi.json", get(openapi))
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed)
        .layer(middleware::from_fn_with_state(app.clone(), authorize))
        .layer(CatchPanicLayer::custom(panicked));
    if let Some(cors) = cors {
        router = router.layer(cors);
    }
    Ok(router
        .layer(middleware::from_fn_with_state(app.clone(), options))
        .layer(middleware::map_response(common_headers))
        .layer(middleware::from_fn_with_state(app.clone(), observe))
        .with_state(app))
}

async fn page(State(app): State<Arc<App>>) -> Response {
    text_response(StatusCode::OK, "text/html; charset=utf-8", app.page.clone())
}

async fn health(State(app): State<Arc<App>>) -> Response {
    json_response(StatusCode::OK, &json!({ "model": app.config.model }))
}

async fn metrics_text(State(app): State<Arc<App>>) -> Response {
    text_response(StatusCode::OK, metrics::CONTENT_TYPE, app.metrics_text())
}

async fn openapi(State(app): State<Arc<App>>) -> Response {
    text_response(
        StatusCode::OK,
        "application/json; charset=utf-8",
        app.openapi.clone(),
    )
}

async fn not_found(uri: Uri) -> Failure {
    let paths: Vec<&str> = ROUTES.iter().map(|route| route.path).collect();
    Failure::new(
        StatusCode::NOT_FOUND,
        format!(
            "{} is not known: there are {}",
            super::settings::shown(uri.path()),
            paths.join(", ")
        ),
    )
}

async fn not_allowed(method: Method, uri: Uri) -> Response {
    let path = super::settings::shown(uri.path());
    let allow = route(uri.path()).map_or("", |route| route.allow);
    let message = format!(
        "{} {path} is not known: {path} takes {allow}",
        super::settings::shown(method.as_str())
    );
    let mut response = Failure::new(StatusCode::METHOD_NOT_ALLOWED, message).into_response();
    let allow = HeaderValue::from_static(allow);
    response.headers_mut().insert(ALLOW, allow);
    response
}

/// Asks for a token where one is needed.
async fn authorize(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let is_guarded = route(request.uri().path()).is_some_and(|route| route.is_guarded);
    if is_guarded && !app.is_authorized(request.headers()) {
        let message = "a token is needed: send the header Authorization: Bearer TOKEN";
        return Failure::new(StatusCode::UNAUTHORIZED, message).into_response();
    }
    next.run(request).await
}

/// Answers OPTIONS, but for a browser's question whether another page may ask, which is CORS'.
async fn options(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let is_preflight = !app.config.allow_origins.is_empty()
        && request
            .headers()
            .contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    let allow = match request.uri().path() {
        "*" => Some("GET, HEAD, POST, OPTIONS"),
        path => route(path).map(|route| route.allow),
    };
    match allow {
        Some(allow) if request.method() == Method::OPTIONS && !is_preflight => {
            let mut response = StatusCode::NO_CONTENT.into_response();
            let allow = HeaderValue::from_static(allow);
            response.headers_mut().insert(ALLOW, allow);
            response
        }
        _ => next.run(request).await,
    }
}

async fn common_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let value = HeaderValue::from_static("nosniff");
    headers.insert(X_CONTENT_TYPE_OPTIONS, value);
    response
}

/// The answer where this program failed.
fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let message = panic_message(&*panic);
    Failure::new(StatusCode::INTERNAL_SERVER_ERROR, message).into_response()
}

/// Whether origins that pages may ask from are origins, or `*`.
///
/// # Errors
/// When one is none.
pub fn check_origins(origins: &[String]) -> Result<()> {
    cors(origins).map(drop)
}

/// Which pages of other origins may read answers; none unless some are named.
fn cors(origins: &[String]) -> Result<Option<CorsLayer>> {
    if origins.is_empty() {
        return Ok(None);
    }
    let allowed = match origins.iter().any(|origin| origin == "*") {
        true => AllowOrigin::any(),
        false => {
            let origins = origins.iter().map(|origin| checked_origin(origin));
            AllowOrigin::list(origins.collect::<Result<Vec<_>>>()?)
        }
    };
    let cors = CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET, Method::HEAD, Method::POST])
        .allow_headers([AUTHORIZATION, CONTENT_TYPE, REQUEST_ID])
        .expose_headers([REQUEST_ID, RETRY_AFTER])
        .allow_private_network(true)
        .max_age(CORS_AGE);
    Ok(Some(cors))
}

/// An origin as browsers send it: scheme, host and perhaps port, or `null`, a file's.
fn checked_origin(origin: &str) -> Result<HeaderValue> {
    let is_origin = |origin: &str| {
        let Some((scheme, host)) = origin.split_once("://") else {
            return origin == "null";
        };
        let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"/?#@,*".contains(&byte);
        !scheme.is_empty() && !host.is_empty() && host.bytes().all(is_plain)
    };
    let lower = origin.to_ascii_lowercase();
    match HeaderValue::from_str(&lower) {
        Ok(value) if is_origin(&lower) => Ok(value),
        _ => bail!(
            "`{}` is not an origin: give scheme, host and port as in https://example.org:8080, or * for all",
            super::settings::shown(origin)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_what_browsers_send() {
        for origin in [
            "https://example.org",
            "http://localhost:3000",
            "null",
            "http://[::1]:80",
        ] {
            assert_eq!(checked_origin(origin).unwrap(), origin);
        }
        assert_eq!(
            checked_origin("HTTPS://Example.org").unwrap(),
            "https://example.org"
        );
        for origin in [
            "example.org",
            "https://example.org/",
            "https://",
            "",
            "https://*.org",
            "a b",
        ] {
            let error = checked_origin(origin).unwrap_err().to_string();
            assert!(error.contains(&format!("`{origin}`")), "{error}");
        }
        assert!(cors(&[]).unwrap().is_none());
        assert!(cors(&["*".into()]).unwrap().is_some());
        assert!(cors(&["https://a".into(), "b".into()]).is_err());
    }
}
