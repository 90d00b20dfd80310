//! Who speaks to Cloudflare's REST API: one call at a time, each with a deadline, all within one.

use std::sync::Mutex;
use std::time::Duration;

use burstflare_adapters_cloudflare::deployment::{Answer, Call, Refusal};
use burstflare_ports::secret::Secret;
use bytes::Bytes;
use http::{HeaderValue, Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, sleep, timeout_at};

use crate::client::{Origin, USER_AGENT, connect};
use crate::exit::{Exit, Failure};

/// How often a call is tried that may be repeated.
const TRIES: u32 = 6;
/// How long one try may take.
const TRY: Duration = Duration::from_secs(60);
/// The first pause; each is twice as long as the one before.
const PAUSE: Duration = Duration::from_millis(250);
/// The longest pause, also where Cloudflare asks for a longer one.
const LONGEST: Duration = Duration::from_secs(60);
/// The largest answer.
const ANSWER: usize = 8 << 20;
/// What every path of the API begins with.
const BASE: &str = "/client/v4";

/// The API, as one token.
pub struct Api {
    origin: Origin,
    token: HeaderValue,
    end: Instant,
    kept: Mutex<Option<SendRequest<Full<Bytes>>>>,
}

/// What became of a call that changes something.
#[derive(Debug)]
pub enum Written {
    /// It was done.
    Done(Answer),
    /// It may have been done: look before trying again. The pause was made already.
    Unknown,
    /// It was refused.
    Refused(Refusal),
}

/// One try that brought no result.
enum Broken {
    /// The answer was lost, or there was none.
    Lost(Failure),
    /// Everything together took too long, or cannot work at all.
    Over(Failure),
}

impl Api {
    /// Speaks as this token; everything together may take `within`.
    ///
    /// # Errors
    /// When `FLARE_CLOUDFLARE_API` names something else than this machine: a stand-in for tests is the only thing that
    /// a token is sent to besides Cloudflare.
    pub fn new(token: &Secret<String>, within: Duration) -> Result<Self, Failure> {
        let origin = match std::env::var("FLARE_CLOUDFLARE_API") {
            Ok(text) if !text.is_empty() => {
                let origin = Origin::parse(&text)?;
                if !origin.is_loopback() {
                    return Err(Failure::usage("FLARE_CLOUDFLARE_API is for tests, on this machine alone")
                        .hint("Unset it."));
                }
                origin
            }
            _ => Origin::parse("https://api.cloudflare.com")?,
        };
        let mut token = HeaderValue::from_str(&format!("Bearer {}", token.expose()))
            .map_err(|_| Failure::usage("CLOUDFLARE_API_TOKEN holds characters that no token has"))?;
        token.set_sensitive(true);
        Ok(Self { origin, token, end: Instant::now() + within, kept: Mutex::default() })
    }

    /// A call that may be repeated: it reads, or doing it twice is doing it once. Lost answers, 429 and 5xx are tried
    /// again, with growing pauses; other refusals are the answer.
    ///
    /// # Errors
    /// When Cloudflare cannot be reached, does not recover, or time is up.
    pub async fn ask(&self, call: &Call) -> Result<Result<Answer, Refusal>, Failure> {
        let mut tried = 1;
        loop {
            match self.once(call).await {
                Ok((Err(refusal), after)) if refusal.is_passing() => {
                    self.pause(tried, after, refused("Cloudflare's API", &refusal)).await?;
                }
                Ok((outcome, _)) => return Ok(outcome),
                Err(Broken::Lost(failure)) => self.pause(tried, None, failure).await?,
                Err(Broken::Over(failure)) => return Err(failure),
            }
            tried += 1;
        }
    }

    /// As [`Api::ask`], where a refusal is a failure.
    ///
    /// # Errors
    /// As [`Api::ask`], and when Cloudflare refuses.
    pub async fn read(&self, what: &str, call: &Call) -> Result<Answer, Failure> {
        self.ask(call).await?.map_err(|refusal| refused(what, &refusal))
    }

    /// Sends a call that changes something, once. After a lost answer, 429 and 5xx it pauses and answers
    /// [`Written::Unknown`]; the caller looks, tries again, and counts its tries in `tried`.
    ///
    /// # Errors
    /// When time or tries are used up.
    pub async fn write(&self, call: &Call, tried: u32) -> Result<Written, Failure> {
        match self.once(call).await {
            Ok((Ok(answer), _)) => return Ok(Written::Done(answer)),
            Ok((Err(refusal), after)) if refusal.is_passing() => {
                self.pause(tried, after, refused("Cloudflare's API", &refusal)).await?;
            }
            Ok((Err(refusal), _)) => return Ok(Written::Refused(refusal)),
            Err(Broken::Lost(failure)) => self.pause(tried, None, failure).await?,
            Err(Broken::Over(failure)) => return Err(failure),
        }
        Ok(Written::Unknown)
    }

