//! Previews: what reaches an application, who reaches it, and every way round that is known.

use serde_json::{Value, json};

use crate::application::ANSWER;
use crate::support::{Answer, Call, World, call, text};

struct Stage {
    world: World,
    token: String,
    session: String,
    host: String,
}

impl Stage {
    async fn new() -> Self {
        let world = World::new().await;
        let (token, _) = world.register("you@example.com").await;
        let template = world.template(&token, "t").await;
        let session = world.session(&token, "s", &template, "private").await;
        let host = host(3000, &session);
        Self { world, token, session, host }
    }

    fn call(&self, method: &str, path: &str) -> Call {
        call(method, path).host(&self.host)
    }

    fn mine(&self, method: &str, path: &str) -> Call {
        self.call(method, path).header("flare-authorization", &format!("Bearer {}", self.token))
    }

    /// A ticket to a port.
    async fn ticket(&self, port: u16) -> String {
        let path = format!("/api/v1/sessions/{}/attach", self.session);
        let wish = json!({ "purpose": "preview", "port": port });
        let made = self.world.send(call("POST", &path).token(&self.token).json(&wish)).await.expect(201);
        text(&made["ticket"])
    }

    /// The cookie of a browser that has entered.
    async fn cookie(&self) -> String {
        let ticket = self.ticket(3000).await;
        let entered = self.world.send(self.call("GET", &format!("/.flare/enter?ticket={ticket}"))).await;
        assert_eq!(entered.status, 303, "{}", entered.text());
        entered.header("set-cookie").split(';').next().expect("a pair").to_owned()
    }

    async fn set(&self, token: &str, wish: Value) -> Answer {
        let path = format!("/api/v1/sessions/{}/ports/3000", self.session);
        self.world.send(call("PUT", &path).token(token).json(&wish)).await
    }
}

pub(crate) fn host(port: u16, session: &str) -> String {
    format!("{port}--{}.preview.localhost:8787", session["ses_".len()..].to_lowercase())
}

/// What the application saw.
fn seen(answer: Answer) -> Value {
    answer.expect(200)
}

fn header(seen: &Value, name: &str) -> Vec<String> {
    let headers = seen["headers"].as_array().expect("headers");
    headers.iter().filter(|pair| pair[0] == name).map(|pair| text(&pair[1])).collect()
}

#[tokio::test]
async fn preview_hosts_serve_no_route_of_ours_and_our_hosts_no_preview() {
    let stage = Stage::new().await;
    for path in ["/api/v1/me", "/healthz", "/metrics", "/assets/app.js", "/api/v1/openapi.json"] {
        let answer = stage.world.send(stage.call("GET", path).token(&stage.token)).await;
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (401, "preview_private"), "{path}");
        let reached = seen(stage.world.send(stage.mine("GET", path)).await);
        assert_eq!(reached["uri"], format!("/v1/ports/3000/http{path}"), "the application's own path");
    }
    for path in ["/.flare/", "/.flare/other", "/.flare/enter/x"] {
        assert_eq!(stage.world.send(stage.mine("GET", path)).await.status, 404, "{path}");
    }
    assert_eq!(stage.world.send(stage.mine("POST", "/.flare/enter")).await.status, 405);
    let ours = call("GET", "/.flare/enter?ticket=x");
    assert_eq!(stage.world.send(ours).await.status, 404, "the API's host knows no such path");
}

#[tokio::test]
async fn a_host_has_one_spelling() {
    let stage = Stage::new().await;
    let upper = stage.mine("GET", "/").host(&stage.host.to_uppercase());
    assert_eq!(header(&seen(stage.world.send(upper).await), "flare-app-host"), [stage.host.as_str()]);
    let bare = stage.host.strip_suffix(":8787").expect("the port");
    for other in [
        bare.to_owned(),
        format!("{bare}.:8787"),
        format!("{bare}:8788"),
        format!("{bare}:8787:8787"),
        format!("x.{bare}:8787"),
        format!("0{bare}:8787"),
        format!("{bare}.evil.example:8787"),
        format!("x@{bare}:8787"),
        bare.replace("3000--", "61780--") + ":8787",
        bare.replace("3000--", "3000---") + ":8787",
        bare.replace(".preview", "0.preview") + ":8787",
    ] {
        let answer = stage.world.send(stage.mine("GET", "/").host(&other)).await;
        assert_eq!(answer.status, 421, "{other}");
    }
    let two = stage.mine("GET", "/").header("host", "127.0.0.1:8787");
    assert_eq!(stage.world.send(two).await.status, 400, "two hosts");
}

