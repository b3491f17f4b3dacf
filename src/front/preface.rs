//! Which version of HTTP a connection speaks, by its first bytes (RFC 9113, section 3.4).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use arrayvec::ArrayVec;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// The first bytes of a connection: no more of them than tell which version it speaks.
#[derive(Debug, Default)]
pub(super) struct Opening {
    bytes: ArrayVec<u8, PREFACE_BYTES>,
}

impl Opening {
    /// Reads on until the first bytes tell whether the version is HTTP/2. Dropped before, it goes on where it was.
    ///
    /// # Errors
    /// What the stream says.
    pub async fn is_http2<S: AsyncRead + Unpin>(&mut self, stream: &mut S) -> io::Result<bool> {
        while let Some(missing) = PREFACE.strip_prefix(self.bytes.as_slice()).filter(|missing| !missing.is_empty()) {
            let mut buffer = [0; PREFACE_BYTES];
            let room = buffer.get_mut(..missing.len()).unwrap_or_default();
            let length = stream.read(room).await?;
            if length == 0 {
                return Ok(false);
            }
            self.bytes.extend(room.iter().copied().take(length));
        }
        Ok(self.bytes.as_slice() == PREFACE)
    }

    /// Tells whether nothing has come yet.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Puts the first bytes back before the others.
    pub fn put_back<S>(self, stream: S) -> Reopened<S> {
        Reopened { opening: self.bytes, stream }
    }
}

/// A stream whose first bytes were read and put back.
#[derive(Debug)]
pub(super) struct Reopened<S> {
    opening: ArrayVec<u8, PREFACE_BYTES>,
    stream: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Reopened<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.opening.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let length = buffer.remaining().min(self.opening.len());
        let given: ArrayVec<u8, PREFACE_BYTES> = self.opening.drain(..length).collect();
        buffer.put_slice(&given);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Reopened<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// With what a client of HTTP/2 begins.
const PREFACE: &[u8; PREFACE_BYTES] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const PREFACE_BYTES: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio::io::{AsyncWriteExt, duplex};

    /// Sends bytes in pieces; returns what the opening says and all that is read after it was put back.
    fn told(bytes: &[u8], piece: usize) -> (bool, Vec<u8>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
        runtime.block_on(async {
            let (mut peer, mut ours) = duplex(7);
            let sending = async {
                for piece in bytes.chunks(piece) {
                    peer.write_all(piece).await.expect("write");
                }
                drop(peer);
            };
            let reading = async {
                let mut opening = Opening::default();
                let http2 = opening.is_http2(&mut ours).await.expect("read");
                let mut read = Vec::new();
                opening.put_back(ours).read_to_end(&mut read).await.expect("read");
                (http2, read)
            };
            tokio::join!(sending, reading).1
        })
    }

    proptest! {
        #[test]
        fn only_the_whole_preface_is_http2_and_no_byte_is_lost(
            same in 0_usize..=PREFACE_BYTES,
            more in prop::collection::vec(any::<u8>(), 0..40),
            piece in 1_usize..10,
        ) {
            let bytes = [&PREFACE[..same], more.as_slice()].concat();
            let (http2, read) = told(&bytes, piece);
            prop_assert_eq!(http2, bytes.starts_with(PREFACE));
            prop_assert_eq!(read, bytes);
        }
    }
}
