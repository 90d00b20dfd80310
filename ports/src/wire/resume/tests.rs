use proptest::prelude::*;

use super::*;

fn message(bytes: &[u8]) -> BytesMut {
    let mut message = BytesMut::zeroed(HEAD);
    message.extend_from_slice(bytes);
    message
}

#[test]
fn frames_are_these_bytes() {
    let golden = |frame: &Frame, literal: &[u8]| {
        assert_eq!(frame.encode(), literal, "{frame:?}");
        assert_eq!(&Frame::decode(Bytes::copy_from_slice(literal)).expect("reads"), frame);
    };
    golden(&Frame::Open(Open { resume: None }), b"\x01{}");
    let resume = Resume { id: "ab".into(), secret: Secret::new("s".into()), received: 7 };
    golden(
        &Frame::Open(Open { resume: Some(resume) }),
        br#"{"resume":{"id":"ab","secret":"s","received":7}}"#.prefixed(1).as_slice(),
    );
    let welcome =
        Welcome { id: "ab".into(), secret: Secret::new("s".into()), received: 9, grace_ms: 300_000 };
    golden(
        &Frame::Welcome(welcome),
        br#"{"id":"ab","secret":"s","received":9,"grace_ms":300000}"#.prefixed(2).as_slice(),
    );
    golden(&Frame::Data(0x0102, Bytes::from_static(b"hi")), b"\x04\0\0\0\0\0\0\x01\x02hi");
    golden(&Frame::Ack(1), b"\x05\0\0\0\0\0\0\0\x01");
    golden(&Frame::Ping(2), b"\x06\0\0\0\0\0\0\0\x02");
    golden(&Frame::Pong(3), b"\x07\0\0\0\0\0\0\0\x03");
    golden(&Frame::End(4), b"\x08\0\0\0\0\0\0\0\x04");
    let later = Frame::decode(Bytes::from_static(b"\x01{\"later\":true}"));
    assert_eq!(later, Ok(Frame::Open(Open::default())), "unknown fields are ignored");
    assert!(!format!("{:?}", Secret::new("s")).contains('s'), "secrets are not printed");
}

trait Prefixed {
    fn prefixed(&self, kind: u8) -> Vec<u8>;
}

impl<const N: usize> Prefixed for [u8; N] {
    fn prefixed(&self, kind: u8) -> Vec<u8> {
        [&[kind][..], self].concat()
    }
}

#[test]
fn who_lies_is_found_out() {
    for bad in
        [&b""[..], b"\0", b"\x09", b"\x05\0", b"\x04\0\0\0\0\0\0\0\0", b"\x01{", b"\x05\0\0\0\0\0\0\0\0\0"]
    {
        assert_eq!(Frame::decode(Bytes::copy_from_slice(bad)), Err(Broken::Malformed), "{bad:?}");
    }
    let long = [&[4; HEAD][..], &vec![0; PIECE + 1]].concat();
    assert_eq!(Frame::decode(long.into()), Err(Broken::Malformed));
    let mut outbox = Outbox::default();
    outbox.push(message(b"abc"));
    outbox.push(message(b"def"));
    assert_eq!(outbox.acknowledge(3), Err(Broken::Range), "never sent");
    outbox.next_message();
    assert_eq!(outbox.backlog(), 3);
    assert_eq!(outbox.acknowledge(3), Ok(()));
    assert_eq!(outbox.resume(2), Err(Broken::Range), "no longer kept");
    assert_eq!(outbox.resume(6), Err(Broken::Range), "never sent");
    outbox.next_message();
    assert_eq!(outbox.resume(5), Err(Broken::Range), "inside a message");
    assert_eq!(outbox.resume(3), Ok(()));
    assert_eq!(outbox.backlog(), 3);
    let mut intake = Intake::default();
    assert_eq!(intake.accept(0, 10), Ok(()));
    assert_eq!(intake.accept(11, 1), Err(Broken::Order), "a gap");
    assert_eq!(intake.accept(9, 1), Err(Broken::Order), "twice");
    let mut taken = 10;
    let overrun = loop {
        match intake.accept(taken, PIECE) {
            Ok(()) => taken += PIECE as u64,
            Err(error) => break error,
        }
    };
    assert_eq!(overrun, Broken::Overrun);
    assert!(taken <= WINDOW + PIECE as u64);
}

/// One side: what it sends, and what it has received.
#[derive(Default)]
struct Side {
    source: Vec<u8>,
    outbox: Outbox,
    intake: Intake,
    /// Received and not yet passed on.
    waiting: VecDeque<Bytes>,
    arrived: Vec<u8>,
}

