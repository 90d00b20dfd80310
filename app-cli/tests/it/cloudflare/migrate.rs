//! `flare cloudflare migrate`.

use burstflare_migrations::schema::SHARED;

use super::Desk;
use super::stub::Fault;

fn names(desk: &Desk) -> Vec<String> {
    let rows = desk.stub.sql("SELECT name FROM d1_migrations ORDER BY id");
    rows.iter().map(|row| row["name"].as_str().expect("a name").to_owned()).collect()
}

fn all() -> Vec<String> {
    SHARED.iter().map(|migration| format!("{}.sql", migration.name)).collect()
}

#[test]
fn the_schema_comes_in_order_and_once() {
    let desk = Desk::new();
    desk.flare(&["migrate", "--yes"]).fails(3, "flare cloudflare provision");
    desk.flare(&["provision", "--yes"]).ok();
    let plan = desk.flare(&["migrate", "--dry-run", "--json"]).ok().json();
    assert_eq!(plan["missing"].as_array().expect("names").len(), SHARED.len());
    desk.flare(&["migrate"]).fails(2, "nobody can be asked");
    desk.flare(&["migrate", "--yes"]).ok();
    assert_eq!(names(&desk), all(), "as wrangler names them");
    assert!(!desk.stub.sql("SELECT name FROM sqlite_master WHERE name = 'sessions'").is_empty());
    desk.stub.account().writes.clear();
    desk.flare(&["migrate"]).ok();
    assert!(desk.stub.account().writes.is_empty());
}

#[test]
fn a_cut_anywhere_is_made_good() {
    let desk = Desk::new();
    desk.flare(&["provision", "--yes"]).ok();
    let query = "POST /d1/database/uuid-of-burstflare-staging/query";
    // The first is a question, then each migration is one call and, where its answer is lost, a question or two.
    desk.stub.fault(query, 2, Fault::CutAfter);
    desk.stub.fault(query, 1, Fault::Status(500, None));
    desk.stub.fault(query, 1, Fault::CutBefore);
    desk.flare(&["migrate", "--yes"]).ok();
    assert_eq!(names(&desk), all());
}

#[test]
fn what_wrangler_began_is_gone_on_with() {
    let desk = Desk::new();
    desk.flare(&["provision", "--yes"]).ok();
    desk.stub.sql("CREATE TABLE d1_migrations (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT UNIQUE, applied_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP NOT NULL)");
    desk.stub.sql(SHARED[0].sql);
    desk.stub.sql(&format!("INSERT INTO d1_migrations (name) VALUES ('{}.sql')", SHARED[0].name));
    let plan = desk.flare(&["migrate", "--yes", "--json"]).ok().json();
    assert_eq!(plan["before"], 1);
    assert_eq!(names(&desk), all());
    desk.stub.sql("INSERT INTO d1_migrations (name) VALUES ('9999_from_tomorrow.sql')");
    desk.flare(&["migrate", "--yes"]).fails(5, "9999_from_tomorrow.sql");
    desk.flare(&["generate"]).ok();
    desk.flare(&["deploy"]).fails(5, "newer version");
}

#[test]
fn a_migration_that_fails_leaves_nothing() {
    let desk = Desk::new();
    desk.flare(&["provision", "--yes"]).ok();
    // Something is in the way of the second one.
    desk.stub.sql("CREATE TABLE workspaces (x)");
    desk.flare(&["migrate", "--yes"]).fails(1, SHARED[1].name);
    assert_eq!(names(&desk), all()[..1]);
    desk.stub.sql("DROP TABLE workspaces");
    desk.flare(&["migrate", "--yes"]).ok();
    assert_eq!(names(&desk), all());
}
