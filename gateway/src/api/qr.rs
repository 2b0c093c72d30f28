//! `GET /qr`: a URL as a QR code, for a phone or a TV to read off the screen.

use axum::response::{IntoResponse as _, Response};
use http::Uri;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use url::Url;

use super::items::parameter;
use crate::error::{Problem, ProblemKind};
use crate::qr;

/// Draws a URL as a QR code. It is drawn and not asked for, and nothing keeps it but the client's own cache.
///
/// # Errors
/// 400 for what is no URL of http or https, and for one of more than 1024 bytes.
#[utoipa::path(
    get,
    path = "/api/v1/qr",
    tag = "gateway",
    params(("text" = String, Query, description = "The URL, of http or https; 1024 bytes at most")),
    responses(
        (status = OK, description = "The code, black on white", body = String, content_type = "image/svg+xml"),
        (status = BAD_REQUEST, description = "That is no URL of http or https, or it is too long to be drawn"),
    ),
)]
pub async fn draw(uri: Uri) -> Result<Response, Problem> {
    let picture = std::future::ready(picture(&uri)).await?;
    let rows = [
        (CONTENT_TYPE, "image/svg+xml"),
        // The URL may be a signed one, which is nobody else's.
        (CACHE_CONTROL, "private, max-age=3600"),
        (CONTENT_SECURITY_POLICY, "default-src 'none'"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    Ok((rows, picture).into_response())
}

fn picture(uri: &Uri) -> Result<String, Problem> {
    let bad = |detail: String| Problem::new(ProblemKind::BadQuery, detail);
    let text =
        parameter(uri, "text")?.ok_or_else(|| bad("text is missing: name a URL, as ?text=https://…".to_owned()))?;
    let code = qr::picture(&text).map_err(|error| bad(error.to_string()))?;
    let is_url = Url::parse(&text).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
    // A parser of URLs leaves those out, and a reader of codes does not.
    if !is_url || text.contains(|letter: char| letter.is_control() || letter.is_whitespace()) {
        return Err(bad("text is no URL of http or https".to_owned()));
    }
    Ok(code)
}
