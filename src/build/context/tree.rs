//! What was found below a path, and the digests of it.

use crate::digest::{Digest, Hashing};
use std::io::{self, Write};

/// What a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link, and where to.
    Link(Vec<u8>),
    /// A pipe.
    Pipe,
    /// A device: `c` or `b`, and its number.
    Device(u8, u64),
}

/// A file of the context.
#[derive(Clone, Debug)]
pub struct Item {
    /// From the context's root, without a slash at its ends; empty for the root itself.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits, set-id bits and the sticky bit; of a link none.
    pub mode: u32,
    /// Owner and group as they will be.
    pub owner: (u32, u32),
    /// Bytes of a regular file.
    pub size: u64,
    /// By what its content is remembered.
    pub(super) key: Key,
    /// The digest of a regular file's attributes and content, of a folder's attributes.
    pub(super) content: Option<Digest>,
    /// The number of the first item that is not below it.
    pub(super) end: usize,
}

/// What tells one state of a file's content from another, as far as `stat` knows: device, inode, size, and times of
/// modification and change in nanoseconds. The last of them moves with whatever is done to a file and cannot be set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) size: u64,
    pub(super) mtime: i128,
    pub(super) ctime: i128,
}

/// Whether an item belongs to what is digested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Neither it nor what is below it.
    Skip,
    /// It does.
    Take,
    /// A folder for the sake of what is taken below it, if anything is.
    Descend,
}

/// A path and what is below it: parents first, children in the order of their names' bytes.
#[derive(Clone, Debug)]
pub struct Tree {
    /// At least one.
    pub(super) items: Vec<Item>,
}

impl Tree {
    /// All items, the top first.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// The digest of the whole.
    pub fn digest(&self) -> Digest {
        // The top is always taken.
        self.digest_of(0, |_| Choice::Take).unwrap_or_else(|| Digest::of(b""))
    }

    /// The digest of the item at a path and what is below it; none if there is no such item.
    pub fn digest_at(&self, path: &[u8]) -> Option<Digest> {
        self.digest_of(self.find(path)?, |_| Choice::Take)
    }

    /// The digest of what `choose` takes; none if that is nothing.
    pub fn digest_chosen(&self, choose: impl Fn(&Item) -> Choice) -> Option<Digest> {
        self.digest_of(0, choose)
    }

    fn find(&self, path: &[u8]) -> Option<usize> {
        let mut at = 0;
        loop {
            let item = self.items.get(at)?;
            if item.path == path {
                return Some(at);
            }
            let holds = item.path.is_empty()
                || path.strip_prefix(&item.path[..]).is_some_and(|rest| rest.starts_with(b"/"));
            at = if holds { at + 1 } else { item.end };
        }
    }

    fn digest_of(&self, top: usize, choose: impl Fn(&Item) -> Choice) -> Option<Digest> {
        let end = self.items[top].end;
        let mut choices = vec![Choice::Skip; end - top];
        let mut at = top;
        while at < end {
            choices[at - top] = choose(&self.items[at]);
            at = if choices[at - top] == Choice::Skip { self.items[at].end } else { at + 1 };
        }
        // Children come after their parents, so their digests are there first when it goes backwards.
        let mut digests: Vec<Option<Digest>> = vec![None; end - top];
        for at in (top..end).rev() {
            digests[at - top] = match choices[at - top] {
                Choice::Skip => None,
                choice => self.one(at, choice, |child| digests[child - top]),
            };
        }
        digests[0]
    }

    fn one(&self, at: usize, choice: Choice, of: impl Fn(usize) -> Option<Digest>) -> Option<Digest> {
        let item = &self.items[at];
        let mut hash = Hash::new();
        item.hash_into(&mut hash);
        let mut has_any = false;
        let mut child = at + 1;
        while child < item.end {
            if let Some(digest) = of(child) {
                let path = &self.items[child].path;
                let start = path.iter().rposition(|&b| b == b'/').map_or(0, |slash| slash + 1);
                hash.bytes(&path[start..]);
                hash.bytes(digest.raw());
                has_any = true;
            }
            child = self.items[child].end;
        }
        (choice == Choice::Take || has_any).then(|| hash.finish())
    }
}

impl Item {
    fn hash_into(&self, hash: &mut Hash) {
        match &self.kind {
            Kind::File => hash.bytes(b"file"),
            Kind::Folder => hash.bytes(b"folder"),
            Kind::Link(target) => {
                hash.bytes(b"link");
                hash.bytes(target);
            }
            Kind::Pipe => hash.bytes(b"pipe"),
            Kind::Device(kind, number) => {
                hash.bytes(b"device");
                hash.number((*kind).into());
                hash.number(*number);
            }
        }
        for number in [self.mode.into(), self.owner.0.into(), self.owner.1.into(), self.size] {
            hash.number(number);
        }
        if let Some(content) = &self.content {
            hash.bytes(content.raw());
        }
    }
}

/// A digest over values that cannot be taken for one another: each with its length.
pub(super) struct Hash(Hashing<io::Sink>);

impl Hash {
    pub(super) fn new() -> Self {
        Self(Hashing::new(io::sink()))
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.raw(bytes);
    }

    pub(super) fn number(&mut self, number: u64) {
        self.raw(&number.to_le_bytes());
    }

    /// Without its length: the last of all.
    pub(super) fn raw(&mut self, bytes: &[u8]) {
        // A sink takes everything.
        let _ = self.0.write_all(bytes);
    }

    pub(super) fn finish(self) -> Digest {
        self.0.finish().1
    }
}
