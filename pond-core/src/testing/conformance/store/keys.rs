//! API keys.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::id::ProjectId;
use crate::keys::{ApiKey, KeyScope, KnownKey, NewKey};
use crate::page::PageRequest;
use crate::projects::{Project, ProjectDeleted};
use crate::scope::Scope;
use crate::store::SharedStore;
use crate::testing::Samples;

fn key(samples: &Samples, project: ProjectId, number: u8) -> NewKey {
    NewKey {
        key: ApiKey {
            id: samples.id(),
            project,
            name: format!("key \u{e4} {number}"),
            prefix: "pond_pk_abcd".into(),
            scopes: BTreeSet::from([KeyScope::ALL[1], KeyScope::RunnersRead]),
            created_at: samples.now(),
            expires_at: number
                .is_multiple_of(2)
                .then(|| samples.now().plus(Duration::from_secs(9))),
            last_used_at: None,
        },
        hash: [number; 32],
    }
}

async fn two_projects(store: &SharedStore, samples: &Samples) -> [Project; 2] {
    let projects = [samples.project("one"), samples.project("two")];
    for project in &projects {
        store.create_project(project.clone()).await.unwrap();
    }
    projects
}

/// A key is found by its hash as long as its project is there; hash and id are unique.
pub async fn a_key_is_found_by_its_hash(store: SharedStore) {
    let samples = Samples::new(1);
    let [one, two] = two_projects(&store, &samples).await;
    for number in [1, 2] {
        let new = key(&samples, one.id, number);
        assert!(store.create_key(new.clone()).await.unwrap());
        let known = KnownKey {
            key: new.key,
            slug: one.slug.clone(),
        };
        assert_eq!(store.key_by_hash(new.hash).await.unwrap(), Some(known));
    }
    assert_eq!(store.key_by_hash([9; 32]).await.unwrap(), None);
    assert!(!store.create_key(key(&samples, samples.id(), 3)).await.unwrap());
    assert_eq!(store.key_by_hash([3; 32]).await.unwrap(), None);
    assert!(
        store.create_key(key(&samples, two.id, 1)).await.is_err(),
        "the hash is taken"
    );
    assert_eq!(store.delete_project(one.id).await.unwrap(), ProjectDeleted::Gone);
    assert_eq!(store.key_by_hash([1; 32]).await.unwrap(), None);
    store.create_project(one.clone()).await.unwrap();
    assert_eq!(
        store.key_by_hash([1; 32]).await.unwrap(),
        None,
        "it went with its project"
    );
}

/// Lists and revocations stay within their scope.
pub async fn keys_are_listed_and_revoked_in_scope(store: SharedStore) {
    let samples = Samples::new(2);
    let [one, two] = two_projects(&store, &samples).await;
    let mut all = Vec::new();
    for number in 1..=5 {
        let new = key(&samples, if number == 3 { two.id } else { one.id }, number);
        store.create_key(new.clone()).await.unwrap();
        all.push(new.key);
    }
    all.sort_by_key(|key| key.id);
    let list = async |scope| {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = store.keys(scope, PageRequest { limit: 2, after }).await.unwrap();
            found.extend(page.items);
            after = page.next;
            if after.is_none() {
                return found;
            }
        }
    };
    assert_eq!(list(Scope::Org).await, all);
    let of = |project| {
        all.iter()
            .filter(|key| key.project == project)
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(list(Scope::Project(one.id)).await, of(one.id));
    let third = of(two.id).remove(0);
    assert_eq!(store.revoke_key(Scope::Project(one.id), third.id).await.unwrap(), None);
    assert_eq!(store.revoke_key(Scope::Org, samples.id()).await.unwrap(), None);
    assert_eq!(list(Scope::Project(two.id)).await, of(two.id));
    let revoked = store.revoke_key(Scope::Project(two.id), third.id).await.unwrap();
    assert_eq!(revoked, Some(third.clone()));
    assert_eq!(store.revoke_key(Scope::Org, third.id).await.unwrap(), None);
    assert_eq!(store.key_by_hash([3; 32]).await.unwrap(), None);
}

/// A use is noted unless a recent one is known.
pub async fn uses_are_noted_coarsely(store: SharedStore) {
    let samples = Samples::new(3);
    let [one, _] = two_projects(&store, &samples).await;
    let new = key(&samples, one.id, 1);
    store.create_key(new.clone()).await.unwrap();
    for (at, known_since, noted) in [(100, 0, 100), (150, 90, 100), (160, 100, 160)] {
        let [at, known_since] = [at, known_since].map(Timestamp::from_micros);
        store.touch_key(new.key.id, at, known_since).await.unwrap();
        let known = store.key_by_hash(new.hash).await.unwrap().unwrap();
        assert_eq!(known.key.last_used_at, Some(Timestamp::from_micros(noted)));
    }
}
