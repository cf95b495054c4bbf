//! The OpenAPI document and the page that lists the API, both made of the route table: what is served is what is told.

use std::borrow::Cow;
use std::fmt::Write;
use std::sync::{Arc, OnceLock};

use axum::http::{Method, StatusCode, header};
use axum::response::IntoResponse;
use bytes::Bytes;
use utoipa::ToSchema;
use utoipa::openapi::path::{HttpMethod, Operation, OperationBuilder, ParameterBuilder, ParameterIn, PathsBuilder};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, Content, InfoBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, Required, ResponseBuilder,
};

use crate::auth::Access;
use crate::error::PROBLEM_JSON;
use crate::routes::{Endpoint, Given, Routes};
use crate::state::VERSION;

const SECURITY: &str = "token";

/// A wire type, by its schema.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    name: fn() -> Cow<'static, str>,
    schema: fn() -> RefOr<Schema>,
    nested: fn(&mut Vec<(String, RefOr<Schema>)>),
}

impl Shape {
    pub(crate) fn of<T: ToSchema>() -> Self {
        Self {
            name: T::name,
            schema: T::schema,
            nested: T::schemas,
        }
    }

    fn reference(&self) -> Ref {
        Ref::from_schema_name((self.name)())
    }

    fn all(&self) -> Vec<(String, RefOr<Schema>)> {
        let mut schemas = vec![((self.name)().into_owned(), (self.schema)())];
        (self.nested)(&mut schemas);
        schemas
    }
}

/// Adds the document and the page to the table that they describe.
pub(crate) fn add_pages(routes: &mut Routes) {
    let pages: Arc<OnceLock<(Bytes, Bytes)>> = Arc::default();
    let (json, html) = (pages.clone(), pages.clone());
    let made = |pages: &OnceLock<(Bytes, Bytes)>| pages.get().cloned().unwrap_or_default();
    let json = async move || ([(header::CONTENT_TYPE, "application/json")], made(&json).0);
    let page = async move || page(made(&html).1);
    routes
        .get("/openapi.json", Access::Open, json)
        .streams("application/json")
        .about("This API, as an OpenAPI 3.1 document");
    routes
        .get("/docs", Access::Open, page)
        .streams("text/html")
        .about("This API, as a page");
    let endpoints = routes.endpoints();
    let document = document(&endpoints).to_json().unwrap_or_default();
    // It was just made, and nothing else sets it.
    let _ = pages.set((document.into(), html_of(&endpoints).into()));
}

fn page(html: Bytes) -> impl IntoResponse {
    let policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'";
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (StatusCode::OK, headers, html)
}

/// The document.
pub(crate) fn document(endpoints: &[Endpoint]) -> OpenApi {
    let mut paths = PathsBuilder::new().build();
    let mut components = ComponentsBuilder::new();
    for (name, schema) in Shape::of::<pond_sdk::api::Problem>().all() {
        components = components.schema(name, schema);
    }
    for endpoint in endpoints {
        let given = if let Given::Json(shape) = &endpoint.gives {
            Some(shape)
        } else {
            None
        };
        for (name, schema) in endpoint.takes.iter().chain(given).flat_map(Shape::all) {
            components = components.schema(name, schema);
        }
        paths.add_path_operation(endpoint.path, vec![method(&endpoint.method)], operation(endpoint));
    }
    let scheme = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
    let about = "Runs coding agents on your code, safely. Every error is an application/problem+json.";
    OpenApiBuilder::new()
        .info(
            InfoBuilder::new()
                .title("Pond")
                .version(VERSION)
                .description(Some(about))
                .build(),
        )
        .paths(paths)
        .components(Some(components.security_scheme(SECURITY, scheme).build()))
        .build()
}

fn method(method: &Method) -> HttpMethod {
    match *method {
        Method::POST => HttpMethod::Post,
        Method::DELETE => HttpMethod::Delete,
        _ => HttpMethod::Get,
    }
}

