//! Opens answers that come compressed though nobody asked for that: what cannot be read cannot be scrubbed.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::write::{MultiGzDecoder, ZlibDecoder};
use hyper::header::{CONTENT_ENCODING, HeaderMap};

/// Opens one body.
pub(super) enum Decoding {
    Gzip(Box<MultiGzDecoder<Vec<u8>>>),
    Deflate(Box<ZlibDecoder<Vec<u8>>>),
}

/// An encoding that is not known here.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unknown;

impl Decoding {
    /// What opens a body with these headers; nothing when it is as it is.
    pub(super) fn of(headers: &HeaderMap) -> Result<Option<Self>, Unknown> {
        let values = headers.get_all(CONTENT_ENCODING).iter();
        let mut codings = Vec::new();
        for value in values {
            let value = value.to_str().map_err(|_| Unknown)?.to_ascii_lowercase();
            let named = value
                .split(',')
                .map(str::trim)
                .filter(|coding| !matches!(*coding, "" | "identity"));
            codings.extend(named.map(str::to_owned));
        }
        match codings.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            [] => Ok(None),
            ["gzip" | "x-gzip"] => Ok(Some(Self::Gzip(Box::new(MultiGzDecoder::new(Vec::new()))))),
            ["deflate"] => Ok(Some(Self::Deflate(Box::new(ZlibDecoder::new(Vec::new()))))),
            _ => Err(Unknown),
        }
    }

    /// Opens the next bytes.
    pub(super) fn push(&mut self, chunk: &[u8]) -> io::Result<Bytes> {
        let out = match self {
            Self::Gzip(gzip) => {
                gzip.write_all(chunk)?;
                gzip.flush()?;
                gzip.get_mut()
            }
            Self::Deflate(deflate) => {
                deflate.write_all(chunk)?;
                deflate.flush()?;
                deflate.get_mut()
            }
        };
        Ok(std::mem::take(out).into())
    }

    /// The rest; an error when the body broke off.
    pub(super) fn finish(self) -> io::Result<Bytes> {
        let out = match self {
            Self::Gzip(gzip) => gzip.finish()?,
            Self::Deflate(deflate) => deflate.finish()?,
        };
        Ok(out.into())
    }
}
