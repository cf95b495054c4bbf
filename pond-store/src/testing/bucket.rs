//! Buckets of their own for tests, on a throw-away S3 service.

use pond_core::clock::SystemClock;
use pond_core::entropy::SystemEntropy;
use pond_core::id::BootId;
use pond_core::secret::Secret;

use crate::S3Place;

/// The keys that `tests/s3` tells its service.
const ACCESS_KEY: &str = "pond-test";
const SECRET_KEY: &str = "pond-test-secret";

/// A place in a bucket that nobody else uses. The service makes the bucket with its first object.
///
/// # Panics
/// When no service was named: `tests/s3 start` starts one, and `tests/run` does so itself.
pub fn test_bucket() -> S3Place {
    let endpoint = given().expect(
        "no S3 service for tests: set POND_TEST_S3_URL to a throw-away one, as `eval \"$(tests/s3 start)\"` does",
    );
    S3Place {
        bucket: format!("t-{}", BootId::mint(&SystemClock, &SystemEntropy).uuid().simple()),
        prefix: "pond/blobs".into(),
        region: "us-east-1".into(),
        endpoint: Some(endpoint),
        access_key_id: ACCESS_KEY.into(),
        secret_access_key: Secret::new(SECRET_KEY),
        session_token: None,
        extra_ca: Vec::new(),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "tests are told by the environment where their buckets are"
)]
fn given() -> Option<String> {
    std::env::var("POND_TEST_S3_URL").ok().filter(|url| !url.is_empty())
}
