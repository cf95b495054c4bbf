//! The pool's records: orchestrators, workers and codes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::id::OrchestratorId;
use crate::outbound::HostPattern;
use crate::pool::{Admits, Code, Enrolled, EnrolledWorker, Orchestrator, WorkerKeys, WorkerSeen};
use crate::store::{Change, SharedStore, Store, StoreError};
use crate::testing::Samples;

const HOUR: Duration = Duration::from_secs(3600);

fn pairing(samples: &Samples) -> Code {
    Code {
        hash: samples.token().hash(),
        admits: Admits::Pairing {
            name: Some("Büro".into()),
        },
        expires_at: samples.now().plus(HOUR),
    }
}

fn enrolment(samples: &Samples, orchestrator: OrchestratorId) -> Code {
    let admits = Admits::Enrolment {
        orchestrator,
        name: None,
        tags: BTreeSet::from(["pool:trusted".into()]),
        capabilities: BTreeSet::from(["harness.mini".into(), "sandbox.none".into()]),
        fingerprint: Some("SHA256:abc".into()),
    };
    Code {
        admits,
        ..pairing(samples)
    }
}

fn orchestrator(samples: &Samples) -> Orchestrator {
    Orchestrator {
        id: samples.id(),
        name: "east \"1\"".into(),
        token: samples.token().hash(),
        paired_at: samples.now(),
        last_seen_at: None,
    }
}

fn worker(samples: &Samples, orchestrator: OrchestratorId) -> EnrolledWorker {
    EnrolledWorker {
        id: samples.id(),
        orchestrator,
        name: "werkbank ü".into(),
        keys: WorkerKeys {
            x25519: samples.token().hash(),
            ed25519: samples.token().hash(),
        },
        tags: BTreeSet::from(["pool:trusted".into(), "gpu".into()]),
        capabilities: BTreeSet::from(["harness.mini".into()]),
        enrolled_at: samples.now(),
        draining: false,
        seen: WorkerSeen::default(),
    }
}

/// Adds a code and pairs with it.
async fn paired(samples: &Samples, store: &dyn Store) -> Orchestrator {
    let (code, new) = (pairing(samples), orchestrator(samples));
    store.add_code(code.clone(), samples.now()).await.unwrap();
    let done = store.pair(code.hash, samples.now(), new.clone()).await.unwrap();
    assert_eq!(done, Enrolled::Done);
    new
}

/// Adds a code and enrols with it.
async fn enrolled(samples: &Samples, store: &dyn Store, of: OrchestratorId) -> EnrolledWorker {
    let (code, new) = (enrolment(samples, of), worker(samples, of));
    store.add_code(code.clone(), samples.now()).await.unwrap();
    let done = store.enrol(code.hash, samples.now(), new.clone()).await.unwrap();
    assert_eq!(done, Enrolled::Done);
    new
}

/// Of twenty that race with one code one is done, and only that one's record is there.
pub async fn a_code_is_used_once_by_racing_callers(store: SharedStore) {
    let samples = Samples::new(1);
    let (code, now) = (pairing(&samples), samples.now());
    store.add_code(code.clone(), now).await.unwrap();
    assert_eq!(store.code(code.hash).await.unwrap(), Some(code.clone()));
    let racing = (0..20).map(|_| {
        let (store, new) = (store.clone(), orchestrator(&samples));
        tokio::spawn(async move { (store.pair(code.hash, now, new.clone()).await.unwrap(), new) })
    });
    let mut winners = Vec::new();
    for raced in futures::future::join_all(racing).await {
        let (enrolled, new) = raced.unwrap();
        winners.extend((enrolled == Enrolled::Done).then_some(new));
    }
    assert_eq!(winners.len(), 1);
    assert_eq!(store.orchestrators().await.unwrap(), winners);
    assert_eq!(store.code(code.hash).await.unwrap(), None);

    let of = winners[0].id;
    let code = enrolment(&samples, of);
    store.add_code(code.clone(), now).await.unwrap();
    assert_eq!(store.code(code.hash).await.unwrap(), Some(code.clone()));
    let racing = (0..20).map(|_| {
        let (store, new) = (store.clone(), worker(&samples, of));
        tokio::spawn(async move { (store.enrol(code.hash, now, new.clone()).await.unwrap(), new) })
    });
    let mut winners = Vec::new();
    for raced in futures::future::join_all(racing).await {
        let (enrolled, new) = raced.unwrap();
        winners.extend((enrolled == Enrolled::Done).then_some(new));
    }
    assert_eq!(winners.len(), 1);
    assert_eq!(store.enrolled_workers().await.unwrap(), winners);
    assert_eq!(store.code(code.hash).await.unwrap(), None);
}

