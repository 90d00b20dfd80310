//! What an S3 service or the way to it answered, as the ports' error, with what to do about it.

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use burstflare_ports::error::{ErrorKind, PortError};

/// A failed call, with the service's code for it, if it came as far as that.
pub(super) struct Failed {
    pub(super) code: Option<String>,
    pub(super) status: Option<u16>,
    pub(super) error: PortError,
}

impl Failed {
    /// The object or the upload is not there; what is missing is not the bucket.
    pub(super) fn is_missing(&self) -> bool {
        match self.code.as_deref() {
            Some(code) => matches!(code, "NoSuchKey" | "NoSuchUpload" | "NotFound"),
            None => self.status == Some(404),
        }
    }

    /// The request may have been carried out although it failed.
    pub(super) fn is_ambiguous(&self) -> bool {
        self.code.as_deref() == Some("NoSuchUpload")
            || self.status.is_none_or(|status| status >= 500 || status == 200)
    }
}

impl From<Failed> for PortError {
    fn from(failed: Failed) -> Self {
        failed.error
    }
}

/// What went wrong in `operation` with `what`, a key or the bucket.
pub(super) fn failed<E>(operation: &'static str, what: &str, error: &SdkError<E, HttpResponse>) -> Failed
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let code = error.code().map(str::to_owned);
    let status = error.raw_response().map(|response| response.status().as_u16());
    let text = chain(error);
    let (kind, context) = match error {
        SdkError::TimeoutError(_) => (ErrorKind::Timeout, "the S3 service does not answer in time"),
        SdkError::DispatchFailure(failure) if failure.is_timeout() => {
            (ErrorKind::Timeout, "the S3 service does not answer in time")
        }
        SdkError::ConstructionFailure(_) | SdkError::DispatchFailure(_) if text.contains("credential") => (
            ErrorKind::Denied,
            "no usable credentials for the S3 service: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write ~/.aws/credentials",
        ),
        SdkError::ConstructionFailure(_) => (ErrorKind::Internal, "the call cannot be made"),
        SdkError::DispatchFailure(_) => (
            ErrorKind::Unavailable,
            "the S3 service cannot be reached: check the endpoint, the network and the certificate",
        ),
        _ => answered(code.as_deref(), status),
    };
    let error = PortError::new(kind, operation, format!("{what}: {context}")).with_source(text);
    Failed { code, status, error }
}

/// What the error and its causes say.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}

/// By the code, which services agree about, else by the status.
fn answered(code: Option<&str>, status: Option<u16>) -> (ErrorKind, &'static str) {
    use ErrorKind::{
        Conflict, Denied, Full, Internal, Invalid, NotFound, TooLarge, Unavailable, Unsupported,
    };
    match code {
        Some("NoSuchKey" | "NotFound") => return (NotFound, "there is no such blob"),
        Some("NoSuchBucket") => {
            return (Denied, "there is no such bucket: create it, or correct the URL of the blobs");
        }
        Some("NoSuchUpload") => return (Unavailable, "the upload was given up meanwhile"),
        Some("InvalidAccessKeyId" | "InvalidTokenId" | "InvalidToken" | "UnrecognizedClientException") => {
            return (Denied, "the S3 service does not know the access key: check AWS_ACCESS_KEY_ID");
        }
        Some("SignatureDoesNotMatch") => {
            return (Denied, "the secret key is not that of the access key: check AWS_SECRET_ACCESS_KEY");
        }
        Some("ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired") => {
            return (Denied, "the credentials have expired: renew AWS_SESSION_TOKEN, or use a role");
        }
        Some("RequestTimeTooSkewed" | "RequestExpired" | "RequestInTheFuture") => {
            return (Denied, "this machine's clock is wrong: set it, for example by NTP");
        }
        Some("PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException") => {
            return (Denied, "the bucket is in another region: correct region= in the URL of the blobs");
        }
        Some("AccessDenied" | "AllAccessDisabled" | "AccountProblem") => {
            return (
                Denied,
                "access denied: the key needs to read, write, delete and list below the prefix, and to list and abort multipart uploads",
            );
        }
        Some("QuotaExceeded" | "InsufficientStorage" | "XMinioStorageFull" | "QuotaExceededException") => {
            return (Full, "no space or quota is left in the bucket");
        }
        Some("EntityTooLarge") => return (TooLarge, "larger than the S3 service takes"),
        Some("InvalidRange") => return (Invalid, "it has no such range"),
        // Damaged on the way, not at rest: the same call may work.
        Some("BadDigest" | "XAmzContentSHA256Mismatch" | "IncompleteBody" | "InvalidDigest") => {
            return (Unavailable, "the bytes were damaged on their way to the S3 service");
        }
        Some("NotImplemented") => {
            return (Unsupported, "the S3 service cannot do that: checksums=required may help");
        }
        Some("SlowDown" | "ServiceUnavailable" | "InternalError" | "RequestTimeout" | "OperationAborted") => {
            return (Unavailable, "the S3 service is overloaded or out of order");
        }
        Some("PreconditionFailed") => return (Conflict, "it was replaced meanwhile"),
        _ => {}
    }
    match status {
        Some(401 | 403) => (Denied, "the S3 service refuses: check the credentials and what they may do"),
        Some(404) => (NotFound, "there is no such blob"),
        Some(412) => (Conflict, "it was replaced meanwhile"),
        Some(413) => (TooLarge, "larger than the S3 service takes"),
        Some(416) => (Invalid, "it has no such range"),
        Some(501) => (Unsupported, "the S3 service cannot do that"),
        Some(507) => (Full, "no space is left at the S3 service"),
        Some(400..=499) => (Internal, "the S3 service does not understand the call"),
        _ => (Unavailable, "the S3 service is overloaded or out of order"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_common_mistake_has_its_own_words() {
        for (code, kind, word) in [
            ("NoSuchBucket", ErrorKind::Denied, "create it"),
            ("InvalidAccessKeyId", ErrorKind::Denied, "AWS_ACCESS_KEY_ID"),
            ("SignatureDoesNotMatch", ErrorKind::Denied, "AWS_SECRET_ACCESS_KEY"),
            ("RequestTimeTooSkewed", ErrorKind::Denied, "clock"),
            ("AccessDenied", ErrorKind::Denied, "needs to"),
            ("AuthorizationHeaderMalformed", ErrorKind::Denied, "region"),
            ("SlowDown", ErrorKind::Unavailable, "overloaded"),
            ("QuotaExceeded", ErrorKind::Full, "quota"),
        ] {
            let (found, context) = answered(Some(code), Some(403));
            assert_eq!(found, kind, "{code}");
            assert!(context.contains(word), "{code}: {context}");
        }
        assert_eq!(answered(None, Some(503)).0, ErrorKind::Unavailable);
        assert_eq!(answered(Some("SomethingNew"), Some(403)).0, ErrorKind::Denied);
        assert_eq!(answered(None, Some(507)).0, ErrorKind::Full);
    }
}
