//! Who may do what, cell by cell over every route: what the table of permissions says is what the router does.

use axum::http::StatusCode;
use burstflare_app_edge::{Accepts, Access, Endpoint, endpoints};
use burstflare_core::domain::permission::{Relation, allows};
use burstflare_ports::record::Role;
use serde_json::{Value, json};

use crate::support::{Call, World, bundle_of, call, text};
use crate::tenancy::body;

const ROLES: [(Role, &str); 4] =
    [(Role::Viewer, "viewer"), (Role::Member, "member"), (Role::Admin, "admin"), (Role::Owner, "owner")];

struct Cast {
    world: World,
    workspace: String,
    template: String,
    /// A token of each role's person for their personal workspace; the owner's is for the shared one.
    people: Vec<String>,
    made: std::sync::atomic::AtomicUsize,
}

impl Cast {
    async fn new() -> Self {
        let world = World::new().await;
        let (owner, registered) = world.register("owner@example.com").await;
        let mut people = Vec::new();
        for (role, name) in ROLES {
            if role == Role::Owner {
                people.push(owner.clone());
                continue;
            }
            let invite = call("POST", "/api/v1/invites").token(&owner).json(&json!({ "role": name }));
            let code = world.send(invite).await.expect(201)["code"].clone();
            let wish = json!({ "email": format!("{name}@example.com"), "code": code });
            let made = world.send(call("POST", "/api/v1/auth/register").json(&wish)).await.expect(201);
            people.push(text(&made["tokens"]["access_token"]));
        }
        let template = world.template(&owner, "base").await;
        let workspace = text(&registered["workspace"]["id"]);
        Self { world, workspace, template, people, made: 0.into() }
    }

    /// A fresh token of this role for the shared workspace.
    async fn token(&self, role: usize) -> String {
        let path = format!("/api/v1/workspaces/{}/use", self.workspace);
        let made = self.world.send(call("POST", &path).token(&self.people[role])).await.expect(200);
        assert_eq!(made["role"], ROLES[role].1);
        text(&made["tokens"]["access_token"])
    }

    fn name(&self) -> String {
        let made = self.made.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        format!("n{made}")
    }

    /// A request to the endpoint that is fine in every other respect.
    async fn request(&self, endpoint: &Endpoint, role: usize, session: Option<&str>) -> Call {
        let owner = &self.people[3];
        let token = self.token(role).await;
        let mut path = endpoint.path.replace("{template}", &self.template);
        if let Some(session) = session {
            path = path.replace("{session}", session);
        }
        if path.contains("{snapshot}") {
            let session = session.expect("a session");
            path = path.replace("{snapshot}", &self.world.snapshot(&self.workspace, session).await);
        }
        if path.contains("{token}") {
            let wish = json!({ "name": "x", "scopes": ["read"] });
            let made =
                self.world.send(call("POST", "/api/v1/tokens").token(&token).json(&wish)).await.expect(201);
            path = path.replace("{token}", &text(&made["id"]));
        }
        if path.contains("{secret}") {
            let name = self.name();
            path = path.replace("{secret}", &name);
            let made = call("PUT", &path).token(owner).json(&json!({ "value": "x" }));
            self.world.send(made).await.expect(200);
        }
        path = path.replace("{workspace}", &self.workspace);
        if path.contains("{build}") {
            let list = self.world.send(call("GET", "/api/v1/builds").token(owner)).await.expect(200);
            path = path.replace("{build}", &text(&list["items"][0]["id"]));
        }
        if path.ends_with("/bundle") {
            let label = self.name();
            let draft = format!("/api/v1/templates/{}/versions", self.template);
            let wish = json!({ "label": label });
            self.world.send(call("POST", &draft).token(owner).json(&wish)).await.expect(201);
            path = path.replace("{version}", &label);
        }
        path = path.replace("{version}", "1.0.0").replace("{port}", "3000").replace("{terminal}", "1");
        path.push_str(crate::tenancy::query(&endpoint.path));
        let sent = call(endpoint.method.as_str(), &path).token(&token);
        match endpoint.accepts {
            Accepts::Nothing => sent,
            Accepts::Bytes => sent.body("application/octet-stream", "x"),
            Accepts::Archive => sent.body("application/gzip", bundle_of("")),
            Accepts::Json | Accepts::OptionalJson => sent.json(&self.body(&endpoint.path)),
        }
    }

