//! stub
use std::sync::Arc;
use crate::agent::Agent;
use crate::reply::{Refused, Reply};
pub(crate) struct HostKey(String);
impl HostKey {
    pub(crate) fn from_seed(_seed: &str) -> std::io::Result<Self> { Ok(Self("ssh-ed25519 AAAA".into())) }
    pub(crate) fn public_line(&self) -> &str { &self.0 }
}
pub(crate) fn upgrade(_agent: &Arc<Agent>, _request: &mut http::Request<hyper::body::Incoming>) -> Result<Reply, Refused> {
    Err(Refused::not_found("later"))
}
