//! Streams that outlive their connection: messages of either side, and what they make of what is kept.

use burstflare_ports::secret::Secret;
use burstflare_ports::wire::resume::{Frame, HEAD, Intake, Open, Outbox, PIECE, Resume, WINDOW};
use bytes::{Bytes, BytesMut};

use super::Target;

/// A message as it comes, and a story: each byte of it says what happens next on both sides.
pub(super) const RESUME: Target = Target {
    name: "resume",
    run: |bytes| {
        message(bytes);
        honest(bytes);
        hostile(bytes);
    },
    seeds: || {
        let resume = Resume { id: "a".to_owned(), secret: Secret::new("b".to_owned()), received: 7 };
        vec![
            Frame::Open(Open { resume: Some(resume) }).encode().to_vec(),
            Frame::Data(5, Bytes::from_static(b"hello")).encode().to_vec(),
            Frame::Ack(1 << 20).encode().to_vec(),
            Frame::End(u64::MAX).encode().to_vec(),
            (0..=255).collect(),
            [0, 1, 2, 3, 4, 0, 0, 1, 2, 4, 1, 3].repeat(40),
        ]
    },
    words: &[
        b"\x04\0\0\0\0\0\0\0\0",
        b"\x05\xff\xff\xff\xff\xff\xff\xff\xff",
        b"{\"received\":",
        b"\"secret\":",
    ],
    longest: 4096,
};

/// What is read is written in one way, and read as the same.
fn message(bytes: &[u8]) {
    if let Ok(frame) = Frame::decode(Bytes::copy_from_slice(bytes)) {
        let once = frame.encode();
        let again = Frame::decode(once.clone()).map(|frame| frame.encode());
        assert_eq!(again, Ok(once));
    }
}

/// The byte at an offset of the stream.
fn content(at: u64) -> u8 {
    u8::try_from(at % 251).unwrap_or_default()
}

/// Both sides keep to the protocol: whatever is cut, and whenever, every byte arrives once and in order.
fn honest(bytes: &[u8]) {
    let (mut outbox, mut intake, mut arrived) = (Outbox::default(), Intake::default(), 0_u64);
    let mut is_cut = false;
    for step in bytes.iter().chain(&[3, 3]) {
        match step % 5 {
            0 if outbox.has_room() => {
                let length = 1 + usize::from(*step) * 1021 % PIECE;
                let mut message = BytesMut::zeroed(HEAD);
                message.extend((outbox.end()..).take(length).map(content));
                outbox.push(message);
            }
            1 | 2 if !is_cut => {
                let Some(message) = outbox.next_message() else { continue };
                // Half of those of the second kind are lost with the connection.
                if step % 5 == 2 && step % 2 == 0 {
                    is_cut = true;
                    continue;
                }
                let Ok(Frame::Data(at, data)) = Frame::decode(message) else { panic!("it sends no data") };
                assert_eq!(intake.accept(at, data.len()), Ok(()), "out of order");
                assert!((arrived..).zip(&data).all(|(at, byte)| content(at) == *byte), "other bytes");
                arrived += data.len() as u64;
                intake.pass_on(data.len());
            }
            3 => {
                is_cut = false;
                intake.resume();
                assert_eq!(outbox.resume(intake.received()), Ok(()));
            }
            _ if !is_cut => {
                if let Some(to) = intake.acknowledgement() {
                    assert_eq!(outbox.acknowledge(to), Ok(()));
                }
            }
            _ => {}
        }
    }
    while let Some(message) = outbox.next_message() {
        let Ok(Frame::Data(at, data)) = Frame::decode(message) else { panic!("it sends no data") };
        assert_eq!(intake.accept(at, data.len()), Ok(()));
        intake.pass_on(data.len());
        if let Some(to) = intake.acknowledgement() {
            assert_eq!(outbox.acknowledge(to), Ok(()));
        }
    }
    assert_eq!(intake.received(), outbox.end());
}

/// The other side says what it likes: nothing is kept beyond the window, and no number turns round.
fn hostile(bytes: &[u8]) {
    let (mut outbox, mut intake) = (Outbox::default(), Intake::default());
    for step in bytes.chunks(9) {
        let mut number = [0; 8];
        let said = step.get(1..).unwrap_or_default();
        number.iter_mut().zip(said).for_each(|(to, from)| *to = *from);
        let number = u64::from_be_bytes(number);
        match step.first().map_or(0, |kind| kind % 6) {
            0 if outbox.has_room() => outbox.push(BytesMut::zeroed(HEAD + 1000)),
            1 => drop(outbox.next_message()),
            2 => drop(outbox.acknowledge(number)),
            3 => drop(outbox.resume(number)),
            4 => drop(intake.accept(number, said.len())),
            _ => {
                intake.pass_on(said.len());
                let _ = intake.acknowledgement();
            }
        }
        assert!(outbox.backlog() <= outbox.end());
        assert!(outbox.backlog() <= WINDOW + PIECE as u64);
    }
}