/// A code that is unknown, has expired, or admits something else is refused; it stays as it was, and nothing is added.
pub async fn expired_and_foreign_codes_write_nothing(store: SharedStore) {
    let samples = Samples::new(2);
    let (own, other) = (paired(&samples, &*store).await, paired(&samples, &*store).await);
    let both = store.orchestrators().await.unwrap();
    let (pair, enrol, foreign) = (
        pairing(&samples),
        enrolment(&samples, own.id),
        enrolment(&samples, other.id),
    );
    let nobodys = enrolment(&samples, samples.id());
    for code in [&pair, &enrol, &foreign, &nobodys] {
        store.add_code(code.clone(), samples.now()).await.unwrap();
    }
    let now = samples.now();
    for (hash, at) in [(pair.hash, pair.expires_at), (enrol.hash, now), ([7; 32], now)] {
        let refused = store.pair(hash, at, orchestrator(&samples)).await.unwrap();
        assert_eq!(refused, Enrolled::Refused);
    }
    for (hash, at) in [
        (enrol.hash, enrol.expires_at),
        (foreign.hash, now),
        (pair.hash, now),
        ([7; 32], now),
    ] {
        let refused = store.enrol(hash, at, worker(&samples, own.id)).await.unwrap();
        assert_eq!(refused, Enrolled::Refused);
    }
    let Admits::Enrolment { orchestrator: gone, .. } = nobodys.admits else {
        unreachable!("an enrolment code");
    };
    let refused = store.enrol(nobodys.hash, now, worker(&samples, gone)).await.unwrap();
    assert_eq!(refused, Enrolled::Refused);
    assert_eq!(store.orchestrators().await.unwrap(), both);
    assert_eq!(store.enrolled_workers().await.unwrap(), []);
    for code in [pair, enrol, foreign] {
        assert_eq!(store.code(code.hash).await.unwrap(), Some(code));
    }
}

/// A code that has expired goes when the next one is added, and not before.
pub async fn old_codes_are_dropped_when_one_is_added(store: SharedStore) {
    let samples = Samples::new(3);
    let (old, new, newest) = (pairing(&samples), pairing(&samples), pairing(&samples));
    let at = |code: &Code| Timestamp::from_micros(code.expires_at.micros() - 1);
    store.add_code(old.clone(), samples.now()).await.unwrap();
    store.add_code(new.clone(), at(&old)).await.unwrap();
    assert_eq!(store.code(old.hash).await.unwrap(), Some(old.clone()));
    store.add_code(newest.clone(), old.expires_at).await.unwrap();
    assert_eq!(store.code(old.hash).await.unwrap(), None);
    assert_eq!(store.code(new.hash).await.unwrap(), Some(new.clone()));
    let again = Code {
        hash: new.hash,
        ..enrolment(&samples, samples.id())
    };
    store.add_code(again, samples.now()).await.unwrap();
    assert_eq!(store.code(new.hash).await.unwrap(), Some(new));
}

/// A record whose id is there already is an error, and the code can still be used.
pub async fn an_id_that_is_taken_uses_up_no_code(store: SharedStore) {
    let samples = Samples::new(4);
    let known = paired(&samples, &*store).await;
    let (pair, enrol) = (pairing(&samples), enrolment(&samples, known.id));
    store.add_code(pair.clone(), samples.now()).await.unwrap();
    store.add_code(enrol.clone(), samples.now()).await.unwrap();
    let of = enrolled(&samples, &*store, known.id).await;
    let again = Orchestrator {
        id: known.id,
        ..orchestrator(&samples)
    };
    let paired = store.pair(pair.hash, samples.now(), again).await;
    assert!(matches!(
        paired,
        Err(StoreError::Corrupt {
            table: "orchestrators",
            ..
        })
    ));
    let again = EnrolledWorker {
        id: of.id,
        ..worker(&samples, known.id)
    };
    let refused = store.enrol(enrol.hash, samples.now(), again).await;
    assert!(matches!(refused, Err(StoreError::Corrupt { table: "workers", .. })));
    assert_eq!(store.code(pair.hash).await.unwrap(), Some(pair));
    assert_eq!(store.code(enrol.hash).await.unwrap(), Some(enrol));
    assert_eq!(store.orchestrators().await.unwrap(), [known]);
    assert_eq!(store.enrolled_workers().await.unwrap(), [of]);
}

/// Workers come by id as they enrolled, drain and stop draining, and go one by one.
pub async fn workers_read_back_and_drain(store: SharedStore) {
    let samples = Samples::new(5);
    let of = paired(&samples, &*store).await.id;
    let mut all = Vec::new();
    for _ in 0..3 {
        all.push(enrolled(&samples, &*store, of).await);
    }
    all.sort_by_key(|worker| worker.id);
    assert_eq!(store.enrolled_workers().await.unwrap(), all);
    for draining in [true, true, false] {
        assert!(store.set_draining(all[1].id, draining).await.unwrap());
        all[1].draining = draining;
        assert_eq!(store.enrolled_workers().await.unwrap(), all);
    }
    assert!(!store.set_draining(samples.id(), true).await.unwrap());
    assert!(store.remove_worker(all[0].id).await.unwrap());
    assert!(!store.remove_worker(all[0].id).await.unwrap());
    assert_eq!(store.enrolled_workers().await.unwrap(), all[1..]);
    assert!(!store.set_draining(all[0].id, true).await.unwrap());
}

