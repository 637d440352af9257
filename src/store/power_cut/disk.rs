//! A disk after a power cut, made from the record of what was changed before it.
//!
//! What was synced is there. Of what was not, any part may be: a write whole, its beginning, only
//! the size that it gave the file, or nothing; a name made, changed or removed, or not. Names are
//! no more ordered than a file system without a journal orders them.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::{Path, PathBuf},
};

use crate::sys::faults::Change;

/// A part of a disk that a write may leave when it is cut off.
const SECTOR: usize = 512;

/// A file through its life: numbers are given again.
type File = (u64, usize);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Dir,
    File(File),
}

/// What becomes of a change that was not synced.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fate {
    Whole,
    Nothing,
    /// A write leaves its beginning.
    Begun,
    /// A write leaves only the size that it gave the file.
    SizeOnly,
}

/// What was changed, with what each change was about at its time.
pub(super) struct Record {
    changes: Vec<Change>,
    /// The file of each change that is about one; what was renamed.
    nodes: Vec<Option<Node>>,
}

impl Record {
    pub(super) fn new(changes: Vec<Change>) -> Self {
        let mut lives: HashMap<u64, usize> = HashMap::new();
        let mut names: HashMap<PathBuf, Node> = HashMap::new();
        let mut nodes = Vec::new();
        for change in &changes {
            let file =
                |number: &u64| Node::File((*number, lives.get(number).copied().unwrap_or(0)));
            let node = match change {
                Change::MadeDir(path) => {
                    names.insert(path.clone(), Node::Dir);
                    Some(Node::Dir)
                }
                Change::Made(number, path) => {
                    let life = lives.entry(*number).or_default();
                    *life += 1;
                    let node = Node::File((*number, *life));
                    if let Some(path) = path {
                        names.insert(path.clone(), node);
                    }
                    Some(node)
                }
                Change::Linked(number, path) => {
                    let node = file(number);
                    names.insert(path.clone(), node);
                    Some(node)
                }
                Change::Renamed(from, to) => {
                    let node = names.remove(from).unwrap_or(Node::Dir);
                    names.insert(to.clone(), node);
                    Some(node)
                }
                Change::Wrote(number, ..) | Change::Resized(number, _) | Change::Synced(number) => {
                    Some(file(number))
                }
                Change::Removed(path) => names.remove(path),
                Change::SyncedDir(_) | Change::Promised(_) => None,
            };
            nodes.push(node);
        }
        Self { changes, nodes }
    }

    pub(super) fn len(&self) -> usize {
        self.changes.len()
    }

    /// The places of all syncs.
    pub(super) fn syncs(&self) -> Vec<usize> {
        let is_sync = |place: &usize| {
            matches!(self.changes[*place], Change::Synced(_) | Change::SyncedDir(_))
        };
        (0..self.len()).filter(is_sync).collect()
    }

    pub(super) fn describe(&self, place: usize) -> String {
        let path = self.nodes[place].and_then(|node| {
            (0..place).rev().find_map(|at| match &self.changes[at] {
                Change::Made(_, Some(path)) | Change::Linked(_, path)
                    if self.nodes[at] == Some(node) =>
                {
                    Some(path.clone())
                }
                _ => None,
            })
        });
        match &self.changes[place] {
            Change::Wrote(_, at, bytes) => {
                format!("{place}: wrote {} at {at} of {path:?}", bytes.len())
            }
            change => format!("{place}: {change:?} {path:?}"),
        }
    }

    /// What had been promised before the cut.
    pub(super) fn promises(&self, cut: usize) -> HashSet<&str> {
        let mut promises = HashSet::new();
        for change in &self.changes[..cut] {
            if let Change::Promised(promise) = change {
                promises.insert(promise.as_str());
            }
        }
        promises
    }

