//! The frame by itself: resources that exist only here, with everything that it offers.

use crate::support::{Client, Cloud, id, ids};
use actix_web::middleware::from_fn;
use actix_web::{App, HttpServer, web};
use diesel::{ExpressionMethods as _, NullableExpressionMethods as _};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use mizar_api::frame::action::{Action, Answer, Input};
use mizar_api::frame::attribute::Attribute;
use mizar_api::frame::decode::Decode as _;
use mizar_api::frame::fault::Fault;
use mizar_api::frame::fields::Fields;
use mizar_api::frame::handlers::mount;
use mizar_api::frame::parent::Parent;
use mizar_api::frame::plain::{Item, Plain};
use mizar_api::frame::resource::{Operations, Tx};
use mizar_api::frame::standard::text_schema;
use mizar_api::frame::stored::Stored as _;
use mizar_api::observe::limits::Limits;
use mizar_api::observe::request::observe;
use mizar_api::{column, standard, stored};
use mizar_domain::text::{Name, Tags};
use serde_json::{Value, json};

stored! {
    /// A thing that a project has.
    pub struct Shelf in shelves: owned {
        name: String as Text,
        note: Option<String> as Nullable<Text>,
        tags: Vec<String> as Array<Text>,
    }
}

stored! {
    /// A thing below it.
    pub struct Book in books: common {
        shelf_id: uuid::Uuid as Uuid,
        name: String as Text,
    }
}

type Run<'t> = BoxFuture<'t, Result<Value, Fault>>;

fn add_tags<'t>(tx: &'t mut Tx<'_>, shelf: Item<Shelf>, body: &'t mut Fields<'_>) -> Run<'t> {
    async move {
        let more: Tags = body.required("tags")?;
        let mut row = shelf.row;
        row.tags.extend(more.into_vec());
        Shelf::store(tx.conn, &row).await?;
        Ok(Value::Null)
    }
    .boxed()
}

fn summary<'t>(_: &'t mut Tx<'_>, shelf: Item<Shelf>, _: &'t mut Fields<'_>) -> Run<'t> {
    async move { Ok(json!({"summary": {"tags": shelf.row.tags.len()}})) }.boxed()
}

fn burn<'t>(tx: &'t mut Tx<'_>, book: Item<Book>, _: &'t mut Fields<'_>) -> Run<'t> {
    async move {
        Book::erase(tx.conn, book.row.id).await?;
        Ok(Value::Null)
    }
    .boxed()
}

impl Plain for Shelf {
    type More = ();

    const SINGULAR: &'static str = "shelf";
    const PLURAL: &'static str = "shelves";
    const KIND: &'static str = "Shelf";
    const NOT_FOUND: &'static str = "ShelfNotFound";
    const OPERATIONS: Operations = Operations::TENANT;
    const SHARED_AS: Option<&'static str> = Some("shelf");

    fn attributes() -> Vec<Attribute<Item<Self>>> {
        let mut all = standard!(Item<Shelf>, shelves, Shelf: id name project);
        all.push(
            Attribute::<Item<Shelf>>::shown("note", Option::<Name>::schema, |shelf, out| out.put(&shelf.row.note))
                .writable(),
        );
        all.extend(standard!(Item<Shelf>, shelves, Shelf: revision times tags));
        all
    }

    fn actions() -> Vec<Action<Item<Self>>> {
        vec![
            Action {
                inputs: vec![Input::required::<Tags>("tags")],
                envelope: Some("shelf"),
                ..Action::put("add_tags", "Add tags", add_tags)
            },
            Action { answer: Answer::Body(text_schema), ..Action::get("summary", "Count", summary) },
        ]
    }

    fn tags(&self) -> &[String] {
        &self.tags
    }

    fn create(fields: &mut Fields<'_>) -> Result<Self, Fault> {
        Ok(Self {
            name: fields.optional::<Name>("name")?.unwrap_or_default().into_string(),
            note: fields.optional::<Option<Name>>("note")?.flatten().map(Name::into_string),
            tags: fields.optional::<Tags>("tags")?.unwrap_or_default().into_vec(),
            ..Self::new(fields)?
        })
    }

    fn update(&mut self, fields: &mut Fields<'_>) -> Result<(), Fault> {
        fields.over("name", &mut self.name)?;
        let note = fields.patch::<Name>("note")?;
        self.note = match note {
            mizar_domain::patch::Patch::Keep => self.note.take(),
            mizar_domain::patch::Patch::Clear => None,
            mizar_domain::patch::Patch::Set(note) => Some(note.into_string()),
        };
        Ok(())
    }

    fn violation(constraint: &str, row: &Self) -> Option<Fault> {
        (constraint == "books_shelf").then(|| Fault::conflict("ShelfInUse", format!("Shelf {} has books.", row.id)))
    }
}