    fn body(&self, path: &str) -> Value {
        match path {
            "/api/v1/secrets/{secret}" => json!({ "value": "y" }),
            "/api/v1/templates" => json!({ "name": self.name() }),
            "/api/v1/sessions" => json!({ "name": self.name(), "template": self.template }),
            "/api/v1/tokens" => json!({ "name": "x", "scopes": ["read"] }),
            "/api/v1/invites" => json!({ "role": "viewer" }),
            "/api/v1/sessions/{session}/fork" => json!({ "name": self.name() }),
            other => body(other),
        }
    }

    async fn check(&self, endpoint: &Endpoint, role: usize, relation: Relation, session: Option<&str>) {
        let Access::Bearer(action) = endpoint.access else { return };
        let sent = self.request(endpoint, role, session).await;
        let status = self.world.status(sent).await;
        let cell = format!("{} {} as {} {relation:?}", endpoint.method, endpoint.path, ROLES[role].1);
        if allows(ROLES[role].0, action, relation) {
            // Some are refused by the present state (409), none for who asks.
            assert!(status.is_success() || status == StatusCode::CONFLICT, "{cell}: {status}");
        } else {
            assert_eq!(status, StatusCode::FORBIDDEN, "{cell}");
        }
    }
}

fn of_session(endpoint: &Endpoint) -> bool {
    endpoint.path.contains("{session}") || endpoint.path.contains("{snapshot}")
}

#[tokio::test]
async fn every_route_and_role() {
    let cast = Cast::new().await;
    for endpoint in endpoints().iter().filter(|endpoint| !of_session(endpoint)) {
        for role in 0..ROLES.len() {
            cast.check(endpoint, role, Relation::Own, None).await;
        }
    }
}

#[tokio::test]
async fn every_route_of_sessions_role_and_relation() {
    let cast = Cast::new().await;
    let owner = &cast.people[3];
    for endpoint in endpoints().iter().filter(|endpoint| of_session(endpoint)) {
        for role in 0..ROLES.len() {
            for relation in [Relation::Own, Relation::Shared, Relation::Foreign] {
                // Viewers have no sessions of their own; the owner's foreign ones are the admin's.
                let keeper = match (relation, role) {
                    (Relation::Own, 0) => continue,
                    (Relation::Own, _) => cast.token(role).await,
                    (_, 3) => cast.token(2).await,
                    _ => owner.clone(),
                };
                let sharing = if relation == Relation::Shared { "workspace" } else { "private" };
                let session = cast.world.session(&keeper, &cast.name(), &cast.template, sharing).await;
                cast.check(endpoint, role, relation, Some(&session)).await;
                let path = format!("/api/v1/sessions/{session}");
                let _ = cast.world.status(call("DELETE", &path).token(&keeper)).await;
            }
        }
    }
}

#[tokio::test]
async fn permission_comes_before_the_body() {
    let cast = Cast::new().await;
    let viewer = cast.token(0).await;
    for (method, path) in [
        ("POST", "/api/v1/templates".to_owned()),
        ("POST", "/api/v1/sessions".to_owned()),
        ("POST", format!("/api/v1/templates/{}/promote", cast.template)),
        ("PUT", format!("/api/v1/templates/{}/versions/1.0.0/bundle", cast.template)),
        ("POST", "/api/v1/sessions/x/exec".to_owned()),
    ] {
        let nonsense = call(method, &path).token(&viewer).body("text/plain", "{{{{");
        let answer = cast.world.send(nonsense).await;
        assert_eq!(
            (answer.status.as_u16(), answer.problem().as_str()),
            (403, "forbidden"),
            "{method} {path}"
        );
    }
}
