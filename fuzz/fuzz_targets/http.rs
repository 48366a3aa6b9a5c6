//! Any bytes as what comes over a connection, or as the body of a request for captions: there must
//! be answers of the service's own making, and no fault of the program. The first byte says which
//! it is.

#![no_main]
#![allow(dead_code)] // parts of the program are included that are not all used here

use std::sync::OnceLock;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt;
use image::RgbImage;
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tower::ServiceExt;

use source::{decode, guard, html, images, path_text, serve};

#[path = "../../src"]
mod source {
    pub mod decode;
    pub mod guard;
    pub mod html;
    pub mod images;
    pub mod path_text;

    pub mod serve {
        pub mod answer;
        pub mod app;
        pub mod caption;
        pub mod captions;
        pub mod config;
        pub mod connection;
        pub mod connections;
        pub mod log;
        pub mod metrics;
        pub mod openapi;
        pub mod queue;
        pub mod receive;
        pub mod router;
        pub mod settings;
        pub mod upload;

        /// What the target needs of the service.
        pub struct Harness {
            app: std::sync::Arc<app::App>,
            pub router: axum::Router,
        }

        impl Harness {
            pub fn new(captions: impl captions::Captions, config: config::ServiceConfig) -> Self {
                let app = app::App::new(std::sync::Arc::new(captions), config).unwrap();
                let app = std::sync::Arc::new(app);
                let router = router::router(app.clone()).unwrap();
                Self { app, router }
            }

            /// Answers what comes over a connection.
            pub async fn connect(
                &self,
                stream: tokio::io::DuplexStream,
                stop: tokio::sync::watch::Receiver<bool>,
            ) {
                let (app, router) = (self.app.clone(), self.router.clone());
                let admitted = app.connections.admit().await;
                let address = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
                connection::serve(stream, address, admitted, app, router, stop).await;
            }
        }
    }
}

/// As the program has it, without the network.
mod captioner {
    #[derive(Clone, Debug, PartialEq, serde::Serialize)]
    pub struct Caption {
        pub caption: String,
    }
}

struct Fixed;

impl serve::captions::Captions for Fixed {
    fn crop(&self, image: &RgbImage) -> RgbImage {
        let side = |length: u32| length.min(8);
        image::imageops::crop_imm(image, 0, 0, side(image.width()), side(image.height())).to_image()
    }

    fn settings(
        &self,
        choices: &serve::settings::Choices,
    ) -> anyhow::Result<serve::captions::Settings> {
        let num_captions = choices.num_captions.unwrap_or(1);
        anyhow::ensure!(num_captions <= 5, "num_captions is {num_captions}: at most 5");
        Ok(serve::captions::Settings {
            decode: decode::DecodeConfig::new(decode::Strategy::Greedy, 5, Vec::new()),
            num_captions,
        })
    }

    fn caption(
        &self,
        crops: &[RgbImage],
        settings: &serve::captions::Settings,
    ) -> anyhow::Result<Vec<Vec<captioner::Caption>>> {
        let caption = captioner::Caption {
            caption: "a caption".into(),
        };
        Ok(vec![vec![caption; settings.num_captions]; crops.len()])
    }
}

struct Target {
    runtime: Runtime,
    harness: serve::Harness,
    stop: watch::Sender<bool>,
}

fn target() -> &'static Target {
    static TARGET: OnceLock<Target> = OnceLock::new();
    TARGET.get_or_init(|| {
        let mut config = serve::config::ServiceConfig {
            max_image_bytes: 1 << 20,
            max_body_bytes: 1 << 20,
            max_images: 4,
            ..serve::config::ServiceConfig::new("model")
        };
        config.deadlines.body = Duration::from_secs(5);
        Target {
            runtime: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_time()
                .build()
                .unwrap(),
            harness: serve::Harness::new(Fixed, config),
            stop: watch::channel(false).0,
        }
    })
}

/// The bytes over a connection, after which nothing more comes.
async fn connection(bytes: &[u8]) {
    let target = target();
    let (client, server) = tokio::io::duplex(1 << 16);
    let (mut answers, mut requests) = tokio::io::split(client);
    let send = async {
        // It may be closed before all of it is sent.
        let _ = requests.write_all(bytes).await;
        let _ = requests.shutdown().await;
    };
    let receive = async {
        let mut text = Vec::new();
        let _ = answers.read_to_end(&mut text).await;
        assert!(text.is_empty() || text.starts_with(b"HTTP/1."));
        let status = text.get(9..12).unwrap_or_default();
        assert!(!status.starts_with(b"5") || status == b"503");
    };
    let serve = target.harness.connect(server, target.stop.subscribe());
    tokio::join!(serve, send, receive);
}

/// The first line is the query, the rest a body of this kind.
async fn body(router: Router, kind: &str, bytes: &[u8]) {
    let line = bytes.iter().position(|&byte| byte == b'\n');
    let (query, body) = bytes.split_at(line.unwrap_or(0));
    let target = format!("/caption?{}", String::from_utf8_lossy(query));
    let request = Request::post(target).header("content-type", kind);
    let body = body.strip_prefix(b"\n").unwrap_or(body).to_vec();
    let Ok(request) = request.body(Body::from(body)) else {
        return;
    };
    let Ok(response) = router.oneshot(request).await;
    let status = response.status();
    let answer = response.into_body().collect().await.unwrap().to_bytes();
    let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
    if status == StatusCode::OK {
        assert!(answer.get("captions").is_some() || answer.get("images").is_some());
    } else {
        assert!(status.is_client_error(), "{status}: {answer}");
        let message = answer["error"].as_str().unwrap();
        assert!(!message.contains('\n') && !message.contains("a fault"), "{message}");
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&first, bytes)) = bytes.split_first() else {
        return;
    };
    let target = target();
    let router = target.harness.router.clone();
    target.runtime.block_on(async {
        match first % 4 {
            0 => connection(bytes).await,
            1 => body(router, "image/png", bytes).await,
            2 => body(router, "multipart/form-data; boundary=xyz", bytes).await,
            _ => body(router, "application/json", bytes).await,
        }
    });
});
