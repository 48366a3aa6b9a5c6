//! `POST /caption`: images in, captions out.

use std::path::Path;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use image::RgbImage;
use serde_json::{Value, json};
use tokio::task::{JoinError, JoinSet, spawn_blocking};
use tokio::time::Instant;

use super::answer::{Failure, Message, json_response};
use super::app::App;
use super::queue::{Place, Refused, panic_message};
use super::receive::{Held, Received, receive};
use super::settings::Choices;
use super::upload::{Form, HOW, Image, Most, Upload};
use crate::captioner::Caption;
use crate::captioner::Search;
use crate::images::{self, OpenError};

/// When a request's head had come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrived(pub Instant);

/// How many images an answer is about, for the log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Images(pub usize);

/// An image's captions, or why it has none.
type Outcome = Result<Vec<Caption>, Failure>;

/// Answers with the captions of the images in the request.
pub(super) async fn caption(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Failure> {
    let mut choices = Choices::default();
    if let Some(query) = request.uri().query() {
        let set = choices.set_query(query);
        set.map_err(|error| Failure::bad_request(error.to_string()))?;
    }
    let form = Form::of(request.headers())?;
    let received = read_body(&app, &form, request).await?;
    let (upload, choices, held) = take_apart(&app, form, choices, received).await?;
    let settings = app.captions.search(&choices);
    let settings = settings.map_err(|error| Failure::bad_request(error.to_string()))?;

    let count = upload.images.len();
    let places = app.queue.reserve(count).map_err(|refused| {
        app.metrics.refused(count);
        Failure::from(refused)
    })?;
    let is_list = upload.is_list;
    let names: Vec<String> = (upload.images.iter())
        .map(|image| image.name.clone())
        .collect();
    let outcomes = caption_all(&app, upload, places, Arc::new(settings), held).await?;
    let captioned = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    app.metrics.captioned(captioned);
    app.metrics.failed(count - captioned);
    let mut response = match is_list {
        true => list(&names, outcomes),
        false => single(outcomes),
    };
    response.extensions_mut().insert(Images(count));
    Ok(response)
}

pub(super) async fn read_body(
    app: &App,
    form: &Form,
    request: Request,
) -> Result<Received, Failure> {
    let (parts, body) = request.into_parts();
    let most = match form {
        Form::File => app.config.max_image_bytes,
        Form::Multipart(_) | Form::Json => app.config.max_body_bytes,
    };
    let arrived = parts.extensions.get::<Arrived>();
    let arrived = arrived.map_or_else(Instant::now, |arrived| arrived.0);
    let deadline = arrived + app.config.deadlines.body;
    receive(&parts.headers, body, most, &app.memory, deadline).await
}

/// Finds images and settings in a body, where it stops nobody else.
pub(super) async fn take_apart(
    app: &App,
    form: Form,
    mut choices: Choices,
    received: Received,
) -> Result<(Upload, Choices, Held), Failure> {
    let most = Most {
        images: app.config.max_images,
        image_bytes: app.config.max_image_bytes,
    };
    let Received { bytes, held } = received;
    let permit = app.decoders.clone().acquire_owned().await;
    let read = move || {
        let _permit = permit;
        let upload = form.read(bytes, most, &mut choices)?;
        Ok((upload, choices, held))
    };
    spawn_blocking(read).await.map_err(fault)?
}

/// The outcome of each image, in order.
async fn caption_all(
    app: &Arc<App>,
    upload: Upload,
    places: Vec<Place>,
    settings: Arc<Search>,
    held: Held,
) -> Result<Vec<Outcome>, Failure> {
    let held = Arc::new(held);
    // Where the client goes away, so does this, and with it what it has not begun.
    let mut tasks = JoinSet::new();
    for (index, (image, place)) in upload.images.into_iter().zip(places).enumerate() {
        let (app, settings, held) = (app.clone(), settings.clone(), held.clone());
        tasks.spawn(async move {
            let outcome = match crop(&app, image, held).await {
                Ok(crop) => {
                    let captions = app.queue.caption(crop, settings, place).await;
                    captions.map_err(Failure::from)
                }
                Err(failure) => Err(failure),
            };
            (index, outcome)
        });
    }
    drop(held);
    let mut outcomes = Vec::with_capacity(tasks.len());
    while let Some(outcome) = tasks.join_next().await {
        outcomes.push(outcome.map_err(fault)?);
    }
    outcomes.sort_by_key(|(index, _)| *index);
    Ok(outcomes.into_iter().map(|(_, outcome)| outcome).collect())
}

/// What the encoder looks at. No more images are decoded at a time than there are cores, since a
/// whole one may be large.
pub(super) async fn crop(
    app: &Arc<App>,
    image: Image,
    held: Arc<Held>,
) -> Result<RgbImage, Failure> {
    let file = image.file.map_err(Failure::bad_request)?;
    let permit = app.decoders.clone().acquire_owned().await;
    let captions = app.captions.clone();
    let decode = move || {
        // All of it is free again when the image is decoded, though the client may be gone.
        let (_permit, _held) = (permit, held);
        let decoded = decode(&file, &image.name)?;
        drop(file);
        Ok(captions.crop(&decoded))
    };
    spawn_blocking(decode).await.map_err(fault)?
}

fn decode(file: &Bytes, name: &str) -> Result<RgbImage, Failure> {
    let decoded = images::decode(file, Path::new(name));
    decoded.map_err(|error| {
        let hint = match error {
            OpenError::NotAnImage(..) => format!("; {HOW}"),
            _ => String::new(),
        };
        Failure::bad_request(format!("{error}{hint}"))
    })
}

fn single(mut outcomes: Vec<Outcome>) -> Response {
    match outcomes.pop() {
        Some(Ok(captions)) => json_response(StatusCode::OK, &json!({ "captions": captions })),
        Some(Err(failure)) => failure.into_response(),
        None => Failure::bad_request("no image came").into_response(),
    }
}

/// Each image's captions or error. Where none has captions, it is the first image's failure.
fn list(names: &[String], outcomes: Vec<Outcome>) -> Response {
    let failed = outcomes.iter().filter(|outcome| outcome.is_err()).count();
    let mut first = None;
    let images = names
        .iter()
        .zip(outcomes)
        .map(|(name, outcome)| match outcome {
            Ok(captions) => json!({ "image": name, "captions": captions }),
            Err(failure) => {
                let (status, message) = failure.into_parts();
                let answer = json!({ "image": name, "error": message });
                first.get_or_insert((status, message));
                answer
            }
        });
    let images: Vec<Value> = images.collect();
    let Some((status, message)) = first else {
        return json_response(StatusCode::OK, &json!({ "images": images }));
    };
    let note = format!(
        "{failed} of {} images failed; the first: {message}",
        names.len()
    );
    let mut response = match failed == names.len() {
        true => json_response(status, &json!({ "error": note, "images": images })),
        false => json_response(StatusCode::OK, &json!({ "images": images })),
    };
    response.extensions_mut().insert(Message(note));
    response
}

/// The program's own fault, not the client's.
pub(super) fn fault(error: JoinError) -> Failure {
    let message = match error.try_into_panic() {
        Ok(panic) => panic_message(&*panic),
        Err(_) => "the service is ending".to_string(),
    };
    Failure::new(StatusCode::INTERNAL_SERVER_ERROR, message)
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        let message = refused.to_string();
        match refused {
            Refused::Full(_) => Self::full(message),
            Refused::Failed(_) => Self::new(StatusCode::INTERNAL_SERVER_ERROR, message),
        }
    }
}
