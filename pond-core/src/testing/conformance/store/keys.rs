//! API keys.

use std::time::Duration;

use crate::id::ProjectId;
use crate::keys::{ApiKey, KeyOfProject};
use crate::page::PageRequest;
use crate::projects::ProjectDeleted;
use crate::scope::Scope;
use crate::store::{SharedStore, Store};
use crate::testing::Samples;

async fn added(samples: &Samples, store: &dyn Store, project: ProjectId) -> ApiKey {
    let key = samples.key(project);
    assert!(store.add_key(key.clone()).await.unwrap());
    key
}

/// Adds a project.
async fn project(samples: &Samples, store: &dyn Store, slug: &str) -> ProjectId {
    let project = samples.project(slug);
    store.create_project(project.clone()).await.unwrap();
    project.id
}

/// A key reads back as it was added, with its project's slug; another hash finds nothing. Its id and hash are added once.
pub async fn a_key_is_found_by_its_hash_alone(store: SharedStore) {
    let samples = Samples::new(1);
    let own = project(&samples, &*store, "own").await;
    let key = added(&samples, &*store, own).await;
    let found = store.key_by_hash(key.hash).await.unwrap();
    let slug = samples.project("own").slug;
    assert_eq!(found, Some(KeyOfProject { key: key.clone(), slug }));
    let endless = ApiKey {
        expires_at: None,
        ..samples.key(own)
    };
    assert!(store.add_key(endless.clone()).await.unwrap());
    assert_eq!(store.key_by_hash(endless.hash).await.unwrap().unwrap().key, endless);
    assert_eq!(store.key_by_hash(samples.key(own).hash).await.unwrap(), None);
    for again in [
        ApiKey {
            id: key.id,
            ..samples.key(own)
        },
        ApiKey {
            hash: key.hash,
            ..samples.key(own)
        },
    ] {
        assert!(!store.add_key(again).await.unwrap());
    }
    assert_eq!(store.key_by_hash(key.hash).await.unwrap().unwrap().key, key);
}

/// A key is not added to a project that is not there, and a project that has one stays until it is revoked.
pub async fn a_key_without_its_project_opens_nothing(store: SharedStore) {
    let samples = Samples::new(2);
    let stray = samples.key(samples.id());
    assert!(!store.add_key(stray.clone()).await.unwrap());
    assert_eq!(store.key_by_hash(stray.hash).await.unwrap(), None);
    let own = project(&samples, &*store, "own").await;
    let key = added(&samples, &*store, own).await;
    assert_eq!(store.delete_project(own).await.unwrap(), ProjectDeleted::InUse);
    assert!(store.revoke_key(Scope::Org, key.id).await.unwrap());
    assert_eq!(store.delete_project(own).await.unwrap(), ProjectDeleted::Gone);
}

/// Newest first, of the scope alone, a page at a time without gap or repeat.
pub async fn lists_are_scoped_and_paged_newest_first(store: SharedStore) {
    let samples = Samples::new(3);
    let own = project(&samples, &*store, "own").await;
    let other = project(&samples, &*store, "other").await;
    let (mut mine, mut all) = (Vec::new(), Vec::new());
    for index in 0..5 {
        let key = added(&samples, &*store, if index == 2 { other } else { own }).await;
        if index != 2 {
            mine.insert(0, key.clone());
        }
        all.insert(0, key);
    }
    for (scope, expected) in [(Scope::Org, &all), (Scope::Project(own), &mine)] {
        let (mut listed, mut after) = (Vec::new(), None);
        loop {
            let page = store.keys(scope, PageRequest { limit: 2, after }).await.unwrap();
            assert!(page.items.len() <= 2);
            listed.extend(page.items);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(listed, *expected, "{scope:?}");
    }
    let nobody = Scope::Project(samples.id());
    let none = store.keys(nobody, PageRequest { limit: 9, after: None }).await.unwrap();
    assert_eq!(none.items, []);
}

/// A key is revoked once, and not from another project's scope; nobody finds it afterwards.
pub async fn a_revoked_key_is_gone_at_once(store: SharedStore) {
    let samples = Samples::new(4);
    let own = project(&samples, &*store, "own").await;
    let other = project(&samples, &*store, "other").await;
    let (key, kept) = (added(&samples, &*store, own).await, added(&samples, &*store, own).await);
    assert!(!store.revoke_key(Scope::Project(other), key.id).await.unwrap());
    assert!(store.key_by_hash(key.hash).await.unwrap().is_some());
    assert!(store.revoke_key(Scope::Project(own), key.id).await.unwrap());
    assert_eq!(store.key_by_hash(key.hash).await.unwrap(), None);
    assert!(!store.revoke_key(Scope::Org, key.id).await.unwrap());
    assert!(store.key_by_hash(kept.hash).await.unwrap().is_some());
}

/// Of callers that note the same use at once one does; within the minute nobody does, after it again one.
pub async fn a_use_is_noted_once_a_minute_by_racing_callers(store: SharedStore) {
    let samples = Samples::new(5);
    let own = project(&samples, &*store, "own").await;
    let key = added(&samples, &*store, own).await;
    let minute = Duration::from_secs(60);
    let before = samples.now();
    let first = before.plus(minute);
    let racing = futures::future::join_all((0..8).map(|_| store.touch_key(key.id, first, before))).await;
    assert_eq!(racing.into_iter().filter(|noted| *noted.as_ref().unwrap()).count(), 1);
    let used = async || store.key_by_hash(key.hash).await.unwrap().unwrap().key.last_used_at;
    assert_eq!(used().await, Some(first));
    let soon = first.plus(minute / 2);
    assert!(!store.touch_key(key.id, soon, before.plus(minute / 2)).await.unwrap());
    assert_eq!(used().await, Some(first));
    assert!(store.touch_key(key.id, first.plus(minute), first).await.unwrap());
    assert_eq!(used().await, Some(first.plus(minute)));
    assert!(!store.touch_key(samples.id(), first, before).await.unwrap());
}
