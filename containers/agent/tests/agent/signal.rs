//! Signals over SSH (RFC 4254 section 6.9), which OpenSSH's client does not send: spoken by a client of our own.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::{SinkExt, StreamExt};

use russh::client::{self, Handle};
use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::{PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use russh::{ChannelMsg, Sig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::Message;

use crate::machine::Machine;
use crate::resume::open;

struct Trusting;

impl client::Handler for Trusting {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _key: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        Ok(true)
    }
}

/// A client that has logged in.
async fn client(machine: &Machine) -> Handle<Trusting> {
    let key = PrivateKey::from(Ed25519Keypair::from_seed(&[7; 32]));
    let socket = open(machine, &key.public_key().to_openssh().unwrap(), None).await;
    let (mut sink, mut source) = socket.split();
    let (near, far) = tokio::io::duplex(64 << 10);
    let (mut reader, mut writer) = tokio::io::split(far);
    tokio::spawn(async move {
        let mut buffer = BytesMut::new();
        while matches!(reader.read_buf(&mut buffer).await, Ok(1..)) {
            if sink.send(Message::Binary(buffer.split().freeze())).await.is_err() {
                break;
            }
        }
    });
    tokio::spawn(async move {
        while let Some(Ok(message)) = source.next().await {
            if writer.write_all(&message.into_data()).await.is_err() {
                break;
            }
        }
    });
    let mut handle = client::connect_stream(Arc::default(), near, Trusting).await.unwrap();
    let key = PrivateKeyWithHashAlg::new(Arc::new(key), None);
    assert!(handle.authenticate_publickey("flare", key).await.unwrap().success());
    handle
}

async fn next(channel: &mut russh::Channel<client::Msg>) -> ChannelMsg {
    let waiting = tokio::time::timeout(Duration::from_secs(30), channel.wait());
    waiting.await.unwrap().unwrap()
}

#[tokio::test]
async fn signals_reach_the_program_and_its_end_by_one_is_told() {
    let machine = Machine::start();
    let client = client(&machine).await;
    let mut channel = client.channel_open_session().await.unwrap();
    let script =
        "trap 'echo got-usr1' USR1; trap 'echo got-int' INT; echo ready; while :; do sleep 0.05; done";
    channel.exec(true, script).await.unwrap();
    let mut said = String::new();
    let mut signals = [("got-usr1", Sig::INT), ("got-int", Sig::KILL)].into_iter();
    let mut awaited = "ready";
    let mut to_send = Some(Sig::USR1);
    let ended = loop {
        match next(&mut channel).await {
            ChannelMsg::Data { data } => said.push_str(&String::from_utf8_lossy(&data)),
            ChannelMsg::ExitSignal { signal_name, core_dumped, .. } => break (signal_name, core_dumped),
            ChannelMsg::ExitStatus { exit_status } => panic!("it ended with {exit_status}"),
            _ => {}
        }
        if said.contains(awaited)
            && let Some(signal) = to_send.take()
        {
            channel.signal(signal).await.unwrap();
            if let Some((next, signal)) = signals.next() {
                (awaited, to_send) = (next, Some(signal));
            }
        }
    };
    assert!(matches!(ended, (Sig::KILL, false)), "{ended:?}");
    assert_eq!(said, "ready\ngot-usr1\ngot-int\n");
}

#[tokio::test]
async fn channels_are_bounded_and_a_stranger_to_them_is_ignored() {
    let machine = Machine::start();
    let client = client(&machine).await;
    let mut open = Vec::new();
    let refused = loop {
        match client.channel_open_session().await {
            Ok(channel) => open.push(channel),
            Err(error) => break error,
        }
        assert!(open.len() <= 256);
    };
    assert!(matches!(refused, russh::Error::ChannelOpenFailure(_)), "{refused:?}");
    assert!(open.len() >= 100, "{}", open.len());
    // One that is closed makes room, and the connection goes on.
    open.pop().unwrap().close().await.unwrap();
    let until = tokio::time::Instant::now() + Duration::from_secs(30);
    while client.channel_open_session().await.is_err() {
        assert!(tokio::time::Instant::now() < until, "no room");
    }
    client.send_ping().await.unwrap();
}
