//! Encrypted bundles: a fetched tree as it is stored and as it travels, readable with a key of its own.
//!
//! A 7-byte nonce prefix, then chunks of up to 65,536 bytes, each sealed with AES-256-GCM and a 16-byte tag (the STREAM
//! construction): a 4-byte counter and a byte that marks the last chunk complete each nonce, so that a file that was cut,
//! swapped or added to does not open.

use aead_stream::{NewStream, StreamBE32, StreamPrimitive};
use aes_gcm::Aes256Gcm;
use aes_gcm::aead::KeyInit;
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt, stream};

use crate::artifacts::{BlobError, ByteStream};
use crate::entropy::Entropy;
use crate::secret::SecretBytes;

const PREFIX: usize = 7;
const TAG: usize = 16;
const CHUNK: usize = 65_536;

/// A sealed bundle that is not what was sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bundle was changed, or this is not its key")]
pub struct BundleDoesNotOpen;

/// The key of one bundle.
#[derive(Debug, Clone)]
pub struct BundleKey(SecretBytes);

type Cipher = StreamBE32<Aes256Gcm>;

impl BundleKey {
    /// Draws a key.
    pub fn draw(entropy: &dyn Entropy) -> Self {
        Self(SecretBytes::new(entropy.draw::<32>().to_vec()))
    }

    /// The key of these bytes, unless they are not 32.
    pub fn new(bytes: SecretBytes) -> Option<Self> {
        (bytes.expose().len() == 32).then_some(Self(bytes))
    }

    /// The clear bytes, for whoever seals them on.
    pub fn expose(&self) -> &[u8] {
        self.0.expose()
    }

    fn cipher(&self, prefix: &[u8; PREFIX]) -> Cipher {
        let aead = Aes256Gcm::new_from_slice(self.expose()).expect("kept as 32 bytes");
        Cipher::from_aead(aead, &(*prefix).into())
    }

    /// Seals a stream. Memory use does not depend on its length.
    pub fn seal(&self, clear: ByteStream, entropy: &dyn Entropy) -> ByteStream {
        let prefix = entropy.draw::<PREFIX>();
        let cipher = self.cipher(&prefix);
        let head = stream::once(async move { Ok(Bytes::copy_from_slice(&prefix)) });
        let sealed = Chunks::new(clear, CHUNK).map_chunks(move |number, last, chunk| {
            cipher
                .encrypt(number, last, chunk)
                .map(Bytes::from)
                .map_err(|_| unreadable())
        });
        head.chain(sealed).boxed()
    }

    /// Opens a sealed stream: what comes out has been checked, and the end of the stream is an error unless it is the end of
    /// what was sealed.
    pub fn open(&self, sealed: ByteStream) -> ByteStream {
        let key = self.clone();
        let opened = async move {
            let mut chunks = Chunks::new(sealed, CHUNK + TAG);
            let prefix: [u8; PREFIX] = match chunks.exactly(PREFIX).await?.as_ref().try_into() {
                Ok(prefix) => prefix,
                Err(_) => return Err(unreadable()),
            };
            let cipher = key.cipher(&prefix);
            Ok(chunks.map_chunks(move |number, last, chunk| {
                cipher
                    .decrypt(number, last, chunk)
                    .map(Bytes::from)
                    .map_err(|_| unreadable())
            }))
        };
        stream::once(opened)
            .map(|opened| opened.unwrap_or_else(|error| stream::once(async { Err(error) }).boxed()))
            .flatten()
            .boxed()
    }
}

fn unreadable() -> BlobError {
    BlobError::Unavailable(Box::new(BundleDoesNotOpen))
}

/// A stream in pieces of one size; the last may be shorter, and is there even when it is empty.
struct Chunks {
    from: ByteStream,
    held: BytesMut,
    size: usize,
    ended: bool,
}

impl Chunks {
    fn new(from: ByteStream, size: usize) -> Self {
        Self {
            from,
            held: BytesMut::new(),
            size,
            ended: false,
        }
    }

    /// Reads until more than `size` bytes are held, so that it is known whether those are the last.
    async fn fill(&mut self, size: usize) -> Result<(), BlobError> {
        while !self.ended && self.held.len() <= size {
            match self.from.next().await {
                Some(bytes) => self.held.extend_from_slice(&bytes?),
                None => self.ended = true,
            }
        }
        Ok(())
    }

