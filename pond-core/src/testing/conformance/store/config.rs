//! Config: a revision over all entries makes each change conditional.

use crate::clock::Timestamp;
use crate::config::{ConfigChange, ConfigCommitted, ConfigRevision, Entry, EntryKind, Owner};
use crate::sealing::Sealed;
use crate::store::{SharedStore, Store};
use crate::testing::Samples;

fn entry(kind: EntryKind, owner: Owner, name: &str, body: &str) -> Entry {
    Entry {
        kind,
        owner,
        name: name.into(),
        body: body.into(),
        sealed: None,
        updated_at: Timestamp::from_micros(5),
    }
}

async fn put(store: &dyn Store, entry: Entry) -> ConfigRevision {
    let revision = store.config_revision().await.unwrap();
    match store.commit_config(revision, ConfigChange::Put(entry)).await.unwrap() {
        ConfigCommitted::At(revision) => revision,
        ConfigCommitted::Stale => panic!("nobody else writes"),
    }
}

/// A change made from an old revision writes nothing.
pub async fn a_change_needs_the_revision_that_it_was_made_from(store: SharedStore) {
    let start = store.config_revision().await.unwrap();
    let first = entry(EntryKind::Model, Owner::Org, "m", "{}");
    let now = put(&*store, first.clone()).await;
    assert!(now > start);
    let delete = ConfigChange::Delete {
        kind: EntryKind::Model,
        owner: Owner::Org,
        name: "m".into(),
    };
    assert_eq!(
        store.commit_config(start, delete.clone()).await.unwrap(),
        ConfigCommitted::Stale
    );
    assert_eq!(store.config().await.unwrap().entries, [first]);
    let ConfigCommitted::At(last) = store.commit_config(now, delete).await.unwrap() else {
        panic!("nobody else writes");
    };
    assert!(last > now);
    let snapshot = store.config().await.unwrap();
    assert_eq!((snapshot.revision, snapshot.entries), (last, vec![]));
}

/// Entries come by kind, owner (org first) and name; one of the same three is replaced, secrets and all.
pub async fn entries_are_ordered_and_replaced_by_kind_owner_and_name(store: SharedStore) {
    let project = Owner::Project(Samples::new(1).project);
    let other = Owner::Project(Samples::new(2).project);
    let mut entries = vec![
        entry(EntryKind::Variable, Owner::Org, "a", "1"),
        entry(EntryKind::Credential, project, "Z", "2"),
        entry(EntryKind::Credential, project, "a", "3"),
        entry(EntryKind::Credential, Owner::Org, "ä", "4"),
        entry(EntryKind::Credential, other, "a", "5"),
        entry(EntryKind::Harness, Owner::Org, "a", "6"),
    ];
    for entry in &entries {
        put(&*store, entry.clone()).await;
    }
    entries[0].body = "\"\u{e4}\\u0000\"".into();
    entries[0].sealed = Some(Sealed {
        key_version: 3,
        bytes: vec![0, 1, 255],
    });
    entries[0].updated_at = Timestamp::from_micros(6);
    put(&*store, entries[0].clone()).await;
    entries.sort_by_key(|entry| (entry.kind, entry.owner, entry.name.clone()));
    assert_eq!(store.config().await.unwrap().entries, entries);
}

/// Of writers that all start from one revision, one writes.
pub async fn one_writer_wins_a_race(store: SharedStore) {
    let start = store.config_revision().await.unwrap();
    let writes = (0..8).map(|number| {
        let store = store.clone();
        let change = ConfigChange::Put(entry(EntryKind::Model, Owner::Org, &format!("m{number}"), "{}"));
        tokio::spawn(async move { store.commit_config(start, change).await.unwrap() })
    });
    let outcomes = futures::future::join_all(writes).await;
    let wins = outcomes
        .into_iter()
        .filter(|outcome| matches!(outcome, Ok(ConfigCommitted::At(_))))
        .count();
    assert_eq!((wins, store.config().await.unwrap().entries.len()), (1, 1));
}
