//! The description of the API as a whole: its head, and what is true of every operation.

use utoipa::PartialSchema as _;
use utoipa::ToSchema as _;
use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    Components, Content, InfoBuilder, License, ObjectBuilder, OpenApi, OpenApiBuilder, PathItem, Ref, RefOr, Required,
    Response, ResponseBuilder, Server, Type,
};

use super::pins::{self, Failure, FailureReason};
use super::shapes::ProblemDocument;
use crate::error::ProblemKind;

/// How errors are sent (RFC 9457), and how they are to clients of the IPFS Pinning Service API.
const PROBLEM: &str = "application/problem+json";
const FAILURE: &str = "application/json";

/// What any request may be answered with, whatever it asks for.
const ALWAYS: [(&str, &str); 4] = [
    ("401", "A token is set, and the request brings none that is right"),
    ("414", "The URL is longer than 8 KiB"),
    ("421", "The request is for a host that is not among the gateway's names"),
    (
        "429",
        "The client asks too often, or has presented wrong credentials too often; Retry-After says when to ask again",
    ),
];

/// What a request that changes something may be answered with besides.
const WHEN_CHANGING: (&str, &str) = ("403", "A page of another site sent it");

/// What a POST with an `Idempotency-Key` may be answered with besides.
const WITH_A_KEY: [(&str, &str); 4] = [
    ("400", "The Idempotency-Key is empty, too long, or not printable"),
    ("409", "The same request, with this Idempotency-Key, is being answered"),
    ("413", "With an Idempotency-Key, more than 32 MiB"),
    ("422", "The Idempotency-Key belongs to another request, or the body describes nothing"),
];

/// The head.
pub(super) fn head() -> OpenApi {
    let info = InfoBuilder::new()
        .title("swarmgate")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "The control API of a gateway to BitTorrent, WebTorrent and IPFS. Sizes are in bytes and rates in bytes per \
             second unless a name says otherwise.",
        ))
        .license(Some(License::new("MIT OR Apache-2.0")))
        .build();
    OpenApiBuilder::new().info(info).components(Some(Components::new())).build()
}

/// Adds to each operation what all have: the token, the answers of the guard, and the shape of errors.
pub(super) fn complete(description: &mut OpenApi, base_path: &str) {
    let base = if base_path.is_empty() { "/" } else { base_path };
    description.servers = Some(vec![Server::new(base)]);
    let components = description.components.get_or_insert_default();
    components.schemas.insert(ProblemDocument::name().into_owned(), problem_schema());
    components.schemas.insert(Failure::name().into_owned(), Failure::schema());
    components.schemas.insert(FailureReason::name().into_owned(), FailureReason::schema());
    for (name, scheme) in [("bearer", HttpAuthScheme::Bearer), ("basic", HttpAuthScheme::Basic)] {
        components.add_security_scheme(name, SecurityScheme::Http(Http::new(scheme)));
    }
    for (path, item) in &mut description.paths.paths {
        let error = if pins::answers(path) { (FAILURE, Failure::name()) } else { (PROBLEM, ProblemDocument::name()) };
        if let Some(post) = &mut item.post {
            take_keys(post);
        }
        for (changes, operation) in operations(item) {
            complete_one(operation, changes, (error.0, &*error.1));
        }
    }
}

/// The operations of a path, and whether each changes something.
fn operations(item: &mut PathItem) -> impl Iterator<Item = (bool, &mut Operation)> {
    let PathItem { get, post, put, patch, delete, .. } = item;
    [(false, get), (true, post), (true, put), (true, patch), (true, delete)]
        .into_iter()
        .filter_map(|(changes, operation)| Some((changes, operation.as_mut()?)))
}

