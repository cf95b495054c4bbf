//! Projects.

use crate::clock::Timestamp;
use crate::config::{ConfigChange, Entry, EntryKind, Owner};
use crate::projects::{Project, ProjectDeleted};
use crate::store::SharedStore;
use crate::testing::Samples;

/// A second create with the id gives the first one; one with another's slug gives none.
pub async fn ids_and_slugs_are_unique(store: SharedStore) {
    let samples = Samples::new(1);
    let (b, a) = (samples.project("b"), samples.project("a-1"));
    assert_eq!(store.create_project(b.clone()).await.unwrap(), Some(b.clone()));
    assert_eq!(store.create_project(a.clone()).await.unwrap(), Some(a.clone()));
    let renamed = Project {
        name: "other".into(),
        slug: samples.project("c").slug,
        ..b.clone()
    };
    assert_eq!(store.create_project(renamed).await.unwrap(), Some(b.clone()));
    assert_eq!(store.create_project(samples.project("b")).await.unwrap(), None);
    assert_eq!(store.projects().await.unwrap(), [a.clone(), b.clone()]);
    assert_eq!(store.project(a.id).await.unwrap(), Some(a.clone()));
    assert_eq!(store.project_by_slug(&b.slug).await.unwrap(), Some(b));
    assert_eq!(store.project(samples.id()).await.unwrap(), None);
    assert_eq!(store.project_by_slug(&samples.project("c").slug).await.unwrap(), None);
}

/// A project with runs or config entries stays (one with keys: see `keys`); an empty one goes, once.
pub async fn one_in_use_is_not_deleted(store: SharedStore) {
    let samples = Samples::new(2);
    let [with_run, with_entry, empty] = ["run", "entry", "empty"].map(|slug| samples.project(slug));
    for project in [&with_run, &with_entry, &empty] {
        store.create_project(project.clone()).await.unwrap();
    }
    let mut run = samples.new_run();
    run.project = with_run.id;
    store.create_run(run).await.unwrap();
    let entry = Entry {
        kind: EntryKind::Variable,
        owner: Owner::Project(with_entry.id),
        name: "v".into(),
        body: "{}".into(),
        sealed: None,
        updated_at: Timestamp::from_micros(1),
    };
    let revision = store.config_revision().await.unwrap();
    store.commit_config(revision, ConfigChange::Put(entry)).await.unwrap();

    for (project, outcome) in [
        (&with_run, ProjectDeleted::InUse),
        (&with_entry, ProjectDeleted::InUse),
        (&empty, ProjectDeleted::Gone),
        (&empty, ProjectDeleted::Unknown),
    ] {
        assert_eq!(
            store.delete_project(project.id).await.unwrap(),
            outcome,
            "{}",
            project.slug
        );
    }
    assert_eq!(store.projects().await.unwrap().len(), 2);
}
