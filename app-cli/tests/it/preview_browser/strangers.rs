//! What pages of others can do with a visitor's browser: forms, scripts, frames, sockets.

use super::{Stage, form, frame, socket};

/// Otherwise any page could press buttons in somebody's application, or make tokens with somebody's dashboard.
#[test]
fn forms_of_other_pages_do_nothing() {
    let Some(stage) = Stage::new() else { return };
    let page = stage.browser.page();
    stage.enter(&page, 3000);
    stage.enter(&page, 3001);
    let target = format!("{}/form", stage.at(3001));
    page.leave_by(&form(&target));
    assert_eq!(stage.reached(3001, "/form").len(), 1, "its own page may");

    page.go(&stage.evil);
    page.leave_by(&form(&target));
    assert!(page.words().contains("preview_private"), "the cookie stays at home: {}", page.words());
    page.go(&stage.at(3000));
    page.leave_by(&form(&target));
    assert!(page.words().contains("foreign_origin"), "a sibling's form: {}", page.words());
    assert_eq!(stage.reached(3001, "/form").len(), 1, "{:?}", stage.seen());

    for (from, code) in [(stage.evil.clone(), "foreign_origin"), (stage.at(3000), "foreign_origin")] {
        for host in ["flare.localhost", "127.0.0.1"] {
            page.go(&from);
            let api = format!("http://{host}:{}/api/v1/auth/register", stage.world.port());
            page.leave_by(&form(&api));
            assert!(page.words().contains(code), "{from} to {api}: {}", page.words());
        }
    }
}

/// Otherwise any page could read what a visitor sees in a private preview.
#[test]
fn scripts_of_other_pages_read_nothing() {
    let Some(stage) = Stage::new() else { return };
    let page = stage.browser.page();
    stage.enter(&page, 3000);
    stage.enter(&page, 3001);
    let target = format!("{}/data", stage.at(3001));
    let get = |url: &str| format!("fetch('{url}', {{ credentials: 'include' }})");
    assert!(page.succeeds(&get(&target)));
    assert_eq!(stage.reached(3001, "/data").len(), 1, "its own page may");
    for (from, status) in [(stage.evil.clone(), 401), (stage.at(3000), 403)] {
        page.go(&from);
        page.forget();
        assert!(!page.succeeds(&get(&target)), "{from}");
        assert_eq!(page.status("/data"), status, "{from}");
        // The application allows it by CORS, and is asked by itself alone.
        let put = format!(
            "fetch('{target}', {{ method: 'PUT', credentials: 'include', headers: {{ 'x-own': '1' }} }})"
        );
        assert!(!page.succeeds(&put), "{from}");
        let seen = stage.reached(3001, "/data");
        let last = seen.last().expect("the preflight");
        assert_eq!(last["method"], "OPTIONS", "{seen:?}");
        assert!(!last["headers"].as_str().expect("text").to_lowercase().contains("cookie"), "{last}");
        // Pictures, scripts and styles are asked for without CORS.
        let image = format!(
            "new Promise((ok, no) => {{ const i = new Image(); i.onload = ok; i.onerror = no; i.src = '{target}?i' }})"
        );
        page.forget();
        assert!(!page.succeeds(&image));
        assert_eq!(page.status("/data?i"), status, "{from}");
        // Who shows a token means it.
        let token = format!(
            "fetch('{target}', {{ headers: {{ 'Flare-Authorization': '{}' }} }})",
            stage.world.bearer()
        );
        assert!(page.succeeds(&token), "{from}");
    }
    let seen = stage.reached(3001, "/data");
    assert!(seen.iter().all(|one| one["method"] != "PUT"), "{seen:?}");
    assert_eq!(seen.iter().filter(|one| one["method"] == "GET").count(), 3, "{seen:?}");
    // And the API says nothing to anybody's page.
    page.go(&stage.evil);
    for host in ["flare.localhost", "127.0.0.1"] {
        assert!(!page.succeeds(&get(&format!("http://{host}:{}/api/v1/me", stage.world.port()))));
    }
}

/// Otherwise a page could lay somebody's dashboard or application invisibly under its own buttons.
#[test]
fn nothing_of_ours_and_nothing_private_is_framed() {
    let Some(stage) = Stage::new() else { return };
    let page = stage.browser.page();
    stage.enter(&page, 3000);
    stage.enter(&page, 3001);
    for from in [stage.evil.clone(), stage.at(3000)] {
        for (target, status) in [
            (format!("{}/", stage.ours()), 200),
            (format!("{}/private", stage.at(3001)), if from == stage.evil { 303 } else { 403 }),
        ] {
            page.go(&from);
            page.forget();
            page.run(&frame(&target));
            assert_eq!(page.status(&target), status, "{from}: {target}");
            // What the browser shows there is a page of its own, which nobody may look into.
            let failed = page.wait("Network.loadingFailed", |_| true);
            let told = failed.to_string();
            assert!(
                status == 403 || told.contains("BLOCKED") || told.contains("blocked"),
                "{target}: {told}"
            );
        }
    }
    assert!(stage.reached(3001, "/private").is_empty(), "{:?}", stage.seen());
}

/// Otherwise any page could speak with an application, or with a shell, as the visitor: CORS does not hold WebSockets.
#[test]
fn sockets_of_other_pages_are_refused() {
    let Some(stage) = Stage::new() else { return };
    let page = stage.browser.page();
    stage.enter(&page, 3000);
    stage.enter(&page, 3001);
    let preview = format!("ws://{}/socket", stage.world.host_of(3001));
    assert!(page.succeeds(&socket(&preview)), "its own page may");
    for from in [stage.evil.clone(), stage.at(3000)] {
        page.go(&from);
        assert!(!page.succeeds(&socket(&preview)), "{from}");
        for host in ["flare.localhost", "127.0.0.1"] {
            for path in ["ssh", "terminals/1", "exec"] {
                let api = format!("ws://{host}:{}/api/v1/sessions/s/{path}?ticket=x", stage.world.port());
                page.forget();
                assert!(!page.succeeds(&socket(&api)), "{from}");
                let told = page.wait("Network.webSocketFrameError", |_| true);
                assert!(told["errorMessage"].as_str().is_some_and(|text| text.contains("403")), "{told}");
            }
        }
    }
    assert_eq!(stage.reached(3001, "/socket").len(), 1, "{:?}", stage.seen());
}
