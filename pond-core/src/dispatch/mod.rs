//! From the engine to a worker: the job, and the one port that a worker sees.

mod job;
mod link;
mod render;
mod signed;

pub use job::{BundleOffer, CredentialRequest, Job, JobModel};
pub use link::{
    Beat, BeatAnswer, Chunk, Command, Grant, Poll, Polled, Report, Telemetry, Upload, WorkerInfo, WorkerLink,
};
pub use render::{Rendering, render};
pub use signed::{JobInvalid, SignedCommand, SignedJob, sign_box, verify_box};