fn operation(endpoint: &Endpoint) -> Operation {
    let mut operation = OperationBuilder::new()
        .summary(Some(endpoint.about))
        .operation_id(Some(operation_id(endpoint)));
    for name in path_params(endpoint.path) {
        operation = operation.parameter(parameter(name, ParameterIn::Path, Required::True, None));
    }
    for param in endpoint.params {
        operation = operation.parameter(parameter(
            param.name,
            ParameterIn::Query,
            Required::False,
            Some(param.about),
        ));
    }
    if let Some(shape) = &endpoint.takes {
        let body = RequestBodyBuilder::new().content("application/json", Content::new(Some(shape.reference())));
        operation = operation.request_body(Some(body.required(Some(Required::True)).build()));
    }
    let good = ResponseBuilder::new().description("Done");
    let good = match &endpoint.gives {
        Given::Nothing => good,
        Given::Json(shape) => good.content("application/json", Content::new(Some(shape.reference()))),
        Given::Bytes(media) => good.content(*media, Content::new(Some(text()))),
    };
    let problem = Ref::from_schema_name("Problem");
    let bad = ResponseBuilder::new()
        .description("Refused")
        .content(PROBLEM_JSON, Content::new(Some(problem)));
    operation = operation
        .response(endpoint.status.to_string(), good.build())
        .response("default", bad.build());
    if endpoint.access != Access::Open {
        operation = operation.security(SecurityRequirement::new(SECURITY, Vec::<String>::new()));
    }
    operation.build()
}

fn parameter(name: &str, place: ParameterIn, required: Required, about: Option<&str>) -> ParameterBuilder {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .required(required)
        .description(about)
        .schema(Some(text()))
}

fn text() -> Schema {
    ObjectBuilder::new().schema_type(Type::String).build().into()
}

fn path_params(path: &str) -> impl Iterator<Item = &str> {
    path.split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

/// `get_v1_runs_id`.
fn operation_id(endpoint: &Endpoint) -> String {
    let words = endpoint
        .path
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty());
    let words: Vec<&str> = words.collect();
    format!("{}_{}", endpoint.method.as_str().to_ascii_lowercase(), words.join("_"))
}

fn html_of(endpoints: &[Endpoint]) -> String {
    let mut html = String::from(HEAD);
    for endpoint in endpoints {
        let names: Vec<&str> = endpoint.params.iter().map(|param| param.name).collect();
        let query = if names.is_empty() {
            String::new()
        } else {
            format!("<br><small>?{}</small>", names.join(" &amp; "))
        };
        let caller = match endpoint.access {
            Access::Open => "anyone",
            Access::Metrics => "loopback, or the service token",
            Access::Caller => "any token",
            Access::ReadRuns => "runs:read",
            Access::WriteRuns => "runs:write",
            Access::ReadRun => "runs:read, or reads of the family that the run is of",
            Access::WriteRun => "runs:write, or writes of the family that the run is of",
            Access::Admin => "admin",
            Access::Orchestrator => "a paired orchestrator",
        };
        // All of it is the table's own text: nothing from outside.
        let _ = writeln!(
            html,
            "<tr><td>{}<td><code>{}</code>{query}<td>{}<td>{caller}",
            endpoint.method, endpoint.path, endpoint.about
        );
    }
    html.push_str("</table>\n");
    html
}

const HEAD: &str = "<!doctype html><html lang=en><meta charset=utf-8><title>Pond API</title>
<style>body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color:#222}
table{border-collapse:collapse;width:100%}td,th{text-align:left;vertical-align:top;padding:.4rem .6rem;border-bottom:1px solid #ddd}
code{font-family:ui-monospace,monospace}small{color:#666}</style>
<h1>Pond API</h1>
<p>The whole document, with all fields: <a href=\"openapi.json\">openapi.json</a>. Send the token as
<code>Authorization: Bearer</code> or <code>X-API-Key</code>. Every error is an <code>application/problem+json</code>.</p>
<table><tr><th>Method<th>Path<th>What it does<th>Who may
";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::routes;

    #[test]
    fn the_document_has_the_paths_of_the_table_and_no_others() {
        let endpoints = routes::endpoints();
        let document = serde_json::to_value(document(&endpoints)).unwrap();
        let told: BTreeSet<String> = document["paths"]
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(path, item)| {
                item.as_object()
                    .unwrap()
                    .keys()
                    .map(move |method| format!("{} {path}", method.to_uppercase()))
            })
            .collect();
        let served: BTreeSet<String> = endpoints
            .iter()
            .map(|endpoint| format!("{} {}", endpoint.method, endpoint.path))
            .collect();
        assert_eq!(told, served);
        assert_eq!(served.len(), endpoints.len());
        assert!(endpoints.iter().all(|endpoint| !endpoint.about.is_empty()));
        let ids: BTreeSet<String> = endpoints.iter().map(operation_id).collect();
        assert_eq!(ids.len(), endpoints.len());
    }
}
