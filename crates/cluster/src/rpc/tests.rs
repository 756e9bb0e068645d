use alluvium_types::{AgentEpoch, AgentId};

use super::*;

fn envelope(request: Request) -> Envelope {
    let identity = Identity {
        cluster: TopicId([7; 16]),
        restores: 2,
    };
    Envelope::new(Some(identity), request)
}

#[test]
fn a_request_is_read_as_it_was_sent() {
    for request in [
        Request::Vote(Bytes::from_static(b"vote")),
        Request::Propose {
            commands: vec![Bytes::from_static(b"one"), Bytes::new()],
        },
        Request::ReadIndex,
        Request::Attend {
            origin: AgentOrigin {
                agent: AgentId(7),
                epoch: AgentEpoch(3),
            },
        },
        Request::Subscribe(Subscribe {
            identity: None,
            next_index: u64::MAX,
        }),
    ] {
        let sent = envelope(request);
        assert_eq!(Envelope::decode(&sent.encode()).unwrap(), sent);
    }
}

#[test]
fn what_is_no_request_is_refused() {
    let whole = envelope(Request::Propose {
        commands: vec![Bytes::from_static(b"one")],
    })
    .encode();
    for end in 0..whole.len() {
        Envelope::decode(&whole[..end]).unwrap_err();
    }
    let mut longer = whole.to_vec();
    longer.push(0);
    Envelope::decode(&longer).unwrap_err();
    // A list that announces more than there is costs nothing.
    let mut endless = vec![1, 0, 6];
    endless.extend([0xff; 9]);
    endless.push(1);
    Envelope::decode(&endless).unwrap_err();
}

#[test]
fn another_version_is_named() {
    let mut old = envelope(Request::ReadIndex).encode().to_vec();
    old[0] = 0;
    let refused = Envelope::decode(&old).unwrap_err().to_string();
    assert!(refused.contains("version 0"), "{refused}");
    // A later release may ask what is known here.
    let mut new = envelope(Request::ReadIndex);
    new.version = PROTOCOL + 1;
    assert_eq!(Envelope::decode(&new.encode()).unwrap(), new);
    let mut unknown = vec![2, 0, 99];
    let refused = Envelope::decode(&unknown).unwrap_err().to_string();
    assert!(refused.contains("upgrade this node"), "{refused}");
    unknown[0] = 1;
    Envelope::decode(&unknown).unwrap_err();
}

#[test]
fn what_is_too_large_is_refused() {
    let many = envelope(Request::Propose {
        commands: vec![Bytes::new(); MAX_COMMANDS + 1],
    });
    let refused = Envelope::decode(&many.encode()).unwrap_err().to_string();
    assert!(refused.contains("100000"), "{refused}");
    let large = envelope(Request::Vote(vec![0; MAX_SMALL_BYTES].into()));
    Envelope::decode(&large.encode()).unwrap_err();
    let append = envelope(Request::Append(vec![0; MAX_SMALL_BYTES].into()));
    Envelope::decode(&append.encode()).unwrap();
}
