//! Frames of HTTP/2 as they come (RFC 9113, section 4.1): where they begin and end, and how many are of which kind.
//!
//! hyper says nothing of what it reads between two requests; deadlines and bounds need to know.

/// Follows the frames of one connection, from the end of its preface.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// What has come of a frame's head.
    head: [u8; HEAD_BYTES],
    head_bytes: usize,
    /// The kind of the frame whose payload is being read.
    kind: u8,
    payload_left: usize,
    /// Whether a list of header fields has begun and not ended.
    list_open: bool,
}

/// What came with some bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Frames that end a stream before its time.
    pub resets: u64,
    /// Frames that are neither data, nor the beginning of a list of header fields, nor resets.
    pub others: u64,
    /// Whether a frame or a list of header fields came to its end.
    pub ended: bool,
}

impl Frames {
    /// Goes on by what came.
    pub fn follow(&mut self, mut bytes: &[u8]) -> Seen {
        let mut seen = Seen::default();
        while !bytes.is_empty() {
            if self.payload_left > 0 {
                let (_, rest) = bytes.split_at(self.payload_left.min(bytes.len()));
                self.payload_left -= bytes.len() - rest.len();
                bytes = rest;
                seen.ended |= self.payload_left == 0 && !self.list_open;
            } else if let Some((next, rest)) = bytes.split_first() {
                self.take_head(*next, &mut seen);
                bytes = rest;
            }
        }
        seen
    }

    /// Tells whether something has begun that must end soon: anything but the payload of a data frame, for which whoever
    /// reads the body has a deadline.
    pub fn is_within(&self) -> bool {
        self.head_bytes > 0 || self.list_open || (self.payload_left > 0 && self.kind != DATA)
    }

    fn take_head(&mut self, byte: u8, seen: &mut Seen) {
        if let Some(place) = self.head.get_mut(self.head_bytes) {
            *place = byte;
        }
        self.head_bytes += 1;
        if self.head_bytes < HEAD_BYTES {
            return;
        }
        self.head_bytes = 0;
        let [high, middle, low, kind, flags, ..] = self.head;
        self.kind = kind;
        self.payload_left = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        match kind {
            HEADERS | CONTINUATION => self.list_open = flags & END_HEADERS == 0,
            _ => {}
        }
        match kind {
            DATA | HEADERS => {}
            RST_STREAM => seen.resets += 1,
            _ => seen.others += 1,
        }
        seen.ended |= self.payload_left == 0 && !self.list_open;
    }
}

/// A frame's head: length, kind, flags, stream.
const HEAD_BYTES: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Writes a frame out.
    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).expect("short").to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
        bytes.extend(std::iter::repeat_n(0x5a, payload));
        bytes
    }

    #[test]
    fn a_list_of_fields_ends_with_its_last_frame() {
        let mut frames = Frames::default();
        assert_eq!(frames.follow(&frame(HEADERS, 0, 20)), Seen::default());
        assert!(frames.is_within());
        assert_eq!(frames.follow(&frame(CONTINUATION, 0, 0)), Seen { others: 1, ..Seen::default() });
        assert!(frames.is_within());
        assert_eq!(frames.follow(&frame(CONTINUATION, END_HEADERS, 0)), Seen { others: 1, ended: true, resets: 0 });
        assert!(!frames.is_within());
    }

    #[test]
    fn half_of_a_data_frame_is_left_to_who_reads_the_body() {
        let mut frames = Frames::default();
        let data = frame(DATA, 0, 10);
        frames.follow(&data[..5]);
        assert!(frames.is_within(), "half a head is no data yet");
        frames.follow(&data[5..12]);
        assert!(!frames.is_within());
        assert!(frames.follow(&data[12..]).ended);
    }

    proptest! {
        #[test]
        fn frames_are_counted_wherever_the_bytes_are_cut(
            kinds in prop::collection::vec((0_u8..12, 0_usize..40), 1..30),
            cuts in prop::collection::vec(1_usize..64, 1..64),
        ) {
            let bytes: Vec<u8> = kinds.iter().flat_map(|(kind, payload)| frame(*kind, END_HEADERS, *payload)).collect();
            let (mut frames, mut resets, mut others, mut rest) = (Frames::default(), 0, 0, bytes.as_slice());
            for cut in cuts.iter().cycle() {
                let (part, after) = rest.split_at((*cut).min(rest.len()));
                let seen = frames.follow(part);
                resets += seen.resets;
                others += seen.others;
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            let count = |wanted: &dyn Fn(u8) -> bool| kinds.iter().filter(|(kind, _)| wanted(*kind)).count() as u64;
            prop_assert_eq!(resets, count(&|kind| kind == RST_STREAM));
            prop_assert_eq!(others, count(&|kind| ![DATA, HEADERS, RST_STREAM].contains(&kind)));
            prop_assert!(!frames.is_within());
        }
    }
}
