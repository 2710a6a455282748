//! The operations of the identity service.

use super::parts::{Document, answer, body, empty, envelope, header, keystone, named, path, query};
use crate::frame::decode::plain;
use crate::identity::assignments::TARGETS;
use crate::identity::{application_credentials, auth, catalog, domains, projects, requests, roles, users, views};
use utoipa::openapi::path::{HttpMethod, OperationBuilder};
use utoipa::openapi::schema::{Array, ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Required, Schema};

const FORBIDDEN: (u16, &str) = (403, "Not allowed");
const MISSING: (u16, &str) = (404, "It, or what it names, is not there");
const MALFORMED: (u16, &str) = (400, "Malformed, or a value is not possible");
const TAKEN: (u16, &str) = (409, "The name is taken");
const TOO_LARGE: (u16, &str) = (413, "The body is too large");
const BAD_QUERY: (u16, &str) = (400, "A value of the query is not possible");

fn object() -> RefOr<Schema> {
    ObjectBuilder::new().schema_type(Type::Object).into()
}

/// A list with the links that Keystone has beside it.
fn listed(plural: &str, schema: &str) -> RefOr<Schema> {
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .property(plural, Array::new(named(schema)))
        .required(plural)
        .property("links", object())
        .into()
}

/// Path parameters, in order.
fn with_path(mut operation: OperationBuilder, target: &str) -> OperationBuilder {
    for name in target.split('{').skip(1).filter_map(|rest| rest.split('}').next()) {
        operation =
            operation.parameter(path(name, &format!("Id of the {}", if name == "id" { "object" } else { name })));
    }
    operation
}

/// What stands in a query: its name, what it does, and whether it is a flag.
type Filter = (&'static str, &'static str, bool);

const NAME: Filter = ("name", "Of this name", false);
const DOMAIN: Filter = ("domain_id", "Of this domain", false);
const ENABLED: Filter = ("enabled", "In this state", true);
const PROJECT_FILTERS: &[Filter] = &[
    NAME,
    DOMAIN,
    ENABLED,
    ("tags", "With all of these tags, separated by commas", false),
    ("tags-any", "With one of these tags, separated by commas", false),
    ("not-tags", "Without one of these tags at least, separated by commas", false),
    ("not-tags-any", "Without any of these tags, separated by commas", false),
];

fn with_query(mut operation: OperationBuilder, filters: &[Filter]) -> OperationBuilder {
    for (name, about, flag) in filters {
        let kind = if *flag { Type::Boolean } else { Type::String };
        operation = operation.parameter(query(name, plain(kind).into(), about));
    }
    operation
}

/// Adds them.
pub fn document(document: &mut Document) {
    document.tag("identity", "Tokens and accounts; Keystone v3.");
    schemas(document);
    let version = keystone("show_identity_version", "The version", false, &[]);
    document.operation(
        HttpMethod::Get,
        "/v3",
        version.response("200", answer("It", envelope("version", object()))).build(),
    );
    tokens(document);
    lists(document);
    accounts(document);
    assignments(document);
    credentials(document);
}

fn schemas(document: &mut Document) {
    document.schema_of::<requests::TokenRequest>();
    document.schema_of::<auth::Token>();
    document.schema_of::<domains::CreateDomain>();
    document.schema_of::<domains::UpdateDomain>();
    document.schema_of::<projects::CreateProject>();
    document.schema_of::<projects::UpdateProject>();
    document.schema_of::<users::CreateUser>();
    document.schema_of::<users::UpdateUser>();
    document.schema_of::<users::ChangePassword>();
    document.schema_of::<roles::CreateRole>();
    document.schema_of::<roles::UpdateRole>();
    document.schema_of::<application_credentials::CreateApplicationCredential>();
    document.schema_of::<views::Domain>();
    document.schema_of::<views::Project>();
    document.schema_of::<views::User>();
    document.schema_of::<views::IdentityRole>();
    document.schema_of::<views::RoleAssignment>();
    document.schema_of::<views::ApplicationCredential>();
    document.schema_of::<catalog::CatalogEntry>();
    document.schema_of::<catalog::Service>();
    document.schema_of::<catalog::Endpoint>();
    document.schema_of::<catalog::Region>();
}

