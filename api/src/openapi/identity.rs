//! The operations of the identity service.

use super::parts::{Document, answer, body, empty, envelope, header, keystone, named, path, query};
use crate::frame::decode::plain;
use crate::identity::accounts::{CreateProject, CreateUser, UpdateUser};
use crate::identity::auth::TokenRequest;
use utoipa::openapi::path::HttpMethod;
use utoipa::openapi::schema::{Array, ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Required, Schema};

const FORBIDDEN: (u16, &str) = (403, "Administrators only");
const MISSING: (u16, &str) = (404, "Not there");
const MALFORMED: (u16, &str) = (400, "Malformed");

fn object() -> RefOr<Schema> {
    ObjectBuilder::new().schema_type(Type::Object).into()
}

/// Adds them.
pub fn document(document: &mut Document) {
    document.tag("identity", "Tokens and accounts.");
    document.schema_of::<TokenRequest>();
    document.schema_of::<CreateProject>();
    document.schema_of::<CreateUser>();
    document.schema_of::<UpdateUser>();

    let version = keystone("show_identity_version", "The version", false, &[]);
    document.operation(
        HttpMethod::Get,
        "/v3",
        version.response("200", answer("It", envelope("version", object()))).build(),
    );
    tokens(document);
    let mut list = |path: &str, plural: &str, filtered: bool, failures: &[(u16, &str)]| {
        let id = format!("list_{}", path.trim_start_matches("/v3/").replace('/', "_"));
        let mut operation = keystone(&id, &format!("List {plural}"), true, failures)
            .response("200", answer("They", envelope(plural, Array::new(object()))));
        if filtered {
            operation = operation.parameter(query("name", plain(Type::String).into(), "Of this name"));
        }
        document.operation(HttpMethod::Get, path, operation.build());
    };
    list("/v3/auth/projects", "projects", false, &[]);
    list("/v3/auth/catalog", "catalog", false, &[]);
    list("/v3/domains", "domains", true, &[FORBIDDEN]);
    list("/v3/roles", "roles", true, &[]);
    list("/v3/projects", "projects", true, &[FORBIDDEN]);
    list("/v3/users", "users", true, &[FORBIDDEN]);
    for singular in ["domain", "role", "project", "user"] {
        let show = keystone(&format!("show_{singular}"), &format!("Show a {singular}"), true, &[FORBIDDEN, MISSING])
            .parameter(path("id", "Its id"))
            .response("200", answer("It", envelope(singular, object())));
        document.operation(HttpMethod::Get, &format!("/v3/{singular}s/{{id}}"), show.build());
    }
    for (singular, schema) in [("project", "CreateProject"), ("user", "CreateUser")] {
        let taken = (409, "The name is taken");
        let create = keystone(
            &format!("create_{singular}"),
            &format!("Create a {singular}"),
            true,
            &[MALFORMED, FORBIDDEN, MISSING, taken],
        )
        .request_body(Some(body(named(schema))))
        .response("201", answer("Made", envelope(singular, object())));
        document.operation(HttpMethod::Post, &format!("/v3/{singular}s"), create.build());
        let delete =
            keystone(&format!("delete_{singular}"), &format!("Delete a {singular}"), true, &[FORBIDDEN, MISSING])
                .parameter(path("id", "Its id"))
                .response("204", empty("Gone; its tokens count no more"));
        document.operation(HttpMethod::Delete, &format!("/v3/{singular}s/{{id}}"), delete.build());
    }
    let update = keystone("update_user", "Set a user's password or state", true, &[MALFORMED, FORBIDDEN, MISSING])
        .parameter(path("id", "Its id"))
        .request_body(Some(body(named("UpdateUser"))))
        .response("200", answer("Updated; older tokens count no more", envelope("user", object())));
    document.operation(HttpMethod::Patch, "/v3/users/{id}", update.build());
    for (target, on) in [
        ("/v3/projects/{project}/users/{user}/roles/{role}", "project"),
        ("/v3/system/users/{user}/roles/{role}", "system"),
    ] {
        for (method, verb, done) in [(HttpMethod::Put, "assign", "Given"), (HttpMethod::Delete, "remove", "Taken away")]
        {
            let summary = format!("{} a role on the {on}", if verb == "assign" { "Give" } else { "Take away" });
            let mut operation = keystone(&format!("{verb}_role_on_{on}"), &summary, true, &[FORBIDDEN, MISSING])
                .response("204", empty(done));
            for name in ["project", "user", "role"].into_iter().filter(|name| target.contains(&format!("{{{name}}}"))) {
                operation = operation.parameter(path(name, "Its id"));
            }
            document.operation(method, target, operation.build());
        }
    }
}

fn tokens(document: &mut Document) {
    let at = "/v3/auth/tokens";
    let issue = keystone(
        "issue_token",
        "Get a token; it is in the header X-Subject-Token of the answer",
        false,
        &[MALFORMED, (401, "Wrong name, password, token or scope"), (413, "The body is too large")],
    )
    .request_body(Some(body(named("TokenRequest"))))
    .response("201", answer("What the token says", envelope("token", object())));
    document.operation(HttpMethod::Post, at, issue.build());
    let subject = || header("X-Subject-Token", Required::True, "The token in question");
    let failures = &[MALFORMED, (403, "Another's token"), (404, "The token does not count")];
    let show = keystone("show_token", "Validate a token", true, failures)
        .parameter(subject())
        .response("200", answer("What it says", envelope("token", object())));
    document.operation(HttpMethod::Get, at, show.build());
    let check = keystone("check_token", "Validate a token without saying more", true, failures).parameter(subject());
    document.operation(HttpMethod::Head, at, check.response("200", empty("It counts")).build());
    let revoke = keystone("revoke_token", "Revoke a token", true, failures).parameter(subject());
    document.operation(HttpMethod::Delete, at, revoke.response("204", empty("It counts no more")).build());
}
