//! The service's description for programs that write clients.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::config::ServiceConfig;

/// The description as JSON, with this version and these limits.
///
/// # Errors
/// When the file it is made of is damaged.
pub(super) fn document(config: &ServiceConfig) -> Result<String> {
    let mut document: Value = serde_json::from_str(include_str!("openapi.json"))
        .context("the description of the service is damaged")?;
    document["info"]["version"] = json!(env!("CARGO_PKG_VERSION"));
    let images = "/components/schemas/Request/properties/images/maxItems";
    let images = document.pointer_mut(images);
    *images.context("the description of the service has no limit of images")? =
        json!(config.max_images);
    if config.tokens.is_empty() {
        for operation in [
            "/paths/~1caption/post",
            "/paths/~1explain/post",
            "/paths/~1metrics/get",
        ] {
            let operation = document
                .pointer_mut(operation)
                .and_then(Value::as_object_mut);
            let operation = operation.context("the description of the service lacks a path")?;
            operation.shift_remove("security");
        }
    }
    Ok(format!("{document}\n"))
}
