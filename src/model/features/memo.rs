//! The columns of words as they stand in texts, remembered.
//!
//! To tell whether a word is a stop word and to cut it to its stem takes longer than all else that is done
//! to a text, and the same some thousand words come again and again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Parts that are locked alone, so that threads seldom wait for one another.
const PARTS: usize = 64;
/// The most words of a part: some megabytes in all. The most frequent words come among the first.
const MOST: usize = 1024;

/// `None`: a word that has no column.
type Columns = HashMap<Box<str>, Option<u32>>;

/// What was found of words before. It is no part of what a pipeline is: a copy begins without it.
#[derive(Debug)]
pub(super) struct Memo(Vec<Mutex<Columns>>);

impl Memo {
    /// The column of `word`, which `find` finds where it is not remembered.
    pub fn column(&self, word: &str, find: impl FnOnce() -> Option<u32>) -> Option<u32> {
        let mut part = self.0[part_of(word)].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(column) = part.get(word) {
            return *column;
        }
        let column = find();
        if part.len() < MOST {
            part.insert(word.into(), column);
        }
        column
    }
}

/// Its ends and its length tell enough to part words evenly.
fn part_of(word: &str) -> usize {
    let (ends, length) = (word.as_bytes().first().zip(word.as_bytes().last()), word.len());
    let (first, last) = ends.map_or((0, 0), |(first, last)| (*first, *last));
    (usize::from(first) * 5 + usize::from(last) * 11 + length * 23) % PARTS
}

impl Default for Memo {
    fn default() -> Self {
        Self((0..PARTS).map(|_| Mutex::default()).collect())
    }
}

impl Clone for Memo {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for Memo {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_found_once_while_there_is_room() {
        let memo = Memo::default();
        assert_eq!(memo.column("moon", || Some(7)), Some(7));
        assert_eq!(memo.column("moon", || unreachable!("it is remembered")), Some(7));
        assert_eq!(memo.column("the", || None), None);
        assert_eq!(memo.column("the", || unreachable!("it is remembered")), None);
        assert_eq!(memo.column("", || None), None);
        for i in 0..(2 * PARTS * MOST) as u32 {
            assert_eq!(memo.column(&format!("{}", i * 7919), || Some(i)), Some(i));
        }
        let held = |part: &Mutex<Columns>| part.lock().unwrap().len();
        assert!(memo.0.iter().map(held).all(|words| words <= MOST));
        assert_eq!(memo.column("sun that came too late", || Some(1)), Some(1));
    }
}