#[tokio::test]
async fn unknown_private_and_foreign_are_the_same_to_a_stranger() {
    let stage = Stage::new().await;
    let invented = host(3000, "ses_01JD0000000000000000000000");
    let (stranger, _) = stage.world.register("else@example.com").await;
    let mut answers = Vec::new();
    for host in [&stage.host, &invented] {
        let mut document = stage.world.send(stage.call("GET", "/").host(host)).await.expect(401);
        document["request_id"] = Value::Null;
        let bearer = format!("Bearer {stranger}");
        let theirs = stage.call("GET", "/").host(host).header("flare-authorization", &bearer);
        let mut foreign = stage.world.send(theirs).await.expect(404);
        foreign["request_id"] = Value::Null;
        let visit = stage.call("GET", "/x").host(host).header("accept", "text/html");
        let visit = stage.world.send(visit.header("sec-fetch-mode", "navigate")).await;
        assert_eq!(visit.status, 303);
        assert!(visit.header("location").starts_with("http://flare.localhost:8787/previews/ses_"));
        let page = stage
            .world
            .send(call("GET", &visit.header("location")["http://flare.localhost:8787".len()..]))
            .await;
        assert!(page.text().contains("flare open ses_"), "{}", page.text());
        assert!(page.header("content-security-policy").contains("default-src 'none'"));
        answers.push((document, foreign, page.status));
    }
    assert_eq!(answers[0], answers[1]);
}

#[tokio::test]
async fn a_ticket_opens_one_port_of_one_session_once() {
    let stage = Stage::new().await;
    let template = stage.world.send(call("GET", "/api/v1/templates").token(&stage.token)).await.expect(200);
    let template = text(&template["items"][0]["id"]);
    let other = stage.world.session(&stage.token, "other", &template, "private").await;
    let enter = |host: &str, ticket: &str| call("GET", &format!("/.flare/enter?ticket={ticket}")).host(host);
    let ticket = stage.ticket(3000).await;
    for elsewhere in [host(3001, &stage.session), host(3000, &other)] {
        let answer = stage.world.send(enter(&elsewhere, &ticket)).await;
        assert_eq!(answer.status, 401, "{elsewhere}");
        assert_eq!(answer.header("set-cookie"), "");
    }
    let prefetched = stage.world.send(enter(&stage.host, &ticket).header("sec-purpose", "prefetch")).await;
    assert_eq!(prefetched.status, 503, "a guess spends nothing");
    let entered = stage.world.send(enter(&stage.host, &ticket)).await;
    assert_eq!(entered.status, 303);
    assert_eq!(entered.header("location"), format!("http://{}/", stage.host));
    assert_eq!(entered.header("referrer-policy"), "no-referrer");
    assert_eq!(entered.header("cache-control"), "no-store");
    let cookie = entered.header("set-cookie").to_owned();
    assert!(cookie.starts_with("flare-preview=") && cookie.contains("; HttpOnly; SameSite=Lax"), "{cookie}");
    assert!(!cookie.to_lowercase().contains("domain"), "host-only: {cookie}");
    assert_eq!(stage.world.send(enter(&stage.host, &ticket)).await.status, 401, "once");

    let path = format!("/api/v1/sessions/{}/attach", stage.session);
    for wish in [
        json!({ "purpose": "forward", "port": 3000 }),
        json!({ "purpose": "ssh", "ssh_key": crate::tenancy::KEY }),
    ] {
        let made = stage.world.send(call("POST", &path).token(&stage.token).json(&wish)).await.expect(201);
        let answer = stage.world.send(enter(&stage.host, &text(&made["ticket"]))).await;
        assert_eq!(answer.status, 401, "another purpose: {wish}");
    }
    for (bad, field) in
        [(json!({ "purpose": "preview" }), "port"), (json!({ "purpose": "preview", "port": 61780 }), "port")]
    {
        let problem = stage.world.send(call("POST", &path).token(&stage.token).json(&bad)).await.expect(400);
        assert_eq!(problem["field"], field);
    }
    let pair = cookie.split(';').next().expect("a pair");
    for elsewhere in [host(3001, &stage.session), host(3000, &other)] {
        let answer = stage.world.send(call("GET", "/").host(&elsewhere).header("cookie", pair)).await;
        assert_eq!(answer.status, 401, "the cookie is of no use at {elsewhere}");
    }
}

