//! The images and settings in a request's body: the file itself, a form, or JSON.

use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt;
use std::future::{Future, ready};

use anyhow::Result;
use axum::body::Bytes;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use data_url::forgiving_base64;
use futures_util::{FutureExt, stream};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::answer::Failure;
use super::settings::{Choices, shown};

/// How to send an image.
pub(super) const HOW: &str = "send the file's bytes as the body (curl --data-binary @photo.jpg), \
    as multipart/form-data (curl -F image=@photo.jpg), or as JSON with Content-Type application/json: \
    {\"image\": its bytes in base64, or a data URL}";

/// Fields of a form that hold an image although they carry no file name.
const IMAGE_FIELDS: [&str; 6] = ["image", "image[]", "images", "images[]", "file", "files"];

/// In which form a body holds images.
#[derive(Debug, PartialEq)]
pub(super) enum Form {
    /// The file itself.
    File,
    /// multipart/form-data, with the boundary of its parts.
    Multipart(String),
    /// JSON, with images in base64.
    Json,
}

/// What a body held.
#[derive(Debug, Default)]
pub(super) struct Upload {
    pub images: Vec<Image>,
    /// Whether the answer is a list, whatever the number of images.
    pub is_list: bool,
}

/// An image file that came.
#[derive(Debug, PartialEq)]
pub(super) struct Image {
    /// What the answer calls it.
    pub name: String,
    /// Its bytes, or what is wrong with them.
    pub file: Result<Bytes, String>,
}

/// How much a body may hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Most {
    /// Images.
    pub images: usize,
    /// Bytes of an image file.
    pub image_bytes: usize,
}

impl Form {
    /// What the headers say about the body.
    ///
    /// # Errors
    /// When it is a form that is not read.
    pub fn of(headers: &HeaderMap) -> Result<Self, Failure> {
        let kind = match headers.get(CONTENT_TYPE) {
            None => return Ok(Self::File),
            Some(kind) => String::from_utf8_lossy(kind.as_bytes()),
        };
        let essence = kind.split(';').next().unwrap_or_default();
        let essence = essence.trim().to_ascii_lowercase();
        match essence.as_str() {
            "multipart/form-data" => match multer::parse_boundary(&*kind) {
                Ok(boundary) => Ok(Self::Multipart(boundary)),
                Err(_) => Err(Failure::bad_request(format!(
                    "Content-Type {} has no boundary: leave it to the client that builds the form, as curl -F image=@photo.jpg does",
                    shown(&kind)
                ))),
            },
            "application/json" | "text/json" => Ok(Self::Json),
            multipart if multipart.starts_with("multipart/") => Err(Failure::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                format!("{} is not read: {HOW}", shown(multipart)),
            )),
            json if json.ends_with("+json") => Ok(Self::Json),
            // `curl --data-binary` says application/x-www-form-urlencoded: the bytes decide.
            _ => Ok(Self::File),
        }
    }

    /// Takes a whole body apart; the settings in it are put into `choices`.
    ///
    /// # Errors
    /// When it is broken, empty or holds more than allowed, or a setting is refused.
    pub fn read(&self, body: Bytes, most: Most, choices: &mut Choices) -> Result<Upload, Failure> {
        let upload = match self {
            Self::File => Upload::file(body),
            Self::Multipart(boundary) => read_multipart(body, boundary, most, choices)?,
            Self::Json => read_json(&body, most, choices)?,
        };
        if upload.images.is_empty() {
            return Err(Failure::bad_request(format!("no image came: {HOW}")));
        }
        Ok(upload)
    }
}

impl Upload {
    fn file(body: Bytes) -> Self {
        let images = match body.is_empty() {
            true => Vec::new(),
            false => vec![Image {
                name: "the image".into(),
                file: Ok(body),
            }],
        };
        Self {
            images,
            is_list: false,
        }
    }

    /// Adds an image, unless there are too many or it is too large.
    fn push(&mut self, image: Image, most: Most) -> Result<(), Failure> {
        if self.images.len() == most.images {
            return Err(Failure::bad_request(format!(
                "at most {} images fit in one request: send several",
                most.images
            )));
        }
        let length = image.file.as_ref().map_or(0, Bytes::len);
        if length > most.image_bytes {
            return Err(Failure::too_large(format!(
                "{} is larger than {} bytes: shrink it first",
                image.name, most.image_bytes
            )));
        }
        self.images.push(image);
        Ok(())
    }
}

