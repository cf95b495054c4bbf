//! A tar archive that may be compressed: gzip and zstd are told apart from plain tar by how they begin, never by a name. What
//! is decompressed is counted before anything reads it, so a bomb ends at the limit whatever it is made of.

use std::cell::Cell;
use std::io::{self, BufRead, Read};
use std::path::Path;

use super::{Excess, Limits, Stats, TreeError, extract};

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// The largest window that a zstd stream may ask for, as a power of two: what its own tools take by default.
const MAX_WINDOW: u32 = 27;

/// What an archive may need around each entry: its header, a long name, padding.
const AROUND: u64 = 4 << 10;

/// Unpacks a tar, tar.gz or tar.zst archive, as [`extract`] does.
///
/// # Errors
/// As [`extract`]; also when more comes out than content and headers within the limits can take.
pub fn extract_compressed(mut reader: impl BufRead, into: &Path, limits: Limits) -> Result<Stats, TreeError> {
    const BAD: TreeError = TreeError::Malformed("the compression is not valid");
    let start = reader.fill_buf()?;
    if start.starts_with(GZIP) {
        return bounded(flate2::bufread::MultiGzDecoder::new(reader), into, limits);
    }
    if start.starts_with(ZSTD) {
        let mut decoder = zstd::stream::read::Decoder::with_buffer(reader).map_err(|_| BAD)?;
        decoder.window_log_max(MAX_WINDOW).map_err(|_| BAD)?;
        return bounded(decoder, into, limits);
    }
    bounded(reader, into, limits)
}

fn bounded(reader: impl Read, into: &Path, limits: Limits) -> Result<Stats, TreeError> {
    let over = Cell::new(false);
    let most = limits
        .bytes
        .saturating_add(limits.files.saturating_mul(AROUND))
        .saturating_add(1 << 20);
    let counted = Counted {
        reader,
        left: most,
        over: &over,
    };
    extract(counted, into, limits).map_err(|error| match error {
        // The error went through a library that keeps its text alone.
        _ if over.get() => TreeError::TooLarge(Excess::Bytes(limits.bytes)),
        TreeError::Io(error) if is_format(error.kind()) => TreeError::Malformed("the archive does not read"),
        error => error,
    })
}

/// What archives and compression fail with; all else is the disk.
fn is_format(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof | io::ErrorKind::Other
    )
}

/// Fails once more was read than there may be.
struct Counted<'o, R> {
    reader: R,
    left: u64,
    over: &'o Cell<bool>,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buf)?;
        match self.left.checked_sub(read as u64) {
            Some(left) => {
                self.left = left;
                Ok(read)
            }
            None => {
                self.over.set(true);
                Err(io::Error::other("larger than it may be"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const LIMITS: Limits = Limits {
        bytes: 1 << 20,
        files: 20,
    };

    fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, *content).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        ::zstd::stream::encode_all(bytes, 3).unwrap()
    }

    fn unpack(bytes: &[u8]) -> (tempfile::TempDir, Result<Stats, TreeError>) {
        let folder = tempfile::tempdir().unwrap();
        let unpacked = extract_compressed(bytes, &folder.path().join("into"), LIMITS);
        assert_eq!(
            folder.path().join("into").exists(),
            unpacked.is_ok(),
            "what failed leaves nothing"
        );
        (folder, unpacked)
    }

    #[test]
    fn plain_gzip_and_zstd_give_the_same_tree() {
        let plain = tar(&[("a.txt", b"one"), ("sub/b.txt", b"two")]);
        for bytes in [plain.clone(), gzip(&plain), zstd(&plain)] {
            let (folder, unpacked) = unpack(&bytes);
            assert_eq!(unpacked.unwrap().bytes, 6);
            assert_eq!(std::fs::read(folder.path().join("into/sub/b.txt")).unwrap(), b"two");
        }
    }

    #[test]
    fn c17_37_a_bomb_ends_at_the_limit_whatever_it_is_made_of() {
        let zeros = vec![0u8; 8 << 20];
        let large = tar(&[("large", &zeros)]);
        // Left out of the tree, so that its own count of content never sees them.
        let many: Vec<(String, &[u8])> = (0..16).map(|n| (format!(".git/{n}"), &zeros[..1 << 20])).collect();
        let hidden = tar(&many
            .iter()
            .map(|(name, content)| (name.as_str(), *content))
            .collect::<Vec<_>>());
        for archive in [&large, &hidden] {
            for bytes in [gzip(archive), zstd(archive)] {
                assert!(bytes.len() < 64 << 10, "it is small as sent");
                let (_folder, unpacked) = unpack(&bytes);
                assert!(
                    matches!(unpacked, Err(TreeError::TooLarge(Excess::Bytes(_)))),
                    "{unpacked:?}"
                );
            }
        }
    }

    #[test]
    fn what_is_cut_or_broken_is_malformed() {
        let plain = tar(&[("a.txt", &[7; 5000])]);
        let (gzipped, zstded) = (gzip(&plain), zstd(&plain));
        let mut flipped = zstded.clone();
        let last = flipped.len() - 6;
        flipped[last] ^= 0xff;
        for bytes in [
            &gzipped[..gzipped.len() / 2],
            &zstded[..zstded.len() / 2],
            &flipped,
            &plain[..700],
            b"PK\x03\x04 no tar at all",
        ] {
            let (_folder, unpacked) = unpack(bytes);
            assert!(matches!(unpacked, Err(TreeError::Malformed(_))), "{unpacked:?}");
        }
    }
}
