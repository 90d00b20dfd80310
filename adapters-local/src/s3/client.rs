//! The connection: credentials, TLS, time-outs, retries.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use aws_config::{BehaviorVersion, Region};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    Credentials, RequestChecksumCalculation, ResponseChecksumValidation, StalledStreamProtectionConfig,
};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_http_client::{Builder, Connector};
use burstflare_ports::error::{ErrorKind, PortError, PortResult};

use super::S3Options;
use super::place::{Addressing, Checksums};

const OPEN: &str = "blobs.open";

/// How long things may take. Every call ends within `operation`, whatever the service does.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// Until a connection stands.
    pub connect: Duration,
    /// One try of a call, its body of at most one part included.
    pub attempt: Duration,
    /// A call with all its tries.
    pub operation: Duration,
    /// Between two pieces of a body that is read.
    pub silence: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            attempt: Duration::from_secs(60),
            operation: Duration::from_secs(180),
            silence: Duration::from_secs(30),
        }
    }
}

/// Tries of one call, the first included.
const TRIES: u32 = 5;
/// Pauses between tries grow from this...
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// ...to this, each shortened by chance.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Connections that are kept for the next call.
const IDLE_CONNECTIONS: usize = 16;

/// A client with the given keys or those of the environment.
pub(super) async fn connect(options: &S3Options) -> PortResult<Client> {
    let (place, deadlines) = (&options.place, options.deadlines);
    // A service on this machine is never behind the proxy that leads out of it.
    let direct = place.is_loopback();
    let http = Builder::new().pool_max_idle_per_host(IDLE_CONNECTIONS).build_with_connector_fn(
        move |settings, _| {
            let mut connector = Connector::builder();
            if let Some(settings) = settings {
                connector = connector.connector_settings(settings.clone());
            }
            let proxy = if direct { ProxyConfig::disabled() } else { ProxyConfig::from_env() };
            connector
                .enable_tcp_nodelay(true)
                .proxy_config(proxy)
                .tls_provider(Provider::Rustls(CryptoMode::Ring))
                .build()
        },
    );
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(deadlines.connect)
        .operation_attempt_timeout(deadlines.attempt)
        .operation_timeout(deadlines.operation)
        .build();
    let retries = RetryConfig::standard()
        .with_max_attempts(TRIES)
        .with_initial_backoff(FIRST_PAUSE)
        .with_max_backoff(LONGEST_PAUSE);
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .timeout_config(timeouts)
        .retry_config(retries)
        // The deadlines above hold for uploads, and the reader has one of its own that does not count a slow consumer.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    if let Some(keys) = &options.keys {
        let (id, secret) = (keys.id.clone(), keys.secret.expose().clone());
        loader = loader.credentials_provider(Credentials::new(id, secret, None, None, "given"));
    } else {
        refuse_open_file()?;
    }
    if let Some(region) = &place.region {
        loader = loader.region(Region::new(region.clone()));
    } else if place.endpoint.is_some() {
        // Whoever names an endpoint seldom has regions; this is the name that most servers take then.
        loader = loader.region(Region::new("us-east-1"));
    }
    let shared = loader.load().await;
    if shared.region().is_none() {
        let missing = "the region of the bucket is not known: add region=NAME to its URL, or set AWS_REGION";
        return Err(PortError::new(ErrorKind::Invalid, OPEN, missing));
    }
    let mut config = aws_sdk_s3::config::Builder::from(&shared)
        .force_path_style(place.addressing == Addressing::Path)
        .request_checksum_calculation(match place.checksums {
            Checksums::Supported => RequestChecksumCalculation::WhenSupported,
            Checksums::Required => RequestChecksumCalculation::WhenRequired,
        })
        // What is read whole is compared with its BLAKE3, which the service knows nothing of.
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    if let Some(endpoint) = &place.endpoint {
        config = config.endpoint_url(endpoint);
    }
    Ok(Client::from_conf(config.build()))
}

/// A file of credentials that others can read is not used.
fn refuse_open_file() -> PortResult<()> {
    let file = std::env::var_os("AWS_SHARED_CREDENTIALS_FILE")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".aws/credentials")));
    let Some(file) = file else { return Ok(()) };
    match file.metadata() {
        Ok(metadata) if metadata.permissions().mode() & 0o077 != 0 => {
            let file = file.display();
            let context = format!("{file} can be read by others: chmod 600 {file}");
            Err(PortError::new(ErrorKind::Denied, OPEN, context))
        }
        // Not there: the next link of the chain is asked.
        _ => Ok(()),
    }
}