/// Everything that is listed, and shown by id.
fn lists(document: &mut Document) {
    let mut list = |target: &str, plural: &str, schema: &str, filters: &[Filter], failures: &[(u16, &str)]| {
        let id = match target {
            "/v3/users/{id}/projects" => "list_projects_of_user".to_owned(),
            _ => format!("list_{}", target.trim_start_matches("/v3/").replace('/', "_")),
        };
        let failures: Vec<_> =
            [BAD_QUERY].into_iter().filter(|_| !filters.is_empty()).chain(failures.to_vec()).collect();
        let operation = keystone(&id, &format!("List {plural}"), true, &failures);
        let operation = with_query(with_path(operation, target), filters);
        document.operation(
            HttpMethod::Get,
            target,
            operation.response("200", answer("They", listed(plural, schema))).build(),
        );
    };
    list("/v3/auth/projects", "projects", "Project", &[], &[]);
    list("/v3/auth/domains", "domains", "Domain", &[], &[]);
    list("/v3/auth/system", "system", "All", &[], &[]);
    list("/v3/auth/catalog", "catalog", "CatalogEntry", &[], &[]);
    list("/v3/domains", "domains", "Domain", &[NAME, ENABLED], &[FORBIDDEN]);
    list("/v3/roles", "roles", "IdentityRole", &[NAME], &[]);
    list("/v3/projects", "projects", "Project", PROJECT_FILTERS, &[FORBIDDEN]);
    list("/v3/users", "users", "User", &[NAME, DOMAIN, ENABLED], &[FORBIDDEN]);
    list("/v3/users/{id}/projects", "projects", "Project", PROJECT_FILTERS, &[FORBIDDEN, MISSING]);
    let services: &[Filter] = &[NAME, ("type", "Of this type", false)];
    list("/v3/services", "services", "Service", services, &[FORBIDDEN]);
    let endpoints: &[Filter] = &[
        ("service_id", "Of this service", false),
        ("interface", "Of this interface", false),
        ("region_id", "In this region", false),
    ];
    list("/v3/endpoints", "endpoints", "Endpoint", endpoints, &[FORBIDDEN]);
    list("/v3/regions", "regions", "Region", &[], &[]);
    let filters: &[Filter] = &[
        ("user.id", "Of this user", false),
        ("role.id", "Of this role", false),
        ("scope.project.id", "On this project", false),
        ("scope.domain.id", "On this domain", false),
        ("scope.system", "On the system", false),
        ("include_names", "With names beside ids", true),
    ];
    list("/v3/role_assignments", "role_assignments", "RoleAssignment", filters, &[FORBIDDEN]);
    for (singular, schema) in [
        ("domain", "Domain"),
        ("role", "IdentityRole"),
        ("project", "Project"),
        ("user", "User"),
        ("service", "Service"),
        ("endpoint", "Endpoint"),
        ("region", "Region"),
    ] {
        let target = format!("/v3/{singular}s/{{id}}");
        let show = keystone(&format!("show_{singular}"), &format!("Show a {singular}"), true, &[FORBIDDEN, MISSING]);
        let show = with_path(show, &target).response("200", answer("It", envelope(singular, named(schema))));
        document.operation(HttpMethod::Get, &target, show.build());
    }
}

/// What administrators make, change and delete.
fn accounts(document: &mut Document) {
    for (singular, schema, request) in [
        ("domain", "Domain", "Domain"),
        ("project", "Project", "Project"),
        ("user", "User", "User"),
        ("role", "IdentityRole", "Role"),
    ] {
        let one = || envelope(singular, named(schema));
        let failures = &[MALFORMED, FORBIDDEN, MISSING, TAKEN, TOO_LARGE];
        let create = keystone(&format!("create_{singular}"), &format!("Create a {singular}"), true, failures)
            .request_body(Some(body(named(&format!("Create{request}")))))
            .response("201", answer("Made", one()));
        document.operation(HttpMethod::Post, &format!("/v3/{singular}s"), create.build());
        let target = format!("/v3/{singular}s/{{id}}");
        let about = format!("Change a {singular}; what is taken from tokens makes them worth nothing");
        let update = with_path(keystone(&format!("update_{singular}"), &about, true, failures), &target)
            .request_body(Some(body(named(&format!("Update{request}")))))
            .response("200", answer("Changed", one()));
        document.operation(HttpMethod::Patch, &target, update.build());
        let failures = &[FORBIDDEN, MISSING];
        let delete = keystone(&format!("delete_{singular}"), &format!("Delete a {singular}"), true, failures);
        let delete = with_path(delete, &target).response("204", empty("Gone; its tokens count no more"));
        document.operation(HttpMethod::Delete, &target, delete.build());
    }
    let target = "/v3/users/{id}/password";
    let failures = &[MALFORMED, (401, "Not the password"), TOO_LARGE];
    let change = keystone("change_password", "Change one's password, which proves who asks", false, failures);
    let change = with_path(change, target)
        .request_body(Some(body(named("ChangePassword"))))
        .response("204", empty("Changed; older tokens count no more"));
    document.operation(HttpMethod::Post, target, change.build());
}

