//! Requests that are carried out once.

use crate::clock::Timestamp;
use crate::idempotency::{Attempt, Begun, Content, Kept};
use crate::store::SharedStore;

fn attempt(id: u8, nonce: u8, now: i64) -> Attempt {
    Attempt {
        id: [id; 32],
        body: [5; 32],
        nonce: [nonce; 16],
        now: Timestamp::from_micros(now),
        until: Timestamp::from_micros(now + 100),
    }
}

fn kept(content: Content) -> Kept {
    Kept {
        status: 201,
        location: Some("/v1/runs/x".into()),
        content,
    }
}

/// The first try is told apart from its repeats, and answers read back.
pub async fn the_first_answer_stays(store: SharedStore) {
    for (id, content) in [
        (1, Content::Whole(b"{\"a\":\"\\u0000\"}".to_vec())),
        (2, Content::Id("one".into())),
    ] {
        assert_eq!(store.begin_once(attempt(id, 1, 0)).await.unwrap(), Begun::First);
        assert_eq!(store.begin_once(attempt(id, 2, 1)).await.unwrap(), Begun::UnderWay);
        let other = Attempt {
            body: [6; 32],
            ..attempt(id, 3, 1)
        };
        assert_eq!(store.begin_once(other.clone()).await.unwrap(), Begun::Mismatch);
        let (kept, until) = (kept(content), Timestamp::from_micros(1000));
        assert!(!store.finish_once([id; 32], [2; 16], kept.clone(), until).await.unwrap());
        assert!(store.finish_once([id; 32], [1; 16], kept.clone(), until).await.unwrap());
        assert_eq!(store.begin_once(attempt(id, 4, 999)).await.unwrap(), Begun::Done(kept));
        assert_eq!(store.begin_once(other).await.unwrap(), Begun::Mismatch);
        assert_eq!(store.begin_once(attempt(id, 5, 1000)).await.unwrap(), Begun::First);
        assert_eq!(store.begin_once(attempt(id, 6, 1001)).await.unwrap(), Begun::UnderWay);
    }
}

/// A try that made nothing is forgotten, but not by one whose place was taken.
pub async fn a_try_that_failed_or_was_lost_makes_room(store: SharedStore) {
    assert_eq!(store.begin_once(attempt(1, 1, 0)).await.unwrap(), Begun::First);
    store.abandon_once([1; 32], [9; 16]).await.unwrap();
    assert_eq!(store.begin_once(attempt(1, 2, 1)).await.unwrap(), Begun::UnderWay);
    store.abandon_once([1; 32], [1; 16]).await.unwrap();
    assert_eq!(store.begin_once(attempt(1, 3, 2)).await.unwrap(), Begun::First);
    // Its server died: the key is free again when the try has had its time.
    assert_eq!(store.begin_once(attempt(1, 4, 101)).await.unwrap(), Begun::UnderWay);
    assert_eq!(store.begin_once(attempt(1, 5, 102)).await.unwrap(), Begun::First);
    let late = kept(Content::Id("late".into()));
    let until = Timestamp::from_micros(9000);
    assert!(!store.finish_once([1; 32], [3; 16], late, until).await.unwrap());
}

/// Of tries that race, one is the first.
pub async fn one_of_racing_tries_is_the_first(store: SharedStore) {
    let tries = (0..8).map(|number| {
        let store = store.clone();
        tokio::spawn(async move { store.begin_once(attempt(1, number, 0)).await.unwrap() })
    });
    let outcomes = futures::future::join_all(tries).await;
    let firsts = outcomes
        .iter()
        .filter(|begun| *begun.as_ref().unwrap() == Begun::First)
        .count();
    assert_eq!(firsts, 1);
}

/// What has had its time is swept, a bounded number at a time.
pub async fn the_old_is_swept(store: SharedStore) {
    for id in 1..=5 {
        store.begin_once(attempt(id, 1, i64::from(id))).await.unwrap();
    }
    let sweep = async |now, limit| store.sweep_once(Timestamp::from_micros(now), limit).await.unwrap();
    assert_eq!(sweep(100, 10).await, 0);
    assert_eq!(sweep(104, 3).await, 3);
    assert_eq!(sweep(104, 3).await, 1);
    assert_eq!(store.begin_once(attempt(5, 2, 104)).await.unwrap(), Begun::UnderWay);
}
