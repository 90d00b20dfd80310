//! The conversation about a terminal as bytes, and what hostile ones come to.

use super::golden_tests::golden;
use super::terminal::*;

fn terminal() -> Terminal {
    Terminal {
        id: 1,
        argv: vec!["/bin/bash".into()],
        title: "t".into(),
        size: USUAL,
        viewers: 2,
        age_ms: 3,
        ended: None,
    }
}

#[test]
fn calls() {
    golden(&NewTerminal::default(), "{}");
    golden(
        &NewTerminal {
            argv: vec!["top".into()],
            cwd: Some("/tmp".into()),
            env: [("A".into(), "1".into())].into(),
            size: Some(USUAL),
        },
        r#"{"argv":["top"],"cwd":"/tmp","env":{"A":"1"},"size":{"rows":24,"columns":80}}"#,
    );
    golden(
        &Terminals { items: vec![terminal()] },
        r#"{"items":[{"id":1,"argv":["/bin/bash"],"title":"t","size":{"rows":24,"columns":80},"viewers":2,"age_ms":3}]}"#,
    );
    golden(
        &Terminal { ended: Some(Ended::Signal("KILL".into())), ..terminal() },
        r#"{"id":1,"argv":["/bin/bash"],"title":"t","size":{"rows":24,"columns":80},"viewers":2,"age_ms":3,"ended":{"signal":"KILL"}}"#,
    );
}

#[test]
fn what_viewers_say() {
    let hello = Hello { protocol: 1, size: None, scrollback: 0, viewer: None, read_only: false };
    golden(&FromViewer::Hello(hello.clone()), r#"{"hello":{"protocol":1,"scrollback":0,"read_only":false}}"#);
    let whole = Hello { size: Some(USUAL), viewer: Some("abc".into()), read_only: true, ..hello.clone() };
    golden(
        &FromViewer::Hello(whole),
        r#"{"hello":{"protocol":1,"size":{"rows":24,"columns":80},"scrollback":0,"viewer":"abc","read_only":true}}"#,
    );
    let sparse: FromViewer = serde_json::from_str(r#"{"hello":{"protocol":1,"later":true}}"#).expect("reads");
    assert_eq!(sparse, FromViewer::Hello(hello));
    golden(&FromViewer::Size(USUAL), r#"{"size":{"rows":24,"columns":80}}"#);
    golden(&FromViewer::Ack(5), r#"{"ack":5}"#);
}

#[test]
fn what_viewers_are_told() {
    golden(
        &ToViewer::Welcome(Welcome { protocol: 1, terminal: terminal(), typed: 7 }),
        r#"{"welcome":{"protocol":1,"terminal":{"id":1,"argv":["/bin/bash"],"title":"t","size":{"rows":24,"columns":80},"viewers":2,"age_ms":3},"typed":7}}"#,
    );
    for (cause, word) in [(Cause::Join, "join"), (Cause::Resync, "resync"), (Cause::Size, "size")] {
        golden(
            &ToViewer::Screen(Screen { cause, size: USUAL, bytes: 9 }),
            &format!(r#"{{"screen":{{"cause":"{word}","size":{{"rows":24,"columns":80}},"bytes":9}}}}"#),
        );
    }
    golden(&ToViewer::Typed(7), r#"{"typed":7}"#);
    golden(&ToViewer::Exit(Ended::Code(3)), r#"{"exit":{"code":3}}"#);
    golden(&ToViewer::Gone("closed".into()), r#"{"gone":"closed"}"#);
}

#[test]
fn sizes_are_held_to_what_a_terminal_may_have() {
    let all = Size { rows: u16::MAX, columns: u16::MAX };
    assert_eq!(all.clamped(), LARGEST);
    assert_eq!(Size { rows: 0, columns: 0 }.clamped(), Size { rows: 1, columns: 2 });
    assert_eq!(all.common(USUAL), USUAL);
    assert!(serde_json::from_str::<FromViewer>(r#"{"size":{"rows":65536,"columns":1}}"#).is_err());
    assert!(serde_json::from_str::<FromViewer>(r#"{"ack":-1}"#).is_err());
}
