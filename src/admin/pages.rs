//! An export while it is sent: one page at a time, made off the listener's thread when the peer has taken the last.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::{self, JoinHandle};

use super::Control;

/// The pages of an export that are still to be sent.
pub(super) struct Pages {
    control: Arc<dyn Control>,
    next: usize,
    pages: usize,
    /// The page being made.
    making: Option<JoinHandle<Vec<u8>>>,
    /// The export's turn, kept until it has ended.
    _turn: OwnedSemaphorePermit,
}

/// A page could not be made: the answer breaks off, so that the peer does not take it for the whole.
#[derive(Debug, thiserror::Error)]
#[error("a page of the export could not be made")]
pub(super) struct Torn;

impl Pages {
    /// Begins an export of so many pages.
    pub fn new(control: Arc<dyn Control>, pages: usize, turn: OwnedSemaphorePermit) -> Self {
        Self { control, next: 0, pages, making: None, _turn: turn }
    }

    /// Returns the next page that is not empty; `None` after the last.
    pub fn poll_page(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Torn>>> {
        loop {
            let Some(making) = self.making.as_mut() else {
                if self.next >= self.pages {
                    return Poll::Ready(None);
                }
                let (control, page) = (Arc::clone(&self.control), self.next);
                self.next = self.next.saturating_add(1);
                self.making = Some(task::spawn_blocking(move || control.export(page)));
                continue;
            };
            let made = ready!(Pin::new(making).poll(context));
            self.making = None;
            match made {
                Ok(page) if page.is_empty() => {}
                Ok(page) => return Poll::Ready(Some(Ok(page.into()))),
                Err(_) => {
                    self.next = self.pages;
                    return Poll::Ready(Some(Err(Torn)));
                }
            }
        }
    }
}
