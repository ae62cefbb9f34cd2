//! The form in which a store of states keeps them: what one version wrote, all later ones read.

use std::time::Duration;
use token_manager::FailureClass;
use token_manager::store::rules::{
    Carry, EgressState, FleetPause, GrantState, Meta, Presented, Span, StoredToken, TokenState, Updater,
};
use token_manager::store::{Lease, Secret, StoreErrorKind};

fn span(ends_at: u64, seconds: u64) -> Span {
    Span { ends_at, length: Duration::from_secs(seconds) }
}

fn full() -> TokenState {
    TokenState {
        token: Some(StoredToken {
            generation: 7,
            value: Secret::new("a\nß"),
            life: Duration::from_secs(3600),
            expires_at: u64::MAX,
        }),
        updater: Some(Updater { lease: Lease { owner: "o".into(), attempt: 2, generation: 8 }, span: span(9, 3) }),
        meta: Meta {
            granted: 8,
            invalidated: 6,
            doubted: 5,
            latest: 9,
            pause: Some(FleetPause { span: span(10, 1), class: FailureClass::Unavailable, generation: 4 }),
            fails: 1,
        },
        carry: Some(Carry {
            secret: Secret::new(""),
            expires_at: Some(11),
            generation: 12,
            presented: Some(Presented { by: Some(Lease { owner: "p".into(), attempt: 13, generation: 14 }), at: 15 }),
        }),
    }
}

fn alone(grant: TokenState) -> GrantState {
    GrantState { grant, ..Default::default() }
}

fn shared() -> GrantState {
    GrantState { grant: full(), others: [("a".into(), TokenState::default()), ("b".into(), full())].into() }
}

#[test]
fn every_state_is_read_as_it_was_written() {
    let forever = TokenState {
        carry: Some(Carry {
            secret: Secret::new("c"),
            expires_at: None,
            generation: 1,
            presented: Some(Presented { by: None, at: 2 }),
        }),
        ..full()
    };
    for state in [GrantState::default(), alone(full()), alone(forever), shared()] {
        assert_eq!(GrantState::decode(&state.encode()).unwrap(), state);
    }
    for state in [EgressState::default(), EgressState { spent: Some(span(1, 2)), pause: Some(span(3, 4)) }] {
        assert_eq!(EgressState::decode(&state.encode()).unwrap(), state);
    }
}

#[test]
fn version_one_is_written_like_this() {
    let state = EgressState { spent: Some(span(0x0102, 0)), pause: None };
    assert_eq!(state.encode(), [1, 1, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let grant = alone(TokenState {
        carry: Some(Carry { secret: Secret::new("hi"), expires_at: None, generation: 3, presented: None }),
        ..Default::default()
    });
    let zeros = |count: usize| vec![0; count];
    let written =
        [vec![1, 0, 0], zeros(40), vec![0, 1, 2], zeros(7), b"hi".to_vec(), vec![0, 3], zeros(7), vec![0], zeros(8)];
    assert_eq!(grant.encode(), written.concat());
}

#[test]
fn what_is_cut_longer_or_of_another_version_is_refused_and_not_quoted() {
    let bytes = shared().encode();
    for length in 0..bytes.len() {
        let error = GrantState::decode(&bytes[..length]).expect_err("it is cut");
        assert_eq!(error.kind(), StoreErrorKind::Malformed);
        assert!(!error.to_string().contains('ß'));
    }
    assert!(GrantState::decode(&[&bytes[..], &[0]].concat()).is_err());
    let newer = GrantState::decode(&[&[2], &bytes[1..]].concat()).unwrap_err();
    assert!(newer.to_string().contains("has version 2, this library writes 1"), "{newer}");
    assert!(EgressState::decode(&bytes).is_err());
}
