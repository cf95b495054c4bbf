//! The audit log.

use crate::audit::{AuditFilter, AuditHead, AuditRow, Entry};
use crate::clock::Timestamp;
use crate::page::PageRequest;
use crate::store::SharedStore;
use crate::testing::Samples;

fn row(id: i64) -> AuditRow {
    let byte = u8::try_from(id).unwrap();
    AuditRow {
        id,
        at: Timestamp::from_micros(id * 10),
        entry: Entry {
            actor: if id % 2 == 0 { "service" } else { "key:x" }.into(),
            action: if id % 3 == 0 { "key.revoke" } else { "model.put" }.into(),
            target: format!("t\u{e4}{id}"),
            project: (id % 2 == 0).then(|| Samples::new(1).project),
            changed: vec!["a".into(), "b\"c".into()],
            request_id: (id % 2 == 1).then(|| "r".into()),
        },
        prev_hash: [byte - 1; 32],
        hash: [byte; 32],
        mac: [byte + 100; 32],
    }
}

fn head(id: i64) -> Option<AuditHead> {
    let hash = [u8::try_from(id).unwrap(); 32];
    (id > 0).then_some(AuditHead { id, hash })
}

/// Rows go after the last one or not at all, and read back as they were written.
pub async fn rows_follow_the_head(store: SharedStore) {
    assert_eq!(store.audit_head().await.unwrap(), None);
    assert!(!store.append_audit(head(1), vec![row(2)]).await.unwrap());
    assert!(store.append_audit(None, vec![row(1), row(2)]).await.unwrap());
    assert_eq!(store.audit_head().await.unwrap(), head(2));
    let other = AuditHead { id: 2, hash: [77; 32] };
    for stale in [None, head(1), Some(other)] {
        assert!(!store.append_audit(stale, vec![row(3)]).await.unwrap(), "{stale:?}");
    }
    assert!(store.append_audit(head(2), vec![row(3)]).await.unwrap());
    assert_eq!(store.audit_chain(0, 10).await.unwrap(), [row(1), row(2), row(3)]);
    assert_eq!(store.audit_chain(1, 1).await.unwrap(), [row(2)]);
    assert_eq!(store.audit_chain(3, 10).await.unwrap(), []);
}

/// Of writers that start from one head, one writes.
pub async fn one_of_racing_appends_wins(store: SharedStore) {
    assert!(store.append_audit(None, vec![row(1)]).await.unwrap());
    let appends = (0..8).map(|number| {
        let store = store.clone();
        let mut next = row(2);
        next.entry.target = format!("racer {number}");
        tokio::spawn(async move { store.append_audit(head(1), vec![next, row(3)]).await.unwrap() })
    });
    let outcomes = futures::future::join_all(appends).await;
    let wins = outcomes.into_iter().filter(|won| *won.as_ref().unwrap()).count();
    assert_eq!((wins, store.audit_chain(0, 10).await.unwrap().len()), (1, 3));
}

/// Newest first, by the page, narrowed by time, actor and action.
pub async fn rows_are_listed_newest_first(store: SharedStore) {
    store.append_audit(None, (1..=9).map(row).collect()).await.unwrap();
    let list = async |filter: AuditFilter| {
        let (mut ids, mut after) = (Vec::new(), None);
        loop {
            let page = store
                .audit_rows(&filter, PageRequest { limit: 2, after })
                .await
                .unwrap();
            ids.extend(page.items.iter().map(|row| row.id));
            after = page.next;
            if after.is_none() {
                return ids;
            }
        }
    };
    let any = AuditFilter::default();
    assert_eq!(list(any.clone()).await, [9, 8, 7, 6, 5, 4, 3, 2, 1]);
    let since = Some(Timestamp::from_micros(60));
    assert_eq!(list(AuditFilter { since, ..any.clone() }).await, [9, 8, 7, 6]);
    let actor = Some("service".to_owned());
    assert_eq!(
        list(AuditFilter {
            actor: actor.clone(),
            ..any.clone()
        })
        .await,
        [8, 6, 4, 2]
    );
    let action = Some("key.revoke".to_owned());
    assert_eq!(
        list(AuditFilter {
            action: action.clone(),
            ..any
        })
        .await,
        [9, 6, 3]
    );
    assert_eq!(list(AuditFilter { since, actor, action }).await, [6]);
}
