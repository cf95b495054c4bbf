//! Blobs in a bucket: `POND_BLOB_URL=s3://bucket/prefix`, with keys, region and endpoint in the variables that AWS's own tools
//! read. Only these are read: no profile, no metadata service.

use pond_core::outbound::Host;
use pond_core::secret::Secret;
use pond_core::sources::is_bucket;
use pond_store::S3Place;
use url::Url;

use super::reader::Reader;

pub(super) const EXPECTED: &str = "expected file:///… or s3://bucket/prefix, the prefix of A-Z a-z 0-9 - and /";

/// The place that the URL names, if it and what goes with it is good.
pub(super) fn read(reader: &mut Reader<'_>, url: &str) -> Option<S3Place> {
    let place = place(url);
    if place.is_none() {
        reader.bad("POND_BLOB_URL", EXPECTED);
    }
    let access_key_id = required(reader, "AWS_ACCESS_KEY_ID");
    let secret_access_key = required(reader, "AWS_SECRET_ACCESS_KEY");
    let session_token = reader.secret("AWS_SESSION_TOKEN");
    let region = first(reader, ["AWS_REGION", "AWS_DEFAULT_REGION"], |text| {
        let sane = text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        sane.then(|| text.to_owned())
    });
    let endpoint = first(reader, ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"], |text| {
        let url = Url::parse(text).ok()?;
        let web = matches!(url.scheme(), "http" | "https") && url.has_host();
        let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
        (web && plain).then(|| text.trim_end_matches('/').to_owned())
    });
    let (bucket, prefix) = place?;
    Some(S3Place {
        bucket,
        prefix,
        region: region.unwrap_or_else(|| "us-east-1".to_owned()),
        endpoint,
        access_key_id: access_key_id?.expose().to_owned(),
        secret_access_key: secret_access_key?,
        session_token,
        extra_ca: Vec::new(),
    })
}

/// Whether everything to and from the bucket could be read on the way.
pub(super) fn is_plain(place: &S3Place) -> bool {
    let url = place.endpoint.as_deref().and_then(|text| Url::parse(text).ok());
    url.is_some_and(|url| {
        let host = url.host_str().and_then(|host| Host::parse(host).ok());
        let loopback = host.and_then(|host| host.address()).is_some_and(|ip| ip.is_loopback());
        url.scheme() == "http" && !loopback
    })
}

fn place(url: &str) -> Option<(String, String)> {
    let rest = url.strip_prefix("s3://")?;
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    let part = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let sane = is_bucket(bucket) && prefix.len() <= 256 && (prefix.is_empty() || prefix.split('/').all(part));
    sane.then(|| (bucket.to_owned(), prefix.to_owned()))
}

fn required(reader: &mut Reader<'_>, variable: &str) -> Option<Secret> {
    let file = format!("{variable}_FILE");
    let given = reader.text(variable).is_some() || reader.text(&file).is_some();
    if !given {
        reader.bad(variable, "is required where POND_BLOB_URL names a bucket");
    }
    reader.secret(variable)
}

/// The first of the variables that is set.
fn first<T>(reader: &mut Reader<'_>, variables: [&str; 2], read: impl Fn(&str) -> Option<T>) -> Option<T> {
    let set = variables.into_iter().find(|variable| reader.text(variable).is_some())?;
    reader.parsed(set, &read, "a value as AWS's own tools take it")
}