#[tokio::test]
async fn entering_leads_nowhere_else() {
    let stage = Stage::new().await;
    for to in [
        "//evil.example",
        "/%5Cevil.example",
        "https://evil.example",
        "%2F%2Fevil.example",
        "/%09/evil.example",
        "evil",
    ] {
        let ticket = stage.ticket(3000).await;
        let answer =
            stage.world.send(stage.call("GET", &format!("/.flare/enter?ticket={ticket}&to={to}"))).await;
        assert_eq!((answer.status.as_u16(), answer.header("location")), (400, ""), "{to}");
    }
}

#[tokio::test]
async fn ours_stays_ours_and_the_users_goes_on() {
    let stage = Stage::new().await;
    let cookie = stage.cookie().await;
    let sent = stage
        .call("POST", "/form?a=b")
        .header("cookie", &format!("a=1; {cookie}; b=2; __Host-flare-preview=x"))
        .header("authorization", "Basic eDp5")
        .header("x-forwarded-for", "6.6.6.6")
        .header("x_forwarded_for", "6.6.6.6")
        .header("forwarded", "for=6.6.6.6")
        .header("x-forwarded-host", "evil.example")
        .header("x-forwarded-proto", "https")
        .header("x-real-ip", "6.6.6.6")
        .header("flare-epoch", "9")
        .header("flare-app-host", "evil.example")
        .header("connection", "close, x-hop")
        .header("x-hop", "1")
        .header("te", "trailers")
        .body("text/plain", "hello");
    let seen = seen(stage.world.send(sent).await);
    assert_eq!((text(&seen["method"]).as_str(), text(&seen["body"]).as_str()), ("POST", "hello"));
    assert_eq!(header(&seen, "cookie"), ["a=1; b=2"]);
    assert_eq!(header(&seen, "flare-app-authorization"), ["Basic eDp5"]);
    assert_eq!(header(&seen, "x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(header(&seen, "x-forwarded-host"), [stage.host.as_str()]);
    assert_eq!(header(&seen, "x-forwarded-proto"), ["http"]);
    assert_eq!(header(&seen, "flare-app-host"), [stage.host.as_str()]);
    let forwarded = format!("for=127.0.0.1;host=\"{}\";proto=http", stage.host);
    assert_eq!(header(&seen, "forwarded"), [forwarded]);
    for gone in
        ["x_forwarded_for", "x-real-ip", "x-hop", "te", "connection", "flare-epoch", "flare-authorization"]
    {
        assert_eq!(header(&seen, gone), Vec::<String>::new(), "{gone}");
    }
    assert!(!seen.to_string().contains("6.6.6.6"), "{seen}");
    let ours = stage.mine("GET", "/").header("authorization", &format!("Bearer {}", stage.token));
    let seen = self::seen(stage.world.send(ours).await);
    assert!(!seen.to_string().contains(&stage.token), "our tokens reach no application");
}

#[tokio::test]
async fn an_application_speaks_for_its_own_origin_alone() {
    let stage = Stage::new().await;
    let mut sent = stage.mine("GET", "/");
    for line in [
        "set-cookie: mine=1; Path=/; Domain=preview.localhost",
        "set-cookie: flare-preview=evil; Path=/",
        "set-cookie: __Host-flare-preview=evil; Secure; Path=/",
        "set-cookie: =flare-preview=evil",
        "clear-site-data: \"*\"",
        "alt-svc: h2=\":1\"",
        "flare-request-id: forged",
        "x-own: 1",
    ] {
        sent = sent.header(ANSWER, line);
    }
    let answer = stage.world.send(sent).await;
    let cookies: Vec<_> = answer.headers.get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["mine=1; Path=/"]);
    assert_eq!(answer.header("clear-site-data"), "\"cache\", \"storage\"");
    for gone in
        ["alt-svc", "flare-request-id", "flare-app-answer", "content-security-policy", "x-frame-options"]
    {
        assert_eq!(answer.header(gone), "", "{gone}");
    }
    assert_eq!(answer.header("x-own"), "1");
}

#[tokio::test]
async fn a_cookie_counts_for_the_previews_own_pages() {
    let stage = Stage::new().await;
    let cookie = stage.cookie().await;
    let own = format!("http://{}", stage.host);
    let with = |method: &str, headers: &[(&str, &str)]| {
        let sent = stage.call(method, "/").header("cookie", &cookie);
        headers.iter().fold(sent, |sent, (name, value)| sent.header(name, value))
    };
    for method in ["GET", "POST", "DELETE"] {
        seen(stage.world.send(with(method, &[("origin", &own), ("sec-fetch-site", "same-origin")])).await);
        let sibling = format!("http://{}", host(8080, &stage.session));
        for foreign in ["http://evil.example", "null", "http://flare.localhost:8787", &sibling] {
            let answer = stage.world.send(with(method, &[("origin", foreign)])).await;
            assert_eq!(
                (answer.status.as_u16(), answer.problem().as_str()),
                (403, "foreign_origin"),
                "{method} {foreign}"
            );
        }
        let answer = stage
            .world
            .send(with(method, &[("sec-fetch-site", "same-site"), ("sec-fetch-mode", "no-cors")]))
            .await;
        assert_eq!(answer.status, 403, "{method}");
    }
    let upgrade = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-key", "x"),
        ("sec-websocket-version", "13"),
    ];
    let mut foreign = upgrade.to_vec();
    foreign.push(("origin", "http://evil.example"));
    assert_eq!(stage.world.send(with("GET", &foreign)).await.problem(), "foreign_origin");
    let mut ours = upgrade.to_vec();
    ours.push(("origin", &own));
    assert_eq!(
        stage.world.send(with("GET", &ours)).await.problem(),
        "websocket_required",
        "no refusal of its origin"
    );
    // A public port needs no cookie, so the cookie makes nothing worse.
    stage.set(&stage.token, json!({ "visibility": "public" })).await.expect(200);
    seen(stage.world.send(with("POST", &[("origin", "http://evil.example")])).await);
}