/// A POST may be sent again under one key.
fn take_keys(operation: &mut Operation) {
    let parameter = ParameterBuilder::new()
        .name(super::idempotency::HEADER.as_str())
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some("A name for this request: sent again, it gets the first one's answer, for a day"))
        .schema(Some(ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(255))))
        .build();
    operation.parameters.get_or_insert_default().push(RefOr::T(parameter));
    for (status, words) in WITH_A_KEY {
        let answer = || RefOr::T(ResponseBuilder::new().description(words).build());
        operation.responses.responses.entry(status.to_owned()).or_insert_with(answer);
    }
}

/// `error` is the media type and the schema of what is answered when it fails.
fn complete_one(operation: &mut Operation, changes: bool, error: (&str, &str)) {
    let any_of = ["bearer", "basic"].map(|name| SecurityRequirement::new(name, Vec::<String>::new()));
    // Without a token set, none is needed.
    operation.security = Some([SecurityRequirement::default()].into_iter().chain(any_of).collect());
    let answers = &mut operation.responses.responses;
    for (status, words) in ALWAYS.into_iter().chain(changes.then_some(WHEN_CHANGING)) {
        let answer = || RefOr::T(ResponseBuilder::new().description(words).build());
        answers.entry(status.to_owned()).or_insert_with(answer);
    }
    for (status, answer) in answers {
        if let (false, RefOr::T(answer)) = (status.starts_with('2'), answer) {
            as_problem(answer, error);
        }
    }
}

fn as_problem(answer: &mut Response, (media_type, schema): (&str, &str)) {
    let content = Content::new(Some(Ref::from_schema_name(schema)));
    answer.content.insert(media_type.to_owned(), RefOr::T(content));
}

/// The shape of errors, with the closed list of their types.
fn problem_schema() -> RefOr<utoipa::openapi::Schema> {
    let mut schema = ProblemDocument::schema();
    if let RefOr::T(utoipa::openapi::Schema::Object(object)) = &mut schema
        && let Some(RefOr::T(utoipa::openapi::Schema::Object(kind))) = object.properties.get_mut("type")
    {
        let types = ProblemKind::ALL.iter().map(|kind| format!("urn:swarmgate:problem:{}", kind.slug()).into());
        kind.enum_values = Some(types.collect());
        kind.pattern = None;
    }
    schema
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    fn description() -> Value {
        serde_json::to_value(super::super::describe("")).unwrap()
    }

    #[test]
    fn every_operation_tells_its_name_its_answers_and_how_it_fails() {
        let description = description();
        let mut seen = std::collections::BTreeSet::new();
        for (path, item) in description["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let name = format!("{method} {path}");
                assert!(operation["summary"].as_str().is_some_and(|words| words.len() > 8), "{name}");
                assert!(operation["tags"][0].is_string(), "{name}");
                let answers = operation["responses"].as_object().unwrap();
                assert!(answers.keys().any(|status| status.starts_with('2')), "{name}");
                for (status, answer) in answers.iter().filter(|(status, _)| !status.starts_with('2')) {
                    let kind = if path.starts_with("/api/v1/pins") { super::FAILURE } else { super::PROBLEM };
                    assert!(answer["content"][kind].is_object(), "{name} {status}");
                }
                assert!(answers.contains_key("401"), "{name}");
                assert_eq!(answers.contains_key("403"), method != "get", "{name}");
                seen.insert(name);
            }
        }
        assert!(seen.len() >= 22 && seen.contains("delete /api/v1/items/{id}"), "{seen:?}");
    }

    #[test]
    fn the_types_of_problems_are_a_closed_list() {
        let types = &description()["components"]["schemas"]["ProblemDocument"]["properties"]["type"]["enum"];
        assert_eq!(types.as_array().unwrap().len(), crate::error::ProblemKind::ALL.len());
        assert!(types.as_array().unwrap().contains(&"urn:swarmgate:problem:timed-out".into()));
    }

    #[test]
    fn paths_are_below_the_base_path() {
        assert_eq!(serde_json::to_value(super::super::describe("/media")).unwrap()["servers"][0]["url"], "/media");
        assert_eq!(description()["servers"][0]["url"], "/");
    }
}