    /// Makes the disk after a cut behind the first `cut` changes at `root`, which stands for
    /// `original`. `fate` decides about what was not synced; `ignored` is a sync that is taken not
    /// to have been made.
    pub(super) fn build(
        &self,
        (original, root): (&Path, &Path),
        cut: usize,
        ignored: Option<usize>,
        mut fate: impl FnMut() -> Fate,
    ) {
        let mut names: BTreeMap<PathBuf, Node> = BTreeMap::new();
        let mut files: HashMap<File, Vec<u8>> = HashMap::new();
        for place in 0..cut {
            let is_durable = self.is_durable(place, cut, ignored);
            let fate = if is_durable { Fate::Whole } else { fate() };
            let is_whole = matches!(fate, Fate::Whole);
            match (&self.changes[place], self.nodes[place]) {
                (Change::MadeDir(path), _) if is_whole => {
                    names.insert(path.clone(), Node::Dir);
                }
                (Change::Made(_, Some(path)) | Change::Linked(_, path), Some(node)) if is_whole => {
                    names.insert(path.clone(), node);
                }
                (Change::Renamed(from, to), Some(node)) if is_whole => {
                    let moved: Vec<_> = names
                        .iter()
                        .filter(|(path, _)| path.starts_with(from))
                        .map(|(path, node)| (path.clone(), *node))
                        .collect();
                    names.insert(to.clone(), node);
                    for (path, node) in moved {
                        names.remove(&path);
                        if let Ok(rest) = path.strip_prefix(from)
                            && rest != Path::new("")
                        {
                            names.insert(to.join(rest), node);
                        }
                    }
                }
                (Change::Removed(gone), _) if is_whole => {
                    names.retain(|path, _| !path.starts_with(gone));
                }
                (Change::Wrote(_, at, bytes), Some(Node::File(file))) => {
                    write(files.entry(file).or_default(), *at, bytes, fate);
                }
                (Change::Resized(_, size), Some(Node::File(file))) if is_whole => {
                    let size = usize::try_from(*size).unwrap();
                    files.entry(file).or_default().resize(size, 0);
                }
                _ => {}
            }
        }
        for (path, node) in &names {
            // What hangs in a folder that is not there cannot be found.
            let is_there = path
                .ancestors()
                .skip(1)
                .take_while(|parent| parent.starts_with(original) && *parent != original)
                .all(|parent| names.get(parent) == Some(&Node::Dir));
            let Ok(rest) = path.strip_prefix(original) else { continue };
            if !is_there {
                continue;
            }
            let path = root.join(rest);
            match node {
                Node::Dir => std::fs::create_dir_all(path).unwrap(),
                Node::File(file) => {
                    let bytes = files.get(file).map_or(&[][..], Vec::as_slice);
                    std::fs::write(path, bytes).unwrap();
                }
            }
        }
    }

    /// Whether a change has been synced before the cut.
    fn is_durable(&self, place: usize, cut: usize, ignored: Option<usize>) -> bool {
        let parents: Vec<&Path> = match &self.changes[place] {
            Change::MadeDir(path)
            | Change::Made(_, Some(path))
            | Change::Linked(_, path)
            | Change::Removed(path) => path.parent().into_iter().collect(),
            Change::Renamed(from, to) => from.parent().into_iter().chain(to.parent()).collect(),
            _ => Vec::new(),
        };
        (place + 1..cut).filter(|later| Some(*later) != ignored).any(|later| {
            match (&self.changes[later], &self.changes[place]) {
                (Change::SyncedDir(path), _) => parents.contains(&path.as_path()),
                (Change::Synced(_), Change::Wrote(..) | Change::Resized(..)) => {
                    self.nodes[later] == self.nodes[place]
                }
                _ => false,
            }
        })
    }
}

fn write(content: &mut Vec<u8>, at: u64, bytes: &[u8], fate: Fate) {
    let at = usize::try_from(at).unwrap();
    let kept = match fate {
        Fate::Whole => bytes.len(),
        Fate::Begun => bytes.len() / 2 / SECTOR * SECTOR,
        Fate::SizeOnly => 0,
        Fate::Nothing => return,
    };
    let size = if matches!(fate, Fate::SizeOnly) { at + bytes.len() } else { at + kept };
    if content.len() < size {
        content.resize(size, 0);
    }
    content[at..at + kept].copy_from_slice(&bytes[..kept]);
}
