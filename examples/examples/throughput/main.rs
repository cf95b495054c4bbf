//! Durable noop runs per second of the embedded engine, beside the ceiling: the same rows and commits as bare set-based
//! statements on the same kind of file or server.
//!
//! ```text
//! cargo run --release --example throughput -- [--seconds N] [--postgres URL]
//! ```
//! A run counts when its create and its finish were durable before the answer. SQLite runs with `synchronous=FULL`;
//! PostgreSQL as its server is set, which is printed. The database at URL gets the schema and the runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pond_core::Pond;
use pond_core::scope::Scope;
use pond_core::secret::Secret;
use pond_store::StoreUrl;

mod ceiling;

/// Callers that submit a run, wait for its end, and submit the next.
const SUBMITTERS: usize = 64;
const BODY: &str = r#"{"definition": {"stages": [{"key": "a", "name": "a", "executor": {"kind": "noop"}}]}}"#;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let (mut seconds, mut postgres) = (5, None);
    while let Some(argument) = arguments.next() {
        match (argument.as_str(), arguments.next()) {
            ("--seconds", Some(value)) => seconds = value.parse()?,
            ("--postgres", Some(value)) => postgres = Some(value),
            _ => return Err("usage: throughput [--seconds N] [--postgres URL]".into()),
        }
    }
    let span = Duration::from_secs(seconds);
    let folder = tempfile::tempdir()?;
    println!("{:<10} {:>12} {:>12} {:>8}", "store", "runs/s", "ceiling/s", "ratio");
    row("memory", engine(&StoreUrl::Memory, span).await?, None);
    let file = |name: &str| StoreUrl::Sqlite(folder.path().join(name));
    let bare = ceiling::sqlite(&folder.path().join("bare.db"), SUBMITTERS, span).await?;
    row("sqlite", engine(&file("pond.db"), span).await?, Some(bare));
    if let Some(url) = postgres {
        let bare = ceiling::postgres(&url, SUBMITTERS, span).await?;
        row(
            "postgres",
            engine(&StoreUrl::Postgres(Secret::new(url)), span).await?,
            Some(bare),
        );
    }
    Ok(())
}

fn row(store: &str, rate: f64, ceiling: Option<f64>) {
    match ceiling {
        None => println!("{store:<10} {rate:>12.0} {:>12} {:>8}", "-", "-"),
        Some(ceiling) => println!("{store:<10} {rate:>12.0} {ceiling:>12.0} {:>8.2}", rate / ceiling),
    }
}

/// Runs per second that go from submit to done.
async fn engine(url: &StoreUrl, span: Duration) -> Result<f64, Failure> {
    let folder = tempfile::tempdir()?;
    let pond = Pond::builder(
        pond_store::open(url).await?,
        pond_store::blobs_in_folder(folder.path())?,
    )
    .start()
    .await?;
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let started = Instant::now();
    let submitters: Vec<_> = (0..SUBMITTERS)
        .map(|_| {
            let (pond, stop, done) = (pond.clone(), stop.clone(), done.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let run = pond.runs().submit(pond.projects().default_project(), BODY).await?;
                    pond.runs().wait(Scope::Org, run.head.id).await?;
                    done.fetch_add(1, Ordering::Relaxed);
                }
                Ok::<(), pond_core::Error>(())
            })
        })
        .collect();
    tokio::time::sleep(span).await;
    let rate = done.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    for submitter in submitters {
        submitter.await??;
    }
    pond.shutdown().await;
    Ok(rate)
}