/// With an orchestrator go its codes and workers, and nobody else's.
pub async fn an_orchestrator_takes_its_codes_and_workers_along(store: SharedStore) {
    let samples = Samples::new(6);
    let (going, staying) = (paired(&samples, &*store).await, paired(&samples, &*store).await);
    let (pair, gone, kept) = (
        pairing(&samples),
        enrolment(&samples, going.id),
        enrolment(&samples, staying.id),
    );
    for code in [&pair, &gone, &kept] {
        store.add_code(code.clone(), samples.now()).await.unwrap();
    }
    let mut workers = Vec::new();
    for of in [&going, &staying, &going] {
        workers.push(enrolled(&samples, &*store, of.id).await);
    }
    let mut removed = vec![workers[0].id, workers[2].id];
    removed.sort_unstable();
    assert_eq!(store.remove_orchestrator(going.id).await.unwrap(), Some(removed));
    assert_eq!(store.remove_orchestrator(going.id).await.unwrap(), None);
    assert_eq!(store.orchestrators().await.unwrap(), [staying]);
    assert_eq!(store.enrolled_workers().await.unwrap(), workers[1..2]);
    assert_eq!(store.code(gone.hash).await.unwrap(), None);
    assert_eq!(store.code(pair.hash).await.unwrap(), Some(pair));
    assert_eq!(store.code(kept.hash).await.unwrap(), Some(kept.clone()));
    let late = worker(&samples, going.id);
    let refused = store.enrol(kept.hash, samples.now(), late).await.unwrap();
    assert_eq!(refused, Enrolled::Refused);
}

/// What was heard is written for all at once; who is not there is passed over, and an older word changes nothing.
pub async fn what_was_heard_is_the_latest_word(store: SharedStore) {
    let samples = Samples::new(7);
    let mut known = paired(&samples, &*store).await;
    let mut workers = [
        enrolled(&samples, &*store, known.id).await,
        enrolled(&samples, &*store, known.id).await,
    ];
    workers.sort_by_key(|worker| worker.id);
    let word = |at: Timestamp, running| WorkerSeen {
        at: Some(at),
        connected: true,
        running,
        concurrency: 4,
        version: "0.1.0".into(),
        problems: BTreeMap::from([("sandbox.docker".into(), "no \"socket\" ü".into())]),
        egress_defaults: vec![HostPattern::parse("registry.test:8443").unwrap()],
    };
    let (early, late) = (samples.now(), samples.now());
    let heard = vec![
        (workers[0].id, word(late, 2)),
        (workers[0].id, word(early, 1)),
        (samples.id(), word(late, 3)),
    ];
    let orchestrators = vec![(known.id, late), (known.id, early), (samples.id(), late)];
    store.note_seen(orchestrators, heard).await.unwrap();
    known.last_seen_at = Some(late);
    workers[0].seen = word(late, 2);
    assert_eq!(store.orchestrators().await.unwrap(), [known.clone()]);
    assert_eq!(store.enrolled_workers().await.unwrap(), workers);

    let older = vec![(workers[0].id, word(early, 1)), (workers[1].id, word(early, 1))];
    store.note_seen(vec![(known.id, early)], older).await.unwrap();
    workers[1].seen = word(early, 1);
    assert_eq!(store.orchestrators().await.unwrap(), [known]);
    assert_eq!(store.enrolled_workers().await.unwrap(), workers);
    store.note_seen(Vec::new(), Vec::new()).await.unwrap();
}

/// Each change is told once, what was heard is not, and neither is what changed nothing.
pub async fn changes_are_told_to_watchers(store: SharedStore) {
    let samples = Samples::new(8);
    let mut changes = store.changes();
    let mut told = move || {
        let all = std::iter::from_fn(|| changes.try_recv().ok());
        all.filter(|change| *change == Change::Pool).count()
    };
    let known = paired(&samples, &*store).await;
    assert_eq!(told(), 2, "code and orchestrator");
    let worker = enrolled(&samples, &*store, known.id).await;
    assert_eq!(told(), 2, "code and worker");
    store.set_draining(worker.id, true).await.unwrap();
    assert_eq!(told(), 1, "draining");
    store
        .note_seen(vec![(known.id, samples.now())], Vec::new())
        .await
        .unwrap();
    store
        .pair([1; 32], samples.now(), orchestrator(&samples))
        .await
        .unwrap();
    store.enrol([1; 32], samples.now(), worker.clone()).await.unwrap();
    store.set_draining(samples.id(), true).await.unwrap();
    store.remove_worker(samples.id()).await.unwrap();
    store.remove_orchestrator(samples.id()).await.unwrap();
    assert_eq!(told(), 0, "nothing changed");
    store.remove_worker(worker.id).await.unwrap();
    store.remove_orchestrator(known.id).await.unwrap();
    assert_eq!(told(), 2, "both go");
}