fn assignments(document: &mut Document) {
    for (target, on) in TARGETS.into_iter().zip(["project", "domain", "system"]) {
        let roles = format!("{target}/users/{{user}}/roles");
        let failures = &[FORBIDDEN, MISSING];
        let list = keystone(&format!("list_roles_on_{on}"), &format!("A user's roles on a {on}"), true, failures);
        let list = with_path(list, &roles).response("200", answer("They", listed("roles", "IdentityRole")));
        document.operation(HttpMethod::Get, &roles, list.build());
        let role = format!("{roles}/{{role}}");
        for (method, verb, summary, done) in [
            (HttpMethod::Get, "check", "Whether a user has a role", "It has"),
            (HttpMethod::Head, "test", "Whether a user has a role", "It has"),
            (HttpMethod::Put, "assign", "Give a user a role", "Given"),
            (HttpMethod::Delete, "remove", "Take a role from a user", "Taken away; the user's tokens count no more"),
        ] {
            let operation = keystone(&format!("{verb}_role_on_{on}"), &format!("{summary} on a {on}"), true, failures);
            document.operation(method, &role, with_path(operation, &role).response("204", empty(done)).build());
        }
    }
}

fn credentials(document: &mut Document) {
    let all = "/v3/users/{user}/application_credentials";
    let schema = "ApplicationCredential";
    let list = keystone("list_application_credentials", "A user's", true, &[BAD_QUERY, FORBIDDEN, MISSING]);
    let list = with_query(with_path(list, all), &[NAME]);
    let list = list.response("200", answer("They", listed("application_credentials", schema)));
    document.operation(HttpMethod::Get, all, list.build());
    let failures = &[MALFORMED, FORBIDDEN, MISSING, TAKEN, TOO_LARGE];
    let about = "Make one for the token's project; the secret is in the answer and never shown again";
    let create = with_path(keystone("create_application_credential", about, true, failures), all)
        .request_body(Some(body(named("CreateApplicationCredential"))))
        .response("201", answer("Made", envelope("application_credential", named(schema))));
    document.operation(HttpMethod::Post, all, create.build());
    let one = "/v3/users/{user}/application_credentials/{id}";
    let failures = &[FORBIDDEN, MISSING];
    let show = with_path(keystone("show_application_credential", "Show one", true, failures), one)
        .response("200", answer("It", envelope("application_credential", named(schema))));
    document.operation(HttpMethod::Get, one, show.build());
    let delete = with_path(keystone("delete_application_credential", "Delete one", true, failures), one)
        .response("204", empty("Gone; its tokens count no more"));
    document.operation(HttpMethod::Delete, one, delete.build());
}

fn tokens(document: &mut Document) {
    let at = "/v3/auth/tokens";
    let nocatalog: &[Filter] = &[("nocatalog", "Leave the catalog out", false)];
    let issue = keystone(
        "issue_token",
        "Get a token; it is in the header X-Subject-Token of the answer",
        false,
        &[MALFORMED, (401, "Wrong name, secret, token or scope"), TOO_LARGE],
    )
    .request_body(Some(body(named("TokenRequest"))))
    .response("201", answer("What the token says", envelope("token", named("Token"))));
    document.operation(HttpMethod::Post, at, with_query(issue, nocatalog).build());
    let subject = || header("X-Subject-Token", Required::True, "The token in question");
    let failures = &[MALFORMED, (403, "Another's token"), (404, "The token does not count")];
    let show = keystone("show_token", "Validate a token", true, failures)
        .parameter(subject())
        .response("200", answer("What it says", envelope("token", named("Token"))));
    document.operation(HttpMethod::Get, at, with_query(show, nocatalog).build());
    let check = keystone("check_token", "Validate a token without saying more", true, failures).parameter(subject());
    document.operation(HttpMethod::Head, at, check.response("200", empty("It counts")).build());
    let revoke = keystone("revoke_token", "Revoke a token", true, failures).parameter(subject());
    document.operation(HttpMethod::Delete, at, revoke.response("204", empty("It counts no more")).build());
}
