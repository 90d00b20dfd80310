//! What happened to a run or a job, in the order it happened, where it outlives the isolate: one small object per note.

use worker::{Date, Env};

/// Writes a note. One that cannot be written fails the case that waits for it.
#[expect(clippy::future_not_send, reason = "its callers wrap it")]
pub(crate) async fn write(env: &Env, about: &str, what: &str) {
    let mut chance = [0; 4];
    let _ = getrandom::fill(&mut chance);
    let name = format!("notes/{about}/{:015}-{:08x}", Date::now().as_millis(), u32::from_le_bytes(chance));
    let Ok(bucket) = env.bucket("BLOBS") else { return };
    if let Err(error) = bucket.put(name, what.to_owned()).execute().await {
        worker::console_error!("a note is lost: {error}");
    }
}

/// All notes about something, the oldest first.
#[expect(clippy::future_not_send, reason = "its callers wrap it")]
pub(crate) async fn read(env: &Env, about: &str) -> Vec<String> {
    let mut notes = Vec::new();
    let Ok(bucket) = env.bucket("BLOBS") else { return notes };
    let Ok(page) = bucket.list().prefix(format!("notes/{about}/")).execute().await else { return notes };
    for object in page.objects() {
        let Ok(Some(found)) = bucket.get(object.key()).execute().await else { continue };
        if let Some(body) = found.body() {
            notes.push(body.text().await.unwrap_or_default());
        }
    }
    notes
}
