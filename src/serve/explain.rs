//! `POST /explain`: an image in, and where its caption came from out.

use std::sync::Arc;

use anyhow::Result;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use tokio::task::spawn_blocking;

use super::answer::{Failure, text_response};
use super::app::App;
use super::caption::{Images, crop, fault, read_body, take_apart};
use super::settings::{Choices, shown};
use super::upload::Form;
use crate::explain::report::{Explained, drawn};

/// What says which of an image's captions is explained.
const RANK: &str = "rank";

/// Answers with an explanation of one of the captions that `/caption` gives of the image, by the same settings.
pub(super) async fn explain(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Failure> {
    if let Err(reason) = app.captions.explains() {
        return Err(Failure::new(
            StatusCode::NOT_IMPLEMENTED,
            reason.to_string(),
        ));
    }
    let (rank, choices) = read_query(request.uri().query().unwrap_or_default())?;
    let form = Form::of(request.headers())?;
    let received = read_body(&app, &form, request).await?;
    let (mut upload, choices, held) = take_apart(&app, form, choices, received).await?;
    let search = app.captions.search(&choices);
    let search = search.map_err(|error| Failure::bad_request(error.to_string()))?;
    let (Some(image), true) = (upload.images.pop(), upload.images.is_empty()) else {
        return Err(Failure::bad_request(
            "several images came: send one, for explanations take a while",
        ));
    };
    // It waits like an image that is to be captioned, and one is explained at a time.
    let _place = app.queue.reserve(1).map_err(Failure::from)?;
    let name = image.name.clone();
    let crop = crop(&app, image, Arc::new(held)).await?;
    let permit = app.explainer.clone().acquire_owned().await;
    let captions = app.captions.clone();
    let explain = move || -> Result<Option<String>> {
        let _permit = permit;
        let found = captions.explain(&crop, &search, rank)?;
        let drawn = found.map(|explanation| {
            let explained = Explained {
                image: name,
                explanation,
            };
            drawn(&explained, &crop)
        });
        drawn.transpose()
    };
    let found = spawn_blocking(explain).await.map_err(fault)?;
    let failed = |error: anyhow::Error| {
        let message = format!("explaining failed: {error:#}");
        Failure::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    };
    let json = found.map_err(failed)?.ok_or_else(|| {
        let message =
            format!("{RANK} is {rank}, and there are not so many captions: give 0 for the best");
        Failure::bad_request(message)
    })?;
    let json = format!("{json}\n");
    let mut response = text_response(StatusCode::OK, "application/json; charset=utf-8", json);
    response.extensions_mut().insert(Images(1));
    Ok(response)
}

/// The rank, and the settings that captions have too.
fn read_query(query: &str) -> Result<(usize, Choices), Failure> {
    let (mut rank, mut choices) = (None, Choices::default());
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        if name != RANK {
            let set = choices.set(&name, &value);
            set.map_err(|error| Failure::bad_request(error.to_string()))?;
            continue;
        }
        if rank.is_some() {
            return Err(Failure::bad_request(format!(
                "{RANK} is given twice: give it once"
            )));
        }
        let number = value.parse().map_err(|_| {
            Failure::bad_request(format!(
                "{RANK} is `{}`: give a number from 0",
                shown(&value)
            ))
        })?;
        rank = Some(number);
    }
    Ok((rank.unwrap_or(0), choices))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rank_stands_beside_the_settings() {
        let (rank, choices) = read_query("num_captions=3&rank=2&decode=beam").unwrap();
        assert_eq!((rank, choices.num_captions), (2, Some(3)));
        assert_eq!(read_query("").unwrap().0, 0);
        for (query, expected) in [
            ("rank=-1", "rank is `-1`"),
            ("rank=1&rank=1", "twice"),
            ("ranks=1", "ranks"),
        ] {
            let (_, message) = read_query(query).unwrap_err().into_parts();
            assert!(message.contains(expected), "{message}");
        }
    }
}
