//! Who may connect to the control listener.

use std::io;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::Listener;

/// The listener, and the rule on its peers.
#[derive(Debug)]
pub(super) enum Door {
    /// On loopback: everybody on this machine.
    Tcp(TcpListener),
    /// A Unix socket: peers of these user ids.
    Unix { listener: UnixListener, uids: [u32; 2] },
}

/// A connection whose peer may talk.
#[derive(Debug)]
pub(super) enum Peer {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Door {
    /// Takes a listener over. Must be called inside a runtime.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] where a TCP listener is not on loopback, and whatever the system reports.
    pub fn new(listener: Listener) -> io::Result<Self> {
        match listener {
            Listener::Tcp(listener) => {
                if !listener.local_addr()?.ip().is_loopback() {
                    return Err(io::Error::new(io::ErrorKind::InvalidInput, "the control listener is not on loopback"));
                }
                listener.set_nonblocking(true)?;
                TcpListener::from_std(listener).map(Self::Tcp)
            }
            Listener::Unix(listener) => {
                listener.set_nonblocking(true)?;
                Ok(Self::Unix { listener: UnixListener::from_std(listener)?, uids: [own_uid()?, ROOT_UID] })
            }
        }
    }

    /// Waits for a peer that may talk; hangs up on others.
    ///
    /// # Errors
    /// Where the listener failed.
    pub async fn accept(&self) -> io::Result<Peer> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(stream, _)| Peer::Tcp(stream)),
            Self::Unix { listener, uids } => loop {
                let (stream, _) = listener.accept().await?;
                match stream.peer_cred() {
                    Ok(peer) if uids.contains(&peer.uid()) => return Ok(Peer::Unix(stream)),
                    Ok(peer) => tracing::debug!(uid = peer.uid(), "a control peer of another user was hung up on"),
                    Err(error) => tracing::debug!(%error, "a control peer has no credentials"),
                }
            },
        }
    }
}

/// Returns the effective user id of this process, as a peer of its own would see it.
fn own_uid() -> io::Result<u32> {
    let (stream, _other) = UnixStream::pair()?;
    Ok(stream.peer_cred()?.uid())
}

/// The user id of root.
const ROOT_UID: u32 = 0;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use tokio::io::AsyncReadExt;

    use super::*;

    async fn served(uids: [u32; 2]) -> bool {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("control.sock");
        let door = Door::Unix { listener: UnixListener::bind(&path).expect("a socket"), uids };
        let mut stream = UnixStream::connect(&path).await.expect("a connection");
        let mut answer = [0; 1];
        tokio::select! {
            peer = door.accept() => peer.is_ok(),
            read = stream.read(&mut answer) => {
                assert_eq!(read.expect("hung up"), 0);
                false
            }
        }
    }

    #[tokio::test]
    async fn peers_of_other_users_are_hung_up_on() {
        let own = own_uid().expect("credentials");
        let other = own + 1;
        assert!(served([own, other]).await && served([other, own]).await);
        assert!(!served([other, other]).await);
    }

    #[tokio::test]
    async fn a_unix_socket_takes_its_own_user_and_root() {
        let folder = tempfile::tempdir().expect("a folder");
        let listener = std::os::unix::net::UnixListener::bind(folder.path().join("control.sock")).expect("a socket");
        let owner = std::fs::metadata(folder.path()).expect("a folder").uid();
        let door = Door::new(Listener::Unix(listener)).expect("a door");
        assert!(matches!(door, Door::Unix { uids, .. } if uids == [owner, 0]));
    }
}
