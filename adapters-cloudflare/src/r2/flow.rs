//! Reading an object's bytes.

use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::stream::ByteStream;
use bytes::Bytes;
use futures_util::stream;
use js_sys::{Object, Uint8Array};
use wasm_bindgen::{JsCast as _, JsValue};
use worker::send::SendWrapper;

use super::bucket::{Flow, Read, Reader, failed};
use crate::js::{js, object};

/// Bytes that are read in one go.
const CHUNK: u64 = 256 * 1024;

/// A flow that is being read; dropping it ends the flow at its source.
pub(super) struct Reading {
    operation: &'static str,
    reader: SendWrapper<Reader>,
    options: SendWrapper<Object>,
    left: u64,
    /// The digest that everything read has to have.
    digest: Option<(blake3::Hasher, String)>,
}

impl Reading {
    /// Begins to read `length` bytes of a flow.
    pub(super) fn begin(
        operation: &'static str,
        flow: &Flow,
        length: u64,
        digest: Option<String>,
    ) -> PortResult<Self> {
        let options = object([("mode", JsValue::from_str("byob"))]);
        let reader = flow.reader(&options).map_err(|error| failed(operation, &error))?;
        let reading = Self {
            operation,
            reader: SendWrapper::new(reader),
            options: SendWrapper::new(Object::new()),
            left: 0,
            digest: None,
        };
        Ok(reading.of(length, digest))
    }

    /// Says how much is read, and what its digest is; nothing has been read yet.
    pub(super) fn of(mut self, length: u64, digest: Option<String>) -> Self {
        self.left = length;
        self.digest = digest.map(|digest| (blake3::Hasher::new(), digest));
        self
    }

    /// The bytes. The last chunk of what has a digest is given only once that is right.
    pub(super) fn flow(self) -> ByteStream {
        Box::pin(stream::try_unfold(self, |reading| js(reading.next())))
    }

    async fn next(mut self) -> PortResult<Option<(Bytes, Self)>> {
        let length = self.left.min(CHUNK);
        if length == 0 {
            return if self.verified() { Ok(None) } else { Err(self.corrupt()) };
        }
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        let buffer = Uint8Array::new_with_length(length);
        // The whole buffer, not what the network happens to have delivered.
        let _ =
            js_sys::Reflect::set(&self.options, &JsValue::from_str("min"), &JsValue::from_f64(length.into()));
        let read = self.reader.read(&buffer, &self.options).await.map_err(|error| {
            PortError::new(ErrorKind::Unavailable, self.operation, "the bucket broke off")
                .with_source(failed(self.operation, &error))
        })?;
        let read: Read = read.unchecked_into();
        let bytes = Bytes::from(read.value().map(|value| value.to_vec()).unwrap_or_default());
        self.left = self.left.saturating_sub(bytes.len() as u64);
        if bytes.is_empty() || (read.done() && self.left > 0) {
            return Err(self.corrupt());
        }
        if let Some((hasher, _)) = &mut self.digest {
            hasher.update(&bytes);
        }
        if self.left == 0 && !self.verified() {
            return Err(self.corrupt());
        }
        Ok(Some((bytes, self)))
    }

    fn verified(&self) -> bool {
        let right =
            |(hasher, digest): &(blake3::Hasher, String)| hasher.finalize().to_hex().as_str() == digest;
        self.digest.as_ref().is_none_or(right)
    }

    fn corrupt(&self) -> PortError {
        PortError::new(ErrorKind::Corrupt, self.operation, "the bytes are not what was stored")
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let reader = self.reader.0.clone();
        wasm_bindgen_futures::spawn_local(async move {
            // A flow that is over already has nothing to end.
            let _ = reader.cancel().await;
        });
    }
}