    /// Waits before the next try; where there is none any more, the last one's failure is the answer.
    async fn pause(&self, tried: u32, asked: Option<Duration>, failure: Failure) -> Result<(), Failure> {
        if tried >= TRIES {
            return Err(failure);
        }
        let pause = asked.unwrap_or(PAUSE * 2u32.saturating_pow(tried.saturating_sub(1))).min(LONGEST);
        if Instant::now() + pause >= self.end {
            return Err(Failure { message: format!("it took too long: {}", failure.message), ..late() });
        }
        sleep(pause).await;
        Ok(())
    }

    /// One try: the envelope, and how long Cloudflare asks us to wait.
    async fn once(&self, call: &Call) -> Result<(Result<Answer, Refusal>, Option<Duration>), Broken> {
        let now = Instant::now();
        if now >= self.end {
            return Err(Broken::Over(late()));
        }
        let end = self.end.min(now + TRY);
        match timeout_at(end, self.exchange(call)).await {
            Ok(outcome) => outcome,
            Err(_) if end == self.end => Err(Broken::Over(late())),
            Err(_) => {
                Err(Broken::Lost(Failure::new(Exit::Timeout, "Cloudflare's API does not answer").hint(AGAIN)))
            }
        }
    }

    async fn exchange(&self, call: &Call) -> Result<(Result<Answer, Refusal>, Option<Duration>), Broken> {
        let lost = |why: String| {
            let message =
                format!("the answer of {} to {} {} was lost: {why}", self.origin, call.method, call.path);
            Broken::Lost(Failure::new(Exit::Unavailable, message).hint(AGAIN))
        };
        let kept = self.kept.lock().ok().and_then(|mut kept| kept.take()).filter(SendRequest::is_ready);
        let mut sender = match kept {
            Some(sender) => sender,
            None => {
                let stream = connect(&self.origin).await.map_err(Broken::Lost)?;
                let handshake = http1::handshake(TokioIo::new(stream)).await;
                let (sender, connection) = handshake.map_err(|error| lost(error.to_string()))?;
                tokio::spawn(async move {
                    // Its errors reach whoever waits for an answer on it.
                    let _ = connection.await;
                });
                sender
            }
        };
        let request = self.request(call).map_err(Broken::Over)?;
        let response = sender.send_request(request).await.map_err(|error| lost(error.to_string()))?;
        let status = response.status().as_u16();
        let after = response.headers().get(header::RETRY_AFTER);
        // Only the form in seconds is ever sent.
        let after = after.and_then(|value| value.to_str().ok()?.trim().parse().ok()).map(Duration::from_secs);
        let body = Limited::new(response.into_body(), ANSWER).collect().await;
        let body = body.map_err(|error| lost(error.to_string()))?.to_bytes();
        if let Ok(mut kept) = self.kept.lock() {
            *kept = Some(sender);
        }
        Ok((Answer::read(status, &body), after))
    }

    fn request(&self, call: &Call) -> Result<Request<Full<Bytes>>, Failure> {
        let mut request = Request::builder()
            .method(call.method)
            .uri(format!("{BASE}{}", call.path))
            .header(header::HOST, self.origin.authority())
            .header(header::USER_AGENT, USER_AGENT)
            .header(header::ACCEPT, "application/json")
            .header(header::AUTHORIZATION, self.token.clone());
        let body = match &call.body {
            None => Bytes::new(),
            Some(body) => {
                request = request
                    .header(header::CONTENT_TYPE, body.media)
                    .header(header::CONTENT_LENGTH, body.bytes.len());
                Bytes::from(body.bytes.clone())
            }
        };
        request.body(Full::new(body)).map_err(|error| Failure::local("cannot make the request", error))
    }
}

const AGAIN: &str = "Run it again: what is there already is found and kept.";

fn late() -> Failure {
    Failure::new(Exit::Timeout, "it took too long")
        .hint("Run it again: it goes on where it was. `--timeout` gives it more time.")
}

/// What a refusal means to people.
pub(crate) fn refused(what: &str, refusal: &Refusal) -> Failure {
    let (exit, hint) = if refusal.is_token() {
        (
            Exit::Auth,
            "Cloudflare does not take CLOUDFLARE_API_TOKEN: make a new one in the dashboard, under API tokens, and put it into .env.",
        )
    } else if refusal.is_forbidden() {
        (
            Exit::Auth,
            "The token lacks a permission, or another account's id is set: `flare cloudflare verify` says which.",
        )
    } else if refusal.status == 429 {
        (Exit::Limit, "Cloudflare counts the calls of each user: wait five minutes, then run it again.")
    } else if refusal.is_passing() {
        (
            Exit::Unavailable,
            "Cloudflare has a problem (https://www.cloudflarestatus.com); run it again later.",
        )
    } else if refusal.is_absent() {
        (Exit::NotFound, "`flare cloudflare verify` looks for what is wrong.")
    } else {
        (Exit::Other, "`flare cloudflare verify` looks for what is wrong.")
    };
    let mut failure = Failure::new(exit, format!("{what}: {refusal}")).hint(hint);
    failure.code = (refusal.code != 0).then(|| format!("cloudflare_{}", refusal.code));
    failure
}