impl Plain for Book {
    type More = ();

    const SINGULAR: &'static str = "book";
    const PLURAL: &'static str = "books";
    const KIND: &'static str = "Book";
    const NOT_FOUND: &'static str = "BookNotFound";
    const QUOTA: Option<&'static str> = Some("router");
    const PARENT: Option<Parent<Item<Self>>> =
        Some(Parent::of::<Item<Shelf>>(|shelf| Box::new(books::shelf_id.eq(shelf).nullable())));

    fn attributes() -> Vec<Attribute<Item<Self>>> {
        let mut all = standard!(Item<Book>, books, Book: id name);
        all.push(column!(Item<Book>, books, Book, shelf_id: uuid::Uuid));
        all
    }

    fn actions() -> Vec<Action<Item<Self>>> {
        vec![Action { answer: Answer::Empty, ..Action::put("burn", "Burn", burn) }]
    }

    fn create(fields: &mut Fields<'_>) -> Result<Self, Fault> {
        Ok(Self {
            shelf_id: fields.parent()?,
            name: fields.optional::<Name>("name")?.unwrap_or_default().into_string(),
            ..Self::new()
        })
    }

    fn update(&mut self, fields: &mut Fields<'_>) -> Result<(), Fault> {
        fields.over("name", &mut self.name)
    }
}

/// A cloud with these resources beside its own, on another port.
struct Library {
    cloud: Cloud,
    url: String,
    server: actix_web::dev::ServerHandle,
}

impl Library {
    async fn open() -> anyhow::Result<Self> {
        let cloud = Cloud::start().await?;
        cloud
            .sql(
                "CREATE TABLE shelves (id uuid PRIMARY KEY, project_id uuid NOT NULL, name text NOT NULL COLLATE \"C\", \
                 note text, tags text[] NOT NULL, revision_number bigint NOT NULL DEFAULT 0, \
                 created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now()); \
                 CREATE TABLE books (id uuid PRIMARY KEY, shelf_id uuid NOT NULL CONSTRAINT books_shelf REFERENCES shelves, \
                 name text NOT NULL COLLATE \"C\", revision_number bigint NOT NULL DEFAULT 0, \
                 created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now());",
            )
            .await?;
        let (app, listener) = cloud.app(Limits::default())?;
        let url = format!("http://{}", listener.local_addr()?);
        let app = web::Data::from(app);
        let server = HttpServer::new(move || {
            let scope = web::scope("").wrap(from_fn(observe));
            App::new()
                .app_data(app.clone())
                .service(scope.configure(mount::<Item<Shelf>>).configure(mount::<Item<Book>>))
        });
        let server = server.workers(1).disable_signals().listen(listener)?.run();
        let handle = server.handle();
        tokio::spawn(server);
        Ok(Self { cloud, url, server: handle })
    }

    async fn tenant(&self, name: &str) -> anyhow::Result<Client> {
        Ok(Client { base: self.url.clone(), ..self.cloud.tenant(name, "member").await? })
    }
}

async fn shelf(client: &Client, attributes: Value) -> anyhow::Result<Value> {
    Ok(client.post("/v2.0/shelves", &json!({"shelf": attributes})).await?.ok(201)?["shelf"].clone())
}

