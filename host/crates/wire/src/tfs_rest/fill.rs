//! Nested lists as the elements and the shape of a tensor, in constant stack.

use ingle_types::{Limits, Shape};

use super::value::{Elements, QUOTE_BYTES, ValueError};
use crate::budget::Budget;
use crate::json::{Cursor, Token};

/// Reads one tensor's worth of JSON at a time; keeps its vectors between them.
pub(super) struct Filler {
    budget: Budget,
    depth_limit: usize,
    /// How many values each open list has.
    open: Vec<usize>,
    /// The size of each dimension, once a list of it was closed.
    sizes: Vec<Option<usize>>,
    dims: Vec<usize>,
}

impl Filler {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            budget: Budget::new(limits.request_bytes),
            depth_limit: limits.json_depth.min(Shape::MAX_RANK),
            open: Vec::new(),
            sizes: Vec::new(),
            dims: Vec::new(),
        }
    }

    /// Reads the value at `cursor` into `elements` and answers its shape, which the
    /// first path down decides.
    pub(super) fn read(
        &mut self,
        cursor: &mut Cursor<'_>,
        elements: &mut Elements,
    ) -> Result<&[usize], ValueError> {
        self.open.clear();
        self.sizes.clear();
        let mut rank = None;
        loop {
            let here = *cursor;
            match cursor.token() {
                Token::ArrayOpen => {
                    self.enter(rank)?;
                    continue;
                }
                Token::ArrayClose => {
                    rank.get_or_insert(self.open.len());
                    self.leave()?;
                }
                Token::End => break,
                token => {
                    self.check_level(here, *rank.get_or_insert(self.open.len()))?;
                    elements.read(token, here, cursor, &mut self.budget)?;
                }
            }
            match self.open.last_mut() {
                Some(count) => *count += 1,
                None => break,
            }
        }
        self.dims.clear();
        self.dims.extend(self.sizes.iter().map(|size| size.unwrap_or(0)));
        Ok(&self.dims)
    }

    fn enter(&mut self, rank: Option<usize>) -> Result<(), ValueError> {
        let level = self.open.len();
        match rank {
            Some(rank) if level >= rank => return Err(ValueError::Rank { level, rank }),
            None if level >= self.depth_limit => {
                return Err(ValueError::Depth { limit: self.depth_limit });
            }
            None => self.sizes.push(None),
            Some(_) => {}
        }
        self.open.push(0);
        Ok(())
    }

    fn leave(&mut self) -> Result<(), ValueError> {
        let Some(size) = self.open.pop() else { return Ok(()) };
        let level = self.open.len();
        let Some(expected) = self.sizes.get_mut(level) else { return Ok(()) };
        match *expected {
            None => *expected = Some(size),
            Some(expected) if expected != size => {
                return Err(ValueError::Size { size, level, expected });
            }
            Some(_) => {}
        }
        Ok(())
    }

    fn check_level(&self, cursor: Cursor<'_>, rank: usize) -> Result<(), ValueError> {
        let level = self.open.len();
        if level == rank {
            return Ok(());
        }
        let value = cursor.quote(QUOTE_BYTES);
        Err(ValueError::Level { value, level: level + 1, expected: rank })
    }
}