impl Side {
    fn fill(&mut self, most: usize) {
        let from = usize::try_from(self.outbox.end()).expect("small");
        let piece = self.source.get(from..self.source.len().min(from + most)).unwrap_or_default();
        if self.outbox.has_room() && !piece.is_empty() {
            self.outbox.push(message(piece));
        }
    }

    /// The messages of one turn.
    fn send(&mut self) -> Vec<Bytes> {
        let ack = self.intake.acknowledgement().map(|to| Frame::Ack(to).encode());
        ack.into_iter().chain(self.outbox.next_message()).collect()
    }

    fn take(&mut self, message: Bytes) {
        match Frame::decode(message).expect("a frame") {
            Frame::Data(at, bytes) => {
                self.intake.accept(at, bytes.len()).expect("continues");
                self.waiting.push_back(bytes);
            }
            Frame::Ack(to) => self.outbox.acknowledge(to).expect("in range"),
            other => panic!("{other:?}"),
        }
    }

    fn pass_on(&mut self) {
        if let Some(bytes) = self.waiting.pop_front() {
            self.intake.pass_on(bytes.len());
            self.arrived.extend_from_slice(&bytes);
        }
    }
}

/// One step: sizes and which side, how many messages on their way are lost with the connection.
#[derive(Debug, Clone)]
enum Step {
    Fill(bool, usize),
    Send(bool),
    Deliver(bool),
    PassOn(bool),
    Cut,
}

fn step() -> impl Strategy<Value = Step> {
    let side = any::<bool>();
    prop_oneof![
        4 => (side, prop_oneof![1..200_usize, 1..=PIECE]).prop_map(|(side, most)| Step::Fill(side, most)),
        4 => side.prop_map(Step::Send),
        4 => side.prop_map(Step::Deliver),
        3 => side.prop_map(Step::PassOn),
        1 => Just(Step::Cut),
    ]
}

fn noise(length: usize, seed: u8) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever is cut when and wherever: each side gets exactly the other one's bytes.
    #[test]
    fn cuts_lose_nothing_and_double_nothing(
        steps in proptest::collection::vec(step(), 0..600),
        lengths in (0..3_000_000_usize, 0..3_000_000_usize),
    ) {
        let mut sides = [Side::default(), Side::default()];
        sides[0].source = noise(lengths.0, 1);
        sides[1].source = noise(lengths.1, 2);
        // On their way to side 0 and to side 1.
        let mut wires: [VecDeque<Bytes>; 2] = Default::default();
        let closing = (0..).flat_map(|turn: usize| {
            let side = turn.is_multiple_of(2);
            [Step::Fill(side, PIECE), Step::Send(side), Step::Deliver(side), Step::PassOn(side)]
        });
        for (count, step) in steps.into_iter().chain(closing).enumerate() {
            match step {
                Step::Fill(side, most) => sides[usize::from(side)].fill(most),
                Step::Send(side) => {
                    let messages = sides[usize::from(side)].send();
                    wires[usize::from(!side)].extend(messages);
                }
                Step::Deliver(side) => {
                    if let Some(message) = wires[usize::from(side)].pop_front() {
                        sides[usize::from(side)].take(message);
                    }
                }
                Step::PassOn(side) => sides[usize::from(side)].pass_on(),
                Step::Cut => {
                    wires.iter_mut().for_each(VecDeque::clear);
                    let received = [sides[0].intake.received(), sides[1].intake.received()];
                    sides[0].outbox.resume(received[1]).expect("in range");
                    sides[1].outbox.resume(received[0]).expect("in range");
                    sides.iter_mut().for_each(|side| side.intake.resume());
                }
            }
            let [one, other] = &sides;
            prop_assert!(one.outbox.kept.len() <= MESSAGES && other.outbox.kept.len() <= MESSAGES);
            if one.arrived.len() == other.source.len() && other.arrived.len() == one.source.len() {
                break;
            }
            prop_assert!(count < 20_000, "it comes to an end");
        }
        let [one, other] = &sides;
        prop_assert!(one.arrived == other.source && other.arrived == one.source);
    }

    /// Nothing that comes in makes it fall over.
    #[test]
    fn any_bytes_are_a_frame_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(frame) = Frame::decode(Bytes::from(bytes)) {
            prop_assert_eq!(Frame::decode(frame.encode()), Ok(frame));
        }
    }
}