#[tokio::test]
async fn preflights_pass_without_credentials() {
    let stage = Stage::new().await;
    let cookie = stage.cookie().await;
    let ask = stage
        .call("OPTIONS", "/api")
        .header("origin", "http://evil.example")
        .header("access-control-request-method", "POST")
        .header("cookie", &format!("{cookie}; a=1"))
        .header("authorization", "Basic eDp5");
    let seen = seen(stage.world.send(ask).await);
    assert_eq!(header(&seen, "cookie"), Vec::<String>::new());
    assert_eq!(header(&seen, "flare-app-authorization"), Vec::<String>::new());
    let plain = stage.call("OPTIONS", "/api");
    assert_eq!(stage.world.send(plain).await.status, 401, "one that is no preflight");
}

#[tokio::test]
async fn two_lengths_are_refused() {
    let stage = Stage::new().await;
    let both = stage.mine("POST", "/").header("transfer-encoding", "chunked").body("text/plain", "0\r\n\r\n");
    let answer = stage.world.send(both).await;
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (400, "framing"));
}

#[tokio::test]
async fn who_may_look_changes_at_once() {
    let stage = Stage::new().await;
    let invite = call("POST", "/api/v1/invites").token(&stage.token).json(&json!({ "role": "viewer" }));
    let code = stage.world.send(invite).await.expect(201)["code"].clone();
    let me = stage.world.send(call("GET", "/api/v1/me").token(&stage.token)).await.expect(200);
    let wish = json!({ "email": "viewer@example.com", "code": code });
    let made = stage.world.send(call("POST", "/api/v1/auth/register").json(&wish)).await.expect(201);
    let path = format!("/api/v1/workspaces/{}/use", text(&me["workspace"]["id"]));
    let used =
        stage.world.send(call("POST", &path).token(&text(&made["tokens"]["access_token"]))).await.expect(200);
    let viewer = text(&used["tokens"]["access_token"]);
    let bearer = format!("Bearer {viewer}");
    let look = || stage.call("GET", "/").header("flare-authorization", &bearer);

    assert_eq!(stage.world.send(look()).await.status, 403, "a private port is not a viewer's");
    assert_eq!(stage.set(&viewer, json!({ "visibility": "public" })).await.status, 403);
    stage.set(&stage.token, json!({ "visibility": "workspace" })).await.expect(200);
    seen(stage.world.send(look()).await);
    assert_eq!(stage.world.send(stage.call("GET", "/")).await.status, 401, "not everybody's");
    let set = stage.set(&stage.token, json!({ "visibility": "public" })).await.expect(200);
    assert_eq!(set["url"], format!("http://{}/", stage.host));
    seen(stage.world.send(stage.call("GET", "/")).await);
    for bad in [
        json!({ "visibility": "everybody" }),
        json!({ "visibility": "public", "expires_at": "2020-01-01T00:00:00Z" }),
    ] {
        assert_eq!(stage.set(&stage.token, bad).await.status, 400);
    }
    stage.set(&stage.token, json!({ "visibility": "private" })).await.expect(200);
    assert_eq!(stage.world.send(stage.call("GET", "/")).await.status, 401);
    let audit = stage.world.send(call("GET", "/api/v1/audit").token(&stage.token)).await.text();
    assert!(audit.contains("port.visibility") && audit.contains("before"), "{audit}");
}

