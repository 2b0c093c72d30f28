//! `/api/v1/openapi.json` and `/api/v1/docs`: the description of the API for programs, and the same for people.

use axum::Router;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use maud::{Markup, html};
use serde_json::Value;
use utoipa::openapi::OpenApi;

use crate::pages;
use crate::state::GatewayState;

/// The routes. Both answers are made once.
pub(super) fn routes(description: &OpenApi) -> Router<GatewayState> {
    let document = serde_json::to_value(description).unwrap_or_default();
    let json = Bytes::from(format!("{document:#}\n"));
    let page = Bytes::from(pages::page("API", "../../", &rendered(&document)).into_string());
    Router::new()
        .route("/api/v1/openapi.json", get(move || std::future::ready(answer(json.clone(), "application/json"))))
        .route("/api/v1/docs", get(move || std::future::ready(answer(page.clone(), "text/html; charset=utf-8"))))
}

fn answer(body: Bytes, content_type: &'static str) -> Response {
    let rows = [(CONTENT_TYPE, content_type), (CACHE_CONTROL, "no-cache"), (CONTENT_SECURITY_POLICY, pages::POLICY)];
    (rows, body).into_response()
}

fn rendered(document: &Value) -> Markup {
    let paths = document["paths"].as_object().into_iter().flatten();
    let operations = paths.flat_map(|(path, item)| {
        item.as_object().into_iter().flatten().map(move |(method, operation)| (path, method, operation))
    });
    html! {
        p { (words(&document["info"]["description"])) " For programs: " a href="openapi.json" { "openapi.json" } "." }
        @for (path, method, operation) in operations {
            section {
                h2 id={ (method) (path) } { code { (method.to_uppercase()) " " (path) } }
                p { (words(&operation["summary"])) }
                (parameters(operation))
                (body(document, operation))
                (answers(document, operation))
            }
        }
    }
}

fn parameters(operation: &Value) -> Markup {
    let rows = operation["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
    html! {
        @if !rows.is_empty() {
            table {
                caption { "Parameters" }
                @for row in rows {
                    tr { td { code { (words(&row["name"])) } } td { (words(&row["in"])) } td { (words(&row["description"])) } }
                }
            }
        }
    }
}

fn body(document: &Value, operation: &Value) -> Markup {
    let kinds = operation["requestBody"]["content"].as_object();
    html! {
        @for (kind, content) in kinds.into_iter().flatten() {
            table {
                caption { "Body, " code { (kind) } }
                (fields(document, &content["schema"]))
            }
        }
    }
}

fn answers(document: &Value, operation: &Value) -> Markup {
    let answers = operation["responses"].as_object();
    html! {
        table {
            caption { "Answers" }
            @for (status, answer) in answers.into_iter().flatten() {
                tr { td { code { (status) } } td { (words(&answer["description"])) } }
            }
        }
        @for content in answers.into_iter().flatten().filter(|(status, _)| status.starts_with('2')).take(1)
            .flat_map(|(_, answer)| answer["content"].as_object().into_iter().flatten()) {
            table {
                caption { "Fields" }
                (fields(document, &content.1["schema"]))
            }
        }
    }
}

/// The fields of an object, one level deep: what those hold is told where they are objects of their own.
fn fields(document: &Value, schema: &Value) -> Markup {
    let schema = followed(document, schema);
    let fields = schema["properties"].as_object();
    html! {
        @for (name, field) in fields.into_iter().flatten() {
            tr { td { code { (name) } } td { (kind_of(document, field)) } td { (words(&field["description"])) } }
        }
    }
}

/// What a reference means.
fn followed<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str().and_then(|path| path.strip_prefix("#/components/schemas/")) {
        Some(name) => &document["components"]["schemas"][name],
        None => schema,
    }
}

/// A word or two for what a field holds.
fn kind_of(document: &Value, field: &Value) -> String {
    let kind = &followed(document, field)["type"];
    match kind.as_array() {
        Some(kinds) => kinds.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or "),
        None => kind.as_str().unwrap_or("any").to_owned(),
    }
}

fn words(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