fn read_multipart(
    body: Bytes,
    boundary: &str,
    most: Most,
    choices: &mut Choices,
) -> Result<Upload, Failure> {
    let broken = |error: multer::Error| {
        let error = shown(&error.to_string());
        Failure::bad_request(format!("the form is broken: {error}; {HOW}"))
    };
    let body = stream::once(ready(Ok::<_, Infallible>(body)));
    let mut form = multer::Multipart::new(body, boundary);
    let mut upload = Upload::default();
    while let Some(field) = at_once(form.next_field()).map_err(broken)? {
        let name = field.name().unwrap_or_default().to_string();
        let file_name = field.file_name().map(shown);
        let is_image = field
            .content_type()
            .is_some_and(|kind| kind.type_() == "image");
        let bytes = at_once(field.bytes()).map_err(broken)?;
        if file_name.is_some() || is_image || IMAGE_FIELDS.contains(&name.as_str()) {
            // A file field of a page in which no file was chosen.
            if bytes.is_empty() && file_name.as_deref() == Some("") {
                continue;
            }
            upload.is_list |= matches!(name.as_str(), "images" | "images[]" | "image[]");
            let number = upload.images.len() + 1;
            let image = Image {
                name: (file_name.filter(|name| !name.is_empty()))
                    .unwrap_or_else(|| format!("image {number}")),
                file: Ok(bytes),
            };
            upload.push(image, most)?;
        } else if Choices::is_name(&name) {
            let text = String::from_utf8_lossy(&bytes);
            set(choices, &name, &text)?;
        } else {
            return Err(Failure::bad_request(format!(
                "the form has a field `{}` that is neither a file nor a setting: {HOW}; the settings are {}",
                shown(&name),
                Choices::NAMES.join(", ")
            )));
        }
    }
    upload.is_list |= upload.images.len() > 1;
    Ok(upload)
}

/// What a future gives that has all it needs in memory.
fn at_once<T>(future: impl Future<Output = multer::Result<T>>) -> multer::Result<T> {
    let incomplete = Err(multer::Error::IncompleteStream);
    future.now_or_never().unwrap_or(incomplete)
}

fn read_json(body: &[u8], most: Most, choices: &mut Choices) -> Result<Upload, Failure> {
    let Fields(fields) = serde_json::from_slice(body).map_err(|error| {
        let error = shown(&error.to_string());
        Failure::bad_request(format!("the JSON is not one object: {error}; {HOW}"))
    })?;
    let mut upload = Upload::default();
    for (name, value) in fields {
        match (name.as_str(), value) {
            ("image", Value::String(text)) => {
                upload.push(encoded("the image".into(), &text), most)?;
            }
            ("images", Value::Array(images)) => {
                upload.is_list = true;
                for (index, image) in images.into_iter().enumerate() {
                    let name = format!("image {}", index + 1);
                    let Value::String(text) = image else {
                        return Err(Failure::bad_request(format!("{name} is not a text: {HOW}")));
                    };
                    upload.push(encoded(name, &text), most)?;
                }
            }
            ("image" | "images", _) => {
                return Err(Failure::bad_request(format!(
                    "image must be a text, and images a list of them: {HOW}"
                )));
            }
            (_, Value::Null) if Choices::is_name(&name) => {}
            (_, Value::String(text)) => set(choices, &name, &text)?,
            (_, Value::Number(number)) => set(choices, &name, &number.to_string())?,
            (_, value) if Choices::is_name(&name) => {
                return Err(Failure::bad_request(format!(
                    "{name} is {}: give a text or a number",
                    shown(&value.to_string())
                )));
            }
            // The message names the settings there are.
            _ => set(choices, &name, "")?,
        }
    }
    Ok(upload)
}

fn set(choices: &mut Choices, name: &str, text: &str) -> Result<(), Failure> {
    let set = choices.set(name, text);
    set.map_err(|error| Failure::bad_request(error.to_string()))
}

/// An image in base64, or as a data URL.
fn encoded(name: String, text: &str) -> Image {
    Image {
        file: decode(&name, text).map(Bytes::from),
        name,
    }
}

fn decode(name: &str, text: &str) -> Result<Vec<u8>, String> {
    let text = text.trim();
    let scheme = |scheme: &str| {
        let start = text.as_bytes().get(..scheme.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(scheme.as_bytes()))
    };
    if scheme("http:") || scheme("https:") || scheme("file:") {
        return Err(format!(
            "{name} is an address, and nothing is fetched: send its bytes in base64, or as a data URL"
        ));
    }
    if scheme("data:") {
        let url = data_url::DataUrl::process(text).map_err(|_| {
            format!("{name} is a data URL without a comma: give data:image/jpeg;base64,...")
        })?;
        return match url.decode_to_vec() {
            Ok((bytes, _)) => Ok(bytes),
            Err(_) => Err(format!("{name} is a data URL whose base64 is broken")),
        };
    }
    // The alphabet for addresses is taken too.
    let standard = match text.contains(['-', '_']) {
        true => Cow::Owned(text.replace('-', "+").replace('_', "/")),
        false => Cow::Borrowed(text),
    };
    forgiving_base64::decode_to_vec(standard.as_bytes()).map_err(|_| {
        let start: String = text.chars().take(20).collect();
        format!(
            "{name} is not in base64 (it begins with `{}`)",
            shown(&start)
        )
    })
}

/// The fields of a JSON object in their order, none of them twice.
struct Fields(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Fields;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                // More than there are settings and images; a longer list would take long to be
                // searched.
                const MOST: usize = 32;
                let mut fields: Vec<(String, Value)> = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if fields.iter().any(|(known, _)| *known == name) {
                        let twice = format!("{} is given twice", shown(&name));
                        return Err(serde::de::Error::custom(twice));
                    }
                    if fields.len() == MOST {
                        let many = format!("it has more than {MOST} fields");
                        return Err(serde::de::Error::custom(many));
                    }
                    fields.push((name, value));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Object)
    }
}
