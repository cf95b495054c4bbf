//! Events: one rising sequence per run, readable from any place.

use crate::event::{EventBody, EventKind, EventNumber, NumberedEvent};
use crate::runs::{Appended, Committed};
use crate::scope::Scope;
use crate::store::SharedStore;
use crate::testing::Samples;

/// The lines of log events; a dash for others.
fn texts(events: &[NumberedEvent]) -> Vec<&str> {
    events.iter().map(line).collect()
}

fn line(event: &NumberedEvent) -> &str {
    match &event.event.body {
        EventBody::Log(line) => &line.line,
        _ => "-",
    }
}

/// Creates, commits and appends number their events on from one another, starting at 1.
pub async fn numbers_rise_without_gaps_from_one(store: SharedStore) {
    let samples = Samples::new(1);
    let run = samples.new_run();
    store.create_run(run.clone()).await.unwrap();
    let appended = store
        .append_events(samples.append(run.id, &["two", "three"]))
        .await
        .unwrap();
    assert_eq!(
        appended,
        Appended::At {
            next_event: 4,
            log_bytes: 15
        }
    );
    let mut commit = samples.start(&run);
    commit.log_bytes = 5;
    let started = store.commit_run(commit).await.unwrap();
    assert_eq!(
        started,
        Committed::At {
            revision: 2,
            next_event: 6,
            log_bytes: 20
        }
    );
    let appended = store.append_events(samples.append(run.id, &[])).await.unwrap();
    assert_eq!(
        appended,
        Appended::At {
            next_event: 6,
            log_bytes: 20
        }
    );
    let events = store.events(Scope::Org, run.id, 0, 100).await.unwrap();
    assert_eq!(events.iter().map(|event| event.id).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert_eq!(texts(&events), ["created", "two", "three", "-", "-"]);
    assert_eq!(store.events(Scope::Org, samples.id(), 0, 100).await.unwrap(), []);
    assert_eq!(
        store.append_events(samples.append(samples.id(), &["x"])).await.unwrap(),
        Appended::Unknown
    );
}

/// However many write at once, a reader sees numbers from 1 without a gap, and what it saw stays.
pub async fn readers_see_a_prefix_while_writers_append(store: SharedStore) {
    let samples = Samples::new(2);
    let run = samples.new_run();
    store.create_run(run.clone()).await.unwrap();
    let writers = (0..4).map(|writer| {
        let (store, run) = (store.clone(), run.id);
        tokio::spawn(async move {
            let samples = Samples::new(100 + writer);
            for number in 0..25 {
                let line = format!("{writer}-{number}");
                store
                    .append_events(samples.append(run, &[&line, "more"]))
                    .await
                    .unwrap();
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    let reader = {
        let (store, run) = (store.clone(), run.id);
        tokio::spawn(async move {
            let mut seen: Vec<NumberedEvent> = Vec::new();
            while seen.len() < 201 {
                let all = store.events(Scope::Org, run, 0, 1000).await.unwrap();
                assert!((1..).zip(&all).all(|(number, event)| event.id == number), "a gap");
                assert!(all.starts_with(&seen), "what was seen changed");
                seen = all;
                tokio::task::yield_now().await;
            }
            seen
        })
    };
    for writer in writers {
        writer.await.unwrap();
    }
    let seen = reader.await.unwrap();
    for writer in 0..4 {
        let own = texts(&seen)
            .into_iter()
            .filter(|text| text.starts_with(&format!("{writer}-")));
        let expected: Vec<String> = (0..25).map(|number| format!("{writer}-{number}")).collect();
        assert_eq!(own.collect::<Vec<_>>(), expected, "a writer's own events stay in order");
    }
}

/// A reader may start after any event and stop before any other, within batches too.
pub async fn after_and_limit_cut_anywhere(store: SharedStore) {
    let samples = Samples::new(3);
    let run = samples.new_run();
    store.create_run(run.clone()).await.unwrap();
    for batch in 0..50 {
        let lines: Vec<String> = (0..=(batch % 4)).map(|line| format!("{batch}.{line}")).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        store.append_events(samples.append(run.id, &lines)).await.unwrap();
    }
    let all = store.events(Scope::Org, run.id, 0, 1000).await.unwrap();
    assert_eq!(all.len(), 124);
    for after in 0..=125 {
        for limit in [0, 1, 2, 5, 40, 1000] {
            let part = store.events(Scope::Org, run.id, after, limit).await.unwrap();
            let from = usize::try_from(after).unwrap().min(all.len());
            let to = (from + usize::try_from(limit).unwrap()).min(all.len());
            assert_eq!(part, all[from..to], "after {after}, at most {limit}");
        }
    }
}

/// Events of one kind are found among those of others, in batches that mix them too, and pages of them join up.
pub async fn events_of_one_kind_are_those_of_it(store: SharedStore) {
    let samples = Samples::new(9);
    let run = samples.new_run();
    store.create_run(run.clone()).await.unwrap();
    for batch in 0..60 {
        let mut append = samples.append(run.id, &["a", "b"]);
        if batch % 3 == 0 {
            append.events.insert(batch % 2, samples.decision("host.test"));
        }
        if batch % 10 == 0 {
            append.events = vec![samples.decision("alone.test")];
            append.log_bytes = 0;
        }
        store.append_events(append).await.unwrap();
    }
    let all = store.events(Scope::Org, run.id, 0, 1000).await.unwrap();
    for kind in [EventKind::Log, EventKind::Egress, EventKind::Reach] {
        let of_kind = all.iter().filter(|event| event.event.body.kind() == kind).cloned();
        let wanted: Vec<_> = of_kind.collect();
        for after in [0, 1, 2, 57, 131, 1000, EventNumber::MAX] {
            for limit in [0, 1, 3, 50, 1000] {
                let from = wanted.iter().filter(|event| event.id > after);
                let part: Vec<_> = from.take(limit as usize).cloned().collect();
                let found = store.events_of(Scope::Org, run.id, kind, after, limit).await;
                assert_eq!(found.unwrap(), part, "{kind:?} after {after}, at most {limit}");
            }
        }
    }
    let foreign = Scope::Project(samples.id());
    let seen = store.events_of(foreign, run.id, EventKind::Egress, 0, 10).await;
    assert_eq!(seen.unwrap(), []);
}

/// Lines hold any text, zero characters too.
pub async fn any_text_reads_back(store: SharedStore) {
    let samples = Samples::new(4);
    let run = samples.new_run();
    store.create_run(run.clone()).await.unwrap();
    let lines = [
        "",
        "\0",
        "a\0b",
        "\"quoted\" \\ back",
        "ä€😀\u{202e}",
        "\r\n\t\u{7f}\u{85}",
        "'; DROP TABLE runs; --",
    ];
    store.append_events(samples.append(run.id, &lines)).await.unwrap();
    let events = store.events(Scope::Org, run.id, 1, 100).await.unwrap();
    assert_eq!(texts(&events), lines);
}

/// A batch of many lines, and one of very long ones.
pub async fn large_batches_read_back(store: SharedStore) {
    let samples = Samples::new(5);
    let run = samples.new_run();
    store.create_run(run.clone()).await.unwrap();
    let lines: Vec<String> = (0..5000).map(|line| format!("line {line} of many")).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    store.append_events(samples.append(run.id, &lines)).await.unwrap();
    let long = "x€".repeat(16_000);
    store
        .append_events(samples.append(run.id, &[long.as_str(); 8]))
        .await
        .unwrap();
    let events = store.events(Scope::Org, run.id, 1, 10_000).await.unwrap();
    assert_eq!(texts(&events[..5000]), lines);
    assert!(texts(&events[5000..]).iter().all(|text| *text == long) && events.len() == 5008);
}
