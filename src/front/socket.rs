//! Listening sockets.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;

use socket2::{Domain, Protocol, Type};

use super::options::Address;

/// A bound listening socket, of which each worker has its own.
#[derive(Debug)]
pub enum Socket {
    /// TCP, with `SO_REUSEPORT`: the kernel spreads connections over the workers.
    Tcp(std::net::TcpListener),
    /// A Unix socket; the workers share one queue.
    Unix(std::os::unix::net::UnixListener),
}

impl Socket {
    /// Makes the socket of a further worker.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn another(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(listener) => listen(listener.local_addr()?).map(Self::Tcp),
            Self::Unix(listener) => listener.try_clone().map(Self::Unix),
        }
    }

    /// Returns the address, with the port that was chosen where port 0 was asked for.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn address(&self) -> io::Result<Address> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Address::Tcp),
            Self::Unix(listener) => {
                let address = listener.local_addr()?;
                Ok(Address::Unix(address.as_pathname().map(Into::into).unwrap_or_default()))
            }
        }
    }
}

/// Binds a listening socket, where nobody else listens. A Unix socket left behind by a process that is gone is replaced.
///
/// # Errors
/// What the operating system says.
pub fn bind(address: &Address) -> io::Result<Socket> {
    match address {
        Address::Tcp(address) => {
            // `SO_REUSEPORT` would let a second process in, which would count the same limits in tables of its own:
            // whether the address is free is asked without it.
            if address.port() != 0 {
                tcp_socket(*address)?.bind(&(*address).into())?;
            }
            listen(*address).map(Socket::Tcp)
        }
        Address::Unix(path) => {
            let stale = std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
                && std::os::unix::net::UnixStream::connect(path).is_err();
            if stale {
                std::fs::remove_file(path)?;
            }
            let listener = std::os::unix::net::UnixListener::bind(path)?;
            listener.set_nonblocking(true)?;
            Ok(Socket::Unix(listener))
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = tcp_socket(address)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn tcp_socket(address: SocketAddr) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    Ok(socket)
}

/// How many connections the kernel queues before they are accepted.
const BACKLOG: i32 = 4096;
