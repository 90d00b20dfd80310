use burstflare_migrations::{Database, Statement, Value, table};

use super::place;

/// Statements that look at every row, each with the reason why they may.
const MAY_SCAN: &[(&str, &str)] = &[
    ("SELECT 1 FROM users LIMIT 1", "it ends with the first row"),
    ("SELECT (SELECT COUNT(*) FROM outbox)", "for doctor; outboxes are short while deliveries work"),
    ("SELECT (SELECT COUNT(*) FROM jobs)", "for doctor; the queue is short while it is served"),
    ("UPDATE jobs SET leased = 0, due_at = ? WHERE leased = 1", "once at start"),
    ("SELECT run FROM runs WHERE finished_at IS NULL", "its index holds nothing else"),
    ("SELECT due_at FROM jobs ORDER BY due_at, id LIMIT 1", "it ends with the first entry of an index"),
];

#[tokio::test]
async fn every_statement_uses_an_index() {
    let place = place().await;
    let mut scans = Vec::new();
    let mut excused = 0;
    for sql in table::statements() {
        let numbered = (1..=9).rev().find(|number| sql.contains(&format!("?{number}")));
        let count = numbered.unwrap_or_else(|| sql.matches('?').count());
        let explain = Statement::new(format!("EXPLAIN QUERY PLAN {sql}"), vec![Value::Int(1); count]);
        let plan = place.database.query(explain).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        let steps: Vec<String> = plan
            .into_iter()
            .filter_map(|row| match row.0.into_iter().nth(3) {
                Some(Value::Text(step)) => Some(step),
                _ => None,
            })
            .collect();
        let bad = |step: &&String| {
            step.starts_with("SCAN") && *step != "SCAN CONSTANT ROW" || step.contains("TEMP B-TREE")
        };
        if steps.iter().any(|step| bad(&step)) {
            if MAY_SCAN.iter().any(|(text, _)| sql.starts_with(text)) {
                excused += 1;
            } else {
                scans.push(format!("{sql}\n    {steps:?}"));
            }
        }
    }
    assert!(scans.is_empty(), "these look at every row or sort:\n{}", scans.join("\n"));
    assert_eq!(excused, MAY_SCAN.len(), "an excuse that nothing needs");
}