    /// The first bytes, as many as asked for or as there are.
    async fn exactly(&mut self, size: usize) -> Result<BytesMut, BlobError> {
        self.fill(size).await?;
        let size = size.min(self.held.len());
        Ok(self.held.split_to(size))
    }

    /// The next piece and whether it is the last.
    async fn next(&mut self) -> Result<(BytesMut, bool), BlobError> {
        let piece = self.exactly(self.size).await?;
        Ok((piece, self.ended && self.held.is_empty()))
    }

    fn map_chunks<F>(self, each: F) -> ByteStream
    where
        F: Fn(u32, bool, &[u8]) -> Result<Bytes, BlobError> + Send + 'static,
    {
        let steps: std::pin::Pin<Box<dyn Stream<Item = _> + Send>> =
            Box::pin(stream::try_unfold(Some((self, each, 0u32)), |state| async move {
                let Some((mut chunks, each, number)) = state else {
                    return Ok(None);
                };
                let (piece, last) = chunks.next().await?;
                let out = each(number, last, &piece)?;
                let next = match last {
                    true => None,
                    // Far more than any bundle may have; the counter must not wrap.
                    false => Some((chunks, each, number.checked_add(1).ok_or_else(unreadable)?)),
                };
                Ok(Some((out, next)))
            }));
        steps
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::SeededEntropy;

    fn stream_of(bytes: &[u8], piece: usize) -> ByteStream {
        let pieces: Vec<_> = bytes
            .chunks(piece.max(1))
            .map(|part| Ok(Bytes::copy_from_slice(part)))
            .collect();
        stream::iter(pieces).boxed()
    }

    fn collect(stream: ByteStream) -> Result<Vec<u8>, BlobError> {
        futures::executor::block_on(async {
            let mut all = Vec::new();
            futures::pin_mut!(stream);
            while let Some(bytes) = stream.next().await {
                all.extend_from_slice(&bytes?);
            }
            Ok(all)
        })
    }

    fn sealed(clear: &[u8]) -> (BundleKey, Vec<u8>) {
        let entropy = SeededEntropy::new(1);
        let key = BundleKey::draw(&entropy);
        let bytes = collect(key.seal(stream_of(clear, 1000), &entropy)).unwrap();
        (key, bytes)
    }

    #[test]
    fn sizes_around_a_chunk_open_again() {
        for size in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK + 5] {
            let clear: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
            let (key, bytes) = sealed(&clear);
            let chunks = size.div_ceil(CHUNK).max(1);
            assert_eq!(bytes.len(), PREFIX + size + chunks * TAG, "{size}");
            assert_eq!(collect(key.open(stream_of(&bytes, 777))).unwrap(), clear, "{size}");
        }
    }

    #[test]
    fn c17_38_a_flipped_cut_reordered_or_extended_bundle_does_not_open() {
        let clear = vec![5; 3 * CHUNK + 9];
        let (key, bytes) = sealed(&clear);
        let whole = CHUNK + TAG;
        let (head, rest) = bytes.split_at(PREFIX);
        let swapped = [head, &rest[whole..2 * whole], &rest[..whole], &rest[2 * whole..]].concat();
        let without_first = [head, &rest[whole..]].concat();
        let doubled = [&bytes[..], &rest[3 * whole..]].concat();
        for broken in [
            &bytes[..bytes.len() - 1],
            &bytes[..PREFIX + 3 * whole],
            &bytes[..PREFIX],
            &bytes[..3],
            &[],
            &swapped,
            &without_first,
            &doubled,
            &[&bytes[..], b"x"].concat(),
        ] {
            assert!(collect(key.open(stream_of(broken, 4096))).is_err());
        }
        let other = BundleKey::draw(&SeededEntropy::new(2));
        assert!(collect(other.open(stream_of(&bytes, 4096))).is_err());
    }

    proptest! {
        #[test]
        fn c17_38_any_flipped_bit_is_found(clear in prop::collection::vec(any::<u8>(), 0..200), at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let (key, mut bytes) = sealed(&clear);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(collect(key.open(stream_of(&bytes, 64))).is_err());
        }
    }
}
