//! A growing array that never moves: what is a million elements long must not be copied while sessions wait, nor be in
//! memory twice, nor leave half of the last doubling unused.

use std::ops::{Index, IndexMut};

/// Elements per page: a power of two, so that an index falls apart by shifts.
const PAGE: usize = if cfg!(test) { 4 } else { 1 << 16 };

pub(crate) struct Pages<T> {
    /// All full but the last one. The first one grows as it must: most tables are small.
    pages: Vec<Vec<T>>,
}

impl<T> Default for Pages<T> {
    fn default() -> Self {
        Self { pages: Vec::new() }
    }
}

impl<T> Pages<T> {
    pub(crate) fn len(&self) -> usize {
        let last = self.pages.last().map_or(0, Vec::len);
        self.pages.len().saturating_sub(1) * PAGE + last
    }

    pub(crate) fn push(&mut self, value: T) {
        match self.pages.last_mut() {
            Some(page) if page.len() < PAGE => page.push(value),
            Some(_) => {
                let mut page = Vec::with_capacity(PAGE);
                page.push(value);
                self.pages.push(page);
            }
            None => self.pages.push(vec![value]),
        }
    }

    pub(crate) fn get(&self, index: usize) -> Option<&T> {
        self.pages.get(index / PAGE)?.get(index % PAGE)
    }

    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.pages.get_mut(index / PAGE)?.get_mut(index % PAGE)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.pages.iter().flatten()
    }
}

impl<T> Index<usize> for Pages<T> {
    type Output = T;

    fn index(&self, index: usize) -> &T {
        &self.pages[index / PAGE][index % PAGE]
    }
}

impl<T> IndexMut<usize> for Pages<T> {
    fn index_mut(&mut self, index: usize) -> &mut T {
        &mut self.pages[index / PAGE][index % PAGE]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn like_a_vector() {
        let (mut pages, mut vector) = (Pages::default(), Vec::new());
        for i in 0..3 * PAGE + 1 {
            assert_eq!((pages.len(), pages.get(i)), (i, None));
            pages.push(i);
            vector.push(i);
            pages[i / 2] += 7;
            vector[i / 2] += 7;
            assert!(pages.iter().eq(&vector));
            assert_eq!(pages.get_mut(i).copied(), Some(vector[i]));
        }
        assert_eq!(pages.get(usize::MAX), None);
    }
}