#[tokio::test]
async fn a_preview_wakes_nobody_and_reaches_nothing_deleted() {
    let stage = Stage::new().await;
    let cookie = stage.cookie().await;
    let path = format!("/api/v1/sessions/{}", stage.session);
    stage.world.send(call("POST", &format!("{path}/stop")).token(&stage.token)).await.expect(200);
    stage.world.until(&stage.token, &path, |session| session["state"] == "sleeping").await;
    let asleep = stage.world.send(stage.mine("GET", "/")).await;
    assert_eq!((asleep.status.as_u16(), asleep.problem().as_str()), (503, "session_asleep"));
    let visit = stage.call("GET", "/").header("accept", "text/html").header("sec-fetch-mode", "navigate");
    let page = stage.world.send(visit.header("cookie", &cookie)).await;
    assert_eq!(page.status, 503);
    assert!(page.text().contains("flare session start s"), "{}", page.text());
    assert!(page.header("content-security-policy").contains("default-src 'none'"));
    let shown = stage.world.send(call("GET", &path).token(&stage.token)).await.expect(200);
    assert_eq!(shown["state"], "sleeping");
    stage.world.send(call("DELETE", &path).token(&stage.token)).await.expect(202);
    for _ in 0..1_000 {
        if stage.world.status(call("GET", &path).token(&stage.token)).await == 404 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(stage.world.send(stage.mine("GET", "/")).await.status, 404);
    assert_eq!(stage.world.send(stage.call("GET", "/").header("cookie", &cookie)).await.status, 401);
}

#[tokio::test]
async fn signing_out_ends_the_cookie() {
    let stage = Stage::new().await;
    let cookie = stage.cookie().await;
    let look = || stage.call("GET", "/").header("cookie", &format!("flare-preview=tossed; {cookie}"));
    seen(stage.world.send(look()).await);
    stage.world.send(call("POST", "/api/v1/auth/logout").token(&stage.token)).await;
    assert_eq!(stage.world.send(look()).await.status, 401);
}

#[tokio::test]
async fn ports_are_listed_with_their_addresses() {
    let stage = Stage::new().await;
    let path = format!("/api/v1/sessions/{}/ports", stage.session);
    let list = stage.world.send(call("GET", &path).token(&stage.token)).await.expect(200);
    let port = &list["items"][0];
    assert_eq!(
        (&port["port"], &port["open"], &port["process"]),
        (&json!(3000), &json!(true), &json!("node"))
    );
    assert_eq!(port["visibility"], "private");
    assert_eq!(port["url"], format!("http://{}/", stage.host));
    // The watch of the machine tells the same as an event.
    let listen = call("GET", "/api/v1/events?after=0").token(&stage.token);
    let heard = crate::event::read_until(&stage.world, listen, "event: port.opened", async {}).await;
    assert!(heard.contains("event: port.opened"), "{heard}");
}

#[tokio::test]
async fn an_application_that_never_answers_is_told_with_what_to_do() {
    let stage = Stage::new().await;
    let told = stage.world.send(stage.mine("GET", "/late")).await;
    assert_eq!((told.status.as_u16(), told.problem().as_str()), (504, "port_timeout"));
    assert!(told.text().contains("120 seconds") && told.text().contains("the application's output"));
    let visit = stage.mine("GET", "/late").header("accept", "text/html").header("sec-fetch-mode", "navigate");
    let page = stage.world.send(visit).await;
    assert_eq!(page.status, 504);
    assert!(page.text().contains("<h1>") && page.text().contains("120 seconds"), "{}", page.text());
    assert!(page.text().contains("the application's output"), "what to do: {}", page.text());
}
