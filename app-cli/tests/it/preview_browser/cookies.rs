//! Tickets and cookies: who is let in, and by what.

use serde_json::Value;

use super::{COOKIE, Stage};
use crate::browser::Page;

/// Otherwise a link with a ticket that somebody sees in a history, a log or a `Referer` would let them in, and a script of
/// the application, or another preview, would hold the visitor's cookie.
#[test]
fn a_ticket_becomes_a_cookie_of_this_host_alone_and_leaves_no_trace() {
    let Some(stage) = Stage::new() else { return };
    let page = stage.browser.page();
    let wanted = format!("{}/page?q=1", stage.at(3000));
    page.go(&wanted);
    assert!(page.text("location.href").starts_with(&format!("{}/previews/ses_", stage.ours())));
    assert!(page.words().contains("flare open ses_"), "{}", page.words());
    assert!(stage.seen().is_empty(), "a stranger reaches no application");

    let link = stage.ticket(3000, "/page?q=1");
    page.go(&link);
    assert_eq!(page.text("location.href"), wanted);
    assert_eq!(page.text("document.referrer"), "");
    assert_eq!(page.text("document.cookie"), "", "no script reads it");
    assert!(page.succeeds("fetch('/more').then(a => a.ok || Promise.reject())"));
    let history = page.call("Page.getNavigationHistory", &serde_json::json!({}))["entries"].clone();
    let visited: Vec<_> = history.as_array().expect("entries").iter().map(|entry| &entry["url"]).collect();
    assert_eq!(visited.last(), Some(&&Value::from(wanted.as_str())), "{history}");
    assert!(visited.iter().all(|url| !url.to_string().contains("/.flare/")), "{history}");
    let cookies = page.cookies();
    assert_eq!(cookies.len(), 1, "{cookies:?}");
    let cookie = &cookies[0];
    let host = stage.world.host_of(3000);
    let (host, _) = host.rsplit_once(':').expect("a port");
    assert_eq!((&cookie["name"], &cookie["domain"]), (&COOKIE.into(), &host.into()), "host-only");
    assert_eq!((&cookie["httpOnly"], &cookie["sameSite"]), (&true.into(), &"Lax".into()));
    assert_eq!((&cookie["path"], &cookie["session"]), (&"/".into(), &false.into()));

    // A sibling does not get it.
    page.go(&format!("{}/page", stage.at(3001)));
    assert!(page.words().contains("flare open"), "{}", page.words());
    let seen = stage.seen();
    assert!(stage.reached(3001, "/").is_empty(), "{seen:?}");
    let told = Value::from(seen).to_string();
    assert!(told.contains("/page?q=1") && told.contains("/more"), "{told}");
    assert!(!told.contains("ticket") && !told.contains(COOKIE), "{told}");

    page.go(&link);
    assert!(page.words().contains("opens nothing"), "a ticket works once: {}", page.words());
    page.go(&wanted);
    assert_eq!(page.text("document.title"), "3000", "and harms nobody afterwards");
}

/// Otherwise an application could sign visitors of another preview out, or in with a cookie of its own choice, by cookies
/// for the domain that all previews share.
#[test]
fn tossed_cookies_sign_nobody_in_and_nobody_out() {
    let Some(stage) = Stage::new() else { return };
    let (evil, victim) = (stage.browser.page(), stage.browser.page());
    stage.enter(&evil, 3000);
    stage.enter(&victim, 3001);
    // Browsers send the longer paths first, so all of them come before the true one.
    let toss = |page: &Page<'_>, value: &str| {
        page.run(&format!(
            "for (let i = 0, p = ''; i < 20; i++, p += '/deep')
               document.cookie = '{COOKIE}={value}; domain=preview.localhost; path=' + (p || '/');
             document.cookie = '={COOKIE}={value}; domain=preview.localhost';
             document.cookie = '__Host-{COOKIE}={value}; domain=preview.localhost';
             document.cookie = '{COOKIE}={value}; domain=localhost';
             document.cookie = 'theirs=1; domain=preview.localhost'"
        ));
        let held = page.cookies_when(|held| {
            held.iter().filter(|cookie| cookie["domain"] == ".preview.localhost").count() > 20
        });
        assert!(held.iter().all(|cookie| cookie["domain"] != ".localhost"), "not above the previews' domain");
    };
    toss(&evil, "evil");
    let deep = format!("/deep{}/page", "/deep".repeat(20));
    for path in ["/", "/page", "/deep/page", deep.as_str()] {
        for (page, port) in [(&victim, 3001_u16), (&evil, 3000)] {
            page.go(&format!("{}{path}", stage.at(port)));
            assert_eq!(page.text("document.title"), port.to_string(), "{path}: still in");
        }
    }
    victim.go(&format!("{}/", stage.ours()));
    assert_eq!(victim.text("document.cookie"), "", "nothing reaches the server's own pages");

    // By header the application's cookies stay its own, and ours are not its to set.
    let header = |cookie: &str| format!("fetch('/set?cookie=' + encodeURIComponent('{cookie}'))");
    for cookie in [format!("{COOKIE}=header; Path=/"), "by=header; Domain=preview.localhost".to_owned()] {
        assert!(evil.succeeds(&header(&cookie)));
    }
    let held = evil.cookies();
    assert!(held.iter().all(|cookie| cookie["value"] != "header" || cookie["name"] == "by"), "{held:?}");
    let by: Vec<_> = held.iter().filter(|cookie| cookie["name"] == "by").collect();
    assert_eq!(by.len(), 1);
    assert!(by[0]["domain"].as_str().is_some_and(|domain| domain.starts_with("3000--")), "{by:?}");
    let told = Value::from(stage.seen()).to_string();
    assert!(told.contains("theirs=1") && !told.contains(&format!("{COOKIE}=")), "{told}");

    // Nor does a true cookie of another preview open this one.
    let ours = held.iter().find(|cookie| cookie["httpOnly"] == true && cookie["domain"] == by[0]["domain"]);
    let value = ours.expect("the true one")["value"].as_str().expect("text").to_owned();
    stage.world.place.flare(["session", "ports", "s", "--set", "3000=public"]).ok();
    let stranger = stage.browser.stranger();
    stranger.go(&stage.at(3000));
    assert_eq!(stranger.text("document.title"), "3000", "public");
    toss(&stranger, &value);
    let before = stage.reached(3001, "/").len();
    stranger.go(&format!("{}/deep/page", stage.at(3001)));
    assert!(stranger.words().contains("flare open"), "{}", stranger.words());
    assert_eq!(stage.reached(3001, "/").len(), before);
}
