//! The members that a route looks for, compiled once.

use super::DEPTH_MAX;
use super::scan::Text;

/// Members to look for, compiled once per route from JSON Pointers (RFC 6901) such as `/amount/total`.
#[derive(Clone, Debug)]
pub struct Wanted {
    root: Node,
    len: usize,
}

/// A pointer cannot be looked for; `index` is its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WantedError {
    /// More pointers than [`WANTED_MAX`], or more members on their ways than [`NODES_MAX`].
    #[error("more than {WANTED_MAX} pointers, or more than {NODES_MAX} members on their ways")]
    TooMany,
    /// Not a pointer to a member: it does not begin with `/`, or `~` is not followed by `0` or `1`.
    #[error("pointer {index} does not begin with `/`, or has a `~` without 0 or 1 behind it")]
    Pointer {
        /// The pointer's position.
        index: usize,
    },
    /// The pointer goes into an array (`*`); array items cannot be looked for.
    #[error("pointer {index} has a `*`; items of arrays cannot be looked for")]
    Array {
        /// The pointer's position.
        index: usize,
    },
    /// The pointer goes deeper than [`DEPTH_MAX`], so that no document could have the member.
    #[error("pointer {index} goes more than {DEPTH_MAX} deep")]
    Depth {
        /// The pointer's position.
        index: usize,
    },
    /// Two pointers differ by case only, so that every document would be ambiguous.
    #[error("pointer {index} differs from another one by case only")]
    Ambiguous {
        /// The pointer's position.
        index: usize,
    },
}

impl Wanted {
    /// Compiles pointers; the same one may occur more than once.
    ///
    /// # Errors
    /// [`WantedError`] names the pointer that cannot be looked for.
    pub fn new(pointers: &[&str]) -> Result<Self, WantedError> {
        if pointers.len() > WANTED_MAX {
            return Err(WantedError::TooMany);
        }
        let mut root = Node::new(String::new(), 0);
        let mut nodes = 0;
        for (index, pointer) in pointers.iter().enumerate() {
            let tokens = pointer.strip_prefix('/').ok_or(WantedError::Pointer { index })?;
            let names = tokens.split('/').map(|token| name(token, index)).collect::<Result<Vec<_>, _>>()?;
            if names.len() > DEPTH_MAX {
                return Err(WantedError::Depth { index });
            }
            root.insert(&names, index, &mut nodes)?;
        }
        Ok(Self { root, len: pointers.len() })
    }

    /// Returns the number of pointers.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the set of the pointers that name a member of the document itself.
    ///
    /// # Errors
    /// [`Folded`] where the name differs from that of a wanted member by case only.
    pub(in crate::request) fn named(&self, name: &str) -> Result<u16, Folded> {
        for child in &self.root.children {
            match compare(name.chars(), &child.name) {
                Likeness::None => {}
                Likeness::Folded => return Err(Folded),
                Likeness::Equal => return Ok(child.pointers),
            }
        }
        Ok(0)
    }

    pub(super) fn root(&self) -> &Node {
        &self.root
    }
}

/// A name differs from a wanted one by case only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::request) struct Folded;

/// A wanted member, or one on the way to it.
#[derive(Clone, Debug)]
pub(super) struct Node {
    name: String,
    ascii: bool,
    bit: u64,
    pointers: u16,
    below: u16,
    children: Vec<Node>,
}

impl Node {
    fn new(name: String, bit: u64) -> Self {
        Self { ascii: name.is_ascii(), name, bit, pointers: 0, below: 0, children: Vec::new() }
    }

    /// Returns the members looked for in this one.
    pub(super) fn children(&self) -> &[Node] {
        &self.children
    }

    /// Returns the bit that stands for this node; none for the root.
    pub(super) fn bit(&self) -> u64 {
        self.bit
    }

    /// Returns the set of the pointers that end here.
    pub(super) fn pointers(&self) -> u16 {
        self.pointers
    }

    /// Returns the set of the pointers that go on from here.
    pub(super) fn below(&self) -> u16 {
        self.below
    }

    /// Compares a key with the name of this member; `ascii` is the key if it is its own spelling, in ASCII.
    #[inline]
    pub(super) fn likeness(&self, key: &Text<'_>, ascii: Option<&str>) -> Likeness {
        match ascii {
            Some(key) if self.ascii && !key.eq_ignore_ascii_case(&self.name) => Likeness::None,
            Some(key) if key == self.name => Likeness::Equal,
            _ => compare(key.chars(), &self.name),
        }
    }

    fn insert(&mut self, names: &[String], index: usize, nodes: &mut u32) -> Result<(), WantedError> {
        let bit = 1_u16 << index;
        let Some((name, deeper)) = names.split_first() else {
            self.pointers |= bit;
            return Ok(());
        };
        self.below |= bit;
        for child in &mut self.children {
            match compare(name.chars(), &child.name) {
                Likeness::None => {}
                Likeness::Folded => return Err(WantedError::Ambiguous { index }),
                Likeness::Equal => return child.insert(deeper, index, nodes),
            }
        }
        let bit = 1_u64.checked_shl(*nodes).ok_or(WantedError::TooMany)?;
        *nodes += 1;
        let mut child = Node::new(name.clone(), bit);
        child.insert(deeper, index, nodes)?;
        self.children.push(child);
        Ok(())
    }
}

/// How like two names are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Likeness {
    /// The same characters.
    Equal,
    /// The same but for case: some parsers take one for the other.
    Folded,
    /// Different.
    None,
}

fn compare(key: impl Iterator<Item = char> + Clone, name: &str) -> Likeness {
    if key.clone().eq(name.chars()) {
        Likeness::Equal
    } else if key.map(fold).eq(name.chars().map(fold)) {
        Likeness::Folded
    } else {
        Likeness::None
    }
}

/// Maps a character to its lower case, as far as parsers do that take ASCII names without regard to case. Those that
/// use Unicode's simple folding also take the long s and the Kelvin sign for letters.
fn fold(character: char) -> char {
    match character {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        _ => character.to_ascii_lowercase(),
    }
}

/// Unescapes one token of a pointer (RFC 6901, section 4).
fn name(token: &str, index: usize) -> Result<String, WantedError> {
    if token == "*" {
        return Err(WantedError::Array { index });
    }
    let mut name = String::with_capacity(token.len());
    let mut characters = token.chars();
    while let Some(character) = characters.next() {
        name.push(match character {
            '~' => match characters.next() {
                Some('0') => '~',
                Some('1') => '/',
                _ => return Err(WantedError::Pointer { index }),
            },
            _ => character,
        });
    }
    Ok(name)
}

/// Most pointers of one route.
pub const WANTED_MAX: usize = 16;

/// Most members on the ways of all pointers of one route.
pub const NODES_MAX: usize = 64;

const _: () = assert!(WANTED_MAX == u16::BITS as usize && NODES_MAX == u64::BITS as usize, "sets are one word");
