//! Preflight's one check that dials, held to its bounds.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use pond_core::runs::Reach;
use pond_core::sources::{FolderScope, Resolved, Source, SourceError, SourceFetch, SourceKey};
use pond_core::testing::MemoryBlobs;
use pond_core::{Fault, Pond};
use pond_tests::world::{body, noop, stage};
use serde_json::json;

/// Counts who asks, and how many at once.
#[derive(Default)]
struct Counting {
    asked: AtomicUsize,
    now: AtomicUsize,
    most: AtomicUsize,
}

#[async_trait]
impl SourceFetch for Counting {
    async fn admit(&self, _: &Source, _: &FolderScope) -> Result<(), Fault> {
        Ok(())
    }

    async fn fetch(
        &self,
        _: &Source,
        _: Option<&SourceKey>,
        _: Option<&str>,
        _: &FolderScope,
        _: &Path,
    ) -> Result<Resolved, SourceError> {
        Err(SourceError::Failed("nothing is there".into()))
    }

    async fn reachable(&self, _: &Source, _: Option<&SourceKey>, _: &FolderScope) -> bool {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(20)).await;
        self.now.fetch_sub(1, Ordering::SeqCst);
        false
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c17_98_a_hundred_preflights_dial_four_at_a_time_and_each_url_once_and_submit_dials_nothing() {
    let counting = Arc::new(Counting::default());
    let builder = Pond::builder(pond_store::memory(), Arc::new(MemoryBlobs::default())).sources(counting.clone());
    let pond = builder.start().await.unwrap();
    let project = pond.projects().default_project();
    let submission = |index: usize| {
        let mut body = body(&[stage("a", &noop(1, 0.0))]);
        let url = format!("https://example.com/{}", index % 10);
        body["sources"] = json!([{"label": "app", "kind": "git_https", "config": {"url": url}}]);
        body.to_string()
    };
    let preflights = (0..100).map(|index| {
        let (pond, body) = (pond.clone(), submission(index));
        tokio::spawn(async move { pond.runs().preflight(project, &body, Reach::Dial).await.unwrap() })
    });
    for told in futures::future::join_all(preflights).await {
        let told = told.unwrap();
        assert_eq!(
            told.iter()
                .filter(|problem| problem.code == "source_unreachable")
                .count(),
            1
        );
    }
    assert_eq!(counting.asked.load(Ordering::SeqCst), 10, "each URL once");
    assert!(
        (2..=4).contains(&counting.most.load(Ordering::SeqCst)),
        "{:?}",
        counting.most
    );
    let offline = pond
        .runs()
        .preflight(project, &submission(99), Reach::Offline)
        .await
        .unwrap();
    assert!(offline.is_empty());
    pond.runs().submit(project, &submission(98)).await.unwrap();
    assert_eq!(counting.asked.load(Ordering::SeqCst), 10, "neither dials");
    pond.shutdown().await;
}