#[tokio::test]
async fn an_action_decodes_strictly_changes_its_object_and_is_audited() -> anyhow::Result<()> {
    let library = Library::open().await?;
    let (red, blue) = (library.tenant("red").await?, library.tenant("blue").await?);
    let made = shelf(&red, json!({"name": "s", "note": "n", "tags": ["a"]})).await?;
    let path = format!("/v2.0/shelves/{}/add_tags", id(&made));
    let body = json!({"shelf": {"tags": ["b"]}});
    for wrong in
        [json!({}), json!({"shelf": {}}), json!({"shelf": {"tags": 1}}), json!({"shelf": {"tags": [], "x": 1}})]
    {
        assert_eq!(red.put(&path, Some(&wrong)).await?.fault(), (400, "HTTPBadRequest"), "{wrong}");
        assert_eq!(blue.put(&path, Some(&wrong)).await?.fault(), (404, "ShelfNotFound"), "{wrong}");
    }
    assert_eq!(red.get(&path).await?.status, 405);
    let changed = red.put(&path, Some(&body)).await?.ok(200)?["shelf"].clone();
    assert_eq!((&changed["tags"], &changed["revision_number"]), (&json!(["a", "b"]), &json!(1)));
    let summary = format!("/v2.0/shelves/{}/summary", id(&made));
    assert_eq!(red.get(&summary).await?.ok(200)?, json!({"summary": {"tags": 2}}));
    assert_eq!(blue.get(&summary).await?.fault(), (404, "ShelfNotFound"));
    let log = "SELECT action || ' ' || changes::text FROM audit_events WHERE object_type = 'shelf' ORDER BY id";
    let expected = [r#"create {"name": "s", "note": "n", "tags": ["a"]}"#, r#"add_tags {"tags": ["b"]}"#];
    assert_eq!(library.cloud.rows(log).await?, expected);

    let item = format!("/v2.0/shelves/{}", id(&made));
    let cleared = red.put(&item, Some(&json!({"shelf": {"note": null}}))).await?.ok(200)?;
    assert_eq!((&cleared["shelf"]["note"], &cleared["shelf"]["name"]), (&Value::Null, &json!("s")));
    let stale = red.send(reqwest::Method::DELETE, &item, None, &[("If-Match", "revision_number=1")]).await?;
    assert_eq!(stale.fault(), (412, "RevisionNumberConstraintFailed"));
    red.put(&format!("{item}/tags"), Some(&json!({"tags": ["z"]}))).await?.ok(200)?;
    assert_eq!(ids(&red.get("/v2.0/shelves?tags=z").await?.ok(200)?["shelves"]), [id(&made)]);
    library.server.stop(false).await;
    Ok(())
}

#[tokio::test]
async fn what_lies_below_an_object_is_seen_and_changed_as_that_object_is() -> anyhow::Result<()> {
    let library = Library::open().await?;
    let (red, blue) = (library.tenant("red").await?, library.tenant("blue").await?);
    let (one, two) = (shelf(&red, json!({})).await?, shelf(&red, json!({})).await?);
    let books = format!("/v2.0/shelves/{}/books", id(&one));
    let new = json!({"book": {"name": "b"}});
    let book = red.post(&books, &new).await?.ok(201)?["book"].clone();
    assert_eq!((&book["shelf_id"], &book["name"]), (&one["id"], &json!("b")));
    let used = "SELECT used FROM quotas WHERE resource = 'router'";
    assert_eq!(library.cloud.rows(used).await?, ["1"], "it counts for the project of what it lies below");
    let at = format!("{books}/{}", id(&book));
    let elsewhere = format!("/v2.0/shelves/{}/books/{}", id(&two), id(&book));
    assert_eq!(red.get(&elsewhere).await?.fault(), (404, "BookNotFound"));
    assert_eq!(red.delete(&elsewhere).await?.fault(), (404, "BookNotFound"));
    assert_eq!(ids(&red.get(&books).await?.ok(200)?["books"]), [id(&book)]);
    let other = format!("/v2.0/shelves/{}/books", id(&two));
    assert_eq!(red.get(&other).await?.ok(200)?["books"], json!([]));
    red.put(&at, Some(&json!({"book": {"name": "c"}}))).await?.ok(200)?;
    let revision = red.get(&format!("/v2.0/shelves/{}", id(&one))).await?.ok(200)?["shelf"]["revision_number"].clone();
    assert_eq!(revision, 2, "a parent's revision rises with its children");

    for (method, path) in [("GET", &books), ("GET", &at), ("POST", &books), ("PUT", &at), ("DELETE", &at)] {
        let answer = blue.send(method.parse()?, path, Some(new.to_string()), &[]).await?;
        assert_eq!(answer.fault(), (404, "ShelfNotFound"), "{method} {path}");
    }
    library
        .cloud
        .sql(&format!(
            "INSERT INTO rbac_policies (id, project_id, object_type, object_id, action) \
             VALUES (gen_random_uuid(), '{}', 'shelf', '{}', 'access_as_shared')",
            red.project,
            id(&one)
        ))
        .await?;
    blue.get(&at).await?.ok(200)?;
    for (method, path) in [("POST", &books), ("PUT", &at), ("DELETE", &at)] {
        let answer = blue.send(method.parse()?, path, Some(new.to_string()), &[]).await?;
        assert_eq!(answer.fault(), (403, "PolicyNotAuthorized"), "{method} {path}");
    }
    assert_eq!(blue.put(&format!("{at}/burn"), None).await?.fault(), (403, "PolicyNotAuthorized"));

    let item = format!("/v2.0/shelves/{}", id(&one));
    assert_eq!(red.delete(&item).await?.fault(), (409, "ShelfInUse"));
    // An action without inputs reads no body, and writes down none.
    red.put(&format!("{at}/burn"), Some(&json!({"x": "\u{0}"}))).await?.ok(204)?;
    let log = "SELECT changes FROM audit_events WHERE action = 'burn'";
    assert_eq!(library.cloud.rows(log).await?, ["{}"]);
    red.delete(&item).await?.ok(204)?;
    library.server.stop(false).await;
    Ok(())
}
