//! R2 as JavaScript shows it, no more than is used here. Cloudflare's documentation: R2, "Workers API reference".

use burstflare_ports::error::{ErrorKind, PortError};
use js_sys::{Object, Reflect, Uint8Array};
use wasm_bindgen::prelude::*;

use crate::js::message;

#[wasm_bindgen]
extern "C" {
    /// A bucket's binding.
    #[derive(Debug, Clone)]
    pub(super) type Bucket;
    #[wasm_bindgen(method, catch)]
    pub(super) async fn head(this: &Bucket, key: &str) -> Result<JsValue, JsValue>;
    #[wasm_bindgen(method, catch)]
    pub(super) async fn get(this: &Bucket, key: &str, options: &Object) -> Result<JsValue, JsValue>;
    #[wasm_bindgen(method, catch)]
    pub(super) async fn put(
        this: &Bucket,
        key: &str,
        bytes: &Uint8Array,
        options: &Object,
    ) -> Result<JsValue, JsValue>;
    #[wasm_bindgen(method, catch)]
    pub(super) async fn delete(this: &Bucket, key: &str) -> Result<JsValue, JsValue>;
    #[wasm_bindgen(method, catch)]
    pub(super) async fn list(this: &Bucket, options: &Object) -> Result<JsValue, JsValue>;
    #[wasm_bindgen(method, catch, js_name = createMultipartUpload)]
    pub(super) async fn create_upload(this: &Bucket, key: &str, options: &Object)
    -> Result<JsValue, JsValue>;

    /// What a bucket knows about an object, and its bytes where they were asked for.
    #[derive(Debug)]
    pub(super) type Stored;
    #[wasm_bindgen(method, getter)]
    pub(super) fn key(this: &Stored) -> String;
    #[wasm_bindgen(method, getter)]
    pub(super) fn size(this: &Stored) -> f64;
    #[wasm_bindgen(method, getter)]
    pub(super) fn etag(this: &Stored) -> String;
    #[wasm_bindgen(method, getter, js_name = customMetadata)]
    pub(super) fn notes(this: &Stored) -> JsValue;
    #[wasm_bindgen(method, getter)]
    pub(super) fn body(this: &Stored) -> Option<Flow>;

    /// A page of objects.
    pub(super) type Page;
    #[wasm_bindgen(method, getter)]
    pub(super) fn objects(this: &Page) -> Vec<Stored>;
    #[wasm_bindgen(method, getter)]
    pub(super) fn truncated(this: &Page) -> bool;
    #[wasm_bindgen(method, getter)]
    pub(super) fn cursor(this: &Page) -> Option<String>;

    /// An upload in parts.
    #[derive(Debug, Clone)]
    pub(super) type MultipartUpload;
    #[wasm_bindgen(method, catch, js_name = uploadPart)]
    pub(super) async fn upload_part(
        this: &MultipartUpload,
        number: u32,
        bytes: &Uint8Array,
    ) -> Result<JsValue, JsValue>;
    #[wasm_bindgen(method, catch)]
    pub(super) async fn complete(this: &MultipartUpload, parts: &js_sys::Array) -> Result<JsValue, JsValue>;
    #[wasm_bindgen(method, catch)]
    pub(super) async fn abort(this: &MultipartUpload) -> Result<JsValue, JsValue>;

    /// A flow of bytes.
    #[derive(Debug)]
    pub(super) type Flow;
    #[wasm_bindgen(method, catch, js_name = getReader)]
    pub(super) fn reader(this: &Flow, options: &Object) -> Result<Reader, JsValue>;

    /// Who reads a flow, into buffers of its own.
    #[derive(Debug, Clone)]
    pub(super) type Reader;
    #[wasm_bindgen(method, catch)]
    pub(super) async fn read(this: &Reader, into: &Uint8Array, options: &Object) -> Result<JsValue, JsValue>;
    #[wasm_bindgen(method, catch)]
    pub(super) async fn cancel(this: &Reader) -> Result<JsValue, JsValue>;

    /// What one read gave.
    pub(super) type Read;
    #[wasm_bindgen(method, getter)]
    pub(super) fn value(this: &Read) -> Option<Uint8Array>;
    #[wasm_bindgen(method, getter)]
    pub(super) fn done(this: &Read) -> bool;
}

/// A text among the properties of an object.
pub(super) fn text(object: &JsValue, name: &str) -> Option<String> {
    Reflect::get(object, &JsValue::from_str(name)).ok()?.as_string()
}

/// R2's own number of an error, which stands in parentheses at the end of its message.
pub(super) fn code(error: &JsValue) -> Option<u32> {
    let message = message(error);
    let (_, number) = message.trim_end().rsplit_once('(')?;
    number.strip_suffix(')')?.parse().ok()
}

/// The requested range does not lie in the object.
pub(super) const RANGE: u32 = 10039;

/// Internal error, service unavailable, the other side went away, too many writes of one key.
const PASSING: [u32; 4] = [10001, 10043, 10054, 10058];

pub(super) fn failed(operation: &'static str, error: &JsValue) -> PortError {
    match code(error) {
        Some(code) if PASSING.contains(&code) => {
            PortError::new(ErrorKind::Unavailable, operation, message(error))
        }
        _ => crate::js::failed(operation, error),
    }
}
